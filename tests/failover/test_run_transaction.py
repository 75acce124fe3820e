"""A unit of work is done again as a whole, exactly when it is known not to have been committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest

import aurora_actors
import aurora_actors.aio
from aurora_actors import DeadlineExceededError, FailoverError, Outcome, ProgrammingError
from aurora_actors.lab import MysqlLab, PostgresLab
from aurora_actors.model.repeating import repeats
from tests.failover.colours import ONE_COLOUR, Colour
from tests.failover.mysql_faces import Face, done, in_every_face, query
from tests.failover.mysql_faces import kill_own_session as kill_own_mysql_session


@pytest.mark.parametrize(("outcome", "sqlstate", "number", "again"), [
    (Outcome.NOT_SENT, "08S02", None, True), (Outcome.ROLLED_BACK, "08007", None, True),
    (Outcome.UNKNOWN, "40001", 1213, False), (None, "40001", None, True), (None, "40P01", None, True),
    (None, "HY000", 1205, True), (None, "40000", 1213, True), (None, "23505", 1062, False), (None, None, None, False),
])  # fmt: skip
def test_what_is_known_decides(outcome: Outcome | None, sqlstate: str | None, number: int | None, again: bool) -> None:
    assert repeats(outcome, sqlstate, number) is again


@pytest.fixture
def runs(colour: Colour) -> Callable[..., Any]:
    """``run_transaction`` of the colour, for a unit of work that is written for asyncio."""

    def run(source: Any, work: Callable[[Any], Any], **limits: Any) -> Any:
        if colour.name == "threads":
            return aurora_actors.run_transaction(source, lambda unit: asyncio.run(work(unit)), **limits)
        return colour.run(aurora_actors.aio.run_transaction, source, work, **limits)

    return run


@pytest.fixture
def table(aurora_lab: PostgresLab) -> str:
    with psycopg.connect(aurora_lab.conninfo(aurora_lab.writer, **_at(aurora_lab)), autocommit=True) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS units (id int)")
        conn.execute("TRUNCATE units")
    return "units"


def _at(lab: PostgresLab) -> dict[str, Any]:
    address, port = lab.address(lab.writer)
    return {"hostaddr": address, "port": port}


def test_a_transaction_that_lost_its_connection_is_done_again_once(
    aurora_lab: PostgresLab, colour: Colour, runs: Callable[..., Any], table: str
) -> None:
    tries: list[int] = []
    with colour.connect(aurora_lab) as conn:

        async def work(unit: Any) -> str:
            tries.append(unit.info.backend_pid)
            await done(unit.execute(f"INSERT INTO {table} VALUES (1)"))
            if len(tries) == 1:
                assert aurora_lab.kill_session(aurora_lab.writer, unit.info.backend_pid)
                await done(unit.execute(f"INSERT INTO {table} VALUES (2)"))
            return "done"

        assert runs(colour.plain(conn), work) == "done"
        assert len(tries) == 2
        assert tries[0] != tries[1]
        assert conn.execute(f"SELECT id FROM {table}").fetchall() == [(1,)]


@pytest.mark.parametrize(("raised", "tries"), [
    (psycopg.errors.SerializationFailure("x"), 3), (psycopg.errors.DeadlockDetected("x"), 3),
    (psycopg.errors.UniqueViolation("x"), 1), (FailoverError("x", outcome=Outcome.UNKNOWN), 1), (KeyError("x"), 1),
])  # fmt: skip
def test_the_error_itself_goes_on_in_the_end(
    aurora_lab: PostgresLab, colour: Colour, runs: Callable[..., Any], table: str, raised: Exception, tries: int
) -> None:
    found: list[Any] = []
    with colour.connect(aurora_lab) as conn:

        async def work(unit: Any) -> None:
            found.append(unit)
            await done(unit.execute(f"INSERT INTO {table} VALUES (1)"))
            raise raised

        with pytest.raises(type(raised)) as caught:
            runs(colour.plain(conn), work, attempts=3)
        assert caught.value is raised
        assert len(found) == tries
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


@ONE_COLOUR
def test_a_pool_gives_each_try_a_connection(aurora_lab: PostgresLab, colour: Colour, table: str) -> None:
    from psycopg_pool import ConnectionPool

    import aurora_actors.psycopg

    tries: list[Any] = []

    def work(unit: Any) -> int:
        tries.append(unit)
        unit.execute(f"INSERT INTO {table} VALUES (1)")
        if len(tries) == 1:
            raise psycopg.errors.SerializationFailure("once")
        return len(tries)

    with ConnectionPool(
        aurora_lab.conninfo("writer"), min_size=1, max_size=1, connection_class=aurora_actors.psycopg.Connection
    ) as pool:
        for source in (pool, pool.connection):
            tries.clear()
            assert aurora_actors.run_transaction(source, work) == 2
        with pool.connection() as conn:
            assert conn.execute("SELECT count(*) FROM units").fetchone() == (2,)


@ONE_COLOUR
def test_an_open_transaction_and_no_source_are_refused(
    aurora_lab: PostgresLab, colour: Colour, runs: Callable[..., Any]
) -> None:
    with colour.connect(aurora_lab) as conn:
        conn.execute("SELECT 1")
        with pytest.raises(ProgrammingError, match="no transaction open"):
            runs(conn, lambda _: None)
    with pytest.raises(aurora_actors.ConfigurationError, match="takes a connection, a pool"):
        runs(5, lambda _: None)


def test_the_deadline_ends_it(aurora_lab: PostgresLab, colour: Colour, runs: Callable[..., Any]) -> None:
    with colour.connect(aurora_lab) as conn:

        async def slow(unit: Any) -> None:
            await done(unit.execute("SELECT pg_sleep(30)"))

        async def failing(_: Any) -> None:
            raise psycopg.errors.SerializationFailure("again and again")

        with pytest.raises(DeadlineExceededError):
            runs(colour.plain(conn), slow, seconds=0.1)
        with pytest.raises(psycopg.errors.SerializationFailure) as caught:
            runs(colour.plain(conn), failing, attempts=1000, seconds=0.2)
        assert "s were left" in caught.value.__notes__[0]


@in_every_face
async def test_mysql_is_done_again_once(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        await query(conn, "CREATE TABLE IF NOT EXISTS units (id int)")
        await query(conn, "TRUNCATE units")
        tries: list[int] = []

        def lost(number: int) -> bool:
            tries.append(number)
            return len(tries) == 1

        if face.is_async:

            async def work(unit: Any) -> None:
                await query(unit, "INSERT INTO units VALUES (1)")
                if lost(unit.connection_id):
                    await kill_own_mysql_session(aurora_mysql_lab, unit)
                    await query(unit, "INSERT INTO units VALUES (2)")

            await aurora_actors.aio.run_transaction(conn, work)
        else:

            def execute(unit: Any, statement: str) -> None:
                cursor = unit.cursor()
                cursor.execute(statement)
                cursor.close()

            def work_in_threads(unit: Any) -> None:
                execute(unit, "INSERT INTO units VALUES (1)")
                if lost(unit.connection_id):
                    assert aurora_mysql_lab.kill_session(aurora_mysql_lab.writer, unit.connection_id)
                    execute(unit, "INSERT INTO units VALUES (2)")

            aurora_actors.run_transaction(conn, work_in_threads)
        assert len(tries) == 2
        assert tries[0] != tries[1]
        assert await query(conn, "SELECT id FROM units") == [(1,)]


def test_a_transaction_itself_may_be_the_source() -> None:
    from contextlib import contextmanager

    ends: list[str] = []

    @contextmanager
    def atomic(name: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            ends.append(f"{name} rolled back")
            raise
        ends.append(f"{name} committed")

    def work() -> str:
        if not ends:
            raise psycopg.errors.DeadlockDetected("once")
        return "done"

    assert aurora_actors.run_transaction(partial(atomic, "a"), work) == "done"
    assert ends == ["a rolled back", "a committed"]
