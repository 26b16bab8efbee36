"""A portal whose certificate is that of a private authority: trusted by the variables that other programs read."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.listening import listening

from tiltflow.delivery.body import CallbackBody
from tiltflow.delivery.callback import RetryPolicy, notify, send
from tiltflow.delivery.certificates import Certificates
from tiltflow.delivery.outbox import Outbox, open_outbox
from tiltflow.delivery.portal import Address, Portal
from tiltflow.errors import CallbackError, SettingsError
from tiltflow.settings import CERTIFICATE_VARIABLES, load_certificates

AT_ONCE = RetryPolicy(total_s=0.0)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in CERTIFICATE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost that no known authority has signed, and its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("certificates")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "ca.pem"]
    subprocess.run(made, cwd=folder, check=True, capture_output=True)
    return folder / "ca.pem"


@pytest.fixture(scope="module")
def private_portal(certificate: Path) -> Iterator[str]:
    """The address of a portal with that certificate, which accepts everything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with listening(lambda _heard: 204, context) as host:
        yield f"https://localhost:{host.rpartition(':')[2]}/done"


def test_an_unknown_authority_is_refused_and_the_message_names_the_variables(private_portal: str) -> None:
    assert load_certificates() is None
    with pytest.raises(CallbackError, match=r"not trusted .* SSL_CERT_FILE or REQUESTS_CA_BUNDLE"):
        send(private_portal, CallbackBody(files=()), None, policy=AT_ONCE, certificates=load_certificates())


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_authority_that_a_variable_names_is_trusted_in_every_message(
    private_portal: str, certificate: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(certificate))
    certificates = load_certificates()
    assert send(private_portal, CallbackBody(files=()), None, policy=AT_ONCE, certificates=certificates) == 1
    assert notify(private_portal, "running", None, policy=AT_ONCE, certificates=certificates)
    outbox = Outbox(None, certificates=certificates)
    portal = Portal(address=Address(url=private_portal), outbox=outbox, patience_s=0.0, run="r")
    with portal.following("a folder"):
        portal.tell(CallbackBody(files=()), "a folder")
    assert outbox.heads(None) == []
    outbox.close()


def test_the_variable_of_openssl_counts_before_that_of_requests(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/other.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert load_certificates() == Certificates(certificate, "SSL_CERT_FILE")


def test_a_folder_of_certificates_is_one_too(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.parent))
    certificates = load_certificates()
    assert certificates is not None
    assert certificates.context().verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"no certificate", "it holds no certificates")])
def test_certificates_that_cannot_be_used_are_named_with_their_variable(
    content: bytes | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with pytest.raises(SettingsError, match=rf"{bundle}, named by REQUESTS_CA_BUNDLE, cannot be used \({reason}"):
        open_outbox([tmp_path], load_certificates())
    assert not notify("https://portal.example/done", "running", None, policy=AT_ONCE, certificates=load_certificates())
