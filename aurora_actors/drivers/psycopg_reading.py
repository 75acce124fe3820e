"""What psycopg's generators, and the errors that come out of them, tell about a call."""

from __future__ import annotations

import select
from typing import Any

import psycopg
from psycopg import pq

from aurora_actors.drivers.base import Failure
from aurora_actors.model.outcome import Operation, Outcome
from aurora_actors.model.session import MOST_TEXTS, effects_of
from aurora_actors.model.session_state import Effect, only_transactions

__all__ = [
    "ACTIVE",
    "AT_REST",
    "CLEANED_UP",
    "COMMITS",
    "DEAD",
    "FINE",
    "HARMLESS",
    "ROW_TO_COME",
    "SQLALCHEMY_S_PING",
    "STARTS",
    "TRANSACTIONS",
    "TWO_PHASE",
    "asked_by",
    "effects_in",
    "failure_of",
    "locals_of",
    "on_reader",
    "operation_of",
    "starts",
    "to_come",
]

FINE = pq.ConnStatus.OK
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
TWO_PHASE = {"_tpc_prepare_gen", "_tpc_finish_gen"}
COMMITS = {"_commit_gen", *TWO_PHASE}
TRANSACTIONS = (psycopg.Transaction, psycopg.AsyncTransaction)
CLEANED_UP = {"_stream_send_gen", "_stream_fetchone_gen", "_read_gen", "_read_row_gen", "copy_to"}
"""After these the driver itself ends what it began, however they end."""
ROW_TO_COME = "_stream_fetchone_gen"
"""Waited for once a row, in a call that has been seen to begin."""
SENDS_NOTHING = {"notifies", *(f"_set_{name}_gen" for name in _SETTINGS)}

SQLALCHEMY_S_PING = ";"
"""What the pre-ping of SQLAlchemy's dialect for psycopg executes; ``psycopg_pool`` has an empty statement."""

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


def asked_by(error: BaseException, gen: Any) -> str:
    """The statement with nothing in it, by which pools ask whether a connection is good, if it is what the generator
    executed that failed; else empty."""
    found = locals_of(error, getattr(gen, "gi_code", None))
    text = text_of(found)
    return (text or " ") if gen.__name__ == "_execute_gen" and "query" in found and not text.strip("; \t\n") else ""


def to_come(gen: Any) -> Operation:
    """What a generator that has not begun is going to do."""
    frame = getattr(gen, "gi_frame", None)
    found = frame.f_locals if frame is not None else {}
    return Operation(_name_of(gen, found), text_of(found))


def starts(conn: Any, gen: Any) -> bool:
    """Whether the session may be exchanged before *gen*, at rest: what is prepared can be finished on another one."""
    name, tpc = gen.__name__, conn._tpc
    return name in STARTS or (name == "_tpc_finish_gen" and (tpc is None or tpc[1]))


def operation_of(conn: Any, found: dict[str, Any], gen: Any, *, refused: bool) -> Operation:
    """What *gen*, with these variables, was doing to *conn*; *refused*: the server answered that it did not do it."""
    link = conn._aa_link
    name, owner, pipeline = gen.__name__, found.get("self"), conn._pipeline
    commits = name in COMMITS
    if name == "_exit_gen" and isinstance(owner, TRANSACTIONS):
        commits = found.get("exc_val") is None and not owner.force_rollback
    if name == "_tpc_finish_gen" and conn._aa_status in OPEN:
        commits = found["action"] == "COMMIT"
    if pipeline is not None and getattr(pipeline, "_lock", conn.lock) is conn.lock:
        # Any of the statements in it may have been a COMMIT. (executemany's own pipeline takes no lock.)
        commits = True
    status = link.began if pipeline is not None else conn._aa_status
    begins = name == "_enter_gen" and isinstance(owner, TRANSACTIONS)
    marker = link.proxy.marker if link.proxy is not None else None
    gid, gone = _two_phase(conn, name, found) if pipeline is None else ("", Outcome.UNKNOWN)
    return Operation(
        _name_of(gen, found),
        text_of(found),
        in_transaction=status in OPEN,
        autocommit=conn.autocommit and not begins,
        commits=commits,
        sent=conn._aa_status != DEAD and name not in SENDS_NOTHING,
        refused=refused,
        token=marker.sent if marker is not None and commits and pipeline is None else "",
        gid=gid,
        gone=gone,
    )


def _name_of(gen: Any, found: dict[str, Any]) -> str:
    name = str(gen.__name__)
    return f"tpc_{found['action'].lower()}" if name == "_tpc_finish_gen" else NAMES.get(name, name)


def _two_phase(conn: Any, name: str, found: dict[str, Any]) -> tuple[str, Outcome]:
    """``gid`` and ``gone`` of the operation."""
    tpc, gid, gone = conn._tpc, "", Outcome.UNKNOWN
    if name == "_tpc_prepare_gen" and tpc is not None:
        gid, gone = str(tpc[0]), Outcome.ROLLED_BACK
    elif name == "_tpc_finish_gen" and conn._aa_status not in OPEN:
        gid = str(found["xid"])
        # One that was not prepared here, or is in doubt since, may have been finished in another way before.
        if tpc is not None and tpc is not conn._aa_link.doubted:
            gone = Outcome.COMMITTED if found["action"] == "COMMIT" else Outcome.ROLLED_BACK
    # The session that is asked may use another encoding.
    return (gid, gone) if gid.isascii() else ("", Outcome.UNKNOWN)


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
