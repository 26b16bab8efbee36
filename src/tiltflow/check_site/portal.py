"""The portal's API: certificates, token, and an answer, without telling it anything.

What is sent is a request OPTIONS, which asks what an address takes and by the standard of HTTP changes nothing (RFC 9110, 9.2.1): once
without and once with the token.  An API that refuses the first and not the second has looked at the token and knows it.
"""

from __future__ import annotations

from http import HTTPStatus

import httpx
from pydantic import SecretStr

from tiltflow.check_site.finding import Finding, Site, failed, good, note
from tiltflow.delivery.callback import LOCAL_HOSTS, check_token, check_url
from tiltflow.delivery.certificates import verification
from tiltflow.delivery.hosts import host_of, is_listed
from tiltflow.delivery.outbox import open_outbox
from tiltflow.settings import load_certificates, load_token

_LIMIT_S = 10.0
"""Longest wait for an answer; a portal that people use answers within one."""
_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NOT_HERE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


def check_certificates(_site: Site) -> Finding:
    """Look whether the certificates that the environment names can be read."""
    certificates = load_certificates()
    if certificates is None:
        return good("those that come with httpx (certifi); no variable names others")
    known = len(certificates.context().get_ca_certs())
    what = f"{certificates.path}, named by {certificates.variable}"
    # Of a folder OpenSSL reads each when it is needed.
    return good(f"{known} authorities in {what}" if known else f"the folder {what}")


def check_site_token(site: Site) -> Finding:
    """Look whether the site has a token, in a file that nobody else can read, and says where it may go."""
    token = load_token(site.settings, site.token_file)
    hosts = ", ".join(site.settings.callback_hosts)
    if token is None:
        return note(
            "the site has none: callers of the flow give theirs", "set token_file, if the portal's calls come without a token"
        )
    check_token(token)
    if not hosts:
        return failed(
            "the site has a token, and callback_hosts is not set: it is sent to nobody",
            "list the host of the portal, as TILTFLOW_CALLBACK_HOSTS=portal.example",
        )
    path = site.token_file or (site.settings.token_file if site.settings.token is None else None)
    if path is not None and path.stat().st_mode & 0o077:
        return note(f"it goes to {hosts}; others can read the file {path}", f"chmod 600 {path}")
    return good(f"it can be read, and goes to {hosts}")


def check_outbox(site: Site) -> Finding:
    """Look whether what the portal is to be told can be kept on the disk until it is told."""
    outbox = open_outbox(site.settings.state_folders, load_certificates())
    try:
        if not outbox.is_durable:
            return failed(
                "no folder can hold it: what the portal is not told when a run ends is lost",
                "set state, as TILTFLOW_STATE=/var/lib/tiltflow",
            )
        waiting = len(outbox.heads(None))
    finally:
        outbox.close()
    found = f"{outbox.path} can be written to"
    if waiting:
        return note(f"{found}; messages wait there (runs: {waiting})", "tiltflow outbox list")
    return good(found)


def check_portal(site: Site) -> Finding:
    """Ask the portal's API, by requests that change nothing, whether it is there and knows the token."""
    if site.callback_url is None:
        return note("not asked", "give an address of its API, as --callback-url https://portal.example/api/done")
    url = check_url(site.callback_url)
    token = load_token(site.settings, site.token_file)
    if token is not None and not is_listed(url, site.settings.callback_hosts):
        return failed(
            f"{host_of(url)} is not in callback_hosts: the flow does not send it the token of the site, and this check neither",
            f"set TILTFLOW_CALLBACK_HOSTS={host_of(url)}, if that is the portal",
        )
    if token is not None and url.scheme == "http" and url.host not in LOCAL_HOSTS:
        return failed("the address is not encrypted, so that the flow does not send the token of the site", "give it with https")
    try:
        with httpx.Client(timeout=_LIMIT_S, verify=verification(load_certificates()), follow_redirects=False) as client:
            without = _options(client, url, None)
            with_token = without if token is None else _options(client, url, check_token(token))
    except httpx.HTTPError as error:
        return failed(
            f"{host_of(url)} cannot be reached ({type(error).__name__}: {error})", "check address, network and certificates"
        )
    return understand(without, with_token, has_token=token is not None)


def understand(without: int, with_token: int, *, has_token: bool) -> Finding:
    """Return what the answers mean.

    Parameters
    ----------
    without, with_token
        Status of the answer to the request without the token, and with it.
    has_token
        Whether there is one.
    """
    answered = f"it answers OPTIONS with {with_token}"
    if with_token // 100 == 5:
        return failed(f"{answered}: it is there, and out of order", "ask those who run the portal")
    if with_token // 100 == 3:
        return failed(f"{answered}, a redirection, which the callback does not follow", "give the final address")
    if with_token in _REFUSED and has_token:
        return failed(f"{answered}: it refuses the token", "check the token: it may be wrong or expired")
    if with_token in _REFUSED:
        return failed(f"{answered}: it wants a token, and the site has none", "set token_file, or let callers give theirs")
    if with_token in _NOT_HERE:
        return note(f"{answered}: the host is there, and does not know the address", "check the path of the address")
    if has_token and without in _REFUSED:
        return good(f"it knows the token: OPTIONS is answered with {without} without it and with {with_token} with it")
    if has_token:
        return note(
            f"{answered}, with the token and without: it is there, and whether it knows the token is not to be seen without sending "
            "it a result",
            "send one from the portal's test system",
        )
    return good(f"{answered}: it is there, and wants no token for that")


def _options(client: httpx.Client, url: httpx.URL, token: SecretStr | None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    with client.stream("OPTIONS", url, headers=headers) as response:
        return response.status_code
