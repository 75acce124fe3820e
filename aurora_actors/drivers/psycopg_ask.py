"""One internal statement on a libpq connection, bounded to the millisecond, outside psycopg's transactions."""

from __future__ import annotations

import selectors
from time import monotonic
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors, pq

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

__all__ = ["ask", "wait_for"]


def ask(pgconn: PGconn, sql: str, deadline: float) -> PGresult:
    """The last result of *sql*. *deadline* is on the clock of ``time.monotonic()``.

    Raises psycopg's error for what the server refuses, and ``psycopg.OperationalError`` when no answer comes in time.
    """
    pgconn.send_query(sql.encode())
    while pgconn.flush():
        wait_for(pgconn, selectors.EVENT_WRITE, deadline)
    last: PGresult | None = None
    refused: PGresult | None = None
    while True:
        while pgconn.is_busy():
            wait_for(pgconn, selectors.EVENT_READ, deadline)
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


def wait_for(pgconn: PGconn, event: int, deadline: float) -> None:
    """Wait until libpq can go on. Raises ``psycopg.OperationalError`` at the deadline."""
    remaining = deadline - monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, event)
        if remaining <= 0 or not selector.select(remaining):
            raise psycopg.OperationalError("the server did not answer in time")
