"""A connection lost in the middle of each thing that an application can do with it: one error, whose outcome is true.

Every way of working loses its connection at the same moment as all others, each on a connection and a table of its own, so
that one failover serves them all. What the error says became of the work is compared with what the server holds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

from aurora_actors import FailoverError, Outcome
from aurora_actors.lab import PostgresLab
from tests.benchmarks.relay import Relay
from tests.failover.applications import Noted, failover_error_of
from tests.failover.colours import Colour
from tests.failover.works import WORKS, Strike, executemany_between
from tests.lab.sessions import eventually

FACT_SECONDS = 30.0
QUICK = {"failure_detection_time_ms": 400, "failure_detection_interval_ms": 200}


def opened(lab: PostgresLab, colour: Colour, autocommit: bool, t: str) -> Any:
    conn = colour.connect(lab, autocommit=True, **QUICK)
    conn.execute(f"CREATE TABLE {t} (id int)")
    conn.autocommit = autocommit
    return conn


def lost(conn: Any, name: str, t: str, strike: Strike) -> str:
    """What is wrong with how the work *name* is told of the loss; empty: nothing."""
    raised = failover_error_of(lambda: WORKS[name][0](conn, t, strike))
    if isinstance(raised, str):
        return raised
    if not isinstance(raised, psycopg.OperationalError):
        return f"{raised!r} is none of the driver's"
    cause = raised.__cause__
    # An idle connection that goes elsewhere before it sends anything has no error of the driver's to tell of.
    left = cause is None and raised.outcome is Outcome.NOT_SENT
    if not left and (not isinstance(cause, psycopg.Error) or isinstance(cause, FailoverError) or "is closed" in str(cause)):
        return f"the cause of {raised!r} is {cause!r}"
    if "_gen" in str(raised):
        return f"{raised} names what is private to the driver"
    try:
        (held,) = conn.execute(f"SELECT count(*) FROM {t} WHERE id = 1").fetchone()
    except psycopg.Error as error:
        return f"the next statement raised {error!r}"
    fits = {Outcome.COMMITTED: held > 0, Outcome.UNKNOWN: True}.get(raised.outcome, held == 0)
    if not fits:
        return f"outcome {raised.outcome}, but {held} rows are there"
    expected = conn.autocommit and conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
    conn.rollback()
    return f"the session is {conn.info.transaction_status!r}" if expected else ""


@contextmanager
def many(lab: PostgresLab, colour: Colour) -> Iterator[dict[str, tuple[Any, str]]]:
    """A connection and a table for each work."""
    conns = {}
    try:
        for number, (name, (made, autocommit)) in enumerate(WORKS.items()):
            if made is executemany_between and colour.name != "threads":
                continue  # the loop of asyncio itself would wait in it
            conns[name] = opened(lab, colour, autocommit, f"t{number}"), f"t{number}"
        yield conns
    finally:
        for conn, _ in conns.values():
            conn.close()


def quiet(lab: PostgresLab) -> None:
    """Wait until every reader holds all that was written: one that holds more than the next writer could not follow it."""
    writer = lab.cluster.writer.server
    writer.query("SELECT pg_current_xact_id()")  # whose commit flushes what the open transactions wrote
    behind = "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn < pg_current_wal_flush_lsn()"
    eventually(lambda: writer.query(behind) == [(0,)])


@pytest.mark.parametrize("how", ["freeze", "kill", "crash"])
def test_one_error_whose_outcome_is_true(aurora_lab: PostgresLab, colour: Colour, how: str, signals_noted: Noted) -> None:
    with many(aurora_lab, colour) as conns, ThreadPoolExecutor(len(conns)) as pool:
        all_there = threading.Barrier(len(conns) + 1)

        def strike() -> None:
            all_there.wait(FACT_SECONDS)
            all_there.wait(FACT_SECONDS)

        sessions = {name: conn.info.backend_pid for name, (conn, _) in conns.items()}
        ends = {name: pool.submit(partial(lost, conn, name, t, strike)) for name, (conn, t) in conns.items()}
        old = aurora_lab.writer
        try:
            all_there.wait(FACT_SECONDS)
            quiet(aurora_lab)
            if how == "kill":
                for session in sessions.values():
                    assert aurora_lab.kill_session(old, session)
            elif how == "freeze":
                aurora_lab.freeze(old)
                aurora_lab.failover()
            else:
                aurora_lab.failover(how="crash")
            all_there.wait(FACT_SECONDS)
        except BaseException:
            all_there.abort()
            raise
        wrong = {name: problem for name, end in ends.items() if (problem := end.result(FACT_SECONDS))}
        assert wrong == {}
        assert len(signals_noted.of("connection_switched")) == len(conns)


def test_leaving_sends_nothing_to_the_new_session(aurora_lab: PostgresLab, colour: Colour) -> None:
    """Whatever block, cursor or COPY is left after a switch: the new session first hears of the next statement."""
    mark = "SELECT 'after'"
    with Relay(aurora_lab.address(aurora_lab.writer)) as relay:

        def resolve(host: str, port: int) -> list[tuple[str, int]]:
            return [relay.address]

        for number, (name, (made, autocommit)) in enumerate(WORKS.items()):
            if made is executemany_between and colour.name != "threads":
                continue
            t = f"t{number}"
            with colour.connect(aurora_lab, autocommit=True, resolve=resolve) as conn:
                conn.execute(f"CREATE TABLE {t} (id int)")
                conn.autocommit = autocommit
                session, before = conn.info.backend_pid, len(relay.talks)
                with pytest.raises(FailoverError):
                    made(conn, t, partial(aurora_lab.kill_session, aurora_lab.writer, session))
                conn.autocommit = True
                conn.execute(mark)
                (talk,) = [talk for talk in relay.talks[before:] if mark in talk.statements]
                sent = talk.messages[: talk.messages.index(("Q", mark.encode() + b"\0"))]
                # A login, the question for the host's role, and what the session listened to.
                assert {kind for kind, _ in sent} <= {"", "p", "Q"}, name
                texts = [body for kind, body in sent if kind == "Q"]
                assert [text for text in texts if b"pg_catalog." not in text and not text.startswith(b"LISTEN")] == [], name
