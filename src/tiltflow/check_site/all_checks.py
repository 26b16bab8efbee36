"""The list of all checks."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points

from tiltflow.check_site.engines import engine_check, self_test
from tiltflow.check_site.finding import Check, Finding, Site, note
from tiltflow.check_site.places import check_compiled_kernels, check_scratch, check_shares, share_check
from tiltflow.check_site.portal import check_certificates, check_outbox, check_portal, check_site_token
from tiltflow.check_site.program import check_settings, check_version
from tiltflow.recipe.engine_rules import engine_names
from tiltflow.settings import Settings

GROUP = "tiltflow.site_checks"
"""The entry point by which another package adds checks: a sequence of :class:`~tiltflow.check_site.finding.Check`."""


def all_checks(settings: Settings) -> Iterator[Check]:
    """Yield the checks of a site, quick ones first."""
    yield Check("version", check_version)
    yield Check("settings", check_settings)
    yield Check("shares", check_shares)
    for name in settings.mounts:
        yield Check(f"share {name}", share_check(name))
    yield Check("scratch", check_scratch)
    yield Check("compiled kernels", check_compiled_kernels)
    yield Check("certificates", check_certificates)
    yield Check("token", check_site_token)
    yield Check("outbox", check_outbox)
    yield Check("portal", check_portal)
    for point in entry_points(group=GROUP):
        yield from added(point)
    for name in engine_names():
        yield Check(f"engine {name}", engine_check(name))
    for name in engine_names():
        yield Check(f"self-test {name}", self_test(name))


def added(point: EntryPoint) -> tuple[Check, ...]:
    """Return the checks of another package; where it cannot be imported, as Prefect is not installed, one that tells so."""
    try:
        return tuple(point.load())
    except ImportError as error:
        missing = f"not checked: {error}"

    def look(_site: Site) -> Finding:
        return note(missing, "install it with pip install 'tiltflow[prefect]', if the flow is to run here")

    return (Check(point.name, look),)
