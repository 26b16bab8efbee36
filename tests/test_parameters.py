"""The nine parameters: declared once, the same at every door."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tiltflow import recipe
from tiltflow.cli import app
from tiltflow.errors import ParameterError
from tiltflow.recipe import PARAMETERS, BrtParameters, make_recipe, report_directives

CONTRACT = [
    # name, IMOD's name, option, default, least, most, what else it sets in the templates
    ("montage", "montage", "--montage", None, 0, 1, ""),
    ("gold", "gold", "--gold", 10, 0, 1000, ""),
    ("focus", "focus", "--focus", 0, 0, 1, ""),
    ("fiducialless", "fiducialless", "--fiducialless", 0, 0, 1, ""),
    ("tracking_method", "trackingMethod", "--tracking-method", 0, 0, 2, ""),
    ("two_surfaces", "TwoSurfaces", "--two-surfaces", 0, 0, 1, "SurfacesToAnalyze"),
    ("target_number_of_beads", "TargetNumberOfBeads", "--target-number-of-beads", 20, 1, 10_000, ""),
    ("local_alignments", "LocalAlignments", "--local-alignments", 0, 0, 1, ""),
    ("thickness", "THICKNESS", "--thickness", 200, 1, 100_000, "rpa_thickness"),
]
"""What users, portals and templates rely on."""

NAMES = [row[0] for row in CONTRACT]


def test_the_table_is_that_of_the_contract():
    table = [(p.name, p.imod_name, p.option, p.default, p.least, p.most, p.derived) for p in PARAMETERS.values()]
    assert table == CONTRACT
    assert list(PARAMETERS) == [field.name for field in dataclasses.fields(BrtParameters)]


def test_the_derived_variables_are_those_of_the_contract():
    variables = BrtParameters(two_surfaces=1, thickness=121, gold=15).template_variables()
    assert variables == {
        "montage": "",
        "gold": 15,
        "focus": 0,
        "fiducialless": 0,
        "trackingMethod": 0,
        "TwoSurfaces": 1,
        "TargetNumberOfBeads": 20,
        "SurfacesToAnalyze": 2,
        "LocalAlignments": 0,
        "rpa_thickness": 181,
        "THICKNESS": 121,
    }


@pytest.mark.parametrize(("name", "least", "most"), [(row[0], row[4], row[5]) for row in CONTRACT])
def test_the_ends_of_a_range_belong_to_it_and_what_lies_beyond_is_refused(name, least, most):
    for value in (least, most):
        assert getattr(BrtParameters(**{name: value}), name) == value
    for value in (least - 1, most + 1):
        with pytest.raises(ParameterError, match=rf"{name} is {value}; give "):
            BrtParameters(**{name: value})


@pytest.mark.parametrize("value", [0.5, "1", None])
@pytest.mark.parametrize(("name", "imod", "option"), [row[:3] for row in CONTRACT])
def test_what_is_no_whole_number_is_refused_by_the_names_of_the_option_and_of_imod(name, imod, option, value):
    if value is PARAMETERS[name].default:
        assert getattr(BrtParameters(**{name: value}), name) is None  # not given: the data tell
        return
    with pytest.raises(ParameterError, match=rf"{name} is .*{option}, IMOD's {imod}"):
        BrtParameters(**{name: value})


def test_a_checkbox_counts_as_zero_or_one():
    assert BrtParameters(fiducialless=True).template_variables()["fiducialless"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_each_option_of_the_command_line_sets_its_own_parameter(name, tmp_path):
    about = PARAMETERS[name]
    template = tmp_path / "one.adoc"
    template.write_text(f"comparam.tilt.tilt.THICKNESS = 1{{{{ {about.imod_name} }}}}\n")

    def shown(*options: str) -> str:
        result = CliRunner().invoke(app, ["directives", str(template), "--engine", "imod", "--gold", "3", *options])
        (line,) = [line for line in result.output.splitlines() if line.startswith("comparam.tilt.tilt.THICKNESS")]
        return line.split()[1]

    default = 3 if name == "gold" else "" if about.default is None else about.default
    assert shown() == f"1{default}"
    assert shown(about.option, *([] if about.switch else [str(about.most)])) == f"1{about.most}"


@pytest.mark.parametrize("command", ["run", "directives"])
def test_the_help_of_a_command_has_every_parameter_and_the_engine_with_their_words(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    text = CliRunner().invoke(app, [command, "--help"]).output
    for each in PARAMETERS.values():
        (line,) = [line for line in text.splitlines() if f" {each.option} " in line]
        assert each.help in line
        assert each.default is None or f"[default: {'no-fiducialless' if each.switch else each.default}]" in text
    (line,) = [line for line in text.splitlines() if " --engine " in line]
    assert "auto, the default, takes the preferred engine of those that are available here" in line
    assert text.index("─ How ─") < text.index(" --engine ")


@pytest.mark.parametrize(
    ("asked", "imod_only"),
    [
        ({"montage": 1}, False),
        ({"montage": 0}, False),
        ({"montage": 1, "focus": 1}, False),
        ({"tracking_method": 2}, True),
        ({"tracking_method": 1}, False),
        ({"gold": 15}, False),
        ({"fiducialless": 1}, False),
        ({"two_surfaces": 1}, False),
        ({"target_number_of_beads": 30}, False),
        ({"local_alignments": 1}, False),
        ({"thickness": 300}, False),
    ],
)
def test_what_is_said_to_need_imod_is_what_the_native_engine_refuses(asked, imod_only):
    assert bool(report_directives(BrtParameters(**asked), engine="native").wrong) == imod_only
    make_recipe(BrtParameters(**asked), engine="imod")
    if imod_only:
        assert all("(IMOD only)" in PARAMETERS[name].help for name in asked)


def test_every_name_of_the_package_is_found_and_no_other():
    assert all(getattr(recipe, name) is not None for name in recipe.__all__)
    assert set(inspect.getclosurevars(recipe.__getattr__).nonlocals["modules"]) == set(recipe.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Recipes'"):
        recipe.Recipes  # noqa: B018


def test_the_parameters_come_without_the_stages():
    code = "import sys, tiltflow.recipe.parameters; print([m for m in ('numpy', 'jinja2', 'tiltflow.recipe.make') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
