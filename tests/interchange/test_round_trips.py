"""Points of the tomogram through the geometry that each program reads: they land where IMOD sees them.

The projection of each program is restated here from its own source, and reads the files alone.
"""

import json

import numpy as np
import pytest

from tiltflow.interchange.export import export_series
from tiltflow.interchange.targets import target_names

WITHIN_PX = 0.01
PIXEL = 8.0

CASES = {
    "plain": {},
    "even": {"image_shape": (60, 80)},
    "by tilt": {"by_tilt": True},
    "binned, shifted, with an offset": {
        "image_shape": (60, 84),
        "binning": 2,
        "overrides": ("comparam.tilt.tilt.SHIFT=6 9", "comparam.tilt.tilt.OFFSET=3.5"),
    },
    "xaxistilt of the recipe": {"overrides": ("comparam.tilt.tilt.XAXISTILT=2.5",)},
    "trimmed by odd numbers": {
        "overrides": (
            "runtime.Trimvol.any.thickness=35",
            "runtime.Trimvol.any.sizeInX=61",
            "runtime.Trimvol.any.sizeInY=41",
        ),
        "trimmed": ((35, 41, 61), (10, 9, 3)),
    },
    "all views": {"left_out": ()},
}


@pytest.fixture(params=CASES)
def known(request, write_known):
    return write_known(**CASES[request.param])


def exported(known, target):
    (made,) = export_series(known.folder, [target])
    return made.folder


def imod_views(known, folder):
    """Views as IMOD's newstack and tilt see them by their files: `(views, points, 2)`, and the views that tilt takes."""
    import etomofiles

    table = etomofiles.read(folder)
    com = dict(line.split(maxsplit=1) for line in (folder / "tilt.com").read_text().splitlines() if " " in line)
    assert (float(com["XAXISTILT"]), float(com["OFFSET"])) == (0, 0)
    shift_x, shift_z = map(float, com["SHIFT"].split())
    points = known.centred_before_trimming(known.points) + np.array([-shift_x, 0, shift_z])
    size = np.array(known.series.shape[:0:-1])
    views = []
    for xf, tilt, x_tilt in zip(etomofiles.df_to_xf(table), table["tlt"], table["xtilt"], strict=True):
        aligned = (known.rot_y(tilt) @ known.rot_x(x_tilt - float(com["XAXISTILT"])) @ points.T)[:2].T
        views.append((np.linalg.inv(xf[:, :2]) @ (aligned - xf[:, 2]).T).T + (size - 1) / 2)
    return np.array(views), table


def test_imod_sees_the_points_where_they_are_and_takes_only_the_views_that_were_kept(known):
    seen, table = imod_views(known, exported(known, "imod"))
    np.testing.assert_allclose(seen, known.seen, atol=WITHIN_PX)
    assert (table.index[~table["excluded"]]).tolist() == np.flatnonzero(known.alignment.included).tolist()


def test_relion_sees_the_points_where_they_are(known):
    """With its centre at pixel floor(n / 2): where n is even, voxels and image are half a pixel from IMOD's."""
    import starfile

    folder = exported(known, "relion5")
    tomogram = starfile.read(folder / "tomograms.star", always_dict=True)["global"].iloc[0]
    rows = starfile.read(folder / tomogram["rlnTomoTiltSeriesStarFile"], always_dict=True)[known.name]
    assert [name.split("@")[0] for name in rows["rlnMicrographName"]] == [f"{view + 1:06d}" for view in known.kept]
    size = np.array(known.series.shape[:0:-1])
    volume = np.array([tomogram[f"rlnTomoSize{axis}"] for axis in "XYZ"])
    assert volume.tolist() == (np.array(known.volume_shape[::-1]) * known.binning).tolist()
    points = known.centred(known.points) + (volume - 1) / 2  # voxels of the unbinned volume, from 0
    half_volume, half_image = (np.floor(n / 2) - (n - 1) / 2 for n in (volume, size))
    for (_, row), view in zip(rows.iterrows(), known.kept, strict=True):
        turn = known.rot_z(row["rlnTomoZRot"]) @ known.rot_y(row["rlnTomoYTilt"]) @ known.rot_x(row["rlnTomoXTilt"])
        shift = np.array([row["rlnTomoXShiftAngst"], row["rlnTomoYShiftAngst"]]) / tomogram["rlnTomoTiltSeriesPixelSize"]

        def seen(voxels, shift, turn=turn):
            return (turn @ (voxels - volume // 2).T)[:2].T + size // 2 + shift

        np.testing.assert_allclose(seen(points + half_volume, shift - half_image), known.seen[view], atol=WITHIN_PX)
        assert np.abs(seen(points, shift) - known.seen[view]).max() < 1.0  # as it is: no more than the half pixels


def test_warp_sees_the_points_where_they_are_in_its_volume_that_is_not_levelled(known):
    folder = exported(known, "warp") / known.name
    six = np.loadtxt(folder / f"{known.name}.xf").reshape(-1, 6)
    angles = np.loadtxt(folder / f"{known.name}.tlt")
    assert len(six) == len(angles) == len(known.kept)
    assert np.all(np.diff(angles) < 0), "rows of a .tomostar descend in Warp's angle"
    size = np.array(known.series.shape[:0:-1])
    points = (known.rot_x(-known.x_axis_tilt_deg) @ known.centred(known.points).T).T  # in the volume as Warp makes it
    for (a11, a12, a21, a22, dx, dy), angle, view in zip(six, angles, known.kept, strict=True):
        matrix = np.array([[a11, a12], [a21, a22]])
        axis, offset = np.rad2deg(np.arctan2(a12, a11)), -matrix.T @ [dx, dy] * PIXEL  # what ts_import_alignments stores
        seen = (known.rot_z(axis) @ known.rot_y(-angle) @ (points * PIXEL).T)[:2].T + size * PIXEL / 2 + offset
        np.testing.assert_allclose(seen / PIXEL - 0.5, known.seen[view], atol=WITHIN_PX)


def test_warp_is_told_which_views_are_left_out_by_their_nominal_tilts(known):
    path = exported(known, "warp") / known.name / f"{known.name}_cutviews0.rawtlt"
    left_out = np.array(known.left_out, int) - 1
    assert path.exists() == bool(len(left_out))
    if len(left_out):
        np.testing.assert_allclose(np.atleast_1d(np.loadtxt(path)), -known.series.tilt_deg[left_out], atol=0.2)


def test_aretomo_sees_the_points_where_they_are_in_its_volume_that_is_not_levelled(known):
    import alnfile

    folder = exported(known, "aretomo")
    table = alnfile.read(folder / f"{known.name}.aln")
    assert table["sec"].tolist() == (known.kept + 1).tolist()
    assert np.all(np.diff(table["tilt"]) > 0)
    size = np.array(known.series.shape[:0:-1])
    points = (known.rot_x(-known.x_axis_tilt_deg) @ known.centred(known.points).T).T
    for (_, row), view in zip(table.iterrows(), known.kept, strict=True):
        turned = (known.rot_z(row["rot"]) @ known.rot_y(row["tilt"]) @ points.T)[:2].T
        np.testing.assert_allclose(turned + [row["tx"], row["ty"]] + size / 2 - 0.5, known.seen[view], atol=WITHIN_PX)


def test_the_data_portal_sees_the_points_where_they_are(known):
    from cryoet_alignment import read

    folder = exported(known, "czi")
    told = read(folder / "alignment_metadata.json")
    assert json.loads((folder / "alignment_metadata.json").read_text())["offset_unit"] == "pixel"
    entries = told.per_section_alignment_parameters
    assert [entry.z_index for entry in entries] == np.flatnonzero(known.alignment.included).tolist()
    size, points = np.array(known.series.shape[:0:-1]), known.centred(known.points)
    for entry in entries:
        turned = (known.rot_y(entry.tilt_angle) @ known.rot_x(entry.volume_x_rotation) @ points.T)[:2].T
        seen = (np.array(entry.in_plane_rotation) @ turned.T).T + [entry.x_offset, entry.y_offset] + (size - 1) / 2
        np.testing.assert_allclose(seen, known.seen[entry.z_index], atol=WITHIN_PX)


@pytest.mark.parametrize("target", [name for name in target_names() if name != "neuroglancer"])  # it takes no geometry
def test_every_target_says_how_much_it_loses_without_magnification(write_known, target):
    known = write_known(magnification=1.01)
    (made,) = export_series(known.folder, [target])
    said = [remark for remark in made.remarks if "magnification and stretch" in remark]
    if target == "imod":
        np.testing.assert_allclose(imod_views(known, made.folder)[0], known.seen, atol=WITHIN_PX)
        assert not said
    else:
        (remark,) = said
        found = float(remark.removesuffix(" px at a corner").split()[-1])
        assert found == pytest.approx(0.01 * np.hypot(60, 81) / 2, abs=0.15), "1 % of half the diagonal, and of the shift"


@pytest.mark.parametrize("target", ["relion5", "warp", "aretomo", "czi"])
def test_programs_without_a_shift_of_the_volume_have_the_shift_of_the_record_where_it_is_0(write_known, target):
    """What users compare: -A⁻¹ d of the `.xf` that lies beside the record."""
    known = write_known(z_shift=0.0)
    folder = exported(known, target)
    wanted = np.array([-np.linalg.inv(xf[:, :2]) @ xf[:, 2] for xf in known.alignment.transforms])
    if target == "relion5":
        import starfile

        rows = starfile.read(folder / "tilt_series" / f"{known.name}.star")
        found, wanted = rows[["rlnTomoXShiftAngst", "rlnTomoYShiftAngst"]].to_numpy() / PIXEL, wanted[known.kept]
    elif target == "warp":
        six = np.loadtxt(folder / known.name / f"{known.name}.xf")
        found = np.array([-np.reshape(row[:4], (2, 2)).T @ row[4:] for row in six])
        wanted = wanted[known.kept]
    elif target == "aretomo":
        import alnfile

        found, wanted = alnfile.read(folder / f"{known.name}.aln")[["tx", "ty"]].to_numpy(), wanted[known.kept]
    else:
        entries = json.loads((folder / "alignment_metadata.json").read_text())["per_section_alignment_parameters"]
        found = np.array([[entry["x_offset"], entry["y_offset"]] for entry in entries])
        wanted = wanted[known.alignment.included]
    np.testing.assert_allclose(found, wanted, atol=2e-3)
