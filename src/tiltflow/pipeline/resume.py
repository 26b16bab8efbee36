"""What an earlier run left of a series, and whether it is kept."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tiltflow.errors import FormatError
from tiltflow.model import SeriesResult
from tiltflow.pipeline.conclusion import result_of
from tiltflow.pipeline.job import RECORD_NAME
from tiltflow.recipe import Recipe
from tiltflow.record import read_record
from tiltflow.version import __version__


def earlier_result(source: Path, recipe: Recipe, output: Path) -> SeriesResult | None:
    """Return the result that stands in `output` if it is complete and was made from this very file by this very recipe."""
    path = output / RECORD_NAME
    if not path.is_file():
        return None
    try:
        record = read_record(path)
        status = source.stat()
    except (FormatError, OSError):
        return None
    same = (
        record.status == "success"
        and record.tiltflow == __version__
        and record.recipe is not None
        and record.recipe.requested == recipe.digest
        and record.source == str(source)
        and record.source_bytes == status.st_size
        and record.source_modified == datetime.fromtimestamp(status.st_mtime, UTC)
        and all((output / product.path).exists() for product in record.products)
    )
    return result_of(record, output) if same else None
