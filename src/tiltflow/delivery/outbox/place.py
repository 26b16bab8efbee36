"""Where the outbox lies."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tiltflow.delivery.certificates import Certificates, verification
from tiltflow.delivery.outbox.book import Outbox
from tiltflow.errors import DeliveryError

_log = logging.getLogger(__name__)


def open_outbox(folders: Sequence[Path], certificates: Certificates | None = None) -> Outbox:
    """Return the outbox in the first folder that can hold it; `certificates` are those that the portals' are checked by.

    Where none can, and the site named none, the outbox is in memory, with a warning: then what the portal was
    not told when the run ends is lost.

    Raises
    ------
    DeliveryError
        If the one folder that the site named cannot hold it.
    SettingsError
        If the certificates cannot be used.
    """
    verification(certificates)
    problem: DeliveryError | None = None
    for folder in folders:
        try:
            return Outbox(folder, certificates=certificates)
        except DeliveryError as error:
            problem = error
    if problem is not None and len(folders) == 1:
        raise problem
    _log.warning("what the portal is not told by the end of this run is lost: %s", problem or "there is no folder for the outbox")
    return _in_memory(certificates)


@cache
def _in_memory(certificates: Certificates | None) -> Outbox:
    """Return the one book in memory of this process: what one part of it writes down, another finds."""
    return Outbox(None, certificates=certificates)
