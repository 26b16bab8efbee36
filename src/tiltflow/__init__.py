"""tiltflow: tilt series to tomograms, with evidence of how good they are.

The functions here are the front door for scripts and notebooks: :func:`read`, :func:`align`, :func:`apply`, :func:`locate_specimen`,
:func:`reconstruct`, :func:`make_products`, :func:`simulate` and :func:`run`.  They import their modules when they are called, so that
`import tiltflow` is fast.
"""

from typing import TYPE_CHECKING

# Packages of the same names as functions are imported first: importing one later would put it in the place of the function.
import tiltflow.align
import tiltflow.reconstruct
import tiltflow.simulate  # noqa: F401
from tiltflow.front_door import align, apply, locate_specimen, make_products, read, reconstruct, run, simulate
from tiltflow.version import __version__

if TYPE_CHECKING:
    from tiltflow.model import AlignedViews, Alignment, TiltSeries

__all__ = [
    "AlignedViews",
    "Alignment",
    "TiltSeries",
    "__version__",
    "align",
    "apply",
    "locate_specimen",
    "make_products",
    "read",
    "reconstruct",
    "run",
    "simulate",
]


def __getattr__(name: str) -> object:
    if name in {"AlignedViews", "Alignment", "TiltSeries"}:
        from tiltflow import model

        return getattr(model, name)
    raise AttributeError(f"module 'tiltflow' has no attribute {name!r}")
