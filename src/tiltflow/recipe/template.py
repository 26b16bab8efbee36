"""Templates, and the layers of directives below and above them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from tiltflow.errors import LocationError
from tiltflow.formats.directives import (
    Directive,
    LayeredDirectives,
    layer_directives,
    parse_directives,
    read_directive_text,
    read_directives,
    render_template,
    variables_of_template,
)
from tiltflow.recipe.parameters import BrtParameters

TEMPLATES = ("plastic_brt", "cryo_brt")
"""The templates that come with tiltflow."""

LOWER_LAYERS = ("setupset.scopeTemplate", "setupset.systemTemplate", "setupset.userTemplate")
"""Directives that name the files of the lower layers, lowest first."""

_PLACEHOLDERS: Mapping[str, str | int | None] = {
    "name": "<name>",
    "stackext": "<stackext>",
    "currentBStackExt": None,
    "datasetDirectory": "<datasetDirectory>",
    "trackingBinning": 1,
}
"""Placeholders for the series in a recipe, which is the same for all series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template, with the layers below and above it.

    Attributes
    ----------
    name
        One of :data:`TEMPLATES`, or the path of a file.
    text
        With its variables not yet filled in.
    layers
        The directives of the scope, system and user templates that it names, lowest first.
    missing
        A message for each of them that does not exist.
    overrides
        The directives of the command line.
    """

    name: str
    text: str
    layers: tuple[tuple[Directive, ...], ...] = ()
    missing: tuple[str, ...] = ()
    overrides: tuple[Directive, ...] = ()

    @property
    def follows_pixel_size(self) -> bool:
        """Whether its directives depend on the pixel size of the series."""
        return "trackingBinning" in variables_of_template(self.text, self.name)

    def batch(self, parameters: BrtParameters, series: Mapping[str, str | int | None]) -> list[Directive]:
        """Return the directives of the template itself, filled in."""
        variables = {**_PLACEHOLDERS, **series, **parameters.template_variables()}
        return parse_directives(render_template(self.text, variables, self.name), self.name)

    def directives(self, parameters: BrtParameters, series: Mapping[str, str | int | None]) -> LayeredDirectives:
        """Return the directives of all layers that are in force."""
        return layer_directives(*self.layers, self.batch(parameters, series), self.overrides)


def find_template(template: str | Path) -> tuple[Template, Path]:
    """Return a template, and the folder that the files it names may be relative to.

    Raises
    ------
    LocationError
        If there is no such template.
    DirectiveError
        If it is not text.
    """
    if str(template) in TEMPLATES:
        file = resources.files("tiltflow.templates").joinpath(f"{template}.adoc")
        return Template(name=str(template), text=file.read_text(encoding="utf-8")), Path()
    path = Path(template)
    if not path.is_file():
        raise LocationError(f"there is no template {str(template)!r}: give {' or '.join(TEMPLATES)}, or the path of a file")
    return Template(name=str(template), text=read_directive_text(path)), path.parent


def with_lower_layers(template: Template, directives: Iterable[Directive], folder: Path) -> Template:
    """Return the template with the files that its directives name as lower layers.

    Raises
    ------
    DirectiveError
        If one of these files is malformed.
    """
    named = {directive.name: directive.value for directive in directives if directive.value}
    layers, missing = [], []
    for name in LOWER_LAYERS:
        if name not in named:
            continue
        path = next((path for path in (folder / named[name], Path(named[name])) if path.is_file()), None)
        if path is None:
            missing.append(f"{name} names {named[name]}, which does not exist: give its full path, or remove it by --set {name}=")
        else:
            layers.append(tuple(read_directives(path)))
    return replace(template, layers=tuple(layers), missing=tuple(missing))
