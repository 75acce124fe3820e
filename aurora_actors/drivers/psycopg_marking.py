"""COMMITs that leave a token with the server, so that it can be told whether they happened (``commit_outcome``)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import psycopg
from psycopg import generators, pq

from aurora_actors.proxies.marker import Marker

__all__ = ["marking"]

INTRANS, INERROR = pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR


def marking(base: Callable[..., Any]) -> Callable[..., Any]:
    """psycopg's generator *base* for a command of its own, where one that commits may carry a token."""

    def _exec_command(conn: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        proxy = conn._aa_link.proxy
        # In a pipeline it is queued behind statements of which nobody knows yet.
        if (
            proxy is not None
            and proxy.marker is not None
            and command == b"COMMIT"
            and conn._pipeline is None
            and conn.pgconn.transaction_status == INTRANS
        ):
            return _committed(conn, proxy.marker)
        return base(conn, command, *args, **kwargs)

    return _exec_command


def _committed(conn: Any, marker: Marker) -> Generator[Any, Any, Any]:
    """Mark and commit in one round trip; what cannot be marked is committed all the same, in a second one."""
    try:
        try:
            result = yield from _answered(conn, marker.committing())
        except psycopg.Error as error:
            if conn.pgconn.transaction_status != INERROR:
                raise
            marker.refused(error)
            result = yield from _answered(conn, marker.markers.unmarked)
    except BaseException:
        if conn.pgconn.status == pq.ConnStatus.OK:
            marker.sent = ""
        raise
    else:
        marker.sent = ""
        return result


def _answered(conn: Any, sql: str) -> Generator[Any, Any, Any]:
    """The last result of *sql*. Raises psycopg's error."""
    conn.pgconn.send_query(sql.encode())
    results = yield from generators.execute(conn.pgconn)
    result = results[-1]
    if result.status == pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result, encoding=conn.pgconn._encoding)
    return result
