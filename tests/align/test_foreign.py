"""Which rows of a given alignment belong to which views, what is refused, and the audit of such an alignment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.align.audit import AuditParams
from tiltflow.align.foreign import audit_given, given_alignment, hand, leave_out, views_of_rows
from tiltflow.errors import FormatError, StageError
from tiltflow.formats.foreign_alignment import ForeignAlignment
from tiltflow.model import LocalAlignment, TiltSeries
from tiltflow.observer import SILENT
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate

NOMINAL = np.arange(-60.0, 61, 3)
LONGER = 5 * np.array([0.0, 3, -3, -6, 6, 9, -9, -12, 12, 15])
DOSE_SYMMETRIC = np.array([0.0, 3, -3, -6, 6, 9, -9, -12, 12])


class Notes:
    """Keeps what is said."""

    def __init__(self):
        self.said, self.warned, self.numbers_ = [], [], {}

    def note(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warned.append(text)

    def number(self, name, value, unit=""):
        self.numbers_[name] = value


def series(nominal=NOMINAL, **changes):
    images = np.zeros((len(nominal), 8, 10), np.float32)
    made = TiltSeries.from_images(images, nominal, pixel_size_angstrom=10, axis_angle_deg=-8, name="S.mrc")
    return replace(made, **changes)


def foreign(tilt_deg, **more):
    tilts = np.asarray(tilt_deg, float)
    transforms = geometry.from_axis_and_shifts(-8.0, np.stack([tilts, np.zeros(len(tilts))], axis=1))  # the shift names the row
    told = {"program": "IMOD", "files": (Path("S.xf"),), "used": np.ones(len(tilts), bool)}
    return ForeignAlignment(transforms=transforms, tilt_deg=tilts, **(told | more))


ALL = np.arange(41)
WITHOUT = np.delete(ALL, [0, 7])


@pytest.mark.parametrize(
    ("found", "of", "expected"),
    [
        pytest.param(foreign(NOMINAL + 0.3), series(), ALL, id="a row for every view"),
        pytest.param(foreign(NOMINAL + 9.4), series(), ALL, id="with an offset of the tilts"),
        pytest.param(foreign(-NOMINAL + 1), series(), ALL, id="with the other sign, in the order of the stack"),
        pytest.param(foreign(NOMINAL[WITHOUT] + 0.3), series(), WITHOUT, id="kept views, by their tilts"),
        pytest.param(foreign(NOMINAL[WITHOUT] + 9.4, left_out=(0, 7)), series(), WITHOUT, id="kept views, by a list of the others"),
        pytest.param(
            foreign(NOMINAL[WITHOUT] + 9.4), series(included=~np.isin(ALL, [0, 7])), WITHOUT, id="kept views, by the request"
        ),
        pytest.param(foreign(-NOMINAL[WITHOUT] + 0.3), series(), WITHOUT, id="kept views, with the other sign"),
        pytest.param(foreign(NOMINAL[:3], section=np.array([4, 2, 9])), series(), [4, 2, 9], id="sections that the file names"),
        pytest.param(
            foreign(np.sort(DOSE_SYMMETRIC), nominal_deg=np.sort(DOSE_SYMMETRIC)),
            series(DOSE_SYMMETRIC),
            np.argsort(DOSE_SYMMETRIC),
            id="sorted, by nominal tilts",
        ),
        pytest.param(
            foreign(NOMINAL + 0.3, nominal_deg=NOMINAL), series(NOMINAL[::-1]), ALL[::-1], id="sorted, and the stack the other way"
        ),
        pytest.param(
            foreign(-NOMINAL + 0.3, nominal_deg=NOMINAL),
            series(NOMINAL[::-1]),
            ALL[::-1],
            id="likewise, with angles of the other sign",
        ),
        pytest.param(
            foreign(np.sort(LONGER)),
            series(LONGER),
            np.argsort(LONGER),
            id="sorted, the sign decided by the tilts",
        ),
    ],
)
def test_rows_belong_to_views(found, of, expected):
    np.testing.assert_array_equal(views_of_rows(found, of, Notes()), expected)


@pytest.mark.parametrize(
    ("found", "of", "said"),
    [
        pytest.param(
            foreign(NOMINAL[WITHOUT] + 9.4), series(), "has 39 views, and S.mrc has 41; which views are missing", id="offset"
        ),
        pytest.param(
            foreign(np.r_[NOMINAL, 63]), series(), "has 42 views, and S.mrc has 41; it belongs to another stack", id="more"
        ),
        pytest.param(foreign(NOMINAL, views=40), series(), "is of a stack of 40 views, and S.mrc has 41", id="other stack"),
        pytest.param(foreign(NOMINAL, image_size=(10, 9)), series(), "10 x 9 pixels, and S.mrc has 10 x 8", id="other size"),
        pytest.param(foreign(NOMINAL[:2], section=np.array([3, 3])), series(), "some of them twice", id="a section twice"),
        pytest.param(foreign(NOMINAL[:2], section=np.array([3, 41])), series(), "sections 4 to 42", id="a section too many"),
        pytest.param(foreign(NOMINAL, left_out=(41,)), series(), "leaves out view 42", id="leaves out what is not there"),
        pytest.param(foreign(NOMINAL, left_out=tuple(ALL)), series(), "leaves out every view", id="leaves out all"),
        pytest.param(foreign(np.sort(DOSE_SYMMETRIC)), series(DOSE_SYMMETRIC * 3), "belongs to another series", id="other tilts"),
        pytest.param(
            foreign(np.sort(DOSE_SYMMETRIC * 5)),
            series(DOSE_SYMMETRIC * 5),
            "views are in another order",
            id="sorted, of unknown sign",
        ),
    ],
)
def test_what_does_not_fit_the_stack_is_refused(found, of, said):
    with pytest.raises(FormatError, match=said):
        given_alignment(found, of, Notes())


def test_views_that_are_not_named_are_left_out_with_the_place_of_their_neighbour():
    notes = Notes()
    found = given_alignment(foreign(NOMINAL[WITHOUT] + 0.2, x_tilt_deg=-1.5), series(), notes)
    assert np.flatnonzero(~found.included).tolist() == [0, 7]
    assert found.method == "given"
    assert found.x_axis_tilt_deg == 1.5
    np.testing.assert_allclose(found.tilt_deg[WITHOUT], NOMINAL[WITHOUT] + 0.2)
    np.testing.assert_array_equal(found.tilt_deg[[0, 7]], NOMINAL[[0, 7]])
    np.testing.assert_array_equal(found.transforms[0], found.transforms[1])
    assert found.evidence.excluded_views == dict.fromkeys([0, 7], "is left out by the alignment of IMOD")
    assert found.evidence.axis_angle_from_data_deg == pytest.approx(-8)
    assert notes.numbers_["views_left_out"] == 2
    assert not notes.warned


def test_views_that_the_request_leaves_out_stay_out():
    found = given_alignment(foreign(NOMINAL), series(included=ALL != 5), Notes())
    assert found.evidence.excluded_views == {5: "is left out by the request"}


def test_tilts_of_the_other_sign_are_used_as_they_are_and_told():
    notes = Notes()
    found = given_alignment(foreign(-NOMINAL[WITHOUT], program="Warp"), series(), notes)
    np.testing.assert_array_equal(found.tilt_deg, -NOMINAL)
    assert "opposite sign" in notes.warned[0]
    assert "that of Warp, mirrored along z" in notes.warned[0]


def test_another_order_of_the_views_is_told():
    notes = Notes()
    rows = np.sort(DOSE_SYMMETRIC * 5)
    found = given_alignment(foreign(rows, nominal_deg=rows), series(DOSE_SYMMETRIC * 5), notes)
    np.testing.assert_array_equal(found.tilt_deg, DOSE_SYMMETRIC * 5)
    assert "another order" in notes.warned[0]


def test_local_areas_go_with_their_views():
    transforms = np.broadcast_to(np.eye(2, 3), (4, 39, 2, 3)).copy()
    transforms[..., 2] = WITHOUT[:, None]
    local = LocalAlignment(np.zeros((4, 2)), (2, 2), transforms, np.broadcast_to(WITHOUT, (4, 39)) / 100, np.zeros(4, np.int64))
    found = given_alignment(foreign(NOMINAL[WITHOUT], local=local), series(), Notes())
    assert found.local.transforms.shape == (4, 41, 2, 3)
    np.testing.assert_array_equal(found.local.transforms[0, WITHOUT, 0, 2], WITHOUT)


def test_more_views_can_be_left_out_but_not_all():
    found = given_alignment(foreign(NOMINAL), series(), Notes())
    less = leave_out(found, {3: "is dark"})
    assert np.flatnonzero(~less.included).tolist() == [3]
    assert less.evidence.excluded_views == {3: "is dark"}
    with pytest.raises(StageError, match="no view is left"):
        leave_out(found, dict.fromkeys(range(41), "is dark"))


@pytest.mark.parametrize(("tilts", "expected"), [([-1, 0, 1], 1.0), ([1, 0, -1], -1.0), ([9, 10, 11], 1.0)])
def test_the_sign_of_tilts(tilts, expected):
    assert hand(tilts, [-3, 0, 3]) == expected


@pytest.fixture(scope="module")
def gold():
    return simulate(SimulationParams(seed=5, size=256, views=31, beads=14), threads=2)


@pytest.mark.parametrize("sign", [1, -1])
def test_gold_audits_a_given_alignment_in_either_hand(gold, sign):
    truth = gold.truth
    of = gold.series
    shaken = truth.transforms()
    shaken[:, :, 2] += np.random.default_rng(4).normal(0, 0.7, (31, 2))
    file = ForeignAlignment(
        program="Warp",
        files=(Path("demo.xml"),),
        transforms=shaken,
        tilt_deg=sign * truth.true_deg,
        used=np.ones(31, bool),
    )
    found = given_alignment(file, of, Notes())
    params = AuditParams(gold_nm=10.0)
    audited = audit_given(of.images, found, of, params, observer=SILENT, threads=2)
    true = gold.error_of(replace(found, tilt_deg=truth.true_deg)).rms_px
    assert audited.evidence.notes[-1].startswith("audited by")
    assert "beads measured anew" in audited.evidence.notes[-1]
    assert audited.evidence.error_px == pytest.approx(true, rel=0.2)
    sound = audit_given(of.images, replace(found, transforms=truth.transforms()), of, params, observer=SILENT, threads=2)
    assert sound.evidence.error_px < 0.3
    assert not sound.evidence.trust_warnings
