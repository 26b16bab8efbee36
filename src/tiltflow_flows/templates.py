"""Templates that a caller of the flow may name: those of tiltflow and of the site's folders, and no other file of the machine."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path

from tiltflow.errors import ParameterError
from tiltflow.recipe.template import TEMPLATES
from tiltflow.settings import Settings

_ENDING = ".adoc"
_log = logging.getLogger(__name__)


def site_template(name: str, settings: Settings) -> str | Path:
    """Return the template of a name, given with or without `.adoc`.

    It is the file `NAME.adoc` in the first of the site's folders that has it, or else one of tiltflow's: a site that has its own
    `plastic_brt` gets that.

    Raises
    ------
    ParameterError
        If there is none; the message lists those there are.
    """
    wanted = name.removesuffix(_ENDING)
    own = own_templates(settings)
    if (found := own.get(wanted)) is not None:
        if wanted in TEMPLATES:
            _log.info("the template %s is the site's own, %s", wanted, found)
        return found
    if wanted in TEMPLATES:
        return wanted
    known = [*TEMPLATES, *sorted(set(own) - set(TEMPLATES), key=str.casefold)]
    close = difflib.get_close_matches(wanted.casefold(), [each.casefold() for each in known], n=1)
    meant = next((f" (did you mean {each!r}?)" for each in known if [each.casefold()] == close), "")
    absent = [str(folder) for folder in settings.template_folders if not folder.is_dir()]
    missing = f". Of the template_folders {', '.join(absent)} cannot be read" if absent else ""
    raise ParameterError(
        f"adoc_template: there is no template {name!r}{meant}; there are {', '.join(known)}{missing}. A template of the "
        "site's own lies as NAME.adoc in a folder of the setting template_folders, and is given by its name"
    )


def own_templates(settings: Settings) -> dict[str, Path]:
    """Return the templates in the site's folders by name; of two of one name that in the earlier folder."""
    return {
        path.stem: path
        for folder in reversed(settings.template_folders)
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix == _ENDING and path.is_file()
    }
