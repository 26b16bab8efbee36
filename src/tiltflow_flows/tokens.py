"""The portal's token: given as such, as the name of a Prefect Secret block, or by the settings of the site.

A Secret block keeps the token out of Prefect's database, where the parameters of flow runs stand in plain text.

Who may call the flow is not who runs the site: the address of the callback is the caller's.  So the caller's own token goes to the
caller's address, while the site's token, and Secret blocks of its list, go to the hosts of its list and to nobody else.
"""

from __future__ import annotations

import logging

import httpx
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from tiltflow.delivery.callback import LOCAL_HOSTS, check_url
from tiltflow.delivery.hosts import host_of, is_listed
from tiltflow.delivery.portal import Address
from tiltflow.errors import SettingsError
from tiltflow.settings import Settings, load_settings, load_token

_PAGE = 200
_log = logging.getLogger(__name__)


def resolve_address(token: str | None, url: str, settings: Settings) -> Address:
    """Return the portal's API at an address, with the token that a flow's parameter stands for, as far as that may be sent there.

    Raises
    ------
    SettingsError
        As of :func:`resolve_token`.
    """
    secret = resolve_token(token, url, settings)
    if secret is None or token:
        return Address(url=url, token=secret)
    return Address(url=url, site_token=lambda: load_token(settings))


def resolve_token(token: str | None, url: str, settings: Settings | None = None) -> SecretStr | None:
    """Return the token that a flow's parameter stands for, if it may be sent to an address; None, with a warning, if it may not.

    Parameters
    ----------
    token
        The name of a Secret block, if there is one of that name; else the token itself.  None or empty: the token of the settings.
    url
        Where it is to be sent.
    settings
        Those of the site; if not given, they are loaded where they are needed.

    Raises
    ------
    SettingsError
        If the block or the file of the settings holds no usable token, or the address cannot be used.
    """
    if token and token not in _secret_names():
        return SecretStr(token)
    settings = settings or load_settings()
    if not token:
        secret = load_token(settings)
        return secret if secret is not None and _may_go(check_url(url), settings, "the token of the site") else None
    if token not in settings.callback_secrets:
        _log.warning(
            "the Secret block %r is not sent to the portal, as it is none of those that callers may name: "
            "list it in the setting callback_secrets, as TILTFLOW_CALLBACK_SECRETS=%s",
            token,
            token,
        )
        return None
    if not _may_go(check_url(url), settings, f"the Secret block {token!r}"):
        return None
    value = Secret.load(token).get()  # type: ignore[union-attr]  # an async signature that is synchronous when called from here
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"The Secret block {token!r} holds no text; save the portal's token in it.")
    return SecretStr(value)


def _may_go(url: httpx.URL, settings: Settings, what: str) -> bool:
    """Return whether the secrets of the site may be sent to an address: a listed host, by https but on this machine."""
    host = host_of(url)
    if is_listed(url, settings.callback_hosts):
        if url.scheme == "https" or url.host in LOCAL_HOSTS:
            return True
        _log.warning("%s is not sent to %s without encryption: give the address with https", what, host)
        return False
    listed = ", ".join(settings.callback_hosts) or "none"
    _log.warning(
        "%s is not sent to %s, which is not among the hosts that it may go to (%s): if that is the portal, "
        "list it in the setting callback_hosts, as TILTFLOW_CALLBACK_HOSTS=%s",
        what,
        host,
        listed,
        host,
    )
    return False


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
