"""Templates that a caller of the flow may name: those of tiltflow and of the site's folders, and no other file of the machine."""

from __future__ import annotations

from pathlib import Path

from tiltflow.errors import ParameterError
from tiltflow.recipe.template import TEMPLATES
from tiltflow.settings import Settings

_ENDING = ".adoc"


def site_template(name: str, settings: Settings) -> str | Path:
    """Return the template of a name: one of tiltflow's, or the file `NAME.adoc` in the first of the site's folders that has it.

    Raises
    ------
    ParameterError
        If there is none; the message lists those there are.
    """
    if name in TEMPLATES:
        return name
    known = {
        path.stem: path
        for folder in reversed(settings.template_folders)
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix == _ENDING and path.is_file()
    }
    found = known.get(name.removesuffix(_ENDING))
    if found is None:
        raise ParameterError(
            f"adoc_template: there is no template {name!r}; there are {', '.join([*TEMPLATES, *sorted(known)])}. A template of the "
            "site's own lies as NAME.adoc in a folder of the setting template_folders, and is given by its name"
        )
    return found
