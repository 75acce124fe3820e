"""One internal statement on a libpq connection, outside psycopg's transactions, for whoever waits in whatever way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import errors, pq

from aurora_actors.drivers.base import Sockets

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

__all__ = ["answer_to"]


async def answer_to(pgconn: PGconn, sql: str, sockets: Sockets) -> PGresult:
    """The last result of *sql*. Raises psycopg's error for what the server refuses, and when it closes the connection."""
    pgconn.send_query(sql.encode())
    while pgconn.flush():
        await sockets.writable(pgconn.socket)
    last: PGresult | None = None
    refused: PGresult | None = None
    while True:
        while pgconn.is_busy():
            await sockets.readable(pgconn.socket)
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            break
        if result.status == pq.ExecStatus.FATAL_ERROR:
            refused = result
            if pgconn.status == pq.ConnStatus.BAD:
                break
        last = result
    if refused is not None:
        raise errors.error_from_result(refused)
    if last is None:
        raise psycopg.OperationalError("the server closed the connection")
    return last
