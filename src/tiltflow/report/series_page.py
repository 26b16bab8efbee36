"""The page of one series: a slice and the verdict, what it looks like, whether to trust it, what was done, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiltflow.record import SeriesRecord
from tiltflow.report.check import Check
from tiltflow.report.checks import examine
from tiltflow.report.ctf_plots import ctf_plots
from tiltflow.report.embed import Embedded, Embedder
from tiltflow.report.facts import facts, gold_is_erased
from tiltflow.report.hints import AGAIN, what_may_help, what_to_try
from tiltflow.report.links import links
from tiltflow.report.methods import describe_methods
from tiltflow.report.montage_plots import montage_plots
from tiltflow.report.plots import alignment_plots, time_plot, volume_plots
from tiltflow.report.previews import preview_path
from tiltflow.report.render import render
from tiltflow.report.verdict import faults, judge, leading_figures
from tiltflow.work import AssetType, Thresholds, Verdict

PAGE_NAME = "report.html"

MOST_BYTES = 5_000_000
"""No page is larger; movies that do not fit are linked."""

_FOR_TEXT = 300_000
_KEY_IMAGE_SIDE = 600
_POSTER_SIDE = 400
_LEADS = ("slice_xy", "key_image", "zero_tilt")
"""Pictures that a page may open with, the most telling first."""
_MOVIES = {
    AssetType.REC_MOVIE: "Through the volume, slice by slice, each the mean of five",
    AssetType.TILT_MOVIE: "The aligned tilt series: the specimen should turn about a vertical axis and not jump",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture or movie on the page; `whole` is where the file lies that the page holds a copy of, or does not hold, or none."""

    name: str
    file: Embedded
    caption: str
    whole: str = ""


def write_series_page(folder: Path, record: SeriesRecord, thresholds: Thresholds) -> Path:
    """Write `report.html` of a series into its folder, from the record and the small files that lie there; return its path."""
    verdict = judge(record, thresholds)
    checks = examine(record, thresholds) if record.status == "success" else ()
    embedder = Embedder(folder, MOST_BYTES - _FOR_TEXT)
    made = {picture.name: picture.path for picture in record.pictures}
    view = embedder.find(made["zero_tilt"]) if "zero_tilt" in made else None
    alignment, volume = list(alignment_plots(record, thresholds, view)), list(volume_plots(record))
    transfer = [*montage_plots(record), *ctf_plots(record)]
    embedder.spend(sum(len(plot.svg) for plot in [*alignment, *transfer, *volume]))
    pictures = {shown.name: shown for shown in _pictures(record, embedder)}
    lead = next((pictures.pop(name) for name in _LEADS if name in pictures), None)
    return render(
        "series.html",
        folder / PAGE_NAME,
        record=record,
        verdict=verdict,
        checks=checks,
        reasons=_told(verdict, checks),
        figures=leading_figures(verdict),
        facts=facts(record),
        links=links(record, embedder),
        lead=lead,
        poster=embedder.picture(made["slice_xy"], _POSTER_SIDE) if "slice_xy" in made else None,
        pictures=pictures,
        movies=list(_movies(record, embedder)),
        alignment_plots=alignment,
        ctf_plots=transfer,
        volume_plots=volume,
        time_plot=time_plot(record),
        methods=describe_methods(record) if checks else None,
        troubled=record.failure is not None or bool(record.warnings) or record.status == "running",
        hints=what_to_try(record.failure) if record.failure is not None else (),
        helps=what_may_help(record.alignment.method, checks, gold_erased=gold_is_erased(record))
        if record.alignment is not None
        else (),
        again=AGAIN,
        gold_erased=gold_is_erased(record),
        source_name=Path(record.source).name,
        seconds=sum(stage.seconds or 0.0 for stage in record.stages),
        index=(folder.parent / "index.html").name if (folder.parent / "run.json").is_file() else None,
    )


def _told(verdict: Verdict, checks: Sequence[Check]) -> tuple[str, ...]:
    """Return the reasons shown beside the two decisive numbers: all that is not good or was left out, or else what they do not say."""
    bad = faults(verdict, checks)
    if bad:
        return (*verdict.reasons[:bad], *(check.finding for check in checks if check.left_out))
    decisive = leading_figures(verdict)
    return tuple(check.finding for check in checks if check.name not in decisive)


def _pictures(record: SeriesRecord, embedder: Embedder) -> Iterator[Shown]:
    """Yield the pictures that are there: those made for the page, then the key image."""
    for picture in record.pictures:
        file = embedder.file(picture.path)
        if file is not None:
            yield Shown(picture.name, file, picture.caption)
    for product in record.products:
        if product.type == AssetType.KEY_IMAGE:
            file = embedder.picture(product.path, _KEY_IMAGE_SIDE)
            if file is not None:
                yield Shown("key_image", file, "The middle view of the aligned stack, with its contrast stretched.")


def _movies(record: SeriesRecord, embedder: Embedder) -> Iterator[Shown]:
    for kind, caption in _MOVIES.items():
        for product in record.products:
            if product.type == kind:
                small = embedder.file(preview_path(kind)) if embedder.find(product.path) is not None else None
                file = small if small is not None and small.inside else embedder.file(product.path)
                if file is not None:
                    yield Shown(str(kind), file, caption, "" if file.inside and file is not small else product.path)
