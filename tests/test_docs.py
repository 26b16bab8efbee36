"""The documentation is complete and says what the code says."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page",
    [
        "commands.md",
        "operating.md",
        "parameters.md",
        "products.md",
        "schema/series-record.schema.json",
        "schema/run-record.schema.json",
    ],
)
def test_generated_pages_are_up_to_date(generate, page):
    assert (ROOT / "docs" / page).read_text() == generate.PAGES[page](), "run `make pages`"


def test_what_stands_between_the_markers_of_a_block_is_replaced_and_nothing_else(generate, tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "HERE", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- facts: made by `make pages` -->\n\nold\n\n<!-- end of facts -->\nafter\n")
    made = generate.with_block("page.md", "facts", lambda: "new")
    assert made == page.read_text().replace("old", "new")
    with pytest.raises(SystemExit, match="lacks the markers of the block 'figures'"):
        generate.with_block("page.md", "figures", lambda: "new")


BRT_STEPS = (
    "gen_dimension_command",
    "gen_ali_x",
    "gen_ali_asmbl",
    "gen_mrc2tiff",
    "gen_thumbs",
    "gen_tilt_movie",
    "gen_recon_movie",
    "gen_clip_avgs",
    "consolidate_ave_mrcs",
    "gen_ave_8_vol",
    "gen_ave_jpgs_from_ave_mrc",
    "gen_zarr",
    "cleanup_files",
    "callback",
)


@pytest.mark.parametrize("step", BRT_STEPS)
def test_every_step_of_the_brt_documentation_is_explained(step):
    assert f"| `{step}`" in (ROOT / "docs" / "brt-steps.md").read_text()


def test_every_step_of_the_catalogue_is_explained():
    from tiltflow.products.catalogue import STEPS

    text = (ROOT / "docs" / "brt-steps.md").read_text()
    assert all(f"`{step.name}`" in text for step in STEPS)


def test_every_stage_parameter_is_described_in_its_docstring():
    from tiltflow.recipe import StageParams

    for stage in fields(StageParams):
        params = type(getattr(StageParams(), stage.name))
        if params.__module__.startswith("tiltflow.") and hasattr(params, "__dataclass_fields__"):
            for field in fields(params):
                assert re.search(rf"\b{field.name}\b", params.__doc__ or ""), f"{params.__name__}.{field.name}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_no_file_names_a_package_index():
    for path in [ROOT / "requirements.lock", ROOT / "requirements-dev.lock", ROOT / "pyproject.toml", ROOT / "Makefile"]:
        assert "://" not in path.read_text(), path
