"""The documentation is complete and says what the code says."""

import argparse
import importlib.util
import itertools
import json
import os
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "door" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]
HOW_TOS = sorted((DOCS / "howto").glob("add-*.md"))


def script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate():
    return script(DOCS / "generate.py")


@pytest.mark.parametrize(
    "page",
    [
        "commands.md",
        "directives.md",
        "operating.md",
        "parameters.md",
        "products.md",
        "schema/series-record.schema.json",
        "schema/run-record.schema.json",
    ],
)
def test_generated_pages_are_up_to_date(generate, page):
    assert (ROOT / "docs" / page).read_text() == generate.PAGES[page](), "run `make pages`"


def test_the_help_is_rendered_and_leaves_the_environment_as_it_was(generate):
    before = dict(os.environ)
    generate.commands_page()
    assert dict(os.environ) == before


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_no_file_names_a_package_index():
    for path in [ROOT / "requirements.lock", ROOT / "requirements-dev.lock", ROOT / "pyproject.toml", ROOT / "Makefile"]:
        assert "://" not in path.read_text(), path


def rows_of(text):
    """Return the cells of the rows of every table in a text, its heads left out."""
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows if row[0].startswith("`")]


def test_each_step_of_the_brt_flow_has_one_file_and_it_is_there():
    rows = rows_of((DOCS / "brt-steps.md").read_text())
    assert [row[0].strip("`") for row in rows] == list(dict.fromkeys(row[0].strip("`") for row in rows))
    for row in rows:
        assert re.fullmatch(r"`src/[\w/]+\.py`", row[-1]), row
        assert (ROOT / row[-1].strip("`")).is_file(), row


@pytest.mark.parametrize("page", HOW_TOS, ids=lambda page: page.stem)
def test_the_files_that_a_how_to_lists_are_there(page):
    table = re.search(r"^\|.*?\n\n", page.read_text(), re.DOTALL | re.MULTILINE)
    rows = rows_of(table[0] if table else "")
    assert rows, "the first table of a how-to lists the files that it touches"
    for row in rows:
        for path in re.findall(r"`([^`]+)`", row[0]):
            named = re.split("(?=NAME|ROOM)", path)
            assert (ROOT / path if len(named) == 1 else (ROOT / f"{named[0]}x").parent).exists(), path


def test_there_is_a_how_to_for_every_extension():
    assert {"add-a-directive", "add-a-format", "add-a-product", "add-a-step", "add-an-engine"} <= {page.stem for page in HOW_TOS}


def test_the_glossary_has_each_term_once():
    lines = (DOCS / "glossary.md").read_text().splitlines()
    terms = [term for term, meaning in itertools.pairwise(lines) if meaning.startswith(":   ")]
    assert len(terms) == len(set(terms))
    for term in (
        "Tilt axis angle",
        "X-axis tilt",
        "Residual",
        "Leave-out error",
        "Trust warning",
        "Fallback methods",
        "Markerless",
    ):
        assert term in terms


def test_pages_show_what_the_benchmarks_have_recorded(generate):
    marked = [page for page in generate.pages_with_figures() if "<!-- figure:" in page.read_text()]
    assert marked
    for page in marked:
        assert generate.with_figures(page.read_text()) == page.read_text(), f"{page.name}: run `make pages`"


def test_a_figure_that_a_benchmark_changes_makes_a_page_stale(generate, tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "FIGURES", tmp_path)
    told = {
        "command": "c",
        "date": "d",
        "machine": "m",
        "figures": {"kernel": {"value": "1.0", "unit": "G/s"}},
        "table": ["a", "b"],
    }
    (tmp_path / "loop.json").write_text(json.dumps(told))
    page = "<!-- figure: loop.kernel -->old<!-- / -->, <!-- origin: loop -->old<!-- / -->\n<!-- table: loop -->old<!-- / -->"
    made = generate.with_figures(page)
    assert "-->1.0 G/s<!--" in made
    assert "-->`c`, d: m.<!--" in made
    assert "```text\na\nb\n```" in made
    assert "old" not in made
    assert generate.with_figures(made) == made


TYPED_RATE = re.compile(r"[\d.]+ (?:G/s|GB/s|CPU s\b|CPU seconds)")


def test_no_measured_speed_is_typed_into_a_page(generate):
    recorded = {
        generate.figure_text(figure)
        for path in generate.FIGURES.glob("*.json")
        for figure in generate.figures_of(path.stem)["figures"].values()
        if figure["unit"] in {"G/s", "CPU s"}
    }
    for page in PAGES:
        text = re.sub(r"(<!-- (?:figure|table|origin): [\w.]+ -->).*?(<!-- / -->)", "", page.read_text(), flags=re.DOTALL)
        assert not TYPED_RATE.search(text), (page.name, TYPED_RATE.search(text))
        assert not [figure for figure in recorded if figure in text], page.name


@pytest.fixture
def record(tmp_path, monkeypatch):
    module = script(ROOT / "benchmarks" / "record.py")
    monkeypatch.setattr(module, "FOLDER", tmp_path / "figures")
    return module


def test_a_benchmark_records_its_figures_and_what_it_printed(record, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["loop.py", "--size", "64", "--record"])
    figures = record.Figures("loop")
    figures.keep("kernel", 10.04, "G/s")
    figures.keep("imod", "0.7 to 1.3", "G/s")
    with figures.printed():
        print("a table  ")
    figures.save(argparse.Namespace(record=True))
    told = json.loads((record.FOLDER / "loop.json").read_text())
    assert capsys.readouterr().out == "a table  \n"
    assert told["figures"] == {"kernel": {"value": "10.0", "unit": "G/s"}, "imod": {"value": "0.7 to 1.3", "unit": "G/s"}}
    assert told["table"] == ["a table"]
    assert told["command"] == "python benchmarks/loop.py --size 64"
    assert "load average" in told["machine"]


def test_a_benchmark_records_nothing_unasked(record):
    parser = argparse.ArgumentParser()
    record.add_option(parser)
    record.Figures("loop").save(parser.parse_args([]))
    assert not record.FOLDER.exists()


def test_patterns_in_the_navigation_find_pages_that_are_not_named(tmp_path, monkeypatch):
    hooks = script(DOCS / "hooks.py")
    monkeypatch.setattr(hooks, "DOCS", tmp_path)
    (tmp_path / "howto").mkdir()
    for name in ("first.md", "b.md", "a.md"):
        (tmp_path / "howto" / name).touch()
    nav = [{"How-to": ["howto/first.md", "howto/*.md"]}, {"Gallery": ["gallery/*.py"]}, "index.md"]
    assert hooks.on_config({"nav": nav})["nav"] == [{"How-to": ["howto/first.md", "howto/a.md", "howto/b.md"]}, "index.md"]


def test_a_part_of_a_text_is_put_into_a_page_with_links_that_lead_from_there(tmp_path, monkeypatch):
    hooks = script(DOCS / "hooks.py")
    monkeypatch.setattr(hooks, "DOCS", tmp_path / "docs")
    (tmp_path / "README.md").write_text("x\n<!-- begin job -->\n[a](docs/a.md), [log](CHANGELOG.md)\n<!-- end job -->\ny\n")
    assert hooks.on_page_markdown("<!-- include: README.md job -->") == "[a](a.md), [log](changelog.md)\n"
    with pytest.raises(ValueError, match="no part 'other'"):
        hooks.on_page_markdown("<!-- include: README.md other -->")
