"""The engines: which there are, and a tiny simulated series through each of them, from raw images to published products."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from tiltflow.check_site.finding import Finding, Site, failed, good, note
from tiltflow.demo import write_series
from tiltflow.engines.registry import find_engine
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.pipeline import process
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.recipe.engine_rules import OFF, engine_info
from tiltflow.settings import site_from
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import simulate

_SERIES = SimulationParams(seed=1, size=192, views=21, two_surfaces=True)
"""The smallest series that gold aligns well: a quarter of the field and half of the views of the demonstration."""
_DIRECTIVES = BrtParameters(gold=10, thickness=40, two_surfaces=1)
LARGEST_ERROR_PX = 1.0
"""Where tiltflow's own engine is wrong by 0.03 px on this series; above a pixel the verdict on any series is poor."""


def engine_check(name: str) -> Callable[[Site], Finding]:
    """Return the check whether an engine can be used here."""

    def look(site: Site) -> Finding:
        engine = find_engine(name)
        if because := engine.available():
            return good(f"{engine.version}: {because}")
        if name in (site.settings.engine, site.settings.fallback_engine):
            return failed(f"the settings ask for it, and {engine.unavailable()}", "install it, or set another engine")
        return note(f"not used: {engine.unavailable()}")

    return look


def self_test(name: str) -> Callable[[Site], Finding]:
    """Return the check that takes a simulated series through an engine, in the scratch folder of the site."""

    def look(site: Site) -> Finding:
        engine = engine_info(name)
        if not engine.available():
            return note(f"not done: {engine.unavailable()}")
        with tempfile.TemporaryDirectory(prefix="tiltflow-check-", dir=site.settings.scratch) as folder:
            return _process_simulated(Path(folder), name, site)

    return look


def _process_simulated(folder: Path, engine: str, site: Site) -> Finding:
    work = site_from(site.settings.model_copy(update={"scratch": folder / "scratch", "export": ()}))
    source, output = folder / "test.st", folder / "results"
    series = simulate(_SERIES, threads=work.threads)
    write_series(source, series)
    recipe = make_recipe(
        _DIRECTIVES, overrides=["runtime.AlignedStack.any.binByFactor=1"], engine=engine, fallback_engine=OFF, fallback=False
    )
    result = process(source, recipe, work, output=output)
    if not result.ok:
        return failed(f"it failed at {result.stage}: {result.message}", "put right what the message names")
    error_px = score(series.truth, read_transforms(output / "test.xf"), read_tilts(output / "test.tlt")).rms_px
    found = f"{len(result.assets)} products, alignment wrong by {error_px:.2f} px"
    if not error_px <= LARGEST_ERROR_PX:
        return failed(f"{found}, more than {LARGEST_ERROR_PX:g}", "do not use this engine before the reason is known")
    return good(found)
