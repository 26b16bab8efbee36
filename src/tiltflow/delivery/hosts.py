"""The hosts that a site's secrets may be sent to."""

from __future__ import annotations

from collections.abc import Iterable

import httpx


def host_of(url: httpx.URL) -> str:
    """Return the host of an address as it stands in a list of hosts: with its port, if that is not the usual one.

    >>> host_of(httpx.URL("https://Portal.example/api")), host_of(httpx.URL("https://portal.example:8443/api"))
    ('portal.example', 'portal.example:8443')
    """
    return url.host if url.port is None else f"{url.host}:{url.port}"


def is_listed(url: httpx.URL, hosts: Iterable[str]) -> bool:
    """Return whether the host of an address is in a list."""
    return host_of(url).casefold() in {each.casefold() for each in hosts}
