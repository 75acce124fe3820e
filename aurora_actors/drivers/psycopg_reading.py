"""What psycopg's generators, and the errors that come out of them, tell about a call."""

from __future__ import annotations

from typing import Any

from psycopg import pq

from aurora_actors.drivers.base import Failure

__all__ = ["failure_of", "locals_of", "on_reader", "statement_to_come", "text_of"]


def failure_of(error: BaseException, conn: Any) -> Failure:
    """Loss is a broken connection, or a code by which the server says goodbye before it closes."""
    return Failure(getattr(error, "sqlstate", None), conn is not None and conn.pgconn.status != pq.ConnStatus.OK)


def on_reader(conn: Any) -> bool:
    """Whether the host of *conn* says that it is in recovery."""
    # PostgreSQL 14 and later report it unasked; a transaction that the application declared read-only is no news.
    return bool(conn.pgconn.parameter_status(b"in_hot_standby") == b"on")


def locals_of(error: BaseException, code: Any) -> dict[str, Any]:
    """The variables of the generator that failed, which its traceback still holds."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is code:
            return dict(trace.tb_frame.f_locals)
        trace = trace.tb_next
    return {}


def text_of(found: dict[str, Any]) -> str:
    """The statement among the variables of a generator; empty: there is none."""
    converted = getattr(found.get("pgq"), "query", None)
    query = converted if converted is not None else found.get("query", found.get("statement", ""))
    return query.decode(errors="replace") if isinstance(query, bytes) else str(query)


def statement_to_come(gen: Any) -> str:
    """The statement that a generator which has not begun is going to send."""
    frame = getattr(gen, "gi_frame", None)
    return text_of(frame.f_locals) if frame is not None else ""
