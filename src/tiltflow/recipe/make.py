"""Making a recipe: template, lower layers and overrides are layered and translated once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tiltflow.align.audit import AuditParams
from tiltflow.align.bundle import SolveParams
from tiltflow.align.methods import AlignParams
from tiltflow.errors import DirectiveError, UnsupportedError
from tiltflow.formats.directives import Directive, parse_override, render_directives, variables_of_template
from tiltflow.formats.known_directives import is_own
from tiltflow.formats.zarrlayout import BIOFORMATS2RAW, PyramidLayout
from tiltflow.model import Problem
from tiltflow.recipe.engine_rules import AUTO, BEST, OFF, all_engines, engine_info, rules_of
from tiltflow.recipe.parameters import PARAMETERS, BrtParameters
from tiltflow.recipe.report import DirectiveReport
from tiltflow.recipe.stages import StageParams
from tiltflow.recipe.template import LOWER_LAYERS, Template, find_template, with_lower_layers
from tiltflow.recipe.translate import from_directives

_OF_ONE_SERIES = frozenset(
    {
        "setupset.copyarg.name",
        "setupset.copyarg.stackext",
        "setupset.currentStackExt",
        "setupset.currentBStackExt",
        "setupset.datasetDirectory",
    }
)
_NAMING = ("setupset.copyarg.name", "setupset.datasetDirectory")
"""Those that batchruntomo is always given."""
_TRACKED_PIXEL_ANGSTROM = 10.0
"""Pixel size at which cryo series are tracked, roughly: coarser pixels lose detail, finer ones add only noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(StageParams):
    """All parameters that determine a result.

    Attributes
    ----------
    parameters
        The nine that the user chose.
    source
        The template with the layers above and below it.
    directives
        Those in force; `<name>` and the like stand for the series.
    report
        The status of each of them for the engine (for the native engine while the engine is `auto`).
    engine
        Which engine does the work; `auto` and `best` are decided on the machine that does it.
    fallback_engine
        Which engine does it instead of one that failed or aligned poorly; `off` for none.
    fallback
        Whether the next method is tried when the requested one cannot be trusted.
    trust_limit_px
        Estimated error of an alignment, pixels, above which it is not trusted.
    pyramid
        How the pyramid is laid out.
    tracking_binning
        The variable `trackingBinning` of templates: 1, until :meth:`for_series` sets it from the pixel size.
    alignment
        The file or folder of alignments that are given, which the engine uses in place of its own; None for none.  What the files
        held is part of the record of each series.
    """

    parameters: BrtParameters
    source: Template
    directives: tuple[Directive, ...]
    report: DirectiveReport
    engine: str = "auto"
    fallback_engine: str = OFF
    fallback: bool = True
    trust_limit_px: float = 1.0
    pyramid: PyramidLayout = BIOFORMATS2RAW
    tracking_binning: int = 1
    alignment: Path | None = None

    @property
    def template(self) -> str:
        """The name of the template."""
        return self.source.name

    @property
    def align(self) -> AlignParams:
        """How the native engine aligns."""
        return AlignParams(
            method=self.method,
            fallback=self.fallback,
            trust_limit_px=self.trust_limit_px,
            gold_nm=self.gold_nm,
            coarse=self.coarse,
            beads=self.beads,
            patches=self.patches,
            refine=self.refine,
            solve=self.solve,
        )

    @property
    def audit(self) -> AuditParams:
        """How an alignment that tiltflow did not make is audited.

        The reference is solved with everything free, whatever directives fix or group: what is fixed wrongly in both would be off in
        both, and would not show.  Stretch and skew alone are those of the recipe, as they say what the specimen may do: on simulated
        points of a section that stretches by 1 %, an alignment that is off by 0.11 px was called off by 0.5 px by a reference that
        could not stretch, and one off by 0.33 px called off by 0.21 px.  Where nothing stretches, they change an error by 2 %.
        """
        return AuditParams(
            gold_nm=self.gold_nm,
            trust_limit_px=self.trust_limit_px,
            beads=self.beads,
            patches=self.patches,
            solve=SolveParams(stretch=self.solve.stretch, skew=self.solve.skew),
            refine=self.refine,
        )

    @property
    def digest(self) -> str:
        """Hash of all that determines the result, 64 hexadecimal digits: equal for recipes that give the same one from the same series.

        Directives, engine, stage parameters and the layout of the pyramid count; the name of the series, folders and the site do not.
        Of given alignments it counts that there are any: their files are compared one by one.
        """
        named_only = _OF_ONE_SERIES.union(LOWER_LAYERS)
        content = {
            "directives": sorted((each.name, each.value) for each in self.directives if each.name not in named_only),
            "engine": [self.engine, self.fallback_engine],
            "follows_pixel_size": self.source.follows_pixel_size,
            "fallback": [self.fallback, self.trust_limit_px],
            "pyramid": self.pyramid,
            "stages": _stage_values(self),
        }
        if self.alignment is not None:
            content["alignment"] = "given"
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=_plain).encode()).hexdigest()

    def for_engine(self, engine: str) -> Recipe:
        """Return the recipe with its engine decided.

        Raises
        ------
        DirectiveError, ParameterError, UnsupportedError
            If that engine cannot follow it.
        """
        _check_engine(engine)
        if self.alignment is not None and not (engine in (AUTO, BEST) or engine_info(engine).rules.takes_alignment):
            raise UnsupportedError(
                f"The engine {engine} aligns by itself and cannot use the alignment in {self.alignment}: take "
                f"{' or '.join(_engines_for_alignments())} (--engine), or leave out --alignment"
            )
        recipe = replace(self, engine=engine, report=_judge(self.source, self.directives, engine, self.report.problems))
        if engine not in (AUTO, BEST):
            recipe.report.check()
            return recipe
        # Before an engine is chosen, only what no engine could follow stops the run.
        reports = [_judge(self.source, self.directives, each.name) for each in all_engines()]
        if not any(report.followed for report in reports):
            recipe.report.check()
        return recipe

    def for_series(self, pixel_size_angstrom: float) -> Recipe:
        """Return the recipe for a series of that pixel size, from which `trackingBinning` of templates follows."""
        binning = max(1, round(_TRACKED_PIXEL_ANGSTROM / pixel_size_angstrom))
        directives = self.source.directives(self.parameters, {"trackingBinning": binning}).directives
        params, _ = from_directives(directives)
        without_series = tuple(each for each in self.report.problems if each not in _of_any_series(self.source))
        return replace(
            self,
            **_stage_values(params),
            directives=directives,
            report=_judge(self.source, directives, self.engine, without_series),
            tracking_binning=binning,
        )

    def with_settings(self, parameters: BrtParameters, overrides: Iterable[Directive] = ()) -> Recipe:
        """Return the recipe with other parameters, and further directives above its own.

        Raises
        ------
        DirectiveError, ParameterError, UnsupportedError
            If the engine cannot follow it.
        """
        return recipe_from(replace(self.source, overrides=(*self.source.overrides, *overrides)), parameters, like=self)

    def with_alignment(self, path: Path) -> Recipe:
        """Return the recipe with given alignments, in a file or a folder, in place of any that it has; no second engine tries another.

        Raises
        ------
        DirectiveError, ParameterError, UnsupportedError
            If the engine cannot use them.
        """
        engine = _engines_for_alignments()[0] if self.engine in (AUTO, BEST) else self.engine
        return replace(self, alignment=path, fallback_engine=OFF).for_engine(engine)


def make_recipe(
    parameters: BrtParameters | None = None,
    template: str | Path = "plastic_brt",
    overrides: Iterable[str | tuple[str, str]] = (),
    engine: str = "auto",
    *,
    fallback_engine: str = OFF,
    fallback: bool = True,
    trust_limit_px: float = 1.0,
    alignment: Path | None = None,
    pyramid: PyramidLayout = BIOFORMATS2RAW,
) -> Recipe:
    """Return the recipe for a template, the parameters that fill it in, and directives that override it.

    Parameters
    ----------
    template
        One of :data:`tiltflow.recipe.TEMPLATES`, or the path of a file.
    overrides
        `name=value`, or pairs of both; a blank value removes a directive.
    engine
        The engine that must be able to follow it.  With `auto` or `best` only what no engine could do is refused; see
        :meth:`Recipe.for_engine`.
    fallback_engine
        The engine that does the work of one that failed or aligned poorly; `off` for none.
    alignment
        A file or a folder of alignments that another program made.  With `auto` and `best` an engine that can use them does the
        work, and no second one.
    pyramid
        How the pyramid is laid out.

    Raises
    ------
    DirectiveError, ParameterError
        If a directive is unknown, misspelt or malformed, or a value is out of range.
    UnsupportedError
        If the engine cannot do what is requested.
    LocationError
        If there is no such template.
    """
    recipe = draft_recipe(parameters, template, overrides, engine)
    if fallback_engine != OFF:
        _check_engine(fallback_engine)
    asked = replace(recipe, fallback_engine=fallback_engine, fallback=fallback, trust_limit_px=trust_limit_px, pyramid=pyramid)
    return asked.for_engine(engine) if alignment is None else asked.with_alignment(alignment)


def report_directives(
    parameters: BrtParameters | None = None,
    template: str | Path = "plastic_brt",
    overrides: Iterable[str | tuple[str, str]] = (),
    engine: str = "auto",
) -> DirectiveReport:
    """Return the status that every directive would have; what is wrong with them is in the report, not raised.

    Raises
    ------
    DirectiveError
        If a line of a file, or an override, is not a directive.
    LocationError
        If there is no such template.
    """
    return draft_recipe(parameters, template, overrides, engine).report


def render_adoc(
    recipe: Recipe,
    *,
    name: str,
    stackext: str,
    dataset_directory: str,
    current_b_stackext: str | None = None,
    instead: Mapping[str, str | None] | None = None,
) -> str:
    """Return the directive file of one series for batchruntomo: all layers as one.

    Name, ending and folder are the given ones, whatever a template says: batchruntomo works where it is told to, under that name.

    Parameters
    ----------
    instead
        Values that the data decide, in place of the template's; a directive with None is left out, and one that no layer has is added.

    Raises
    ------
    DirectiveError
        If a value could be read as another directive, or the template gives other directives for this series.
    """
    series = {
        "name": name,
        "stackext": stackext,
        "currentBStackExt": current_b_stackext,
        "datasetDirectory": dataset_directory,
        "trackingBinning": recipe.tracking_binning,
    }
    source = recipe.source
    directives = source.directives(recipe.parameters, series).directives
    here = {
        "setupset.copyarg.name": name,
        "setupset.copyarg.stackext": stackext,
        "setupset.currentStackExt": stackext,
        "setupset.datasetDirectory": dataset_directory,
    }
    ours = tuple(replace(each, value=here.get(each.name, each.value)) for each in directives if not is_own(each.name))
    given = {each.name for each in ours}
    ours += tuple(Directive(each, here[each]) for each in _NAMING if each not in given)
    ours = _instead(ours, instead or {})
    unlike = {each.name for each in directives} ^ {each.name for each in recipe.directives}
    if unlike := unlike - {"setupset.currentBStackExt"}:
        raise DirectiveError(
            f"{source.name}: the template gives {', '.join(sorted(unlike))} for some series and not for others; give such series "
            f"a template of their own, so that a recipe means one thing"
        )
    return render_directives(ours, f"Made by tiltflow from the template {source.name}; recipe {recipe.digest[:16]}")


def _instead(directives: tuple[Directive, ...], values: Mapping[str, str | None]) -> tuple[Directive, ...]:
    kept = [
        replace(each, value=values.get(each.name, each.value) or "") for each in directives if values.get(each.name, "") is not None
    ]
    given = {each.name for each in directives}
    return (*kept, *(Directive(name, value) for name, value in values.items() if value is not None and name not in given))


def draft_recipe(
    parameters: BrtParameters | None = None,
    template: str | Path = "plastic_brt",
    overrides: Iterable[str | tuple[str, str]] = (),
    engine: str = AUTO,
    *,
    volume: bool = True,
) -> Recipe:
    """Return the recipe unchecked: its report says what is wrong with the directives, and the caller decides what follows from it.

    What is wrong has the defaults of its stage in its place.

    Parameters
    ----------
    volume
        Whether a volume is to be made, so that a directive must give its thickness.

    Raises
    ------
    DirectiveError
        If a line of a file, or an override, is not a directive.
    LocationError
        If there is no such template.
    """
    _check_engine(engine)
    parameters = parameters or BrtParameters()
    found, folder = find_template(template)
    source = replace(found, overrides=tuple(_override(each) for each in overrides))
    source = with_lower_layers(source, source.directives(parameters, {}).directives, folder)
    return _drafted(source, parameters, engine, volume=volume)


def recipe_from(source: Template, parameters: BrtParameters, *, like: Recipe) -> Recipe:
    """Return the recipe of a template whose layers are read already; engine and all else are those of another recipe.

    Raises
    ------
    DirectiveError, ParameterError, UnsupportedError
        If the engine cannot follow it.
    """
    drafted = _drafted(source, parameters, like.engine)
    kept = {name: getattr(like, name) for name in ("fallback_engine", "fallback", "trust_limit_px", "pyramid", "alignment")}
    return replace(drafted, **kept).for_engine(like.engine)


def render_request(recipe: Recipe, *, name: str, stackext: str, dataset_directory: str) -> str:
    """Return the directives that a recipe follows for one series as the text of a file, tiltflow's own among them.

    A name that a directive cannot hold is left as `<name>`.
    """
    given = {"<name>": name, "<stackext>": stackext, "<datasetDirectory>": dataset_directory}
    series = {placeholder: text for placeholder, text in given.items() if text.isprintable() and text == text.strip()}
    directives = []
    for each in recipe.directives:
        value = each.value
        for placeholder, text in series.items():
            value = value.replace(placeholder, text)
        directives.append(replace(each, value=value))
    return render_directives(directives, f"Followed by tiltflow; template {recipe.template!a}, recipe {recipe.digest[:16]}")


def _drafted(source: Template, parameters: BrtParameters, engine: str, *, volume: bool = True) -> Recipe:
    layered = source.directives(parameters, {})
    params, _ = from_directives(layered.directives)
    problems = (*layered.problems, *_oddities(parameters, source))
    return Recipe(
        **_stage_values(params),
        parameters=parameters,
        source=source,
        directives=layered.directives,
        report=_judge(source, layered.directives, engine, problems, volume=volume),
        engine=engine,
    )


def _judge(
    source: Template,
    directives: tuple[Directive, ...],
    engine: str,
    problems: tuple[Problem, ...] = (),
    *,
    volume: bool = True,
) -> DirectiveReport:
    """Return the status of the directives; batchruntomo searches for lower layers in its own places."""
    _, report = from_directives(directives, engine, volume=volume)
    return replace(report, faults=(*report.faults, *(() if rules_of(engine).hands_on_to else source.missing)), problems=problems)


def _override(given: str | tuple[str, str]) -> Directive:
    if isinstance(given, str):
        return parse_override(given)
    name, value = given
    return Directive(name.strip(" "), value.strip(" "), "--set")


def _oddities(parameters: BrtParameters, source: Template) -> Iterator[Problem]:
    """Yield a remark for each parameter that was set but that the template does not use, and for those that follow the series."""
    asked = variables_of_template(source.text, source.name)
    for each in PARAMETERS.values():
        value = getattr(parameters, each.name)
        without = {each.default, 0 if each.default is None else each.default}
        if not asked & {each.imod_name, each.derived} and value not in without:
            yield Problem(f"{each.option} {value} has no effect: the template does not use {each.imod_name}", source.name)
    yield from _of_any_series(source)


def _of_any_series(source: Template) -> tuple[Problem, ...]:
    """Return the remark that a parameter follows the series, which says nothing any more once the series is known."""
    if not source.follows_pixel_size:
        return ()
    said = f"trackingBinning is 1 here; for each series it is set so that binned pixels are about {_TRACKED_PIXEL_ANGSTROM:g} Å"
    return (Problem(said, source.name),)


def _stage_values(params: StageParams) -> dict[str, Any]:
    return {field.name: getattr(params, field.name) for field in fields(StageParams)}


def _engines_for_alignments() -> list[str]:
    """Return the engines that can use a given alignment, the preferred one first."""
    return [each.name for each in all_engines() if each.rules.takes_alignment]


def _check_engine(engine: str) -> None:
    if engine not in (AUTO, BEST):
        engine_info(engine)


def _plain(params: Any) -> dict[str, object]:
    """Return parameters by name, as JSON holds them; `asdict` would first copy every value."""
    return {field.name: getattr(params, field.name) for field in fields(params)}
