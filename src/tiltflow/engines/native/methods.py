"""Sentences on the work of this engine for the methods section of a paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tiltflow.record import AlignmentEntry, SeriesRecord
from tiltflow.record.sentences import Citation, EngineMethods, Sentence, stage_number, stage_params

MASTRONARDE = Citation(
    "Mastronarde and Held, 2017",
    "Mastronarde DN, Held SR (2017) Automated tilt series alignment and tomographic reconstruction in IMOD. "
    "J Struct Biol 197:102-113",
    "10.1016/j.jsb.2016.07.011",
)
RADERMACHER = Citation(
    "Radermacher, 2006",
    "Radermacher M (2006) Weighted back-projection methods. In: Frank J (ed) Electron Tomography. Springer, New York, pp 245-273",
    "10.1007/978-0-387-69008-7_9",
)
ZENG = Citation(
    "Zeng, 2012",
    "Zeng GL (2012) A filtered backprojection algorithm with characteristics of the iterative Landweber algorithm. "
    "Med Phys 39:603-607",
    "10.1118/1.3673956",
)
GILBERT = Citation(
    "Gilbert, 1972",
    "Gilbert P (1972) Iterative methods for the three-dimensional reconstruction of an object from projections. "
    "J Theor Biol 36:105-117",
    "10.1016/0022-5193(72)90180-4",
)


GRANT = Citation(
    "Grant and Grigorieff, 2015",
    "Grant T, Grigorieff N (2015) Measuring the optimal exposure for single particle cryo-EM using a 2.6 Å reconstruction of rotavirus "
    "VP6. eLife 4:e06980",
    "10.7554/eLife.06980",
)


TEGUNOV = Citation(
    "Tegunov and Cramer, 2019",
    "Tegunov D, Cramer P (2019) Real-time cryo-electron microscopy data preprocessing with Warp. Nat Methods 16:1146-1152",
    "10.1038/s41592-019-0580-y",
)
FRANGAKIS = Citation(
    "Frangakis and Hegerl, 2001",
    "Frangakis AS, Hegerl R (2001) Noise reduction in electron tomographic reconstructions using nonlinear anisotropic diffusion. "
    "J Struct Biol 135:239-250",
    "10.1006/jsbi.2001.4406",
)


def describe(record: SeriesRecord) -> EngineMethods:
    """Return the sentences on x-ray hits, alignment and reconstruction."""
    hits = stage_number(record, "x-rays", "pixels_replaced")
    camera = stage_number(record, "x-rays", "camera_pixels_replaced")
    found = record.alignment
    done = "aligned and reconstructed" if record.given_alignment is None else "processed"
    return EngineMethods(
        (f"was {done} with tiltflow {record.tiltflow} (its native engine{{recipe}})", ()),
        before=(
            *_repairs("X-ray hits", hits),
            *_repairs("Hot and dead pixels of the camera", camera),
            *_stitching(record),
        ),
        alignment=tuple(_alignment(record, found)) if found is not None else (),
        volume=(
            *_transfer(record),
            *_erased(record),
            *_filtered(record),
            *_exposure(record),
            _volume(record),
            *_halves(record),
            *_for_viewing(record),
        )
        if record.volume is not None or record.given_alignment is None
        else (),
    )


def _stitching(record: SeriesRecord) -> tuple[Sentence, ...]:
    """Return how the views of a montage were put together."""
    entry = record.montage
    if entry is None:
        return ()
    width, height = entry.piece_px
    moved = ", and placed anew by the bundle adjustment" if entry.moved_by_tracks else ""
    said = (
        f"Each view was stitched from {entry.columns} x {entry.rows} pieces of {width} x {height} pixels: displacements were measured in "
        f"all overlaps by least squares on the grey values and solved for over all views together (standard error "
        f"{entry.error_px:.2f} pixels){moved}."
    )
    return ((said, ()),)


def _repairs(what: str, pixels: float | None) -> tuple[Sentence, ...]:
    if not pixels:
        return ()
    count = f"{pixels:g} {'pixel' if pixels == 1 else 'pixels'}"
    return ((f"{what} ({count}) were replaced from their surroundings.", ()),)


def _alignment(record: SeriesRecord, found: AlignmentEntry) -> Iterator[Sentence]:
    if record.given_alignment is not None:
        names = ", ".join(Path(file.path).name for file in record.given_alignment.files)
        yield f"The alignment was made with {record.given_alignment.program} and taken from its files ({names}).", ()
        return
    tracks = f"{found.tracks_used} " if found.tracks_used else ""
    coarse = "Views were aligned coarsely by cross-correlation with cosine stretching"
    solved = (
        f"and the shift, rotation, magnification and tilt angle of each view were solved for by bundle adjustment with robust weights, "
        f"with the variables of tiltalign ({MASTRONARDE.short})"
    )
    if found.method == "gold":
        size = stage_params(record, "gold_nm")
        beads = f"gold fiducials of {size:g} nm" if size else "gold fiducials"
        yield f"{coarse}; {tracks}{beads} were then tracked through the series, {solved}.", (MASTRONARDE,)
    elif found.method == "patches":
        yield f"{coarse}; {tracks}image patches were then tracked through the series, {solved}.", (MASTRONARDE,)
    elif found.method == "projection":
        yield (
            f"{coarse} and refined without markers, by matching every view with the projection predicted from all other views.",
            (),
        )
    else:
        yield f"{coarse}, without further refinement.", ()
    if found.local_areas:
        yield f"The alignment was also solved for locally, in {found.local_areas} overlapping areas of the field.", ()


_METHODS = {
    "flip": "by flipping phases",
    "multiply": "by multiplication with it",
    "wiener": "by a Wiener filter",
}


def _transfer(record: SeriesRecord) -> Iterator[Sentence]:
    ctf = record.ctf
    if ctf is None or not ctf.applied:
        return
    scope = f"{ctf.voltage_kv:g} kV, Cs {ctf.cs_mm:g} mm, amplitude contrast {ctf.amplitude_contrast:g}"
    mean = f"{sum(ctf.defocus_nm) / len(ctf.defocus_nm):.0f}"
    if ctf.measured:
        error = f" ± {ctf.mean_error_nm:.0f}" if ctf.mean_error_nm is not None else ""
        known = f"was estimated from the power spectra of all views together ({scope}; mean defocus {mean}{error} nm)"
    else:
        known = f"was taken to be that of a defocus of {mean} nm ({scope})"
    gradient = ", allowing for the gradient of the defocus across the tilt axis" if ctf.hand else ""
    yield f"The contrast transfer function {known} and corrected in the aligned views {_METHODS[ctf.method]}{gradient}.", ()


_FOUND = {"tracked": "tracked", "found": "found in a preliminary volume"}
_FILLED = {"texture": "the texture of their surroundings", "flat": "one grey value each"}


def _erased(record: SeriesRecord) -> Iterator[Sentence]:
    asked, beads = stage_params(record, "erase"), stage_number(record, "aligned stack", "beads_erased_per_view")
    if asked and beads:
        where, by = _FOUND[asked["which"]], _FILLED[asked["fill"]]
        yield (
            f"Gold beads {where}, {beads:.0f} in each view on average, were erased from the aligned views and replaced by {by}.",
            (),
        )


def _filtered(record: SeriesRecord) -> Iterator[Sentence]:
    asked = stage_params(record, "filter")
    if not asked:
        return
    low, high = asked["low_pass"], asked["high_pass_sigma"]
    steps = [f"a low pass up to {low[0]:g} cycles per pixel with a fall-off of {low[1]:g}"] if low else []
    steps += [f"a high pass with a standard deviation of {high:g} cycles per pixel"] if high else []
    steps += ["the inverse of the modulation transfer function of the camera"] if asked["mtf_file"] else []
    if steps:
        yield f"The aligned views were filtered by {' and '.join(steps)}.", ()


def _for_viewing(record: SeriesRecord) -> Iterator[Sentence]:
    """Yield what was made of the volume to look at: the volume itself stays as it is."""
    made = {stage.name for stage in record.stages}
    if (asked := stage_params(record, "deconvolve")) and "deconvolved volume" in made:
        how = f"with the filter of Warp ({TEGUNOV.short}; strength {asked['strength']:g}, falloff {asked['falloff']:g})"
        yield f"For viewing, the volume was deconvolved with its contrast transfer function, {how}.", (TEGUNOV,)
    if (asked := stage_params(record, "diffuse")) and "diffused volume" in made:
        how = f"{asked['iterations']} iterations of edge-enhancing diffusion ({FRANGAKIS.short}; K {asked['k']:g})"
        yield f"For viewing, noise of the volume was reduced by {how}.", (FRANGAKIS,)


def _exposure(record: SeriesRecord) -> Iterator[Sentence]:
    known = record.exposure
    if known is not None and known.applied:
        total = max(before + each for before, each in zip(known.before, known.each, strict=True))
        yield (
            f"Spatial frequencies were weighted by the accumulated exposure, {total:.0f} electrons per Å² in all ({GRANT.short}).",
            (GRANT,),
        )


_HALVES = {
    "views": "every other view each",
    "frames": "the even and the odd frames of all views",
}


def _halves(record: SeriesRecord) -> Iterator[Sentence]:
    found = record.halves
    if found is not None:
        detail = found.resolution_0143_nm
        falls = f"falls to 0.143 at {detail:.3g} nm" if detail is not None else "does not fall to 0.143"
        yield f"The Fourier shell correlation of two half volumes, from {_HALVES[found.of]}, {falls}.", ()


def _volume(record: SeriesRecord) -> Sentence:
    binning = (stage_params(record, "stack") or {}).get("binning", 1)
    done = f"Aligned views were {f'binned by {binning} and ' if binning > 1 else ''}reconstructed by"
    sirt = stage_params(record, "sirt")
    if sirt:
        return f"{done} {sirt['iterations']} iterations of SIRT ({GILBERT.short}).", (GILBERT,)
    how, cited = f"weighted back-projection ({RADERMACHER.short})", (RADERMACHER,)
    params = stage_params(record, "reconstruct") or {}
    if "radial_cutoff" in params:
        how += (
            f" with a ramp filter up to {params['radial_cutoff']:g} cycles per pixel and a fall-off of {params['radial_falloff']:g}"
        )
    if params.get("fake_sirt_iterations"):
        how += f", modified to resemble {params['fake_sirt_iterations']} iterations of SIRT ({ZENG.short})"
        return f"{done} {how}.", (*cited, ZENG)
    return f"{done} {how}.", cited
