"""What an application has set, registered or opened on a connection of psycopg's, after the connection went elsewhere."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from typing import Any

import psycopg
import pytest
from psycopg import rows
from psycopg.adapt import Dumper
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum

from aurora_actors import FailoverError, FailoverSuccessError
from aurora_actors.lab import PostgresLab
from tests.failover.applications import forget_clusters
from tests.failover.colours import Colour


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    yield
    forget_clusters()


def lose_session(lab: PostgresLab, conn: Any) -> None:
    lab.kill_session(lab.writer, conn.info.backend_pid)
    with pytest.raises(FailoverError):
        conn.execute("SELECT 1")


class Mood(enum.Enum):
    sad, glad = 1, 2


class Place:
    """Of no type that psycopg knows."""


class PlaceDumper(Dumper):
    def dump(self, obj: Any) -> bytes:
        return b"here"


def test_what_was_registered_still_is(aurora_lab: PostgresLab, colour: Colour) -> None:
    notices: list[str | None] = []
    news: list[str] = []
    with colour.connect(aurora_lab, autocommit=True) as conn:
        conn.execute("CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE spot AS (x int, y int)")
        conn.execute("LISTEN news")
        conn.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        conn.add_notify_handler(lambda notify: news.append(notify.payload))

        def removed(_: object) -> None:
            notices.append("removed")

        conn.add_notice_handler(removed)
        conn.remove_notice_handler(removed)
        held, cursor = colour.plain(conn), conn.cursor()
        register_composite(colour.run(CompositeInfo.fetch, held, "spot"), held)
        register_enum(colour.run(EnumInfo.fetch, held, "mood"), colour.plain(cursor), Mood)
        conn.adapters.register_dumper(Place, PlaceDumper)
        for _ in range(2):
            assert cursor.execute("SELECT 'glad'::mood").fetchone() == (Mood.glad,)
            assert conn.execute("SELECT (1, 2)::spot, %s::text", (Place(),)).fetchone() == ((1, 2), "here")
            assert conn.execute("SELECT 'glad'::mood").fetchone() == ("glad",)
            conn.execute("DO $$ BEGIN RAISE NOTICE 'hear'; END $$")
            conn.execute("NOTIFY news, 'first'")
            assert (notices, news) == (["hear"], ["first"])
            notices.clear()
            news.clear()
            aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
            with suppress(FailoverSuccessError):
                conn.execute("SELECT 1")


def prepared(conn: Any) -> list[Any]:
    """What is prepared after some statements of each of three texts."""
    for statement in range(3):
        for number in range(3):
            conn.execute(f"SELECT %s::int, {statement}", (number,))
    found: list[Any] = conn.execute("SELECT statement, generic_plans FROM pg_prepared_statements ORDER BY 1").fetchall()
    return found


def test_what_was_set_still_is(aurora_lab: PostgresLab, colour: Colour) -> None:
    threads = colour.name == "threads"
    own_cursor: Any = type("Own", (psycopg.ClientCursor if threads else psycopg.AsyncClientCursor,), {})
    own_server_cursor: Any = type("OwnOnServer", (psycopg.ServerCursor if threads else psycopg.AsyncServerCursor,), {})
    plain: dict[str, Any] = {
        "prepare_threshold": 1, "prepared_max": 2, "row_factory": rows.dict_row,
        "cursor_factory": own_cursor, "server_cursor_factory": own_server_cursor,
    }  # fmt: skip
    # They take effect in the next transaction.
    level = psycopg.IsolationLevel.SERIALIZABLE
    of_transactions: dict[str, Any] = {"isolation_level": level, "read_only": True, "deferrable": True}
    with colour.connect(aurora_lab) as conn:
        for name, value in (plain | of_transactions).items():
            setattr(conn, name, value)
        lose_session(aurora_lab, conn)
        held = colour.plain(conn)
        assert {name: getattr(held, name) for name in plain | of_transactions} == plain | of_transactions
        assert type(colour.plain(conn.cursor())) is own_cursor
        with conn.cursor("named") as cursor:
            assert type(colour.plain(cursor)) is own_server_cursor
            cursor.execute("SELECT current_setting('transaction_isolation') AS it")
            assert cursor.fetchall() == [{"it": "serializable"}]
        for name in ("read_only", "deferrable"):
            assert conn.execute(f"SELECT current_setting('transaction_{name}') AS it").fetchone() == {"it": "on"}
        with colour.raw(aurora_lab.conninfo(), hostaddr=aurora_lab.address(aurora_lab.writer)[0]) as raw:
            raw.prepare_threshold, raw.prepared_max, raw.row_factory = 1, 2, rows.dict_row
            raw.cursor_factory = conn.cursor_factory = psycopg.Cursor if threads else psycopg.AsyncCursor
            assert prepared(conn) == prepared(raw)


def test_statements_that_were_prepared_are_prepared_anew(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True, prepare_threshold=0) as conn:
        cursor = conn.cursor()
        for _ in range(2):
            assert cursor.execute("SELECT %s::date", (date(2026, 1, 1),)).fetchone() == (date(2026, 1, 1),)
            cursor.executemany("SELECT %s::int", [(1,), (2,)])
            aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
            with suppress(FailoverSuccessError):
                conn.execute("SELECT 1")
        names = conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        cursor.execute("SELECT %s::date", (date(2026, 1, 1),))
        assert conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0] == names[0] + 1


# Cursors on the server: their rows went with their session

OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "fetchone": lambda cursor: cursor.fetchone(),
    "fetchmany": lambda cursor: cursor.fetchmany(2),
    "fetchall": lambda cursor: cursor.fetchall(),
    "scroll": lambda cursor: cursor.scroll(1),
    "iteration": list,
}


@pytest.mark.parametrize("hold", [False, True], ids=["plain", "hold"])
@pytest.mark.parametrize("noticed", ["by itself", "before", "in silence"])
def test_a_cursor_on_the_server_refuses_and_sends_nothing(
    aurora_lab: PostgresLab, colour: Colour, hold: bool, noticed: str
) -> None:
    """Whether the loss shows on the cursor itself or did so before; one of its name on the new session is another one."""
    with colour.connect(aurora_lab) as conn, colour.connect(aurora_lab, autocommit=True) as other:
        for name in OPERATIONS if noticed != "in silence" else ("fetchone", "iteration"):
            operation = OPERATIONS[name]
            cursor = conn.cursor("numbers", withhold=hold, scrollable=True)
            cursor.itersize = 2
            cursor.execute("SELECT n FROM generate_series(1, 9) AS n")
            assert cursor.fetchone() == (1,)
            if hold:
                conn.commit()
            if noticed == "in silence":
                aurora_lab.failover()
                with pytest.raises(FailoverSuccessError):
                    other.execute("SELECT 1")
                assert conn.stale
                with suppress(FailoverError):
                    conn.execute("SELECT 1")
            else:
                aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
                with pytest.raises(FailoverError):
                    operation(cursor) if noticed == "by itself" else conn.execute("SELECT 1")
            conn.rollback()
            conn.execute("DECLARE numbers CURSOR FOR SELECT 7")
            for _ in range(2):
                with pytest.raises(FailoverError):
                    operation(cursor)
            cursor.close()
            assert cursor.closed
            assert conn.execute("FETCH ALL FROM numbers").fetchall() == [(7,)], name
            conn.rollback()
            if noticed == "in silence":
                aurora_lab.wait_ready()
        with conn.cursor("numbers", withhold=hold) as cursor:
            assert cursor.execute("SELECT 8").fetchall() == [(8,)]
