"""What the application holds is psycopg's own connection, in both colours, before and after it went elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import rows, sql
from psycopg.types import TypeInfo

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.failover.colours import EVERY_LOOP, Colour


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    yield
    system.stop(5.0)


def lose_session(lab: PostgresLab, conn: Any) -> None:
    lab.kill_session(lab.writer, conn.info.backend_pid)
    with pytest.raises(FailoverSuccessError):
        conn.execute("SELECT 1")


@pytest.fixture(params=["fresh", "switched"])
def conn(request: pytest.FixtureRequest, aurora_lab: PostgresLab, colour: Colour) -> Iterator[Any]:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        conn.execute("CREATE TABLE t (id int)")
        if request.param == "switched":
            lose_session(aurora_lab, conn)
        yield conn


@pytest.fixture
def ids(conn: Any) -> Callable[[], list[int]]:
    return lambda: [row[0] for row in conn.execute("SELECT id FROM t ORDER BY id").fetchall()]


class Mine(psycopg.Connection[Any]):
    def greet(self) -> str:
        return f"hello from {type(self).__name__}"


class MineOfTasks(psycopg.AsyncConnection[Any]):
    greet = Mine.greet


OWN: dict[str, Any] = {"threads": Mine, "asyncio": MineOfTasks, "uvloop": MineOfTasks}


@EVERY_LOOP
def test_a_url_alone_picks_the_driver(aurora_lab: PostgresLab, colour: Colour) -> None:
    url = f"postgresql://john:pwd@{aurora_lab.writer_endpoint}/db"
    with colour.spoken(colour.run(colour.face, url, autocommit=True)) as conn:
        assert isinstance(colour.plain(conn), colour.connection)
        assert conn.execute("SELECT aurora_db_instance_identifier()").fetchone() == (aurora_lab.writer,)


def test_a_class_derived_from_the_driver_s_keeps_what_it_has(aurora_lab: PostgresLab, colour: Colour) -> None:
    own = OWN[colour.name]
    with colour.open(aurora_lab.conninfo(), own.connect, autocommit=True) as conn:
        lose_session(aurora_lab, conn)
        held = colour.plain(conn)
        assert isinstance(held, own)
        assert held.greet() == f"hello from {own.__name__}"
        assert type(held).__qualname__ == own.__qualname__


def test_a_connect_that_is_no_method_of_a_class_will_do(aurora_lab: PostgresLab, colour: Colour) -> None:
    def connect(*arguments: Any, **parameters: Any) -> Any:
        return colour.connection.connect(*arguments, **parameters)

    with colour.open(aurora_lab.conninfo(), connect, autocommit=True) as conn:
        lose_session(aurora_lab, conn)
        assert isinstance(colour.plain(conn), colour.connection)


def test_our_own_classes_may_be_derived_from(aurora_lab: PostgresLab, colour: Colour) -> None:
    own: Any = type("Own", (colour.ours,), {})
    with colour.spoken(colour.run(own.connect, aurora_lab.conninfo(), autocommit=True)) as conn:
        lose_session(aurora_lab, conn)
        assert isinstance(colour.plain(conn), own)
        assert conn.stale is False


def test_cursors(conn: Any) -> None:
    with conn.cursor() as cursor:
        cursor.execute("SELECT n FROM generate_series(1, 9) AS n")
        assert cursor.fetchone() == (1,)
        assert cursor.fetchmany(2) == [(2,), (3,)]
        assert [row[0] for row in cursor] == [4, 5, 6, 7, 8, 9]
        cursor.scroll(0, mode="absolute")
        assert len(cursor.fetchall()) == 9
        assert (cursor.rowcount, cursor.statusmessage) == (9, "SELECT 9")
    assert cursor.closed


def test_executemany_returns_what_it_is_asked_for(conn: Any, ids: Callable[[], list[int]]) -> None:
    cursor = conn.cursor()
    cursor.executemany("INSERT INTO t VALUES (%s) RETURNING id", [(1,), (2,)], returning=True)
    assert cursor.fetchone() == (1,)
    assert cursor.nextset()
    assert cursor.fetchone() == (2,)
    assert ids() == [1, 2]


def test_streams(conn: Any) -> None:
    statement = "SELECT n FROM generate_series(1, 3) AS n"
    assert [row[0] for row in conn.cursor().stream(statement)] == [1, 2, 3]


def test_copies_in_and_out(conn: Any) -> None:
    cursor = conn.cursor()
    with cursor.copy("COPY t FROM STDIN") as copying:
        for number in range(5):
            copying.write_row((number,))
    with cursor.copy("COPY t TO STDOUT") as copying:
        copying.set_types(["int4"])
        assert [row[0] for row in copying.rows()] == [0, 1, 2, 3, 4]
    with cursor.copy("COPY t TO STDOUT") as copying:
        assert b"".join(map(bytes, copying)) == b"0\n1\n2\n3\n4\n"


def test_pipelines(conn: Any, ids: Callable[[], list[int]]) -> None:
    with conn.pipeline() as pipeline:
        conn.execute("INSERT INTO t VALUES (1)")
        first = conn.execute("SELECT 7")
        pipeline.sync()
        with conn.transaction():
            conn.execute("INSERT INTO t VALUES (2)")
        assert first.fetchone() == (7,)
    assert ids() == [1, 2]


def test_transactions_nest(conn: Any, ids: Callable[[], list[int]]) -> None:
    def refused(number: int, *, nested: bool) -> None:
        with conn.transaction():
            conn.execute("INSERT INTO t VALUES (%s)", (number,))
            if nested:
                with suppress(ZeroDivisionError):
                    refused(number + 1, nested=False)
                return
            raise ZeroDivisionError

    with conn.transaction() as outer:
        assert outer.status == outer.Status.ACTIVE
        refused(1, nested=True)
        with conn.transaction(force_rollback=True):
            conn.execute("INSERT INTO t VALUES (3)")
    assert ids() == [1]
    with pytest.raises(ZeroDivisionError):
        refused(4, nested=False)
    assert ids() == [1]


def insert_and_fail(conn: Any) -> None:
    conn.execute("INSERT INTO t VALUES (1)")
    raise ZeroDivisionError


def test_leaving_the_connection_commits_and_an_error_rolls_back(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab) as conn:
        conn.execute("CREATE TABLE t (id int)")
    conn = colour.connect(aurora_lab)
    with pytest.raises(ZeroDivisionError), conn:
        insert_and_fail(conn)
    assert conn.closed
    with colour.raw(f"{aurora_lab.conninfo()} hostaddr={aurora_lab.address(aurora_lab.writer)[0]}") as conn:
        assert conn.execute("SELECT * FROM t").fetchall() == []


def test_cursors_on_the_server(conn: Any) -> None:
    with conn.transaction(), conn.cursor("big", scrollable=True) as cursor:
        cursor.itersize = 2
        cursor.execute("SELECT n FROM generate_series(1, 5) AS n")
        assert [row[0] for row in cursor] == [1, 2, 3, 4, 5]
        cursor.scroll(0, mode="absolute")
        assert cursor.fetchmany(2) == [(1,), (2,)]
    with conn.cursor("kept", withhold=True) as cursor:
        cursor.execute("SELECT n FROM generate_series(1, 5) AS n")
        assert cursor.fetchall() == [(1,), (2,), (3,), (4,), (5,)]


def test_a_cursor_on_a_server_that_is_lost_says_so_and_closes_quietly(aurora_lab: PostgresLab, conn: Any) -> None:
    with conn.cursor("kept", withhold=True) as cursor:
        cursor.execute("SELECT n FROM generate_series(1, 5) AS n")
        assert cursor.fetchone() == (1,)
        lose_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError):
            cursor.fetchone()
    with conn.cursor("kept", withhold=True) as cursor:
        cursor.execute("SELECT 7")
        assert cursor.fetchall() == [(7,)]


def test_notifications(conn: Any) -> None:
    conn.execute("LISTEN news")
    conn.execute("NOTIFY news, 'first'")
    assert [notice.payload for notice in conn.notifies(timeout=30.0, stop_after=1)] == ["first"]


def test_row_and_cursor_factories(conn: Any, colour: Colour) -> None:
    conn.row_factory = rows.dict_row
    assert conn.execute("SELECT 1 AS one").fetchone() == {"one": 1}
    assert conn.cursor(row_factory=rows.scalar_row).execute("SELECT 2").fetchone() == 2
    conn.cursor_factory = psycopg.ClientCursor if colour.name == "threads" else psycopg.AsyncClientCursor
    assert conn.execute("SELECT %s::int AS n", (3,)).fetchone() == {"n": 3}
    assert type(colour.plain(conn.cursor())) is conn.cursor_factory


def test_composed_statements_prepared_statements_and_types(conn: Any, colour: Colour) -> None:
    composed = sql.SQL("SELECT {}").format(sql.Literal("it's"))
    assert conn.execute(composed).fetchone() == ("it's",)
    for number in range(3):
        assert conn.execute("SELECT %s::int", (number,), prepare=True).fetchone() == (number,)
    info = colour.run(TypeInfo.fetch, colour.plain(conn), "int4")
    assert info.name == "int4"


def test_settings_of_the_connection(conn: Any) -> None:
    conn.autocommit = False
    conn.read_only = True
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        conn.execute("INSERT INTO t VALUES (1)")
    conn.rollback()
    conn.read_only = None
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    assert conn.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)
    conn.rollback()


def test_a_statement_can_be_cancelled(conn: Any) -> None:
    conn.execute("SET statement_timeout = 50")
    with pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute("SELECT pg_sleep(60)")
    conn.cancel_safe(timeout=5.0)
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_notices_reach_their_handlers_wherever_the_connection_is(conn: Any) -> None:
    heard: list[str] = []
    conn.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    conn.execute("DO $$ BEGIN RAISE NOTICE 'hear'; END $$")
    assert heard == ["hear"]


def test_a_closed_connection_says_so(aurora_lab: PostgresLab, colour: Colour) -> None:
    conn = colour.connect(aurora_lab, autocommit=True)
    conn.close()
    conn.close()
    assert conn.closed
    with pytest.raises(psycopg.OperationalError, match="closed"):
        conn.execute("SELECT 1")
    assert aurora_actors.signals.settle(5.0)
