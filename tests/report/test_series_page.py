"""The page of a series, parsed: its order, its pictures, and that nothing of the user's gets out of its quotes."""

import base64
import io
import re

import pytest
from bs4 import BeautifulSoup
from PIL import Image

from tiltflow.record import DirectiveEntry, FailureEntry, NumberEntry, PictureEntry, ProductEntry, StageEntry
from tiltflow.report.measure import measure_volume
from tiltflow.report.series_page import MOST_BYTES, write_series_page
from tiltflow.work import Thresholds

LIMITS = Thresholds()


@pytest.fixture(scope="module")
def full(tmp_path_factory, measured, make):
    """The page of a good series with all it can have."""
    folder = tmp_path_factory.mktemp("TS_01")
    record = make.files(make.record(), folder, measured)
    return BeautifulSoup(write_series_page(folder, record, LIMITS).read_text(), "html.parser")


@pytest.fixture
def page(tmp_path):
    """Write the page of a record and parse it, without the plots, which take their time."""

    def write(record, thresholds=LIMITS):
        record.input.pop("tilt_angles", None)
        record.volume = None
        return BeautifulSoup(write_series_page(tmp_path, record, thresholds).read_text(), "html.parser")

    return write


def heading(tag):
    return tag.get_text(" ", strip=True)


def test_the_questions_are_answered_in_order(full):
    assert [heading(tag) for tag in full.find_all("h2")] == [
        "What does it look like?",
        "Can I trust it?",
        "What was done?",
    ]
    assert full.find("section", id="worked").find_previous("h2") is None


def test_the_verdict_comes_first_with_a_picture_two_numbers_and_what_they_do_not_say(full):
    verdict = full.find("section", class_="verdict")
    assert verdict["class"] == ["verdict", "good"]
    assert verdict.img["src"].startswith("data:image/jpeg;base64,")
    told = [heading(tag) for tag in verdict.find_all("li")]
    assert "the alignment is based on 12 beads" in told
    assert not [reason for reason in told if "0.12 px" in reason or "0.36 px" in reason], "the numbers beside say it"
    assert [heading(tag) for tag in verdict.find_all("dd")] == ["0.12 px", "0.36 px"]


def test_what_went_wrong_is_asked_only_where_something_did(page, make):
    assert "What went wrong?" not in [heading(tag) for tag in page(make.record()).find_all("h2")]
    record = make.record()
    record.warnings = ["read: angles disagree"]
    soup = page(record)
    assert [heading(tag) for tag in soup.find_all("h2")][-1] == "What went wrong?"
    assert soup.find("a", href="#wrong")


def test_the_page_opens_with_a_large_slice_that_a_click_enlarges(tmp_path, record, make):
    volume = make.volume(shape=(40, 700, 900), specimen=(10, 30))
    make.files(record, tmp_path, measure_volume(volume, make.voxel_nm))
    soup = BeautifulSoup(write_series_page(tmp_path, record, LIMITS).read_text(), "html.parser")
    lead = soup.find("section", class_="verdict").find("figure", class_="lead")
    assert Image.open(io.BytesIO(base64.b64decode(lead.img["src"].split(",")[1]))).size == (900, 700)
    assert lead.find("label").find("input", type="checkbox")["aria-label"]
    assert "XY slice through the specimen" in heading(lead.figcaption)
    assert len([image for image in soup.find_all("img") if image["src"] == lead.img["src"]]) == 1


def test_without_a_volume_the_page_opens_with_the_raw_view(page, make, measured, tmp_path):
    record = make.failed()
    record.pictures = make.files(make.record(), tmp_path, measured).pictures[:1]
    assert "The raw view" in page(record).find("figure", class_="lead").img["alt"]


def test_the_line_below_the_title_says_what_series_it_is(full):
    line = heading(full.find("p", class_="facts")).split(" · ")
    assert line[0] == "21 views from -60° to 60° every 6°, in order of tilt"
    assert re.fullmatch(r"tilt axis -8\.0°", line[1])
    assert line[2:] == ["images of 512 x 512 pixels of 1 nm", "volume of 104 x 96 x 64 voxels of 4 nm"]


def test_the_page_leads_to_every_file_that_is_there(page, record, tmp_path):
    record.name = "TS 1#"
    halves = ("TS 1#_rec_even.mrc", "TS 1#_rec_odd.mrc")
    evidence = ("TS 1#_align.json", "TS 1#_local.json", "TS 1#_fid.txt")
    for name in ("TS 1#_rec.mrc", "TS 1#.xf", "TS 1#.tlt", "TS 1#.log", "run.json", "ave.mrc", *halves, *evidence):
        (tmp_path / name).write_text("")
    (tmp_path / "TS_rec.zarr" / "0").mkdir(parents=True)
    kinds = {"averagedVolume": "ave.mrc", "neuroglancerZarr": "TS_rec.zarr/0", "volume": "gone.mrc", "thumbnail": "../out.jpg"}
    record.products = [ProductEntry(type=kind, path=path, bytes=1) for kind, path in kinds.items()]
    found = {heading(tag): tag["href"] for tag in page(record).find("ul", class_="links").find_all("a")}
    volumes = ["Volume", "Volume of even views", "Volume of odd views", "Pyramid", "Averaged volume"]
    assert list(found) == [*volumes, ".xf", ".tlt", "Alignment", "Local areas", "Tracks", "Log", "Record"]
    assert found["Volume"] == "TS%201%23_rec.mrc"
    assert found["Pyramid"] == "TS_rec.zarr/0"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://viewer.example/#!%7B%22url%22:%22zarr://https://portal.example/a%22%7D", True),
        ("https://viewer.example/#!%7B%22url%22%3A%22zarr%3A%2F%2Fhttp%3A%2F%2Flocalhost:9000%22%7D", False),
        ("javascript:alert(1)", False),
        ("", False),
    ],
)
def test_neuroglancer_is_a_button_where_the_site_serves_the_pyramid(page, record, tmp_path, address, shown):
    (tmp_path / "TS_01_neuroglancer.txt").write_text(address + "\n")
    found = page(record).find("a", string="Open in Neuroglancer")
    assert (found is not None) is shown
    if shown:
        assert found["href"] == address


def test_a_verdict_that_is_not_good_gives_every_reason_and_no_other(page, make):
    record = make.record(error_px=0.7)
    record.alignment.trust_warnings = ["the axis wanders"]
    told = [heading(tag) for tag in page(record).find("section", class_="verdict").find_all("li")]
    assert told == [
        "the leave-out error is 2.10 px (2.10 nm)",
        "the estimated alignment error is 0.70 px (0.70 nm)",
        "the mean residual is 1.40 px (1.40 nm)",
        "the axis wanders",
    ]


def test_residuals_are_drawn_on_the_view_they_were_found_in(full):
    drawing = full.find("figure", id="plot-vectors").svg
    assert drawing.find("image")["href"].startswith("data:image/png;base64,")


def test_every_check_stands_with_its_limits(full):
    rows = full.find("table", class_="checks").tbody.find_all("tr")
    first = [heading(cell) for cell in rows[0].find_all("td")]
    assert first == ["✓ good", "The estimated alignment error is 0.12 px (0.12 nm).", "good up to 0.5 px, poor above 1 px"]
    assert len(rows) == 12


def test_thresholds_of_the_site_change_the_verdict_and_are_shown(page, record):
    soup = page(record, thresholds=Thresholds(error_good_px=0.01, error_poor_px=0.05))
    assert "poor" in soup.find("section", class_="verdict")["class"]
    assert "good up to 0.01 px, poor above 0.05 px" in soup.get_text()


def test_every_plot_has_a_caption_that_says_what_good_looks_like(full):
    plots = full.find_all("svg", class_="plot")
    assert len(plots) == 11
    for plot in plots:
        assert plot.find_parent("figure").figcaption.find("b").get_text() == "Good:"


def test_pictures_and_the_movie_are_in_the_page_itself(full):
    images = full.find_all("img")
    assert len(images) == 5
    for image in images:
        kind, content = image["src"].split(",", 1)
        assert kind == "data:image/jpeg;base64"
        Image.open(io.BytesIO(base64.b64decode(content))).verify()
        assert image["alt"]
    assert full.find("video")["src"].startswith("data:video/mp4;base64,")


def test_nothing_is_loaded_from_anywhere(full):
    for tag in full.find_all(src=True):
        assert tag["src"].startswith("data:")
    assert not full.find_all("script")
    assert [tag["href"] for tag in full.find_all("link")] == ["data:,"]
    assert "default-src 'none'" in full.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert "@import" not in str(full.style)
    assert "url(" not in str(full.style)


def test_a_movie_too_large_for_the_page_is_linked_and_the_page_stays_small(page, record, tmp_path):
    (tmp_path / "keyMov_TS.mp4").write_bytes(bytes(MOST_BYTES))
    record.products = [ProductEntry(type="recMovie", path="keyMov_TS.mp4", bytes=MOST_BYTES)]
    soup = page(record)
    assert soup.find("video")["src"] == "keyMov_TS.mp4"
    assert "lies beside this page" in soup.find("video").find_parent("figure").get_text()
    assert (tmp_path / "report.html").stat().st_size < MOST_BYTES


def test_of_a_movie_too_large_for_the_page_a_small_copy_is_in_it(page, record, make, tmp_path):
    (tmp_path / "keyMov 1#.mp4").write_bytes(bytes(MOST_BYTES))
    (tmp_path / "report").mkdir()
    make.movie(tmp_path / "report" / "recMovie.mp4", frames=2)
    record.products = [ProductEntry(type="recMovie", path="keyMov 1#.mp4", bytes=MOST_BYTES)]
    figure = page(record).find("video").find_parent("figure")
    assert figure.video["src"].startswith("data:video/mp4;base64,")
    assert figure.a["href"] == "keyMov%201%23.mp4"


def test_the_copy_with_more_contrast_is_shown_and_the_movie_itself_linked(page, record, make, tmp_path):
    make.movie(tmp_path / "keyMov_TS.mp4", frames=2)
    (tmp_path / "report").mkdir()
    copy = make.movie(tmp_path / "report" / "recMovie.mp4", frames=3)
    record.products = [ProductEntry(type="recMovie", path="keyMov_TS.mp4", bytes=1)]
    figure = page(record).find("video").find_parent("figure")
    assert base64.b64decode(figure.video["src"].split(",")[1]) == copy.read_bytes()
    assert figure.a["href"] == "keyMov_TS.mp4"
    assert "a small copy with more contrast" in figure.get_text()
    record.products = []
    assert page(record).find("video") is None


def test_a_key_image_of_any_size_is_shown_small(page, record, tmp_path):
    Image.new("L", (3000, 2000), 99).save(tmp_path / "B_ali.020.jpg")
    record.products = [ProductEntry(type="keyImage", path="B_ali.020.jpg", bytes=1)]
    image = page(record).find("img")
    assert Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))).size == (600, 400)


def test_all_text_of_the_user_is_shown_as_text(page, make):
    record = make.record(name=make.hostile)
    record.alignment.trust_warnings = [make.hostile]
    record.alignment.excluded_views = {3: make.hostile}
    record.alignment.attempts = [{"method": make.hostile, "failed": make.hostile, "trust_warnings": [make.hostile]}] * 2
    record.warnings = [make.hostile]
    record.recipe.template = make.hostile
    record.recipe.directives = [DirectiveEntry(name=make.hostile, value=make.hostile, status="used", reason=make.hostile)]
    record.engine.reason = make.hostile
    record.input["views"].source = make.hostile
    record.stages[0].name = make.hostile
    record.stages[0].notes = [make.hostile]
    record.stages[0].seconds = 9.0
    soup = page(record)
    assert not soup.find_all(attrs={"onerror": True})
    assert not [tag for tag in soup.find_all("img") if not tag["src"].startswith("data:")]
    assert heading(soup.h1) == make.hostile
    assert heading(soup.title).startswith(make.hostile)
    assert str(soup).count("alert(1)") >= 12


def test_text_of_a_failure_is_shown_as_text(page, make):
    record = make.failed(name=make.hostile, reason=f"{make.hostile} `</pre><script>alert(1)</script>`")
    record.failure.last_lines = ["</pre><script>alert(2)</script>"]
    record.failure.stage = make.hostile
    soup = page(record)
    assert not soup.find_all("script")
    assert not soup.find_all(attrs={"onerror": True})
    assert "<script>alert(2)</script>" in soup.find_all("pre")[1].get_text()


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd", "sub/../../secret.jpg", "link.jpg"])
def test_a_record_cannot_pull_other_files_into_the_page(page, record, tmp_path, path):
    outside = tmp_path.parent / "secret.jpg"
    Image.new("L", (8, 8)).save(outside)
    (tmp_path / "link.jpg").symlink_to(outside)
    record.pictures = [PictureEntry(name="slice_xy", path=path, width=8, height=8, caption="none")]
    record.products = [ProductEntry(type="keyImage", path=path, bytes=1), ProductEntry(type="recMovie", path=path, bytes=1)]
    soup = page(record)
    assert not soup.find_all("img")
    assert not soup.find_all("video")


def test_a_page_is_made_from_the_record_alone_when_the_pictures_are_gone(page, record, measured, make, tmp_path):
    make.files(record, tmp_path, measured)
    for path in [*(tmp_path / "report").iterdir(), tmp_path / "keyMov_TS.mp4"]:
        path.unlink()
    soup = page(record)
    assert not soup.find_all("img")
    assert "Good" in heading(soup.find("section", class_="verdict"))


def test_a_failed_series_tells_stage_reason_what_to_try_and_the_end_of_the_log(page, make):
    soup = page(make.failed())
    verdict = soup.find("section", class_="verdict")
    assert "failed" in verdict["class"]
    assert "It failed at read" in heading(verdict)
    assert heading(verdict.pre) == "the file ends in view 7 of 41"
    assert heading(soup.h2) == "What went wrong?"
    assert "interrupted transfer" in soup.get_text()
    assert "line 1\nline 2" in [pre.get_text() for pre in soup.find_all("pre")]
    assert "angles disagree" in soup.get_text()
    assert "Can I trust it" not in soup.get_text()


def test_a_failed_series_shows_the_pictures_there_are(page, make, measured, tmp_path):
    record = make.failed()
    record.pictures = make.files(make.record(), tmp_path, measured).pictures[:1]
    assert len(page(record).find_all("img")) == 1


def test_a_series_that_failed_after_its_alignment_shows_the_alignment(make, tmp_path):
    record = make.failed()
    record.alignment = make.alignment()
    soup = BeautifulSoup(write_series_page(tmp_path, record, LIMITS).read_text(), "html.parser")
    assert [heading(tag) for tag in soup.find_all("h2")][:3] == [
        "What went wrong?",
        "What does it look like?",
        "The alignment, done before the failure",
    ]
    assert soup.find("figure", id="plot-residuals")
    assert not soup.find("table", class_="checks")


def test_a_hint_shows_its_commands_as_code(page, make):
    record = make.failed()
    record.failure = FailureEntry(stage="batchruntomo", reason="IMOD", error="EngineError")
    assert "--engine" in [code.get_text() for code in page(record).find_all("code")]


def test_a_series_that_is_still_worked_on_has_a_page(page, record):
    record.status, record.alignment, record.finished = "running", None, None
    record.stages[-1].status, record.stages[-1].seconds = "running", None
    soup = page(record)
    assert "Unfinished" in heading(soup.find("section", class_="verdict"))
    assert "the process was ended from outside" in soup.get_text()


def test_the_methods_can_be_pasted_and_the_papers_followed(full):
    assert "weighted back-projection (Radermacher, 2006)" in full.find("div", class_="methods").get_text()
    assert "numpy 2.1" in full.get_text()
    links = [tag["href"] for tag in full.find("ol", class_="citations").find_all("a")]
    assert "https://doi.org/10.1016/j.jsb.2016.07.011" in links


def test_values_stand_with_the_place_they_were_read(full):
    rows = {heading(row.td): [heading(cell) for cell in row.find_all("td")] for row in full.find_all("tr") if row.td}
    assert rows["tilt angles"][1:] == ["-60° to 60°, 21 values", "extended header"]
    assert rows["pixel size"][1] == "10 Å"


def test_the_attempts_are_shown_when_more_than_one_method_was_tried(page, record):
    assert "was tried in" not in page(record).get_text()
    record.alignment.attempts = [
        {"method": "gold", "failed": "2 beads only"},
        {"method": "patches", "error_px": 0.3, "trust_warnings": ["drift"]},
    ]
    text = page(record).get_text(" ", strip=True)
    assert "2 alignment methods were tried" in text
    assert "2 beads only" in text
    assert "0.30 px" in text


def test_no_two_parts_of_a_page_share_a_name(full):
    names = [tag["id"] for tag in full.find_all(id=True)]
    assert len(names) == len(set(names))


def test_the_same_record_gives_the_same_page(page, record, tmp_path):
    page(record)
    before = (tmp_path / "report.html").read_bytes()
    page(record)
    assert (tmp_path / "report.html").read_bytes() == before


def test_the_page_leads_to_the_index_of_its_run_if_there_is_one(tmp_path, record):
    folder = tmp_path / "run" / "TS_01"
    folder.mkdir(parents=True)
    record.input = {}
    assert 'href="../index.html"' not in write_series_page(folder, record, LIMITS).read_text()
    (tmp_path / "run" / "run.json").write_text("{}")
    assert 'href="../index.html"' in write_series_page(folder, record, LIMITS).read_text()


def test_the_document_is_complete_and_names_its_language(full):
    assert full.html["lang"] == "en"
    assert full.find("meta", attrs={"name": "viewport"})
    assert re.match(r"TS_01: good", full.title.get_text())


@pytest.mark.parametrize(("beads", "said"), [(12, "The gold was erased"), (0, "symmetric beads")])
def test_beads_are_not_asked_for_where_gold_was_erased(tmp_path, measured, make, beads, said):
    record = make.files(make.record(), tmp_path, measured)
    record.recipe.stages["erase"] = {"which": "tracked", "fill": "texture"}
    numbers = {"beads_erased_per_view": NumberEntry(value=beads)}
    record.stages.append(StageEntry(name="aligned stack", status="done", started=record.started, numbers=numbers))
    text = write_series_page(tmp_path, record, Thresholds()).read_text()
    assert said in text
    assert ("symmetric beads" in text) is (beads == 0)
