"""What passes through as the driver made it, and what a connection leaves behind that nobody closed."""

from __future__ import annotations

import gc
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import waiting

from aurora_actors import FailoverError, FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.failover.applications import connect, kill_own_session
from tests.failover.colours import Colour
from tests.lab.sessions import eventually

FACT_SECONDS = 30.0
BAD = "SELECT 1/(n - 3) FROM generate_series(1, 5) AS n"


def copy_in(conn: Any) -> None:
    with conn.cursor().copy("COPY once FROM STDIN") as copying:
        copying.write(b"1\n1\n")


def copy_out(conn: Any) -> None:
    with conn.cursor().copy(f"COPY ({BAD}) TO STDOUT") as copying:
        list(copying.rows())


def pipeline(conn: Any) -> None:
    with conn.pipeline():
        conn.execute(BAD).fetchall()


def block(conn: Any) -> None:
    with conn.transaction(), conn.transaction():
        conn.execute(BAD)


def end_of_block(conn: Any) -> None:
    with conn.transaction():
        conn.execute("INSERT INTO once VALUES (1), (1)")


def on_server(conn: Any) -> None:
    with conn.transaction(), conn.cursor("portal") as cursor:
        cursor.execute(BAD)
        cursor.fetchall()


def commit(conn: Any) -> None:
    conn.execute("BEGIN")
    conn.execute("INSERT INTO once VALUES (1), (1)")
    conn.commit()


ERRORS: dict[str, Callable[[Any], object]] = {
    "execute": lambda conn: conn.execute(BAD),
    "executemany": lambda conn: conn.cursor().executemany("SELECT 1/%s::int", [(1,), (0,)]),
    "executemany returning": lambda conn: conn.cursor().executemany("SELECT 1/%s::int", [(1,), (0,)], returning=True),
    "stream": lambda conn: list(conn.cursor().stream(BAD)),
    "COPY in": copy_in,
    "COPY out": copy_out,
    "a pipeline": pipeline,
    "a block": block,
    "the end of a block": end_of_block,
    "a server-side cursor": on_server,
    "commit": commit,
}


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch, colour: Colour) -> list[BaseException]:
    """The errors that come out of the driver's own wait."""
    found: list[BaseException] = []
    waits = waiting.wait, waiting.wait_async

    def wait(*args: Any, **kwargs: Any) -> Any:
        try:
            return waits[0](*args, **kwargs)
        except psycopg.Error as error:
            found.append(error)
            raise

    async def wait_async(*args: Any, **kwargs: Any) -> Any:
        try:
            return await waits[1](*args, **kwargs)
        except psycopg.Error as error:
            found.append(error)
            raise

    monkeypatch.setattr(waiting, "wait", wait)
    monkeypatch.setattr(waiting, "wait_async", wait_async)
    return found


def test_an_error_that_is_no_loss_is_the_object_that_the_driver_raised(
    aurora_lab: PostgresLab, colour: Colour, noted: list[BaseException]
) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        conn.execute("CREATE TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        for switched in (False, True):
            if switched:
                aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
                with pytest.raises(FailoverSuccessError):
                    conn.execute("SELECT 1")
            for name, work in ERRORS.items():
                noted.clear()
                with pytest.raises(psycopg.Error) as caught:
                    work(conn)
                error = caught.value
                assert any(each is error for each in noted), name
                assert type(error).__module__ == "psycopg.errors", name
                assert error.sqlstate == error.diag.sqlstate in ("22012", "23505"), name
                assert (error.__cause__, getattr(error, "__notes__", None)) == (None, None), name
                assert (error.pgconn is None) == (error.pgresult is None) or error.pgresult is not None, name
                assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE, name


def descriptors(inode: int) -> int:
    """How many descriptors of this process lead to a socket."""
    found = 0
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += path.stat().st_ino == inode
    return found


@pytest.fixture
def collected() -> Iterator[None]:
    """What others left is not found here, and the collector does not help."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("switched", [False, True])
def test_one_that_is_dropped_is_warned_of_once_and_leaves_nothing(
    aurora_lab: PostgresLab, collected: None, switched: bool
) -> None:
    with connect(aurora_lab) as other:
        conn = connect(aurora_lab)
        if switched:
            kill_own_session(aurora_lab, conn)
            with pytest.raises(FailoverSuccessError):
                conn.execute("SELECT 1")
        session, shown, inode = conn.info.backend_pid, repr(conn), os.fstat(conn.fileno()).st_ino
        assert descriptors(inode) == 2  # the driver's, and the monitor's
        assert "pwd" not in shown
        gone = weakref.ref(conn), weakref.ref(conn.cursor())
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            del conn
            if switched:
                gc.collect()  # an error that was raised holds its frames
        assert [(each.category, "psycopg.Connection object" in str(each.message)) for each in told] == [
            (ResourceWarning, True)
        ]
        assert [each() for each in gone] == [None, None]
        (cluster,) = system.clusters
        assert cluster.leases == 1
        look = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {session}"
        eventually(lambda: other.execute(look).fetchone() == (0,))
        assert descriptors(inode) == 0


def test_who_waits_for_a_connection_goes_on_when_another_brought_it_back(aurora_lab: PostgresLab, colour: Colour) -> None:
    """Two threads, or tasks: one is in a call that is lost, the other's was not sent, and is on the new session."""
    with colour.connect(aurora_lab, autocommit=True) as conn, ThreadPoolExecutor(2) as pool:
        conn.execute("CREATE TABLE t (id int)")
        held = colour.plain(conn)
        session = conn.info.backend_pid
        lost = pool.submit(conn.execute, "SELECT pg_sleep(3600)")
        eventually(lambda: bool(held.lock.locked()))
        waiting = pool.submit(lambda: conn.execute("INSERT INTO t VALUES (1) RETURNING id").fetchone())
        assert aurora_lab.kill_session(aurora_lab.writer, session)
        with pytest.raises(FailoverSuccessError):
            lost.result(FACT_SECONDS)
        assert waiting.result(FACT_SECONDS) == (1,)
        both = [pool.submit(conn.execute, "INSERT INTO t VALUES (2)") for _ in range(2)]
        assert [each.exception(FACT_SECONDS) for each in both] == [None, None]
        assert conn.execute("SELECT id FROM t ORDER BY id").fetchall() == [(1,), (2,), (2,)]


def test_two_work_through_a_failover_and_lose_nothing(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn, ThreadPoolExecutor(2) as pool:
        conn.execute("CREATE TABLE t (id int PRIMARY KEY)")
        ready, enough = threading.Barrier(3), threading.Event()

        def insert(first: int) -> tuple[set[int], set[int]]:
            acknowledged, unknown, number = set(), set(), first
            while not enough.is_set():
                number += 2
                try:
                    conn.execute(f"INSERT INTO t VALUES ({number})")
                except FailoverError:
                    unknown.add(number)
                else:
                    acknowledged.add(number)
                if number == first + 20:
                    ready.wait(FACT_SECONDS)
            return acknowledged, unknown

        ends = [pool.submit(insert, first) for first in (0, 1)]
        try:
            ready.wait(FACT_SECONDS)
            aurora_lab.failover(how="crash")
            with suppress(FailoverError):
                conn.execute("SELECT 1")
        finally:
            enough.set()
        results = [end.result(FACT_SECONDS) for end in ends]
        held = {row[0] for row in conn.execute("SELECT id FROM t").fetchall()}
        for acknowledged, _ in results:
            assert acknowledged - held == set()
        assert sum(len(unknown) for _, unknown in results) <= 1
