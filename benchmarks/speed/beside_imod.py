"""tiltflow beside IMOD: batchruntomo with the directives that tiltflow renders, and the documented commands for the products."""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from record import Figures
from speed.processes import Case, cost_of, run_command, with_caches

PROGRAMS = ("batchruntomo", "newstack", "mrc2tif", "clip", "binvol", "ffmpeg", "gm")
ALIGNED, VOLUME = ("{name}_ali.mrc", "{name}.ali"), ("{name}_rec.mrc", "{name}.rec")
"""What IMOD calls the aligned stack and the volume: newer versions, older ones."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall and CPU seconds, of all programs that ran."""

    wall: float
    cpu: float


def missing() -> list[str]:
    """Return the programs of the comparison that are not on the PATH."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def compare(source: Path, case: Case, rounds: int, root: Path, figures: Figures) -> dict[str, float]:
    """Print what IMOD and tiltflow take, in turn, and return the ratios of ours to theirs; only a line where there is no IMOD."""
    if lacking := missing():
        print(f"IMOD beside it: not run, as these are missing: {', '.join(lacking)}")
        return {}
    folder = root / "series"
    folder.mkdir(parents=True)
    shutil.copy(source, folder / source.name)
    found: dict[str, list[Seconds]] = {"batchruntomo": [], "documented commands": [], "tiltflow": []}
    for turn in range(rounds + 1):
        work = root / f"turn_{turn}"
        ours = cost_of(run_command(folder, work / "ours", case), with_caches(root / "cache"))
        theirs = spent(partial(batchruntomo, source, work / "imod", case))
        products = spent(partial(documented_products, source.stem, work / "imod", work / "products"))
        if turn:  # the first fills the caches
            for kept, each in zip(found.values(), (theirs, products, Seconds(ours.wall, ours.cpu)), strict=True):
                kept.append(each)
        shutil.rmtree(work)
    return _show({name: _median(kept) for name, kept in found.items()}, case, rounds, figures)


def _show(seconds: dict[str, Seconds], case: Case, rounds: int, figures: Figures) -> dict[str, float]:
    engine, products, ours = seconds.values()
    theirs = Seconds(engine.wall + products.wall, engine.cpu + products.cpu)
    print(f"{case}; medians of {rounds} in turn\n")
    print(f"{'':34}{'wall s':>9}{'CPU s':>9}")
    for name, each in [*seconds.items(), ("IMOD with its products", theirs)]:
        print(f"{name:34}{each.wall:9.1f}{each.cpu:9.1f}")
    ratios = {"wall_of_imod": ours.wall / theirs.wall, "cpu_of_imod": ours.cpu / theirs.cpu}
    print(f"{'tiltflow of IMOD':34}{ratios['wall_of_imod']:9.2f}{ratios['cpu_of_imod']:9.2f}")
    for name, ratio in ratios.items():
        figures.keep(name, ratio, "times", 2)
    return ratios


def _median(kept: list[Seconds]) -> Seconds:
    return Seconds(statistics.median(each.wall for each in kept), statistics.median(each.cpu for each in kept))


def spent(work: Callable[[], object]) -> Seconds:
    """Return the seconds of work that other programs do."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def batchruntomo(source: Path, work: Path, case: Case, method: str = "gold") -> None:
    """Run batchruntomo on a copy of a series in a folder of its own, with the parameters that tiltflow is given."""
    from tiltflow.engines.imod.program import arguments
    from tiltflow.recipe import BrtParameters, make_recipe, render_adoc
    from tiltflow.work import Site

    work.mkdir(parents=True)
    shutil.copy(source, work / source.name)
    chosen = {"tracking_method": int(method == "patches"), "fiducialless": int(method == "markerless")}
    recipe = make_recipe(
        BrtParameters(gold=10, thickness=case.thickness, **chosen),
        overrides=[f"runtime.AlignedStack.any.binByFactor={case.binning}"],
        engine="imod",
    )
    text = render_adoc(recipe, name=source.stem, stackext=source.suffix[1:], dataset_directory=str(work))
    (work / f"{source.stem}.adoc").write_text(text)
    command = ["batchruntomo", "-di", f"{source.stem}.adoc", *arguments(Site(threads=case.threads))]
    done = subprocess.run(command, check=False, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")


def documented_products(name: str, work: Path, folder: Path) -> None:
    """Make the products of what batchruntomo has left, by the commands of the BRT documentation."""
    from products import documented_commands
    from tiltflow.products.catalogue import ProductContext

    aligned, volume = (_one_of(work, name, patterns) for patterns in (ALIGNED, VOLUME))
    documented_commands(ProductContext(name, aligned, volume, folder, 1), folder)


def _one_of(work: Path, name: str, patterns: tuple[str, ...]) -> Path:
    for pattern in patterns:
        if (path := work / pattern.format(name=name)).is_file():
            return path
    raise SystemExit(
        f"batchruntomo ended well and left none of {', '.join(pattern.format(name=name) for pattern in patterns)} in {work}"
    )
