"""Live sessions: folders that fill while a microscope works are watched, and each series is processed when it is whole.

:func:`watch` does it, by the pipeline, which knows what is up to date.  Which file is whole is decided in
:mod:`tiltflow.watch.policy`, what a session remembers stands in :mod:`tiltflow.watch.ledger`.
"""

from tiltflow.watch.folders import Watched, assign
from tiltflow.watch.ledger import LEDGER_NAME, Entry, Ledger, State, counts_of
from tiltflow.watch.news import News, Tell
from tiltflow.watch.plan import Outcome, Plan, Work
from tiltflow.watch.policy import Rules
from tiltflow.watch.session import watch

__all__ = [
    "LEDGER_NAME",
    "Entry",
    "Ledger",
    "News",
    "Outcome",
    "Plan",
    "Rules",
    "State",
    "Tell",
    "Watched",
    "Work",
    "assign",
    "counts_of",
    "watch",
]
