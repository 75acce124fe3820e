"""A connection lost in the middle of each thing that an application can do with it: one error, whose outcome is true.

Every way of working loses its connection at the same moment as all others, each on a connection and a table of its own, so
that one failover serves them all. What the error says became of the work is compared with what the server holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import psycopg
import pytest

from aurora_actors import FailoverError, Outcome
from aurora_actors.lab import PostgresLab
from tests.benchmarks.relay import Relay
from tests.failover.applications import Noted
from tests.failover.colours import Colour
from tests.lab.sessions import eventually

FACT_SECONDS = 30.0
QUICK = {"failure_detection_time_ms": 400, "failure_detection_interval_ms": 200}
CHUNK = b"1\n" * 100_000
"""More than a driver holds back before it looks at its socket."""
MANY = "SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) AS n"
EARLIER, INSERT = "INSERT INTO {} VALUES (0)", "INSERT INTO {} VALUES (1)"
"""What is committed before the fault, and what is at stake."""

Strike = Callable[[], object]
Work = Callable[[Any, str, Strike], object]
WORKS: dict[str, tuple[Work, bool]] = {}
"""By name: what is done, and whether under autocommit."""


def work(*autocommit: bool) -> Callable[[Work], Work]:
    def note(made: Work) -> Work:
        for each in autocommit:
            WORKS[f"{made.__name__}, {'autocommit' if each else 'implicit'}"] = (made, each)
        return made

    return note


@work(True, False)
def execute(conn: Any, t: str, strike: Strike) -> None:
    strike()
    conn.execute(INSERT.format(t))


@work(True, False)
def copy_write(conn: Any, t: str, strike: Strike) -> None:
    with conn.cursor().copy(f"COPY {t} FROM STDIN") as copying:
        copying.write(b"1\n")
        strike()
        for _ in range(100):
            copying.write(CHUNK)


@work(True, False)
def copy_write_row(conn: Any, t: str, strike: Strike) -> None:
    with conn.cursor().copy(f"COPY {t} FROM STDIN") as copying:
        copying.write_row((1,))
        strike()
        for _ in range(200_000 if isinstance(conn, psycopg.Connection) else 100):
            copying.write_row((1,))


@work(True, False)
def copy_leave(conn: Any, t: str, strike: Strike) -> None:
    with conn.cursor().copy(f"COPY {t} FROM STDIN") as copying:
        copying.write_row((1,))
        strike()


@contextmanager
def noting(told: list[FailoverError]) -> Iterator[None]:
    try:
        yield
    except FailoverError as error:
        told.append(error)
        raise


@work(True)
def copy_swallow(conn: Any, t: str, strike: Strike) -> None:
    """The application goes on writing after the error: the end of the block tells it again."""
    told: list[FailoverError] = []
    try:
        with conn.cursor().copy(f"COPY {t} FROM STDIN") as copying:
            strike()
            for _ in range(3):
                with suppress(FailoverError), noting(told):
                    for _ in range(100):
                        copying.write(CHUNK)
    finally:
        assert len(told) == 3
        assert len(set(map(id, told))) == 1


@work(True)
def copy_read(conn: Any, t: str, strike: Strike) -> None:
    with conn.cursor().copy(f"COPY ({MANY}) TO STDOUT") as copying:
        copying.read()
        strike()
        while copying.read():
            pass


@work(False)
def copy_rows(conn: Any, t: str, strike: Strike) -> None:
    conn.execute(INSERT.format(t))
    with conn.cursor().copy(f"COPY ({MANY}) TO STDOUT") as copying:
        for number, _ in enumerate(copying.rows()):
            if not number:
                strike()


@work(True)
def copy_iterate(conn: Any, t: str, strike: Strike) -> None:
    with conn.cursor().copy(f"COPY ({MANY}) TO STDOUT") as copying:
        for number, _ in enumerate(copying):
            if not number:
                strike()


@work(True, False)
def pipeline_fetch(conn: Any, t: str, strike: Strike) -> None:
    with conn.pipeline():
        conn.execute(INSERT.format(t))
        strike()
        conn.execute(INSERT.format(t))
        conn.execute("SELECT 1").fetchone()


@work(True)
def pipeline_sync(conn: Any, t: str, strike: Strike) -> None:
    with conn.pipeline() as pipeline:
        conn.execute(EARLIER.format(t))
        pipeline.sync()
        conn.execute(INSERT.format(t))
        strike()
        pipeline.sync()


@work(True, False)
def pipeline_leave(conn: Any, t: str, strike: Strike) -> None:
    with conn.pipeline():
        conn.execute(INSERT.format(t))
        strike()


@work(True)
def pipeline_block(conn: Any, t: str, strike: Strike) -> None:
    with conn.pipeline(), conn.transaction():
        conn.execute(INSERT.format(t))
        strike()
        conn.execute(INSERT.format(t)).fetchall()


@work(True, False)
def stream(conn: Any, t: str, strike: Strike) -> None:
    for number, _ in enumerate(conn.cursor().stream(MANY)):
        if not number:
            strike()


@work(True, False)
def executemany(conn: Any, t: str, strike: Strike) -> None:
    strike()
    conn.cursor().executemany(f"INSERT INTO {t} VALUES (%s)", [(1,)] * 10)


@work(True, False)
def executemany_between(conn: Any, t: str, strike: Strike) -> None:
    def given() -> Iterator[tuple[int]]:
        yield (1,)
        strike()
        yield from [(1,)] * 10

    conn.cursor().executemany(f"INSERT INTO {t} VALUES (%s)", given())


@work(True, False)
def executemany_returning(conn: Any, t: str, strike: Strike) -> None:
    strike()
    conn.cursor().executemany(f"INSERT INTO {t} VALUES (%s) RETURNING id", [(1,)] * 10, returning=True)


@work(False)
def nextset(conn: Any, t: str, strike: Strike) -> None:
    cursor = conn.execute(f"{INSERT.format(t)}; SELECT 1; SELECT 2")
    assert cursor.nextset()
    strike()
    assert cursor.nextset()  # what was received is there
    assert cursor.fetchone() == (2,)
    conn.execute("SELECT 1")


@work(False)
def server_cursor(conn: Any, t: str, strike: Strike) -> None:
    conn.execute(INSERT.format(t))
    with conn.cursor("portal") as cursor:
        cursor.execute(MANY)
        cursor.fetchone()
        strike()
        cursor.fetchmany(10)


@work(False)
def server_cursor_iterate(conn: Any, t: str, strike: Strike) -> None:
    conn.execute(INSERT.format(t))
    with conn.cursor("portal") as cursor:
        cursor.itersize = 10
        cursor.execute(MANY)
        for number, _ in cursor:
            if number == 1:
                strike()


@work(False)
def server_cursor_leave(conn: Any, t: str, strike: Strike) -> None:
    """A close that fails leaves the driver's cursor open; the next one finds nothing to close on the new session."""
    conn.execute(INSERT.format(t))
    cursor = conn.cursor("portal")
    cursor.execute(MANY)
    strike()
    try:
        cursor.close()
    finally:
        cursor.close()
        assert cursor.closed


@work(True)
def notifies(conn: Any, t: str, strike: Strike) -> None:
    conn.execute("LISTEN news")
    strike()
    for _ in conn.notifies():
        pass


@work(False)
def commit(conn: Any, t: str, strike: Strike) -> None:
    conn.execute(INSERT.format(t))
    strike()
    conn.commit()


@work(False)
def rollback(conn: Any, t: str, strike: Strike) -> None:
    conn.execute(INSERT.format(t))
    strike()
    conn.rollback()


@work(True, False)
def block_inside(conn: Any, t: str, strike: Strike) -> None:
    with conn.transaction():
        conn.execute(INSERT.format(t))
        with conn.transaction():
            conn.execute(INSERT.format(t))
            strike()
            conn.execute(INSERT.format(t))


@work(True, False)
def block_leave_inner(conn: Any, t: str, strike: Strike) -> None:
    with conn.transaction():
        conn.execute(INSERT.format(t))
        with conn.transaction("inner"):
            conn.execute(INSERT.format(t))
            strike()


@work(True, False)
def block_leave_outer(conn: Any, t: str, strike: Strike) -> None:
    with conn.transaction():
        conn.execute(INSERT.format(t))
        with conn.transaction():
            conn.execute(INSERT.format(t))
        strike()


@work(True)
def block_swallow(conn: Any, t: str, strike: Strike) -> None:
    """What the application goes on with, the end of the block included, meets the dead session."""
    with conn.transaction():
        conn.execute(INSERT.format(t))
        with suppress(FailoverError), conn.transaction():
            strike()
            conn.execute(INSERT.format(t))
        conn.execute(INSERT.format(t))


@work(True)
def block_after_implicit(conn: Any, t: str, strike: Strike) -> None:
    conn.autocommit = False
    conn.execute(INSERT.format(t))
    with conn.transaction():
        conn.execute(INSERT.format(t))
        strike()


def opened(lab: PostgresLab, colour: Colour, autocommit: bool, t: str) -> Any:
    conn = colour.connect(lab, autocommit=True, **QUICK)
    conn.execute(f"CREATE TABLE {t} (id int)")
    conn.autocommit = autocommit
    return conn


def lost(conn: Any, name: str, t: str, strike: Strike) -> str:
    """What is wrong with how the work *name* is told of the loss; empty: nothing."""
    try:
        WORKS[name][0](conn, t, strike)
    except FailoverError as error:
        raised = error
    except BaseException as error:  # noqa: BLE001 - that is what is wrong
        return f"raised {error!r}"
    else:
        return "raised nothing"
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
