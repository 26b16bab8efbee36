"""A file of defocus is told by what it holds, whatever its name."""

import shutil
from pathlib import Path

import pytest

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.find_defocus import defocus_files, read_given_defocus

DATA = Path(__file__).parents[1] / "data" / "defocus"
ROW = "1 20100 19900 30 0 0.5 8.0"
STAR = "data_S\n\nloop_\n_rlnDefocusU #1\n_rlnDefocusV #2\n_rlnDefocusAngle #3\n20100 19900 30\n"


@pytest.mark.parametrize(
    ("content", "program"),
    [
        ((DATA / "sim.defocus").read_text(), "IMOD"),
        ((DATA / "views_v3_astig.defocus").read_text(), "IMOD"),
        ("0 2 -60.0 0.0 3900\n3 5 0 60 4100\n", "IMOD"),
        (f"# Columns: #1 - micrograph number\n\n{ROW}\n", "CTFFIND"),
        (f"{ROW} 85 40 1500\n", "CTFFIND"),
        (f"{ROW} -1\n", "AreTomo"),
        (f"{ROW.replace('8.0', 'inf')}\n", "CTFFIND"),
        ((DATA / "warp_00254.xml").read_text(), "Warp"),
        (STAR, "RELION"),
    ],
)
def test_the_format_is_told_by_the_content(tmp_path, content, program):
    path = tmp_path / "S.any"
    path.write_text(content)
    assert read_given_defocus(path, "S").program == program
    assert defocus_files(path, "S") == (path,)


@pytest.mark.parametrize("content", ["", "# nothing\n", "defocus 4000 nm\n", "1 2 3\n", "<Movie/>"])
def test_what_is_none_of_them_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "S.any"
    path.write_text(content)
    with pytest.raises(FormatError, match=r"S\.any"):
        read_given_defocus(path, "S")


def test_a_table_of_all_series_depends_on_that_of_the_series_too(tmp_path):
    (tmp_path / "tilt_series").mkdir()
    (tmp_path / "tilt_series" / "S.star").write_text(STAR)
    table = tmp_path / "tomograms.star"
    table.write_text("data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesStarFile #2\nS tilt_series/S.star\n")
    assert read_given_defocus(table, "S").defocus_nm.tolist() == [2000]
    assert [path.name for path in defocus_files(table, "S")] == ["tomograms.star", "S.star"]
    shutil.rmtree(tmp_path / "tilt_series")
    with pytest.raises(LocationError):
        defocus_files(table, "S")
