"""COMMITs that leave a token with a MySQL server, so that it can be told whether they happened (``commit_outcome``)."""

from __future__ import annotations

import functools
from inspect import isawaitable
from typing import Any

from mysql.connector.errors import Error

from aurora_actors.drivers.mysql_server import IN_TRANSACTION
from aurora_actors.drivers.mysql_session import status_of
from aurora_actors.flow.running import run_blocking

__all__ = ["marking", "marking_async"]

# Refusals that leave the transaction there: of a host or a transaction that may not write, and so has nothing to tell …
_NOTHING_WRITTEN = frozenset({1290, 1792, 1836})
# … and of a table that is gone, or may not be used any more.
_UNUSABLE = frozenset({1044, 1049, 1142, 1143, 1146})


def marking(base: Any) -> Any:
    """The driver's ``commit``, with a token before it where the connection wants that."""

    @functools.wraps(base)
    def commit(self: Any) -> None:
        if self._aa_link.marks:
            run_blocking(_marked(self))
        base(self)

    return commit


def marking_async(base: Any) -> Any:
    """The same for asyncio."""

    @functools.wraps(base)
    async def commit(self: Any) -> None:
        if self._aa_link.marks:
            await _marked(self)
        await base(self)

    return commit


async def _marked(conn: Any) -> None:
    """Leave a token in the open transaction, if there is one; what cannot be marked is committed all the same.

    Raises the driver's error where the transaction may be gone.
    """
    marker = conn._aa_link.proxy.marker
    marker.sent = ""
    if not status_of(conn) & IN_TRANSACTION:
        return
    try:
        made = conn.cmd_query(marker.committing())
        if isawaitable(made):
            await made
    except Error as error:
        if error.errno in _NOTHING_WRITTEN:
            marker.sent = ""
        elif error.errno in _UNUSABLE:
            marker.refused(error)
        else:
            raise
