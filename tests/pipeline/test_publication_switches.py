"""Which of the large volumes a site puts beside the products."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.robust.runs import write_small_series

from tiltflow.pipeline import process
from tiltflow.pipeline.intact import differences_on_disk
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.settings import load_settings, site_from

VOLUMES = {"B_ali.mrc", "B_rec.mrc"}


@pytest.mark.parametrize(
    ("given", "published"),
    [
        ({}, VOLUMES),
        ({"publish_aligned": False}, {"B_rec.mrc"}),
        ({"publish_volume": False}, {"B_ali.mrc"}),
        ({"publish_aligned": False, "publish_volume": False}, set()),
    ],
)
def test_a_site_may_leave_them_out_and_all_products_stay(
    given: dict[str, bool], published: set[str], small_series: Path, tmp_path: Path, fake_imod: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "B"
    recipe = make_recipe(BrtParameters(gold=10, thickness=50), engine="imod")
    site = site_from(load_settings(scratch=tmp_path / "scratch", **given))
    result = process(small_series, recipe, site, output=output)
    assert result.ok, result.message
    assert {name for name in VOLUMES if (output / name).exists()} == published
    record = read_record(output / "run.json")
    assert {entry.path for entry in record.files} & VOLUMES == published
    assert not list(differences_on_disk(record, output, contents=True))
    assert {"averagedVolume", "volume", "tiltMovie", "neuroglancerZarr"} <= {entry.type for entry in record.products}
    assert all(link in (output / "report.html").read_text() for link in published)
    again = process(small_series, recipe, site, output=output)
    assert again.ok
    assert read_record(output / "run.json").started == record.started  # kept, and not done again


def test_what_an_earlier_recipe_asked_for_does_not_stand_beside_a_result_without_it(tmp_path: Path) -> None:
    source, output = tmp_path / "B.st", tmp_path / "B"
    write_small_series(source)
    halves = {"B_rec_even.mrc", "B_rec_odd.mrc"}
    diffused = ["runtime.NAD.any.iterations=1", "runtime.NAD.any.Kvalue=5"]
    site = site_from(load_settings(scratch=tmp_path / "scratch"))
    for asked, there in (
        (["runtime.Tiltflow.any.halfVolumes=1"], halves),
        (diffused, {"B_nad.mrc"}),
        ([], set()),
        (["runtime.Tiltflow.any.halfVolumes=1", *diffused], halves | {"B_nad.mrc"}),
    ):
        recipe = make_recipe(BrtParameters(gold=10, thickness=24), overrides=asked, engine="native")
        result = process(source, recipe, site, output=output)
        assert result.ok, result.message
        assert {path.name for path in output.glob("B_*.mrc")} == {"B_ali.mrc", "B_rec.mrc", *there}
        record = read_record(output / "run.json")
        assert not list(differences_on_disk(record, output, contents=True))
        assert all(name in (output / "report.html").read_text() for name in there)
        assert not [name for name in (halves | {"B_nad.mrc"}) - there if name in (output / "report.html").read_text()]
