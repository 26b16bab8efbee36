"""The portal's token: given as such, as the name of a Prefect Secret block, or by the settings of the site.

A Secret block keeps the token out of Prefect's database, where the parameters of flow runs stand in plain text.
"""

from __future__ import annotations

from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from tiltflow.errors import SettingsError
from tiltflow.settings import Settings, load_settings, load_token

_PAGE = 200


def resolve_token(token: str | None, settings: Settings | None = None) -> SecretStr | None:
    """Return the token that a flow's parameter stands for.

    Parameters
    ----------
    token
        The name of a Secret block, if there is one of that name; else the token itself.  None or empty: the token of the settings.
    settings
        Those of the site; if not given, they are loaded where no token is.

    Raises
    ------
    SettingsError
        If the block or the file of the settings holds no usable token.
    """
    if not token:
        return load_token(settings or load_settings())
    if token not in _secret_names():
        return SecretStr(token)
    value = Secret.load(token).get()  # type: ignore[union-attr]  # an async signature that is synchronous when called from here
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"The Secret block {token!r} holds no text; save the portal's token in it.")
    return SecretStr(value)


def _secret_names() -> set[str]:
    # The names are fetched and compared here: asking the server for a block by name would write a plain token into its log.
    names: set[str] = set()
    with get_client(sync_client=True) as client:
        while True:
            try:
                page = client.read_block_documents_by_type("secret", offset=len(names), limit=_PAGE, include_secrets=False)
            except ObjectNotFound:
                return names
            names |= {document.name for document in page if document.name}
            if len(page) < _PAGE:
                return names
