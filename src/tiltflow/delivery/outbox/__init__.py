"""The outbox: what the portal is to be told, kept on the disk until it was told.

A run writes each message into a book before anything is sent (:mod:`~tiltflow.delivery.outbox.book`); sending is a loop of its own
(:mod:`~tiltflow.delivery.outbox.courier`) that any later run, `tiltflow outbox send` or a timer takes up where a dead one left it.

The names below are imported when they are first used: every run reads the book, but only one that has something to say needs what
speaks to a portal.
"""

from typing import TYPE_CHECKING

from tiltflow.names_on_demand import on_demand

if TYPE_CHECKING:
    from tiltflow.delivery.outbox.book import Outbox
    from tiltflow.delivery.outbox.courier import Courier, Delivered, deliver
    from tiltflow.delivery.outbox.entries import Kind, Message, RunEntry, State
    from tiltflow.delivery.outbox.place import open_outbox

__all__ = ["Courier", "Delivered", "Kind", "Message", "Outbox", "RunEntry", "State", "deliver", "open_outbox"]

__getattr__ = on_demand(
    __name__,
    {
        "Courier": "courier",
        "Delivered": "courier",
        "Kind": "entries",
        "Message": "entries",
        "Outbox": "book",
        "RunEntry": "entries",
        "State": "entries",
        "deliver": "courier",
        "open_outbox": "place",
    },
)
