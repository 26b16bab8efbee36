"""The certificate authorities by which the portal's certificate is checked, where the environment names some."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from tiltflow.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Certificates:
    """A file of certificates in the form PEM, or a folder of them as OpenSSL has it.

    Attributes
    ----------
    path
        Where it is.
    variable
        The environment variable that names it.
    """

    path: Path
    variable: str

    def context(self) -> ssl.SSLContext:
        """Return how connections are checked by these certificates alone.

        Raises
        ------
        SettingsError
            If it cannot be read, or a file holds no certificate.
        """
        place = str(self.path)
        try:
            return ssl.create_default_context(capath=place) if self.path.is_dir() else ssl.create_default_context(cafile=place)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            reason = "it holds no certificates" if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None) or error
            raise SettingsError(
                f"The certificates {self.path}, named by {self.variable}, cannot be used ({reason}); "
                "give a file of the certificate authorities in the form PEM, or unset the variable."
            ) from error


def verification(certificates: Certificates | None) -> ssl.SSLContext | bool:
    """Return what httpx is to check by: the certificates, or the authorities that it brings.

    Raises
    ------
    SettingsError
        If the certificates cannot be used.
    """
    return True if certificates is None else certificates.context()
