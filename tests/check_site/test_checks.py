"""Each check in a situation where it passes and in one where it fails, with real folders, files and programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import pytest
from tests.listening import Heard, listening

from tiltflow.check_site import places
from tiltflow.check_site.engines import engine_check, self_test
from tiltflow.check_site.finding import Check as Named
from tiltflow.check_site.finding import Finding, Site, State, run_checks
from tiltflow.check_site.places import check_compiled_kernels, check_scratch, check_shares, share_check
from tiltflow.check_site.portal import check_certificates, check_outbox, check_portal, check_site_token, understand
from tiltflow.check_site.program import check_settings, check_version
from tiltflow.delivery.outbox import Outbox, RunEntry
from tiltflow.delivery.outbox.book import BOOK_NAME
from tiltflow.settings import CERTIFICATE_VARIABLES, PREFIX, load_settings

GOOD, NOTE, FAILED = State.GOOD, State.NOTE, State.FAILED
TOKEN = "s3cr3t-of-the-portal"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith(PREFIX)] + list(CERTIFICATE_VARIABLES):
        monkeypatch.delenv(variable, raising=False)


def find(look: Callable[[Site], Finding], *, callback_url: str | None = None, **settings: Any) -> Finding:
    """Run one check as the command does."""
    (done,) = run_checks([Named("one", look)], Site(load_settings(**settings), callback_url))
    if done.finding.state is FAILED:
        assert done.finding.remedy, "what failed says what to do"
    return done.finding


def make_share(folder: Path, case: str) -> Path:
    """Make a share in one of the states that shares are in."""
    share = folder / "share"
    if case != "not mounted":
        share.mkdir()
    if case not in ("not mounted", "no Projects"):
        (share / "Projects").mkdir()
    if case == "good":
        (share / "Assets").mkdir()
    elif case == "Assets a file":
        (share / "Assets").touch()
    elif case == "Assets in Projects":
        (share / "Assets").symlink_to(share / "Projects")
    elif case == "Assets elsewhere":
        (folder / "elsewhere").mkdir()
        (share / "Assets").symlink_to(folder / "elsewhere")
    elif case == "Projects a file":
        (share / "Projects").rmdir()
        (share / "Projects").touch()
    return share


@pytest.mark.parametrize(
    ("case", "state", "found"),
    [
        ("good", GOOD, "Projects can be read, Assets be written to"),
        ("no Assets yet", GOOD, "Assets, which is not there yet, can be made"),
        ("not mounted", FAILED, "is no folder on this machine"),
        ("no Projects", FAILED, "Projects cannot be read (No such file"),
        ("Projects a file", FAILED, "Projects cannot be read (Not a directory"),
        ("Assets in Projects", FAILED, "nothing is ever written"),
        ("Assets elsewhere", FAILED, "leads out of its share"),
    ],
)
def test_a_share(case: str, state: State, found: str, tmp_path: Path) -> None:
    share = make_share(tmp_path, case)
    before = sorted(tmp_path.rglob("*"))
    finding = find(share_check("lab"), mounts={"lab": share})
    assert (finding.state, found in finding.found) == (state, True), finding
    assert sorted(tmp_path.rglob("*")) == before, "a check leaves nothing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_assets_that_nobody_may_write_to_fail(tmp_path: Path) -> None:
    share = make_share(tmp_path, "good")
    (share / "Assets").chmod(0o555)
    assert find(share_check("lab"), mounts={"lab": share}).state is FAILED


def test_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(check_shares, mounts={"qa": tmp_path, "lab": tmp_path}) == Finding(GOOD, "2: lab, qa")
    assert find(check_shares).state is (FAILED if find_spec("prefect") else NOTE)
    monkeypatch.setitem(sys.modules, "prefect", None)
    assert find(check_shares).state is NOTE


def test_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ROOM_BYTES", 1.0)
    assert find(check_scratch, scratch=tmp_path).state is GOOD
    assert find(check_scratch, scratch=tmp_path / "new").state is GOOD
    assert not (tmp_path / "new").exists()
    assert find(check_scratch).state is NOTE
    (tmp_path / "file").touch()
    assert find(check_scratch, scratch=tmp_path / "file").state is FAILED
    share = make_share(tmp_path, "good")
    in_projects = find(check_scratch, scratch=share / "Projects" / "scratch", mounts={"lab": share})
    assert (in_projects.state, "nothing is ever written" in in_projects.found) == (FAILED, True)
    monkeypatch.setattr(places, "ROOM_BYTES", 1e18)
    small = find(check_scratch, scratch=tmp_path)
    assert (small.state, "less than a large series needs" in small.found) == (NOTE, True)


def test_compiled_kernels(tmp_path: Path) -> None:
    assert find(check_compiled_kernels).state is GOOD
    unkept = numba.njit(lambda x: x)
    assert find(lambda site: check_compiled_kernels(site, unkept)).state is FAILED


def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import certifi

    assert find(check_certificates).found.startswith("those that come with httpx")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    finding = find(check_certificates)
    assert finding.state is GOOD
    assert f"authorities in {certifi.where()}, named by REQUESTS_CA_BUNDLE" in finding.found
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    assert find(check_certificates).state is FAILED


def test_the_token_of_the_site(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    hosts = ("portal.example",)
    assert find(check_site_token, token_file=file, callback_hosts=hosts).state is GOOD
    nowhere = find(check_site_token, token_file=file)
    assert (nowhere.state, "callback_hosts is not set" in nowhere.found) == (FAILED, True)
    file.chmod(0o644)
    assert find(check_site_token, token_file=file, callback_hosts=hosts).remedy == f"chmod 600 {file}"
    file.write_text("two words")
    assert find(check_site_token, token_file=file, callback_hosts=hosts).state is FAILED
    assert find(check_site_token, token_file=tmp_path / "absent", callback_hosts=hosts).state is FAILED
    assert find(check_site_token).state is NOTE


def test_the_outbox(tmp_path: Path) -> None:
    assert find(check_outbox, state=tmp_path) == Finding(GOOD, f"{tmp_path / BOOK_NAME} can be written to")
    outbox = Outbox(tmp_path)
    outbox.begin(RunEntry(run="r", about="a folder", url="https://portal.example"))
    outbox.put("r", "running", "a folder", "{}")
    outbox.close()
    waits = find(check_outbox, state=tmp_path)
    assert (waits.state, "messages wait there (runs: 1)" in waits.found) == (NOTE, True)
    (tmp_path / "file").touch()
    assert find(check_outbox, state=tmp_path / "file" / "state").state is FAILED


@dataclass
class Portal:
    """What a server was asked that answers by whether the token is right: methods and tokens."""

    host: str
    asked: list[tuple[str, str | None]]


@pytest.fixture
def portal(request: pytest.FixtureRequest) -> Iterator[Portal]:
    right, wrong = request.param
    asked: list[tuple[str, str | None]] = []

    def answer(heard: Heard) -> int:
        authorization = heard.headers.get("Authorization")
        asked.append((heard.method, authorization))
        return right if authorization == f"Bearer {TOKEN}" else wrong

    with listening(answer) as host:
        yield Portal(host, asked)


@pytest.mark.parametrize(
    ("portal", "token", "state", "found"),
    [
        ((200, 401), TOKEN, GOOD, "it knows the token"),
        ((204, 403), TOKEN, GOOD, "it knows the token"),
        ((405, 405), TOKEN, NOTE, "is not to be seen without sending it a result"),
        ((200, 401), "another", FAILED, "it refuses the token"),
        ((200, 401), None, FAILED, "the site has none"),
        ((200, 200), None, GOOD, "wants no token"),
        ((404, 404), TOKEN, NOTE, "does not know the address"),
        ((503, 503), TOKEN, FAILED, "out of order"),
        ((301, 301), TOKEN, FAILED, "redirection"),
    ],
    indirect=["portal"],
)
def test_a_portal_is_asked_by_requests_that_change_nothing(portal: Portal, token: str | None, state: State, found: str) -> None:
    given = {} if token is None else {"token": token, "callback_hosts": (portal.host,)}
    finding = find(check_portal, callback_url=f"http://{portal.host}/api/done", **given)
    assert (finding.state, found in finding.found) == (state, True), finding
    assert {method for method, _ in portal.asked} == {"OPTIONS"}
    assert TOKEN not in finding.found + finding.remedy


@pytest.mark.parametrize("portal", [(200, 200)], indirect=True)
def test_the_token_goes_to_no_host_that_is_not_listed(portal: Portal) -> None:
    finding = find(check_portal, callback_url=f"http://{portal.host}/api", token=TOKEN, callback_hosts=("portal.example",))
    assert (finding.state, portal.asked) == (FAILED, [])
    assert finding.remedy == f"set TILTFLOW_CALLBACK_HOSTS={portal.host}, if that is the portal"
    plain = find(check_portal, callback_url="http://portal.example/api", token=TOKEN, callback_hosts=("portal.example",))
    assert (plain.state, "not encrypted" in plain.found) == (FAILED, True)


def test_a_portal_that_is_not_there_and_one_that_nobody_names() -> None:
    assert find(check_portal).state is NOTE
    assert find(check_portal, callback_url="http://127.0.0.1:9/api").state is FAILED
    assert find(check_portal, callback_url="portal.example").state is FAILED


def test_a_refusal_counts_before_what_an_answer_without_the_token_says() -> None:
    assert understand(401, 403, has_token=True).state is FAILED
    assert understand(200, 401, has_token=True).state is FAILED


def test_engines(fake_imod: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch) -> None:
    there = find(engine_check("imod"))
    assert (there.state, there.found.startswith("IMOD 4.12.99: batchruntomo is on the PATH")) == (GOOD, True)
    monkeypatch.setenv("PATH", "/nowhere")
    assert find(engine_check("imod")).state is NOTE
    for setting in ("engine", "fallback_engine"):
        assert find(engine_check("imod"), **{setting: "imod"}).state is FAILED
    assert find(engine_check("native")).state is GOOD


def test_a_series_goes_through_tiltflows_own_engine(tmp_path: Path) -> None:
    finding = find(self_test("native"), scratch=tmp_path)
    assert (finding.state, finding.found.startswith("7 products, alignment wrong by 0.0")) == (GOOD, True), finding
    assert list(tmp_path.iterdir()) == [], "nothing is left in scratch"


@pytest.mark.parametrize(
    ("behaviour", "state", "found"),
    [
        ("abort", FAILED, "it failed at batchruntomo: "),
        ("good", FAILED, "more than 1"),  # it ends well, and its transforms are not those of the series
    ],
)
def test_an_engine_that_fails_or_is_wrong_fails_its_self_test(
    behaviour: str, state: State, found: str, fake_imod: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_imod.setenv("FAKE_BATCHRUNTOMO", behaviour)
    finding = find(self_test("imod"), scratch=tmp_path)
    assert (finding.state, found in finding.found) == (state, True), finding


def test_an_engine_that_is_not_there_is_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find(self_test("imod")) == Finding(NOTE, "not done: batchruntomo is not on the PATH")


def test_the_program_and_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(check_version).found.startswith("tiltflow ")
    assert find(check_settings, workers=2) == Finding(GOOD, "given: workers")
    monkeypatch.setenv("TILTFLOW_SETTINGS", str(tmp_path / "site.toml"))
    (tmp_path / "site.toml").write_text("threads = 3\n")
    monkeypatch.setenv("TILTFLOW_SCRACH", "/lscratch")
    finding = find(check_settings)
    assert finding.state is NOTE
    assert f"given: threads; the file is {tmp_path / 'site.toml'}; variable TILTFLOW_SCRACH is not a setting." in finding.found
    assert "Did you mean 'TILTFLOW_SCRATCH'?" in finding.found
