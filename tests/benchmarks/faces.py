"""What the guard adds to a statement on each other face: asyncio, and MySQL Connector pure, C and asyncio.

All over a transport that returns at once: of psycopg the wait, of MySQL Connector the socket, which plays back what a
server answered, or the C library's session.

    python -m tests.benchmarks.faces 'MySQL Connector, C' 4000 50       # as JSON, in an environment of its own
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from time import process_time
from typing import Any

import mysql.connector
import psycopg
from mysql.connector import aio

import aurora_actors
from aurora_actors.lab import MysqlLab, PostgresLab
from aurora_actors.lab.cache import cache_directory
from tests.benchmarks.harness import ROOT, rounds

__all__ = ["FACES", "SUBJECTS", "measured"]

SUBJECTS = ("raw", "raw again", "ours, default")
STATEMENT = "SELECT 1"
ROWS = 100_000
Found = dict[str, list[float]]


class Waiting(psycopg.AsyncConnection[Any]):
    """The real class, over a wait that can be made to return at once."""

    at_once = False

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if Waiting.at_once:
            gen.close()
            return None
        return await super().wait(gen, *args, **kwargs)


class Tape:
    """A socket of MySQL Connector's that records what is received, and then plays it back over and over."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.packets: list[bytearray] = []
        self.next = 0
        self.recording = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def send(self, *args: Any) -> None:
        if self.recording:
            self.real.send(*args)

    def recv(self, *args: Any, **kwargs: Any) -> Any:
        return self._kept(self.real.recv(*args, **kwargs)) if self.recording else self._played()

    async def write(self, *args: Any, **kwargs: Any) -> None:
        if self.recording:
            await self.real.write(*args, **kwargs)

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        return self._kept(await self.real.read(*args, **kwargs)) if self.recording else self._played()

    def _kept(self, packet: Any) -> Any:
        self.packets.append(bytearray(packet))
        return packet

    def _played(self) -> bytearray:
        packet = self.packets[self.next]
        self.next = (self.next + 1) % len(self.packets)
        return packet


class Library:
    """The session of the C extension, with one row for every statement."""

    def __init__(self, real: Any) -> None:
        self.real = real
        real.query(STATEMENT)
        self.columns = real.fetch_fields()
        while real.fetch_row() is not None:
            pass
        real.free_result()
        self.rows = 0
        self.have_result_set = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def query(self, *_: Any, **__: Any) -> bool:
        self.rows, self.have_result_set = 1, True
        return True

    def fetch_row(self) -> tuple[int] | None:
        if not self.rows:
            return None
        self.rows = 0
        return (1,)

    def free_result(self) -> None:
        self.rows, self.have_result_set = 0, False

    def fetch_fields(self) -> Any:
        return self.columns

    def num_fields(self) -> int:
        return 1

    def raw(self, *_: Any) -> bool:
        return False

    def more_results(self) -> bool:
        return False

    def warning_count(self) -> int:
        return 0


def _calls(cursor: Any, calls: int) -> float:
    execute, fetchone = cursor.execute, cursor.fetchone
    began = process_time()
    for _ in range(calls):
        execute(STATEMENT)
        fetchone()
    return process_time() - began


async def _calls_async(cursor: Any, calls: int) -> float:
    execute, fetchone = cursor.execute, cursor.fetchone
    began = process_time()
    for _ in range(calls):
        await execute(STATEMENT)
        await fetchone()
    return process_time() - began


def _run(runner: asyncio.Runner, function: Callable[..., Any], *args: Any) -> Any:
    return runner.run(function(*args))


def psycopg_async(calls: int, count: int) -> Found:
    with PostgresLab(hosts=1) as lab, asyncio.Runner() as runner, ExitStack() as stack:
        aurora_actors.set_resolver(lab.resolve)
        address, port = lab.address(lab.writer)
        direct = lab.conninfo("writer", hostaddr=address, port=port)

        async def opened() -> dict[str, Any]:
            return {
                **{name: await Waiting.connect(direct) for name in SUBJECTS[:2]},
                SUBJECTS[2]: await aurora_actors.aio.connect(Waiting.connect, lab.conninfo("writer")),
            }

        async def filled(conn: Any) -> Any:
            # No statement replaces this result over the stub, so that there is a row for every fetchone.
            return await conn.execute("SELECT 1 FROM generate_series(1, %s)", (ROWS,))

        async def measure(cursor: Any) -> float:
            await cursor.scroll(0, "absolute")
            return await _calls_async(cursor, calls)

        ready: dict[str, Callable[[], float]] = {}
        for name, conn in runner.run(opened()).items():
            stack.callback(_run, runner, conn.close)
            cursor = runner.run(filled(conn))
            ready[name] = partial(_run, runner, measure, cursor)
        Waiting.at_once = True
        try:
            return rounds(ready, count)
        finally:
            Waiting.at_once = False


def mysql_pure(calls: int, count: int) -> Found:
    return _mysql(calls, count, pure=True)


def mysql_c(calls: int, count: int) -> Found:
    """Empty where neither this environment nor that of the tests has an extension that loads."""
    if mysql.connector.HAVE_CEXT:
        return _mysql(calls, count, pure=False)
    # As ``tests/drivers/test_mysql_c.py`` makes it.
    other = next(cache_directory().glob(f"mysql-connector-python-*-{sys.implementation.cache_tag}/bin/python"), None)
    if other is None:
        return {}
    command = [str(other), "-m", "tests.benchmarks.faces", "MySQL Connector, C", str(calls), str(count)]
    found: Found = json.loads(subprocess.check_output(command, text=True, cwd=ROOT))
    return found


def _mysql(calls: int, count: int, *, pure: bool) -> Found:
    with MysqlLab(hosts=1) as lab, ExitStack() as stack:
        aurora_actors.set_resolver(lab.resolve)
        direct, given = _direct(lab), {"use_pure": pure, "autocommit": True, "ssl_disabled": True}
        opened = {
            **{name: mysql.connector.connect(**direct, **given) for name in SUBJECTS[:2]},
            SUBJECTS[2]: aurora_actors.connect(mysql.connector.connect, lab.conninfo(), **given),
        }
        ready: dict[str, Callable[[], float]] = {}
        for name, conn in opened.items():
            made: Any = conn
            cursor = made.cursor(buffered=False)
            cursor.execute(STATEMENT)
            cursor.fetchall()
            under = "_socket" if pure else "_cmysql"
            stub: Any = (Tape if pure else Library)(getattr(made, under))
            setattr(made, under, stub)
            stack.callback(_closed, made, under, stub.real)
            cursor.execute(STATEMENT)
            cursor.fetchone()
            stub.recording = False
            ready[name] = partial(_calls, cursor, calls)
        return rounds(ready, count)


def _closed(conn: Any, under: str, real: Any) -> None:
    setattr(conn, under, real)
    conn.close()


def mysql_async(calls: int, count: int) -> Found:
    with MysqlLab(hosts=1) as lab, asyncio.Runner() as runner, ExitStack() as stack:
        aurora_actors.set_resolver(lab.resolve)
        direct, given = _direct(lab), {"autocommit": True, "ssl_disabled": True}

        async def opened() -> dict[str, Any]:
            return {
                **{name: await aio.connect(**direct, **given) for name in SUBJECTS[:2]},
                SUBJECTS[2]: await aurora_actors.aio.connect(aio.connect, lab.conninfo(), **given),
            }

        async def taped(conn: Any) -> tuple[Any, Any]:
            cursor = await conn.cursor()
            await cursor.execute(STATEMENT)
            await cursor.fetchone()
            tape = conn._socket = Tape(conn._socket)
            await cursor.execute(STATEMENT)
            await cursor.fetchone()
            tape.recording = False
            return cursor, tape.real

        async def closed(conn: Any, real: Any) -> None:
            conn._socket = real
            await conn.close()

        ready: dict[str, Callable[[], float]] = {}
        for name, conn in runner.run(opened()).items():
            cursor, real = runner.run(taped(conn))
            stack.callback(_run, runner, closed, conn, real)
            ready[name] = partial(_run, runner, _calls_async, cursor, calls)
        return rounds(ready, count)


def _direct(lab: MysqlLab) -> dict[str, Any]:
    address, port = lab.address(lab.writer)
    return lab.parameters("writer", host=address, port=port)


FACES: dict[str, Callable[[int, int], Found]] = {
    "psycopg, asyncio": psycopg_async,
    "MySQL Connector, pure": mysql_pure,
    "MySQL Connector, C": mysql_c,
    "MySQL Connector, asyncio": mysql_async,
}


def measured(face: str, calls: int, count: int) -> Found:
    """CPU seconds of *calls* calls of execute + fetchone, by subject, in *count* rounds in shuffled order."""
    from aurora_actors.actors.system import system

    try:
        return FACES[face](calls, count)
    finally:
        system.stop(5.0)
        aurora_actors.set_resolver(None)


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
