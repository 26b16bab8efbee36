"""What the record says of a result and of how good it is: alignment, CTF, exposures, volume and half volumes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from tiltflow.record.entry import Entry


class AlignmentEntry(Entry):
    """The alignment and the evidence for it.

    Lists with one number a view are in the order of the raw stack; null where a view gives none.  Lengths in `_px` are pixels of the raw
    images.  `y_per_z` is the displacement along y in the aligned view per unit of z.  `measurement_ratio` is measurements / unknowns.
    Views are numbered from 1, in `excluded_views` too.  Numbers of a method that are not listed here are kept as they are.
    """

    model_config = ConfigDict(extra="allow", validate_assignment=True, ser_json_inf_nan="null")

    method: str
    tilt_deg: list[float]
    included: list[bool]
    shift_px: list[tuple[float, float]]
    rotation_deg: list[float] = Field(default_factory=list)
    magnification: list[float] = Field(default_factory=list)
    x_axis_tilt_deg: float = 0.0
    z_shift_px: float = 0.0
    y_per_z: list[float] | None = None
    local_areas: int | None = None
    residual_mean_px: float | None = None
    residual_mean_nm: float | None = None
    residual_sd_px: float | None = None
    residual_sd_nm: float | None = None
    residual_weighted_mean_px: float | None = None
    residual_weighted_mean_nm: float | None = None
    leave_out_px: float | None = None
    leave_out_nm: float | None = None
    global_residual_mean_px: float | None = None
    global_residual_mean_nm: float | None = None
    global_leave_out_px: float | None = None
    global_leave_out_nm: float | None = None
    error_px: float | None = None
    error_nm: float | None = None
    residual_per_view_px: list[float | None] | None = None
    residual_per_view_nm: list[float | None] | None = None
    residual_vectors_px: list[tuple[float, float, float, float]] | None = None
    positions_used: int | None = None
    positions_rejected: int | None = None
    positions_expected: int | None = None
    positions_per_view: list[int] | None = None
    positions_lost_per_view: list[int] | None = None
    correlation_per_view: list[float | None] | None = None
    measurements: int | None = None
    unknowns: int | None = None
    measurement_ratio: float | None = None
    tracks_used: int | None = None
    tracks_rejected: int | None = None
    shift_rms_px: float | None = None
    shift_rms_nm: float | None = None
    shift_max_px: float | None = None
    shift_max_nm: float | None = None
    axis_angle_nominal_deg: float | None = None
    axis_angle_from_data_deg: float | None = None
    axis_angle_error_deg: float | None = None
    x_axis_tilt_error_deg: float | None = None
    trust_warnings: list[str] = Field(default_factory=list)
    views_counted_from: Literal[1] = 1
    excluded_views: dict[int, str] = Field(default_factory=dict)
    rejected: dict[str, int] = Field(default_factory=dict)
    attempts: list[dict[str, Any]] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _from_0_1(cls, values: Any) -> Any:
        """Read what version 0.1 called doubts."""
        if not isinstance(values, dict):
            return values
        if "doubts" in values:
            values = {**{key: value for key, value in values.items() if key != "doubts"}, "trust_warnings": values["doubts"]}
        attempts = values.get("attempts")
        if isinstance(attempts, list) and any(isinstance(one, dict) and "doubts" in one for one in attempts):
            renamed = [{"trust_warnings" if key == "doubts" else key: value for key, value in one.items()} for one in attempts]
            values = {**values, "attempts": renamed}
        return values


class VolumeEntry(Entry):
    """Statistics of the reconstruction; all lists are short enough to be plotted.

    The histogram has equal bins from `histogram_low` to `histogram_high`; `window_low` and `window_high` are the grey values shown
    as black and white.  `spectrum_power` is the radially averaged power of sections at the frequencies beside it.
    `texture` is the spread of grey values in sections at the heights `texture_z_nm`, from the middle of the volume.
    With `whole_numbers`, grey values were rounded to those of 16 bits.
    `section_*` is where the specimen lies by its texture: null where it does not stand out.  With `section_least`, noise hides its
    surfaces, so that it may be thicker.
    """

    sections: int
    height_px: int
    width_px: int
    voxel_nm: float
    mean: float
    sd: float
    histogram_low: float
    histogram_high: float
    histogram_counts: list[int]
    window_low: float
    window_high: float
    spectrum_per_nm: list[float]
    spectrum_power: list[float]
    texture_z_nm: list[float]
    texture: list[float]
    contrast: float | None = None
    section_low_nm: float | None = None
    section_high_nm: float | None = None
    section_cut: bool = False
    section_least: bool = False
    whole_numbers: bool = False


class HalvesEntry(Entry):
    """Fourier shell correlation of two volumes, each of every other view, or of the even or odd frames of all views (`of`).

    `resolution_*_nm` is the resolution at which the correlation falls below 0.143 and below 0.5; null where it never does.
    """

    of: Literal["views", "frames"] = "views"
    views_even: int
    views_odd: int
    frequency_per_nm: list[float]
    correlation: list[float]
    resolution_0143_nm: float | None = None
    resolution_0500_nm: float | None = None


class MontageEntry(Entry):
    """How the views were stitched from pieces, and how well.

    `error_px` is the root mean square over all pieces of the standard error of their places, both axes together, and `moved_px` how far
    they were moved from where they were written.  `deviation_px` is what a view adds to what all views share.  Pieces are named by
    view and number, both from 1, x fastest: those that were never taken, that show nothing, that lie where the other views expect
    them for want of an edge, and that the tracks contradict.  `moved_by_tracks` says whether beads or patches placed the pieces
    anew, and `leave_out_px` has the leave-out error without and with that; `placement_error_px` is the part of the alignment's
    estimated error that is left of the stitching.
    """

    columns: int
    rows: int
    piece_px: tuple[int, int]
    overlap_px: tuple[int, int]
    error_px: float
    error_per_view_px: list[float]
    moved_px: float
    deviation_px: float
    edges_measured: int
    edges_doubted: int
    pieces_missing: list[tuple[int, int]] = Field(default_factory=list)
    pieces_blank: list[tuple[int, int]] = Field(default_factory=list)
    pieces_expected: list[tuple[int, int]] = Field(default_factory=list)
    pieces_doubted: list[tuple[int, int]] = Field(default_factory=list)
    rotation_deg: float = 0.0
    magnification: float = 0.0
    moved_by_tracks: bool = False
    leave_out_px: tuple[float, float] | None = None
    placement_error_px: float | None = None


class RingsEntry(Entry):
    """Rings in the spectrum of a view, counted from 1: power over its smooth part, less 1, as measured and as the CTF has it."""

    view: int
    frequency_per_nm: list[float]
    measured: list[float]
    fitted: list[float]


class CtfEntry(Entry):
    """The CTF of the views, underfocus positive, and whether it was corrected; `reason` says how well it is known, or why not.

    Lists have one number a view.  `defocus_nm` is that on the tilt axis, empty where it is not known, and not `measured` where it was
    stated.  Of the astigmatism, `deg` is the direction of the largest defocus in the aligned views, counter-clockwise from x.  `hand` is
    the sign of the defocus gradient that was used: 1 if at positive tilts the right side is more underfocused, 0 for no gradient;
    `hand_measured` is what the images say, null where they do not decide, and `gradient` is that which they show, in parts of the one
    of a flat specimen.  `spacing_angstrom` is the finest to which rings are seen, null where none are.  `doubts` speak against a defocus
    that was not measured.
    """

    applied: bool = False
    measured: bool = True
    reason: str = ""
    method: str = "flip"
    voltage_kv: float | None = None
    voltage_source: str = ""
    cs_mm: float
    amplitude_contrast: float
    defocus_nm: list[float] = Field(default_factory=list)
    error_nm: list[float] = Field(default_factory=list)
    mean_error_nm: float | None = None
    astigmatism_nm: float = 0.0
    astigmatism_deg: float = 0.0
    astigmatism_error_nm: float | None = None
    phase_shift_deg: float = 0.0
    hand: int | None = None
    hand_measured: int | None = None
    hand_certainty: float | None = None
    gradient: float | None = None
    gradient_error: float | None = None
    score: list[float] = Field(default_factory=list)
    spacing_angstrom: list[float | None] = Field(default_factory=list)
    rings: list[RingsEntry] = Field(default_factory=list)
    doubts: list[str] = Field(default_factory=list)


class ExposureEntry(Entry):
    """The exposure of each view and before it, electrons per square ångström, and whether frequencies were weighted by it.

    `order` has the views, counted from 1, in the order in which they were taken, as believed; `order_assumed` if nothing tells it.
    `reason` is where all that is known from, or why it is not; `doubt` is what speaks against a stated order.
    """

    applied: bool = False
    reason: str = ""
    order_assumed: bool = False
    doubt: str = ""
    each: list[float] = Field(default_factory=list)
    before: list[float] = Field(default_factory=list)
    order: list[int] = Field(default_factory=list)
    voltage_kv: float = 300.0
