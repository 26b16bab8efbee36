"""The pages in a real browser: nothing complains, everything shows, the movie plays, the table sorts, nothing is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tiltflow.record import ProductEntry
from tiltflow.report import rebuild_pages
from tiltflow.report.series_page import MOST_BYTES
from tiltflow.work import Thresholds

pytestmark = pytest.mark.whole

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (1280, 768, 390, 320)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A window of Debian's Chromium, or of whatever of its kind is on the PATH."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is on the PATH (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, one of the tools of developers")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield opened.new_context()
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make, measured) -> Path:
    """A run of four series with their pages: good, with a linked movie and poor, failed, and of a hostile name."""
    run = tmp_path_factory.mktemp("run")
    records = [make.record("TS_01"), make.record("TS_10", error_px=1.4), make.failed("TS_99"), make.record(make.hostile)]
    for record in records[:2]:
        make.files(record, run / record.name, measured)
    large = make.movie(run / "TS_10" / "tiltMov_TS.mp4")
    padding = MOST_BYTES
    with large.open("ab") as movie:  # a box that players skip
        movie.write(padding.to_bytes(4, "big") + b"free" + bytes(padding - 8))
    records[1].products.append(ProductEntry(type="tiltMovie", path=large.name, bytes=large.stat().st_size))
    records[3].input.clear()
    records[3].warnings = [make.hostile]
    for record in records:
        make.save(record, run / record.name)
    list(rebuild_pages(run, Thresholds()))
    return run


class Visit:
    """A page that is open, and all that it said and asked for."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.page = browser.new_page()
        self.page.set_viewport_size({"width": 1280, "height": 900})
        self.page.emulate_media(color_scheme="light")
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri(), wait_until="load")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()


PAGES = ("index.html", "TS_01/report.html", "TS_10/report.html", "TS_99/report.html")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_shows_its_pictures_and_asks_for_nothing_elsewhere(browser, folder, page):
    with Visit(browser, folder / page) as visit:
        visit.page.evaluate("for (const image of document.images) image.loading = 'eager'")
        visit.page.wait_for_function("[...document.images].every(image => image.complete)")
        sizes = visit.page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert bool(sizes) == (page != "TS_99/report.html")
        assert all(sizes)
        for width in WIDTHS:
            visit.page.set_viewport_size({"width": width, "height": 900})
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        assert visit.said == []
        assert [url for url in visit.requests if not url.startswith((folder.as_uri(), "data:"))] == []


@pytest.mark.parametrize(("page", "source"), [("TS_01/report.html", "data:"), ("TS_10/report.html", "tiltMov")])
def test_the_movie_plays_in_the_page_or_from_beside_it(browser, folder, page, source):
    with Visit(browser, folder / page) as visit:
        movie = visit.page.locator(f"video[src^='{source}']")
        movie.evaluate("movie => movie.play()")
        visit.page.wait_for_function("movie => movie.currentTime > 0.1", arg=movie.element_handle(), timeout=10_000)
        assert visit.said == []


def test_the_table_sorts_by_name_number_and_verdict_and_back(browser, folder, make):
    with Visit(browser, folder / "index.html") as visit:

        def names():
            return visit.page.locator("table.index tbody tr td.name a").all_inner_texts()

        def click(heading):
            visit.page.get_by_role("button", name=heading, exact=True).click()
            return names()

        assert click("Series") == sorted(["TS_01", "TS_10", "TS_99", make.hostile], key=lambda name: (name != make.hostile, name))
        assert click("Series")[0] == "TS_99"
        assert click("Estimated error")[-1] == "TS_99", "what has no number comes last"
        assert names()[2] == "TS_10"
        assert click("Estimated error")[0] == "TS_10"
        assert names()[-1] == "TS_99"
        assert click("Verdict")[:2] == ["TS_99", "TS_10"]
        assert visit.page.locator("th[aria-sort='ascending']").inner_text().startswith("Verdict")
        visit.page.get_by_role("button", name="Estimated error", exact=True).focus()
        visit.page.keyboard.press("Enter")
        assert visit.page.locator("th[aria-sort='ascending']").inner_text().startswith("Estimated error")
        assert visit.said == []


def test_a_row_leads_to_its_page_also_when_the_name_is_up_to_no_good(browser, folder, make):
    with Visit(browser, folder / "index.html") as visit:
        visit.page.get_by_role("link", name=make.hostile).click()
        visit.page.wait_for_load_state()
        assert visit.page.locator("h1").inner_text() == make.hostile
        assert visit.said == []
        visit.page.get_by_role("link", name="All series").or_(visit.page.locator("h1")).first.wait_for()


def test_dark_and_light_differ_and_both_can_be_read(browser, folder):
    with Visit(browser, folder / "TS_01" / "report.html") as visit:
        for scheme in ("light", "dark"):
            visit.page.emulate_media(color_scheme=scheme)
            paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
            marks = visit.page.evaluate(
                "[document.body, ...document.querySelectorAll('svg.plot text, figcaption, td, .verdict p')]"
                ".map(e => getComputedStyle(e)[e.tagName === 'text' ? 'fill' : 'color'])"
            )
            assert min(_contrast(mark, paper) for mark in set(marks)) > 4.5, scheme
            assert (_luminance(paper) < 0.1) == (scheme == "dark")


def test_the_page_can_be_printed(browser, folder):
    with Visit(browser, folder / "TS_01" / "report.html") as visit:
        assert visit.page.pdf().startswith(b"%PDF")
        visit.page.emulate_media(media="print", color_scheme="dark")
        assert _luminance(visit.page.evaluate("getComputedStyle(document.body).backgroundColor")) > 0.9
        assert not visit.page.locator("video").first.is_visible()


def _luminance(colour: str) -> float:
    """Return the relative luminance of `rgb(r, g, b)`, as WCAG 2 defines it."""
    channels = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)
