"""What an application does with a connection of psycopg's, with a moment in its middle at which something strikes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from aurora_actors import FailoverError

__all__ = ["WORKS", "Strike", "executemany_between"]

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
