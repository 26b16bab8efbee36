"""The parameters of every stage, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from tiltflow.align.beads import BeadParams
from tiltflow.align.bundle import SolveParams
from tiltflow.align.coarse.params import CoarseParams
from tiltflow.align.methods import Method
from tiltflow.align.patches import PatchParams
from tiltflow.align.projection.refinement import RefineParams
from tiltflow.ctf.requests import CtfRequest, ExposureRequest
from tiltflow.erase.requests import EraseRequest
from tiltflow.filters.deconvolve import DeconvolveParams
from tiltflow.filters.diffuse import DiffuseParams
from tiltflow.filters.requests import FilterRequest
from tiltflow.formats.series import SeriesHints
from tiltflow.position.specimen_search import PositionParams
from tiltflow.preprocess.bad_views import ViewParams
from tiltflow.preprocess.xrays import XrayParams
from tiltflow.reconstruct.aligned_stack import StackParams
from tiltflow.reconstruct.sirt import SirtParams
from tiltflow.reconstruct.trim import TrimParams
from tiltflow.reconstruct.wbp import ReconstructParams


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParams:
    """The parameters of every stage of the native engine.

    Attributes
    ----------
    hints
        Values of the series itself that directives give.
    method
        Method of the fine alignment: gold beads, patches, or projection matching (IMOD's fiducialless).
    gold_nm
        Diameter of the beads; :attr:`beads` has it in pixels of 1 Å, as the pixel size is not known before the series.
    sirt
        None for back-projection.
    erase, filter
        Erasing of gold, and filter of the aligned views; None for none.
    halves
        Whether half volumes are made as well (`runtime.Tiltflow.any.halfVolumes`).
    deconvolve, diffuse
        How volumes to look at are made of the reconstruction; None for none.
    """

    hints: SeriesHints = field(default_factory=SeriesHints)
    xrays: XrayParams = field(default_factory=XrayParams)
    views: ViewParams = field(default_factory=ViewParams)
    coarse: CoarseParams = field(default_factory=CoarseParams)
    method: Method = "gold"
    gold_nm: float = 0.0
    beads: BeadParams = field(default_factory=lambda: BeadParams(diameter_px=1.0))
    patches: PatchParams = field(default_factory=PatchParams)
    refine: RefineParams = field(default_factory=RefineParams)
    solve: SolveParams = field(default_factory=SolveParams)
    position: PositionParams = field(default_factory=PositionParams)
    stack: StackParams = field(default_factory=StackParams)
    ctf: CtfRequest = field(default_factory=CtfRequest)
    exposure: ExposureRequest = field(default_factory=ExposureRequest)
    erase: EraseRequest | None = None
    filter: FilterRequest | None = None
    reconstruct: ReconstructParams = field(default_factory=lambda: ReconstructParams(thickness=1))
    sirt: SirtParams | None = None
    trim: TrimParams = field(default_factory=TrimParams)
    halves: bool = False
    deconvolve: DeconvolveParams | None = None
    diffuse: DiffuseParams | None = None
