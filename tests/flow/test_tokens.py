"""What the parameter `token` stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from prefect.blocks.system import Secret

from tiltflow.errors import SettingsError
from tiltflow.settings import load_settings
from tiltflow_flows.tokens import resolve_token

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("prefect_server", "share")]


def opened(token: str | None) -> str | None:
    secret = resolve_token(token)
    return None if secret is None else secret.get_secret_value()


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
        resolve_token("empty-block")


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
    held = resolve_token(None, settings)
    assert held is not None
    assert held.get_secret_value() == "of-the-site"


def test_a_token_needs_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTFLOW_THREADS", "many")
    assert opened("9f8e7d6c5b4a") == "9f8e7d6c5b4a"
