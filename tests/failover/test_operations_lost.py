"""A connection lost under each thing that an application can do with it: one error, ours, and the connection works on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from aurora_actors import FailoverSuccessError, Outcome, TransactionResolutionUnknownError
from aurora_actors.lab import PostgresLab
from tests.failover.applications import Noted, connect, kill_own_session

MANY = "SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) AS n"
FEW = "SELECT n FROM generate_series(1, 3) AS n"
Operation = Callable[[Any], object]


def copy_in(conn: Any) -> None:
    with conn.cursor().copy("COPY t FROM STDIN") as copying:
        copying.write_row((1,))


def copy_out(conn: Any) -> None:
    with conn.cursor().copy(f"COPY ({MANY}) TO STDOUT") as copying:
        for _ in copying.rows():
            pass


def in_pipeline(conn: Any) -> None:
    with conn.pipeline():
        conn.execute("INSERT INTO t VALUES (1)")
        conn.execute(FEW).fetchall()


def in_block(conn: Any) -> None:
    with conn.transaction():
        conn.execute("INSERT INTO t VALUES (1)")


def on_server(conn: Any) -> None:
    with conn.cursor("portal", withhold=True) as cursor:
        cursor.execute(FEW)


OPERATIONS: dict[str, Operation] = {
    "execute": lambda conn: conn.execute("INSERT INTO t VALUES (1)"),
    "execute with parameters": lambda conn: conn.execute("INSERT INTO t VALUES (%s)", (1,)),
    "execute in binary": lambda conn: conn.cursor(binary=True).execute(FEW),
    "several statements": lambda conn: conn.execute("INSERT INTO t VALUES (1); SELECT 2"),
    "executemany": lambda conn: conn.cursor().executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)]),
    "executemany returning": lambda conn: conn.cursor().executemany(
        "INSERT INTO t VALUES (%s) RETURNING id", [(1,), (2,)], returning=True
    ),
    "a server-side cursor": on_server,
    "stream": lambda conn: list(conn.cursor().stream(FEW)),
    "COPY in": copy_in,
    "COPY out": copy_out,
    "a pipeline": in_pipeline,
    "a transaction block": in_block,
    "a type look-up": lambda conn: psycopg.types.TypeInfo.fetch(conn, "text"),
    "a client-side cursor": lambda conn: psycopg.ClientCursor(conn).execute("SELECT %s", (1,)),
    "a raw cursor": lambda conn: psycopg.RawCursor(conn).execute("SELECT $1::int", (1,)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_outside_a_transaction(aurora_lab: PostgresLab, name: str, signals_noted: Noted) -> None:
    with connect(aurora_lab) as conn:
        conn.execute("CREATE TABLE t (id int)")
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError) as caught:
            OPERATIONS[name](conn)
        assert isinstance(caught.value.__cause__, psycopg.OperationalError)
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (0,)
        OPERATIONS[name](conn)
    assert len(signals_noted.of("connection_switched")) == 1


INSIDE: dict[str, tuple[Operation, Outcome]] = {
    "execute": (lambda conn: conn.execute(FEW), Outcome.ROLLED_BACK),
    "executemany": (
        lambda conn: conn.cursor().executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)]),
        Outcome.ROLLED_BACK,
    ),
    "stream": (lambda conn: list(conn.cursor().stream(FEW)), Outcome.ROLLED_BACK),
    "commit": (lambda conn: conn.commit(), Outcome.UNKNOWN),
    "rollback": (lambda conn: conn.rollback(), Outcome.ROLLED_BACK),
    "a commit in a statement": (lambda conn: conn.execute("INSERT INTO t VALUES (2); COMMIT"), Outcome.UNKNOWN),
    "a savepoint": (in_block, Outcome.ROLLED_BACK),
}


@pytest.mark.parametrize("name", INSIDE)
def test_inside_a_transaction(aurora_lab: PostgresLab, name: str) -> None:
    operation, outcome = INSIDE[name]
    with connect(aurora_lab, autocommit=False) as conn:
        conn.execute("CREATE TABLE t (id int)")
        conn.commit()
        conn.execute("INSERT INTO t VALUES (0)")
        kill_own_session(aurora_lab, conn)
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            operation(conn)
        assert caught.value.outcome is outcome
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (0,)


FETCHES: dict[str, Operation] = {
    "fetchone": lambda cursor: cursor.fetchone(),
    "fetchmany": lambda cursor: cursor.fetchmany(10),
    "fetchall": lambda cursor: cursor.fetchall(),
    "iteration": list,
    "scroll": lambda cursor: cursor.scroll(5),
}


@pytest.mark.parametrize("name", FETCHES)
def test_rows_of_a_server_side_cursor_are_lost_with_it(aurora_lab: PostgresLab, name: str) -> None:
    """No fetch goes on silently on the new session, where another cursor of that name might be."""
    with connect(aurora_lab, autocommit=False) as conn:
        with conn.cursor("portal") as cursor:
            cursor.itersize = 10
            cursor.execute(MANY)
            assert cursor.fetchone()[0] == 1
            assert aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
            with pytest.raises(TransactionResolutionUnknownError) as first:
                FETCHES[name](cursor)
            with pytest.raises(TransactionResolutionUnknownError) as second:
                cursor.fetchone()
            assert second.value is first.value
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_iteration_over_a_server_side_cursor_breaks_in_its_middle(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, autocommit=False) as conn, conn.cursor("portal") as cursor:
        cursor.itersize = 10
        cursor.execute(MANY)
        seen: list[int] = []

        def read() -> None:
            for number, _ in cursor:
                seen.append(number)
                if number == 10:
                    assert aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)

        with pytest.raises(TransactionResolutionUnknownError):
            read()
        assert seen == list(range(1, 11))


def test_stream_breaks_in_its_middle(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as conn:
        seen: list[int] = []

        def read() -> None:
            for number, _ in conn.cursor().stream(MANY):
                if not seen:
                    assert aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
                seen.append(number)

        with pytest.raises(FailoverSuccessError):
            read()
        assert seen == list(range(1, len(seen) + 1))
        assert len(seen) < 20000
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_results_in_client_memory_outlive_the_loss(aurora_lab: PostgresLab) -> None:
    """fetch and nextset need no network: the driver's own code reads what is here already."""
    with connect(aurora_lab) as conn:
        several = conn.execute(f"{FEW}; SELECT 'second'")
        many = conn.cursor()
        many.executemany("SELECT %s::int", [(1,), (2,)], returning=True)
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert several.fetchall() == [(1,), (2,), (3,)]
        assert several.nextset()
        assert several.fetchall() == [("second",)]
        assert many.fetchall() == [(1,)]
        assert many.nextset()
        assert many.fetchone() == (2,)
        assert not many.nextset()


def test_what_the_application_raised_goes_before_the_loss_of_its_rollback(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, autocommit=False) as conn:
        conn.execute("CREATE TABLE t (id int)")
        conn.commit()

        def fail() -> None:
            with conn.transaction():
                conn.execute("INSERT INTO t VALUES (1)")
                assert aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
                raise LookupError("the application's own")

        with pytest.raises(LookupError, match="the application's own"):
            fail()
        # psycopg dropped the loss with the rollback; the next statement meets it, of which nothing was sent.
        with pytest.raises(FailoverSuccessError) as caught:
            conn.execute("SELECT 1")
        assert caught.value.outcome is Outcome.NOT_SENT
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_the_beginning_of_a_two_phase_commit(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, autocommit=False) as conn:
        conn.execute("SELECT 1")
        conn.rollback()
        aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
        with pytest.raises(FailoverSuccessError) as caught:
            conn.tpc_begin(conn.xid(1, "a", "b"))
        assert caught.value.outcome is Outcome.ROLLED_BACK
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_nothing_was_sent_when_only_a_setting_of_the_driver_was_changed(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as conn:
        kill_own_session(aurora_lab, conn)
        conn.autocommit = False
        with pytest.raises((FailoverSuccessError, TransactionResolutionUnknownError)):
            conn.execute("SELECT 1")
        assert not conn.autocommit
        assert conn.execute("SELECT 1").fetchone() == (1,)
