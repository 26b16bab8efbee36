"""What the parameter `token` stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from prefect.blocks.system import Secret

from tiltflow.errors import SettingsError
from tiltflow.settings import load_settings
from tiltflow_flows.tokens import resolve_token

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("prefect_server", "share"),
    pytest.mark.attack("hostile caller of the flow"),
]


URL = "https://portal.example/api/done"


def opened(token: str | None, url: str = URL) -> str | None:
    secret = resolve_token(token, url)
    return None if secret is None else secret.get_secret_value()


@pytest.fixture(autouse=True)
def lists(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTFLOW_CALLBACK_HOSTS", "other.example; portal.example")
    monkeypatch.setenv("TILTFLOW_CALLBACK_SECRETS", "lab-portal;empty-block")


def test_the_name_of_a_secret_block_stands_for_what_the_block_holds() -> None:
    Secret(value="held-by-a-block").save("lab-portal", overwrite=True)
    assert opened("lab-portal") == "held-by-a-block"


def test_anything_else_stands_for_itself() -> None:
    assert opened("9f8e7d6c5b4a") == "9f8e7d6c5b4a"
    assert opened("eyJhbGciOi.s3cr3t/+=") == "eyJhbGciOi.s3cr3t/+="


@pytest.mark.parametrize("value", ["", "  ", {"token": "in a dictionary"}])
def test_a_block_without_a_token_is_an_error_that_names_it(value: object) -> None:
    Secret(value=value).save("empty-block", overwrite=True)
    with pytest.raises(SettingsError, match="The Secret block 'empty-block' holds no text"):
        resolve_token("empty-block", URL)


def test_without_a_token_that_of_the_site_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(None) is None
    path = tmp_path / "token"
    path.write_text("of-the-site\n")
    path.chmod(0o600)
    monkeypatch.setenv("TILTFLOW_TOKEN_FILE", str(path))
    assert opened(None) == "of-the-site"
    assert opened("") == "of-the-site"
    settings = load_settings()
    monkeypatch.delenv("TILTFLOW_TOKEN_FILE")
    held = resolve_token(None, URL, settings)
    assert held is not None
    assert held.get_secret_value() == "of-the-site"


def test_a_token_needs_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTFLOW_THREADS", "many")
    assert opened("9f8e7d6c5b4a") == "9f8e7d6c5b4a"


@pytest.mark.parametrize(
    ("token", "url", "sent"),
    [
        ("", "https://portal.example/api", "of-the-site"),
        ("", "https://PORTAL.example/other", "of-the-site"),
        ("", "https://portal.example:8443/api", None),
        ("", "https://portal.example.evil.example/api", None),
        ("", "https://evil.example/portal.example", None),
        ("", "http://127.0.0.1:9999/api", None),
        ("", "http://portal.example/api", None),
        ("lab-portal", "http://portal.example/api", None),
        ("lab-portal", "https://portal.example/api", "held-by-a-block"),
        ("lab-portal", "https://evil.example/api", None),
        ("database-password", "https://portal.example/api", None),
        ("database-password", "https://evil.example/api", None),
        ("the-caller's-own", "https://evil.example/api", "the-caller's-own"),
    ],
)
def test_a_secret_of_the_site_goes_to_listed_hosts_only_and_a_caller_s_own_to_his_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, token: str, url: str, sent: str | None
) -> None:
    Secret(value="held-by-a-block").save("lab-portal", overwrite=True)
    Secret(value="not-for-portals").save("database-password", overwrite=True)
    monkeypatch.setenv("TILTFLOW_TOKEN", "of-the-site")
    assert opened(token, url) == sent
    refused = [record.message for record in caplog.records if "is not sent to" in record.message]
    assert len(refused) == (sent is None)
    assert not any(secret in caplog.text for secret in ("of-the-site", "held-by-a-block", "not-for-portals"))


def test_where_no_hosts_are_listed_the_first_run_says_what_to_write(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TILTFLOW_CALLBACK_HOSTS")
    monkeypatch.setenv("TILTFLOW_TOKEN", "of-the-site")
    assert opened(None) is None
    assert "TILTFLOW_CALLBACK_HOSTS=portal.example" in caplog.text
    monkeypatch.delenv("TILTFLOW_CALLBACK_SECRETS")
    Secret(value="held-by-a-block").save("lab-portal", overwrite=True)
    assert opened("lab-portal") is None
    assert "TILTFLOW_CALLBACK_SECRETS=lab-portal" in caplog.text
