"""The methods paragraph: what was done, and no paper that it does not mention."""

import pytest

from tiltflow.engines.imod.methods import KREMER
from tiltflow.engines.native.methods import FRANGAKIS, GILBERT, MASTRONARDE, RADERMACHER, TEGUNOV, ZENG
from tiltflow.record import NumberEntry, ProductEntry, StageEntry
from tiltflow.report.gather import describe_volume
from tiltflow.report.methods import MOORE, describe_methods


def test_a_gold_series_is_told_from_its_views_to_its_voxels(record, measured, make):
    record.volume = describe_volume(measured, make.voxel_nm)
    methods = describe_methods(record)
    for words in (
        "21 views between -60.0° and 60.0° with a pixel size of 10 Å",
        "tiltflow 0.1.0 (its native engine, template plastic_brt, recipe 0123456789ab)",
        "One view was left out",
        "12 gold fiducials of 10 nm were then tracked",
        "a mean residual of 0.24 px (0.24 nm), a leave-out error of 0.36 px (0.36 nm)",
        "binned by 4 and reconstructed by weighted back-projection",
        "up to 0.35 cycles per pixel and a fall-off of 0.05",
        "104 x 96 x 64 voxels of 4 nm",
    ):
        assert words in methods.text
    assert methods.citations == (MASTRONARDE, RADERMACHER)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("patches", "image patches were then tracked"),
        ("projection", "refined without markers, by matching every view with the projection predicted"),
        ("coarse", "without further refinement"),
    ],
)
def test_other_methods_are_told_apart(make, method, words):
    assert words in describe_methods(make.record(method=method)).text


def test_imod_is_cited_when_imod_did_the_work(record):
    record.engine.name, record.engine.version = "imod", "IMOD 4.12.99"
    methods = describe_methods(record)
    assert "batchruntomo of IMOD 4.12.99 (Kremer et al., 1996; Mastronarde and Held, 2017)" in methods.text
    assert "its native engine" not in methods.text
    assert methods.citations == (KREMER, MASTRONARDE)


def test_iterations_and_pyramids_are_cited(record):
    record.recipe.stages["reconstruct"]["fake_sirt_iterations"] = 12
    assert ZENG in describe_methods(record).citations
    record.recipe.stages["sirt"] = {"iterations": 20}
    record.products = [ProductEntry(type="neuroglancerZarr", path="B_rec.zarr/0", bytes=1)]
    methods = describe_methods(record)
    assert "20 iterations of SIRT" in methods.text
    assert {GILBERT, MOORE} <= set(methods.citations)
    assert ZENG not in methods.citations


@pytest.mark.parametrize("method", ["gold", "patches", "projection", "coarse"])
@pytest.mark.parametrize("engine", ["native", "imod"])
def test_every_paper_in_the_list_is_in_the_text(make, method, engine):
    record = make.record(method=method)
    record.engine.name = engine
    methods = describe_methods(record)
    assert methods.citations
    assert all(citation.short in methods.text for citation in methods.citations)
    assert all(citation.doi.startswith("10.") for citation in methods.citations)


def test_a_record_that_knows_little_still_makes_sentences(record):
    record.alignment = record.volume = record.recipe = record.engine = None
    record.input = {}
    text = describe_methods(record).text
    assert text.startswith("A tilt series was aligned and reconstructed with tiltflow 0.1.0.")
    assert "None" not in text


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({}, "two half volumes, from every other view each, falls to 0.143 at 9.9 nm."),
        ({"of": "frames"}, "two half volumes, from the even and the odd frames of all views, falls to 0.143 at 9.9 nm."),
        ({"of": "frames", "resolution_0143_nm": None}, "from the even and the odd frames of all views, does not fall to 0.143."),
    ],
)
def test_half_volumes_are_told_with_what_they_were_made_of(record, make, update, words):
    assert "half volumes" not in describe_methods(record).text
    record.halves = make.halves().model_copy(update=update)
    assert words in describe_methods(record).text


def corrected(record, **params):
    """Let a recipe ask for what is done to aligned views and volume."""
    record.recipe.stages.update(params)
    return record


def done(record, stage, **numbers):
    """Let a stage be done, with these numbers."""
    entries = {name: NumberEntry(value=value) for name, value in numbers.items()}
    record.stages.append(StageEntry(name=stage, status="done", started=record.started, numbers=entries))


@pytest.mark.parametrize(
    ("which", "fill", "beads", "said"),
    [
        (
            "tracked",
            "texture",
            11.6,
            "Gold beads tracked, 12 in each view on average, were erased from the aligned views and replaced by the texture",
        ),
        (
            "found",
            "flat",
            22,
            "Gold beads found in a preliminary volume, 22 in each view on average, were erased from the aligned views and replaced by",
        ),
        ("found", "texture", 0, ""),
        ("found", "texture", None, ""),
    ],
)
def test_erased_gold_is_told(record, which, fill, beads, said):
    corrected(record, erase={"which": which, "fill": fill})
    if beads is not None:
        done(record, "aligned stack", beads_erased_per_view=beads)
    text = describe_methods(record).text
    assert ("erased" in text) is bool(said)
    assert said in text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (None, ""),
        ({"low_pass": None, "high_pass_sigma": 0.0, "mtf_file": ""}, ""),
        (
            {"low_pass": [0.35, 0.05], "high_pass_sigma": 0.0, "mtf_file": ""},
            "a low pass up to 0.35 cycles per pixel with a fall-off of 0.05.",
        ),
        (
            {"low_pass": [0.35, 0.05], "high_pass_sigma": 0.01, "mtf_file": "K2.mtf"},
            "0.05 and a high pass with a standard deviation of 0.01 cycles per pixel and the inverse of the modulation transfer function",
        ),
    ],
)
def test_the_filter_of_the_views_is_told(record, asked, said):
    text = describe_methods(corrected(record, filter=asked)).text
    assert ("The aligned views were filtered by" in text) is bool(said)
    assert said in text


def test_volumes_for_viewing_are_told_where_they_were_made(record):
    corrected(record, deconvolve={"strength": 1.0, "falloff": 0.8}, diffuse={"k": 8.0, "iterations": 10})
    assert "For viewing" not in describe_methods(record).text
    done(record, "deconvolved volume")
    done(record, "diffused volume")
    methods = describe_methods(record)
    assert (
        "deconvolved with its contrast transfer function, with the filter of Warp (Tegunov and Cramer, 2019; strength 1, falloff 0.8)"
        in methods.text
    )
    assert "10 iterations of edge-enhancing diffusion (Frangakis and Hegerl, 2001; K 8)" in methods.text
    assert {TEGUNOV, FRANGAKIS} <= set(methods.citations)
