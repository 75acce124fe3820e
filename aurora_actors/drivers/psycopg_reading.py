"""What psycopg's generators, and the errors that come out of them, tell about a call."""

from __future__ import annotations

import select
from typing import Any

import psycopg
from psycopg import pq

from aurora_actors.drivers.base import Failure
from aurora_actors.model.session import MOST_TEXTS, effects_of
from aurora_actors.model.session_state import Effect, only_transactions

__all__ = [
    "ACTIVE",
    "AT_REST",
    "CLEANED_UP",
    "COMMITS",
    "DEAD",
    "HARMLESS",
    "NAMES",
    "OPEN",
    "SENDS_NOTHING",
    "STARTS",
    "effects_in",
    "failure_of",
    "is_ping",
    "locals_of",
    "on_reader",
    "statement_to_come",
    "text_of",
]

ACTIVE = pq.TransactionStatus.ACTIVE
DEAD = pq.TransactionStatus.UNKNOWN
OPEN = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
AT_REST = (pq.TransactionStatus.IDLE, DEAD)

# What a generator of psycopg's does, and whether the session may be exchanged before it takes its first step.
STARTS = {
    "_execute_gen": "execute",
    "_executemany_gen_no_pipeline": "executemany",
    "_stream_send_gen": "stream",
    "_start_copy_gen": "copy",
    "_declare_gen": "execute",
    "_enter_gen": "begin",
    "_tpc_begin_gen": "tpc_begin",
    "notifies": "notifies",
}
_SETTINGS = ("autocommit", "isolation_level", "read_only", "deferrable")
NAMES = {
    **STARTS,
    "_executemany_gen_pipeline": "executemany",
    "_commit_gen": "commit",
    "_rollback_gen": "rollback",
    "_tpc_prepare_gen": "tpc_prepare",
    "_tpc_finish_gen": "tpc_finish",
    "_exit_gen": "end of block",
    "copy_to": "copy",
    "copy_end": "copy",
    "_read_gen": "copy",
    "_read_row_gen": "copy",
    "_end_copy_out_gen": "copy",
    "_stream_fetchone_gen": "stream",
    "_fetch_gen": "fetch",
    "_scroll_gen": "scroll",
    "_close_gen": "close",
    "_sync_gen": "sync",
    **{f"_set_{name}_gen": name for name in _SETTINGS},
}
COMMITS = {"_commit_gen", "_tpc_prepare_gen", "_tpc_finish_gen"}
CLEANED_UP = {"_stream_send_gen", "_stream_fetchone_gen", "_read_gen", "_read_row_gen", "copy_to"}
"""After these the driver itself ends what it began, however they end."""
SENDS_NOTHING = {"notifies", *(f"_set_{name}_gen" for name in _SETTINGS)}

HARMLESS: set[str | None] = {None}
"""Statements known to leave nothing in their session. Only changed by single operations, so that no thread needs a lock."""

# How the codes begin that a server sends, as FATAL, when it ends a session.
_GOODBYES = ("08", "57P")


def failure_of(error: BaseException, conn: Any) -> Failure:
    """Loss is a broken connection, or a code by which the server says goodbye before it closes."""
    code = getattr(error, "sqlstate", None)
    lost = conn is not None and (conn.pgconn.status != pq.ConnStatus.OK or _unread(error, conn.pgconn))
    if not lost and code is not None and code.startswith(_GOODBYES) and _severity(error) == "ERROR":
        # The session lives; the statement reports the loss of a connection of the server's own (dblink, postgres_fdw).
        code = None
    return Failure(code, lost)


def _unread(error: BaseException, pgconn: Any) -> bool:
    """Whether psycopg gave up before libpq had a look: of a socket that is reset just while it is asked about, the kernel
    may tell the error and not yet that there is an end to read."""
    if type(error) is not psycopg.OperationalError or pgconn.transaction_status != ACTIVE or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(pgconn.socket, 0)
    return bool(poll.poll(0))


def _severity(error: BaseException) -> str | None:
    return error.diag.severity_nonlocalized if isinstance(error, psycopg.Error) else None


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


def is_ping(error: BaseException, gen: Any) -> bool:
    """Whether the generator that failed executed a statement that asks for nothing."""
    found = locals_of(error, getattr(gen, "gi_code", None))
    return gen.__name__ == "_execute_gen" and "query" in found and not text_of(found).strip("; \t\n")


def statement_to_come(gen: Any) -> str:
    """The statement that a generator which has not begun is going to send."""
    frame = getattr(gen, "gi_frame", None)
    return text_of(frame.f_locals) if frame is not None else ""


def effects_in(query: Any, conn: Any) -> tuple[Effect, ...] | None:
    """What *query* does to its session; None: something that no new one can be given. Harmless texts are remembered."""
    try:
        text = query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else query.as_string(conn)
    except (AttributeError, UnicodeDecodeError, psycopg.Error):
        return None
    effects = effects_of(text)
    if isinstance(query, str) and effects is not None and only_transactions(effects):
        if len(HARMLESS) >= MOST_TEXTS:
            HARMLESS.clear()
            HARMLESS.add(None)
        HARMLESS.add(query)
    return effects
