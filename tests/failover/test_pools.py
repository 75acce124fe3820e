"""psycopg_pool's pools of our connections, in both colours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import psycopg_pool
import pytest

import aurora_actors.psycopg
from aurora_actors import (
    FailoverError,
    FailoverFailedError,
    FailoverSuccessError,
    TransactionResolutionUnknownError,
    signals,
)
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.failover.applications import Noted
from tests.failover.colours import Colour
from tests.lab.sessions import eventually

FACT_SECONDS = 30.0
WHO = "SELECT aurora_db_instance_identifier()"
SIZE = 4


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    system.stop(5.0)
    yield
    system.stop(5.0)


POOLS: dict[str, Any] = {"threads": psycopg_pool.ConnectionPool, "asyncio": psycopg_pool.AsyncConnectionPool}
Opened = Callable[..., Any]


@pytest.fixture
def opened(colour: Colour, aurora_lab: PostgresLab) -> Opened:
    """``opened(**options)``: a full pool to the writer, open until the block is left."""

    @contextmanager
    def opened(kind: Any = POOLS[colour.name], **options: Any) -> Iterator[Any]:
        given = {"connection_class": colour.ours, "kwargs": {"autocommit": True}, "min_size": SIZE, **options}
        pool = colour.spoken(colour.run(kind, aurora_lab.conninfo(), open=False, **given))
        with pool:
            pool.wait(FACT_SECONDS)
            yield pool

    return opened


Hooked = Callable[[str], tuple[list[int], Any]]


@pytest.fixture
def hooked(colour: Colour) -> Hooked:
    """``hooked(statement)``: a hook of a pool's that executes it, and the sessions on which it did."""

    def hooked(statement: str) -> tuple[list[int], Any]:
        sessions: list[int] = []

        def hook(conn: Any) -> Any:
            result = conn.execute(statement)
            sessions.append(conn.info.backend_pid)
            return result

        async def hook_async(conn: Any) -> None:
            await hook(conn)

        return sessions, hook if colour.name == "threads" else hook_async

    return hooked


def ask(pool: Any) -> str:
    with pool.connection() as conn:
        name: str = conn.execute(WHO).fetchone()[0]
    return name


def ask_twice(pool: Any) -> str:
    with suppress(FailoverError):
        ask(pool)
    return ask(pool)


def test_its_connections_are_ours(opened: Opened, colour: Colour) -> None:
    with opened() as pool, pool.connection() as conn:
        held = colour.plain(conn)
        assert isinstance(held, colour.ours)
        assert isinstance(held, colour.connection)
        assert conn.stale is False


def test_it_survives_a_failover(aurora_lab: PostgresLab, opened: Opened) -> None:
    with opened() as pool, ThreadPoolExecutor(SIZE) as threads:
        for _ in range(2):
            before = {conn.info.backend_pid for conn in pool._pool}
            aurora_lab.failover()
            assert set(threads.map(ask_twice, [pool] * SIZE)) == {aurora_lab.writer}
            eventually(lambda: len(pool._pool) == SIZE)
            assert before.isdisjoint(conn.info.backend_pid for conn in pool._pool)
            aurora_lab.wait_ready()


def lose_session_in_a_transaction(lab: PostgresLab, pool: Any) -> None:
    with pool.connection() as conn, conn.transaction():
        conn.execute("SELECT 1")
        lab.kill_session(lab.writer, conn.info.backend_pid)
        conn.execute("SELECT 1")


def test_a_failed_transaction_gives_its_connection_back(aurora_lab: PostgresLab, opened: Opened) -> None:
    with opened(min_size=1, max_size=1) as pool:
        with pytest.raises(TransactionResolutionUnknownError):
            lose_session_in_a_transaction(aurora_lab, pool)
        assert ask(pool) == aurora_lab.writer
        assert pool.get_stats()["connections_num"] == 1


def test_idle_connections_move_without_an_error(aurora_lab: PostgresLab, opened: Opened, colour: Colour) -> None:
    with opened() as pool, colour.connect(aurora_lab, autocommit=True) as used:
        aurora_lab.failover()
        with suppress(FailoverError):
            used.execute(WHO)
        assert all(conn.stale for conn in pool._pool)
        assert {ask(pool) for _ in range(SIZE)} == {aurora_lab.writer}
        assert pool.get_stats()["connections_num"] == SIZE


def test_a_check_moves_what_is_stale(
    aurora_lab: PostgresLab, opened: Opened, colour: Colour, hooked: Hooked
) -> None:
    _, configure = hooked("SET work_mem = '7MB'")
    with opened(check=colour.ours.check, configure=configure) as pool, colour.connect(aurora_lab, autocommit=True) as used:
        aurora_lab.failover()
        with suppress(FailoverError):
            used.execute(WHO)
        for _ in range(SIZE):
            with pool.connection() as conn:
                assert not conn.stale
                assert conn.execute(WHO).fetchone() == (aurora_lab.writer,)
        assert pool.get_stats()["connections_num"] == SIZE


def test_the_pool_s_own_check(aurora_lab: PostgresLab, opened: Opened, colour: Colour) -> None:
    with opened(check=POOLS[colour.name].check_connection) as pool:
        aurora_lab.failover()
        assert ask(pool) == aurora_lab.writer


class GivenBack(aurora_actors.psycopg.Connection[Any]):
    """A close that gives back, as applications had to write it before psycopg 3.3."""

    def close(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is not None:
            pool.putconn(self)
        else:
            super().close()


class GivenBackByTasks(aurora_actors.psycopg.AsyncConnection[Any]):
    async def close(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is not None:
            await pool.putconn(self)
        else:
            await super().close()


OWN = {"threads": GivenBack, "asyncio": GivenBackByTasks}


@pytest.mark.parametrize("own", [False, True])
def test_close_gives_a_connection_back(aurora_lab: PostgresLab, opened: Opened, colour: Colour, *, own: bool) -> None:
    closed: list[Any] = []
    gives_back: dict[str, Any] = {"connection_class": OWN[colour.name]} if own else {"close_returns": True}

    def note(_: object, event: Any) -> None:
        closed.append(event)

    signals.connection_closed.connect(note)
    with opened(min_size=1, max_size=1, **gives_back) as pool:
        conn = pool.getconn()
        pid = conn.info.backend_pid
        conn.close()
        conn = pool.getconn()
        assert conn.info.backend_pid == pid
        assert signals.settle(FACT_SECONDS)
        assert closed == []
        aurora_lab.kill_session(aurora_lab.writer, pid)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        conn.close()
        assert ask(pool) == aurora_lab.writer
    assert signals.settle(FACT_SECONDS)
    assert len(closed) == 1
    signals.connection_closed.disconnect(note)


NULL_POOLS: dict[str, Any] = {"threads": psycopg_pool.NullConnectionPool, "asyncio": psycopg_pool.AsyncNullConnectionPool}


@pytest.mark.parametrize("check", ["none", "ours", "its own"])
def test_a_pool_that_keeps_nothing_shows_no_error(
    aurora_lab: PostgresLab, opened: Opened, colour: Colour, check: str
) -> None:
    kind = NULL_POOLS[colour.name]
    checks = {"none": None, "ours": colour.ours.check, "its own": kind.check_connection}
    with opened(kind, min_size=0, max_size=2, check=checks[check]) as pool:
        assert ask(pool) == aurora_lab.writer
        aurora_lab.failover()
        assert [ask(pool) for _ in range(2)] == [aurora_lab.writer] * 2


def test_a_pool_s_reset_meets_the_connection_wherever_it_is(
    aurora_lab: PostgresLab, opened: Opened, colour: Colour, hooked: Hooked
) -> None:
    configured, configure = hooked("SET app.tenant = 'nobody'")
    resets, reset = hooked("SET app.tenant = 'nobody'")
    with opened(min_size=1, max_size=1, configure=configure, reset=reset) as pool:
        for _ in range(2):
            with pool.connection() as conn:
                assert conn.execute("SHOW app.tenant").fetchone() == ("nobody",)
                conn.execute("SET app.tenant = 'me'")
                aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
                with pytest.raises(FailoverSuccessError):
                    conn.execute("SELECT 1")
                assert conn.execute("SHOW app.tenant").fetchone() == ("me",)
        assert ask(pool) == aurora_lab.writer
        # A pool that is closed meanwhile does not close what a worker of its own is about to give back.
        eventually(lambda: len(pool._pool) == 1)
    assert (len(configured), len(set(resets))) == (1, 2)


def test_a_connection_whose_time_is_over_is_replaced_wherever_it_is(
    aurora_lab: PostgresLab, opened: Opened, signals_noted: Noted
) -> None:
    with opened(min_size=1, max_size=1, max_lifetime=0.001) as pool:
        for number in (1, 2):
            with pool.connection() as conn:
                aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
                with pytest.raises(FailoverSuccessError):
                    conn.execute("SELECT 1")
                pid = conn.info.backend_pid
            with pool.connection() as conn:
                assert conn.info.backend_pid != pid
            signals_noted.wait_for("connection_closed", number)


def test_a_pool_that_cannot_reconnect_tells_so_and_does_later(
    aurora_lab: PostgresLab, opened: Opened, colour: Colour
) -> None:
    told = threading.Event()
    given = {"autocommit": True, "failover_timeout_sec": 0.5}
    options: dict[str, Any] = {"reconnect_timeout": 0.1, "reconnect_failed": lambda _: told.set()}
    with opened(min_size=1, max_size=1, kwargs=given, **options) as pool:
        for host in aurora_lab.hosts:
            aurora_lab.crash(host)
        with pytest.raises(FailoverFailedError):
            ask(pool)
        assert told.wait(FACT_SECONDS)
        for host in aurora_lab.hosts:
            aurora_lab.restart(host)
        aurora_lab.wait_ready()
        pool.check()
        assert ask(pool) == aurora_lab.writer


def test_a_pool_that_is_closed_leaves_no_cluster(opened: Opened) -> None:
    with opened(kwargs={"monitor_disposal_time_ms": 1}):
        assert len(system.clusters) == 1
    eventually(lambda: system.clusters == ())
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("aurora_actors-topology")])
