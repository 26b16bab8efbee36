"""What the portal is to know this site by, and this site the portal: a token, and certificates."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pydantic import SecretStr

from tiltflow.delivery.certificates import Certificates
from tiltflow.errors import SettingsError
from tiltflow.settings.model import Settings

CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name certificates: those of OpenSSL, and those of requests, which portals' other programs are often made with."""

_log = logging.getLogger(__name__)


def load_certificates() -> Certificates | None:
    """Return the certificates that the environment names for the portal: as programs of OpenSSL read it, or as requests and curl do.

    None where it names none: httpx then uses those that it brings.
    """
    named = ((variable, os.environ.get(variable)) for variable in CERTIFICATE_VARIABLES)
    return next((Certificates(Path(path).expanduser(), variable) for variable, path in named if path), None)


def load_token(settings: Settings, token_file: Path | None = None) -> SecretStr | None:
    """Return the token for the portal's API: from `token_file`, else from the settings; None where there is none.

    Raises
    ------
    SettingsError
        If the file cannot be read or is empty.
    """
    if token_file is None and settings.token is not None:
        return settings.token
    path = token_file or settings.token_file
    return _read_token(path) if path is not None else None


def _read_token(path: Path) -> SecretStr:
    try:
        open_to_others = path.stat().st_mode & 0o077
        token = SecretStr(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"The token file {path} cannot be read ({reason}).") from None
    if not token:
        raise SettingsError(f"The token file {path} is empty.")
    if open_to_others:
        _log.warning("the token file %s can be read by others; protect it with chmod 600", path)
    return token
