"""Why a call failed, in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

__all__ = ["Fault", "fault_of", "misses_savepoint"]


class Fault(Enum):
    """What a failed call says about its connection.

    ``SESSION_ENDED`` is the death of one session by the server's or an administrator's hand: no verdict on its host.
    ``STALE`` comes before a call, not after it: the connection's host is down or not the one to use any more.
    """

    NONE = "none"
    CONNECTION_LOST = "connection lost"
    SESSION_ENDED = "session ended"
    READ_ONLY = "read-only"
    LOGIN = "login"
    STALE = "stale"

    @property
    def ends_session(self) -> bool:
        """Whether the connection is of no more use."""
        return self in (Fault.CONNECTION_LOST, Fault.SESSION_ENDED)


def fault_of(sqlstate: str | None, lost: bool, table: Mapping[str, Fault]) -> Fault:
    """The fault behind an error: by its code, else its class (first two characters), else by the state of the connection.

    *lost* says that the driver found the connection broken. A code alone never makes a healthy connection a lost one
    unless the table says so.
    """
    known = None
    if sqlstate:
        known = table.get(sqlstate) or table.get(sqlstate[:2])
    if known is not None and (known.ends_session or not lost):
        return known
    return Fault.CONNECTION_LOST if lost else Fault.NONE


def misses_savepoint(error: Exception) -> bool:
    """Whether a statement named a savepoint, or left one, where none is: PostgreSQL's codes, and MySQL's number."""
    return getattr(error, "sqlstate", None) in ("3B001", "25P01") or getattr(error, "errno", None) == 1305
