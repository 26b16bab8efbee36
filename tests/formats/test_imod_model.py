"""IMOD models of points, against one that beadtrack wrote."""

import struct

import numpy as np

from tiltflow.formats.imod_model import StackFrame, render_point_model


def chunk(data, tag):
    place = data.index(tag)
    (size,) = struct.unpack(">i", data[place + 4 : place + 8])
    return data[place + 8 : place + 8 + size]


def test_points_flags_and_frame_lie_where_imod_puts_them(data):
    golden = (data / "imod_runs" / "gold" / "g33.fid").read_bytes()
    views = 41
    points = np.frombuffer(golden, ">f4", 3 * views, golden.index(b"CONT") + 20).reshape(views, 3)
    ours = render_point_model([points], StackFrame((views, 512, 512), 10.0))
    assert ours[:8] == golden[:8] == b"IMODV1.2"
    assert ours[-4:] == golden[-4:] == b"IEOF"
    sizes, flags = slice(136, 152), slice(152, 156)
    assert (ours[sizes], ours[flags]) == (golden[sizes], golden[flags])
    assert ours.index(b"OBJT") == golden.index(b"OBJT")
    assert ours.index(b"CONT") == golden.index(b"CONT")
    assert ours[0x178:0x1A4] == golden[0x178:0x1A4].replace(golden[0x190:0x1A4], ours[0x190:0x1A4])  # all but how it is drawn
    assert ours[ours.index(b"CONT") :][: 20 + 12 * views] == golden[golden.index(b"CONT") :][: 20 + 12 * views]
    assert chunk(ours, b"MINX") == chunk(golden, b"MINX")


def test_a_model_without_contours_is_one_object_and_nothing_else():
    ours = render_point_model([], StackFrame((3, 20, 10), 2.0, (1.0, 2.0, 3.0)))
    assert b"CONT" not in ours
    assert struct.unpack(">18f", chunk(ours, b"MINX")) == (1, 1, 1, *[0] * 6, 2, 2, 2, 1, 2, 3, 0, 0, 0)
