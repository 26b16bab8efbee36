"""What a simulated series shows, and everything that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tiltflow.errors import ParameterError

Area = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationParams:
    """What is simulated; the defaults are a plastic section of 90 nm with gold on one surface, recorded by a good microscope.

    Attributes
    ----------
    seed
        Of the random numbers.
    size
        Of the square images, pixels.
    views, max_tilt_deg
        Number of views, evenly spaced between plus and minus this tilt.
    regime
        Absorption contrast (plastic), phase contrast (cryo), or what a ring detector collects, light on dark (haadf).
    thickness_px
        Of the section, pixels.
    pixel_nm
        Size of a pixel, nm.
    beads, bead_nm, two_surfaces
        Gold beads, their diameter in nm, and whether they lie on both surfaces.
    axis_deg, axis_error_deg
        Angle of the tilt axis, and the error of the one in the header.
    axis_told
        Whether the header tells the angle of the tilt axis at all.
    shift_px
        Standard deviation of the step of the stage from view to view, pixels.
    jumped_views, jump_px
        Views, counted from 0, in which the stage stands so many pixels away, in any direction, and comes back.
    tilt_error_deg
        Standard deviation of the true tilt about the nominal one.
    rotation_jitter_deg
        Three standard deviations of the step of the axis angle from view to view.
    magnification_jitter
        Standard deviation of the magnification.
    pitch_deg, z_offset_px
        Pitch of the section about x, and its height above the centre, pixels.
    dose
        Electrons per pixel and view.
    beam_drift
        Fraction of its brightness that the beam loses evenly from the first view to the last.
    crowding
        Factor on the number of cellular structures.
    particle_px
        Diameter of a round body of grains that lies alone in the centre, in place of the cellular structures; None for these.
    lattice_px
        Pitch of a lattice of equal bodies that fills the section in place of the cellular structures; None for these.
    deformation_px, deformation
        Greatest displacement of any part of the specimen, pixels, by a smooth field in three dimensions: one that grows evenly from
        the first view to the last, as by exposure, or another in every view.
    bar_px, bar_depth_px
        A bar of the grid covers all that lies beyond this x in the specimen, pixels from its centre, on that side; it reaches so
        far below the specimen, so that it covers more at tilts of one sign.  None for no bar.
    defocus_um
        Of cryo series at zero tilt, micrometres.
    defocus_slope_nm, defocus_drift_nm
        What the defocus changes with the tilt, nm per degree, and standard deviation of its random step from view to view, nm.
    defocus_hand
        Sign of the gradient of the defocus in tilted views (:mod:`tiltflow.ctf.model`); 0 for the same defocus everywhere.
    astigmatism_nm, astigmatism_deg
        Largest less smallest defocus, and the direction of the largest in the raw views, counter-clockwise from x.
    ice
        Of cryo series: standard deviation of the density of amorphous ice in a pixel, without structure and another in every view, as the
        beam moves it; its rings are what real spectra show.  With 3 they are seen to 1.2 nm at a dose of 40 and a pixel of 0.5 nm.
    hot_pixels
        X-ray hits of a view, one pixel each.
    nan_pixels
        Pixels of a view that are no numbers, which only `float32` can hold.
    dead_areas, hot_areas
        Rectangles `(x, y, width, height)` of the camera, pixels, that count nothing, or all that they can: columns, rows, blocks.
    stored
        How counts are written: `int16`; `wrapped`, those of a camera of 16 bits, of which the greater half turns negative in `int16`;
        `uint8`, the contrast of the series spread over 256 grey values; `float32`.
    saturated
        Fraction of the pixels of the series that `uint8` makes black, and as many white.
    dropped_views, dark_views
        Views that are missing, and dark ones; counted from 0.
    foreign_views, noise_views
        Views of another specimen, and views without any: the beam and its noise alone; counted from 0.

    Raises
    ------
    ParameterError
        If a size, a number of views, a dose or a pixel is out of range, or pixels are no numbers in a type that has none.
    """

    seed: int = 1
    size: int = 512
    views: int = 41
    max_tilt_deg: float = 60.0
    regime: Literal["plastic", "cryo", "haadf"] = "plastic"
    thickness_px: float = 90.0
    pixel_nm: float = 1.0
    beads: int = 25
    bead_nm: float = 10.0
    two_surfaces: bool = False
    axis_deg: float = -8.0
    axis_error_deg: float = 0.0
    axis_told: bool = True
    shift_px: float = 4.0
    jumped_views: tuple[int, ...] = ()
    jump_px: float = 80.0
    tilt_error_deg: float = 0.15
    rotation_jitter_deg: float = 0.08
    magnification_jitter: float = 0.0008
    pitch_deg: float = 1.5
    z_offset_px: float = 0.0
    dose: float = 400.0
    beam_drift: float = 0.0
    crowding: float = 1.0
    particle_px: float | None = None
    lattice_px: float | None = None
    deformation_px: float = 0.0
    deformation: Literal["growing", "by view"] = "growing"
    bar_px: float | None = None
    bar_depth_px: float = 0.0
    defocus_um: float = 4.0
    defocus_slope_nm: float = 0.0
    defocus_drift_nm: float = 0.0
    defocus_hand: Literal[-1, 0, 1] = 0
    astigmatism_nm: float = 0.0
    astigmatism_deg: float = 0.0
    ice: float = 0.0
    hot_pixels: int = 30
    nan_pixels: int = 0
    dead_areas: tuple[Area, ...] = ()
    hot_areas: tuple[Area, ...] = ()
    stored: Literal["int16", "wrapped", "uint8", "float32"] = "int16"
    saturated: float = 0.005
    dropped_views: tuple[int, ...] = ()
    dark_views: tuple[int, ...] = ()
    foreign_views: tuple[int, ...] = ()
    noise_views: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 32 or self.views < 1 or self.dose <= 0 or self.pixel_nm <= 0:
            raise ParameterError(
                f"Cannot simulate size {self.size}, {self.views} views, dose {self.dose}, pixel {self.pixel_nm} nm: "
                "give a size of at least 32, at least 1 view, and a dose and a pixel above 0"
            )
        if not 0 <= self.beam_drift < 1 or not 0 <= self.saturated < 0.5:
            raise ParameterError(
                f"Cannot simulate a beam that loses {self.beam_drift} of its brightness, or {self.saturated} of the pixels black and as "
                "many white: give a drift from 0 to below 1, and saturated pixels from 0 to below 0.5"
            )
        if self.nan_pixels and self.stored != "float32":
            raise ParameterError(f"{self.stored} has no value that is no number: give stored='float32' for nan_pixels")

    @property
    def lost_views(self) -> tuple[int, ...]:
        """Views that show nothing of the specimen, for another reason than darkness."""
        return (*self.foreign_views, *self.noise_views)

    def apart(self, subject: int) -> np.random.Generator:
        """Return random numbers for one subject, which leave those of everything else as they are."""
        return np.random.default_rng((self.seed, subject))
