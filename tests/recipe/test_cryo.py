"""What directives ask of CTF and exposure: which come before which, and what is wrong."""

from __future__ import annotations

import pytest

from tiltflow.errors import ParameterError
from tiltflow.formats.directives import parse_directives
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.recipe.stages import StageParams
from tiltflow.recipe.translate import from_directives

CTF, FILTER = "runtime.AlignedStack.any.correctCTF", "runtime.AlignedStack.any.filterStack"
CRYO = "runtime.Tiltflow.any.cryoCorrections"
BASE = ("comparam.tilt.tilt.THICKNESS = 300", "setupset.copyarg.gold = 10")
DOSE = "comparam.mtffilter.mtffilter."


def translate(*lines: str) -> StageParams:
    params, report = from_directives(parse_directives("\n".join([*BASE, *lines]), "test.adoc"))
    report.check()
    return params


@pytest.mark.parametrize(
    ("lines", "ctf", "exposure"),
    [
        ((), "no", "no"),
        ((f"{CRYO} = 1",), "if known", "if known"),
        ((f"{CRYO} = 0",), "no", "no"),
        ((f"{CRYO} = 1", f"{CTF} = 0"), "no", "if known"),
        ((f"{CRYO} = 1", f"{FILTER} = 0"), "if known", "no"),
        ((f"{CTF} = 1",), "yes", "no"),
        ((f"{CRYO} = 1", f"{CTF} = 1"), "yes", "if known"),
        ((f"{FILTER} = 1",), "no", "no"),
        ((f"{FILTER} = 1", f"{CRYO} = 1"), "if known", "if known"),
        ((f"{FILTER} = 1", f"{DOSE}FixedImageDose = 3"), "no", "yes"),
        ((f"{FILTER} = 1", f"{DOSE}TypeOfDoseFile = 4"), "no", "yes"),
        ((f"{FILTER} = 1", f"{DOSE}TypeOfDoseFile = 2", f"{DOSE}DoseWeightingFile = doses.txt"), "no", "yes"),
        ((f"{DOSE}FixedImageDose = 3",), "no", "no"),
        ((f"{CRYO} = 1", f"{DOSE}FixedImageDose = 3"), "if known", "if known"),
    ],
)
def test_imod_s_directives_come_before_what_the_data_support(lines: tuple[str, ...], ctf: str, exposure: str) -> None:
    params = translate(*lines)
    assert (params.ctf.correct, params.exposure.weight) == (ctf, exposure)


@pytest.mark.parametrize(
    ("lines", "fit"),
    [
        ((f"{CTF} = 1",), True),
        ((f"{CTF} = 1", "setupset.copyarg.defocus = 4000"), False),
        ((f"{CTF} = 1", "setupset.copyarg.defocus = 4000", "runtime.CTFplotting.any.autoFitRangeAndStep = 12,6"), True),
        ((f"{CRYO} = 1", "setupset.copyarg.defocus = 4000"), True),
    ],
)
def test_a_stated_defocus_is_taken_as_it_is_where_imod_does_that(lines: tuple[str, ...], fit: bool) -> None:
    params = translate(*lines)
    assert params.ctf.fit is fit
    assert params.ctf.defocus_nm == (4000 if len(lines) > 1 else None)


@pytest.mark.parametrize(
    ("lines", "hand"),
    [
        ((), None),
        (("comparam.ctfplotter.ctfplotter.InvertTiltAngles = 1",), -1),
        (("comparam.ctfplotter.ctfplotter.InvertTiltAngles = 1", "comparam.ctfcorrection.ctfphaseflip.InvertTiltAngles = 0"), 1),
    ],
)
def test_the_hand_is_that_of_the_correction_before_that_of_the_fit(lines: tuple[str, ...], hand: int | None) -> None:
    assert translate(*lines).ctf.hand == hand


@pytest.mark.parametrize(
    ("lines", "scheme"),
    [
        ((), "told"),
        (("setupset.copyarg.dosesym = 1",), "dose-symmetric"),
        ((f"{DOSE}BidirectionalNumViews = 20",), "bidirectional"),
        (("setupset.copyarg.dosesym = 1", f"{DOSE}BidirectionalNumViews = 20"), "bidirectional"),
    ],
)
def test_the_scheme_of_the_acquisition(lines: tuple[str, ...], scheme: str) -> None:
    assert translate(*lines).exposure.scheme == scheme


@pytest.mark.parametrize(
    "line",
    [
        "setupset.copyarg.defocus = -4000",
        "setupset.copyarg.voltage = 0",
        "comparam.ctfplotter.ctfplotter.ScanDefocusRange = 5000,1000",
        "comparam.ctfplotter.ctfplotter.FrequencyRangeToFit = 0.4,0.1",
        f"{DOSE}DoseWeightingFile = doses.txt",
        f"{DOSE}TypeOfDoseFile = 2",
        f"{DOSE}FixedImageDose = 0",
        f"{DOSE}OptimalDoseScaling = 0",
        "comparam.ctfcorrection.ctfphaseflip.AmplitudeContrast = 7",
        "comparam.ctfcorrection.ctfphaseflip.AmplitudeContrast = -0.1",
        "comparam.ctfplotter.ctfplotter.AmplitudeContrast = 1.1",
        "runtime.Tiltflow.any.ctfMethod = better",
    ],
)
def test_a_value_that_means_nothing_stops_a_run_before_any_work(line: str) -> None:
    with pytest.raises(ParameterError, match=line.split(" = ", maxsplit=1)[0].replace(".", r"\.")):
        translate(line)


def test_the_amplitude_contrast_of_the_correction_comes_before_that_of_the_fit() -> None:
    fit, correction = (
        "comparam.ctfplotter.ctfplotter.AmplitudeContrast = 0.1",
        "comparam.ctfcorrection.ctfphaseflip.AmplitudeContrast = 1",
    )
    assert [translate(*lines).ctf.amplitude_contrast for lines in ((), (fit,), (fit, correction))] == [0.07, 0.1, 1.0]


def test_cryo_brt_asks_for_what_the_data_support_and_plastic_brt_for_nothing() -> None:
    cryo, plastic = (
        make_recipe(BrtParameters(thickness=300), template=name, engine="native") for name in ("cryo_brt", "plastic_brt")
    )
    assert (cryo.ctf.correct, cryo.exposure.weight) == ("if known", "if known")
    assert (plastic.ctf.correct, plastic.exposure.weight) == ("no", "no")


def test_imod_s_engine_does_not_see_our_own_directive() -> None:
    recipe = make_recipe(BrtParameters(thickness=300), template="cryo_brt", engine="imod")
    (row,) = [row for row in recipe.report.rows if row.name == CRYO]
    assert row.status == "ignored"
