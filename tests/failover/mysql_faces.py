"""The faces of MySQL Connector, one test for all of them: pure Python, the C extension, asyncio.

A test is an ``async def``; what the driver gives is passed through ``done()``, which awaits what has to be awaited. The
faces for threads block in it, which is what they are for.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from inspect import isawaitable
from time import monotonic
from typing import Any

import mysql.connector
import pytest
from mysql.connector import aio

import aurora_actors
import aurora_actors.aio
from aurora_actors.lab import MysqlLab

__all__ = [
    "BOUND_SECONDS", "FACES", "WHO", "Face", "begun", "done", "in_every_face", "kill_own_session", "monitors_log_in_again",
    "query", "where",
]  # fmt: skip

BOUND_SECONDS = 30.0
"""A bound on what takes milliseconds; only a failing test waits for it."""
WHO = "SELECT @@aurora_server_id"


class Face:
    """One variant of the driver."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_async = name == "aio"

    def __repr__(self) -> str:
        return self.name

    @property
    def driver_class(self) -> type[Any]:
        """What connections are instances of."""
        if self.is_async:
            return aio.connection.MySQLConnection
        return mysql.connector.CMySQLConnection if self.name == "c" else mysql.connector.MySQLConnection

    async def connect(self, lab: MysqlLab, endpoint: str = "writer", **parameters: Any) -> Any:
        """A connection of ours with autocommit, unless said otherwise."""
        return await self.connect_with(lab.conninfo(endpoint), **{"autocommit": True, **parameters})

    async def connect_with(self, conninfo: str, **parameters: Any) -> Any:
        if self.is_async:
            # The lab's front offers no TLS, and without it the driver's aio wants to be told so.
            return await aurora_actors.aio.connect(aio.connect, conninfo, **{"ssl_disabled": True, **parameters})
        pure = {"use_pure": self.name == "pure"}
        return aurora_actors.connect(mysql.connector.connect, conninfo, **{**pure, **parameters})

    @asynccontextmanager
    async def connection(self, lab: MysqlLab, endpoint: str = "writer", **parameters: Any) -> AsyncIterator[Any]:
        conn = await self.connect(lab, endpoint, **parameters)
        try:
            yield conn
        finally:
            await done(conn.close())

    @asynccontextmanager
    async def of(self, kind: type[Any], lab: MysqlLab) -> AsyncIterator[Any]:
        """A connection with autocommit of the application's own class."""
        if self.is_async:
            conn = await aurora_actors.aio.connect(kind, lab.conninfo(), autocommit=True, ssl_disabled=True)
        else:
            conn = aurora_actors.connect(kind, lab.conninfo(), autocommit=True)
        try:
            yield conn
        finally:
            await done(conn.close())

    async def set(self, conn: Any, name: str, value: Any) -> None:
        """Set a property that reaches the server, which asyncio spells as a method."""
        if self.is_async:
            await getattr(conn, f"set_{name}")(value)
        else:
            setattr(conn, name, value)


def _reason(name: str) -> str:
    if name == "c" and not mysql.connector.HAVE_CEXT:
        return "the C extension does not load here: tests/drivers/test_mysql_c.py runs these tests where it does"
    return ""


FACES = tuple(
    pytest.param(Face(name), id=name, marks=pytest.mark.skipif(bool(_reason(name)), reason=_reason(name) or "-"))
    for name in ("pure", "c", "aio")
)

Test = Callable[..., Coroutine[Any, Any, None]]


def in_every_face(test: Test) -> Callable[..., None]:
    """A test of all faces out of an ``async def`` that takes the fixture ``aurora_mysql_lab`` and a ``face``."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(test(**arguments))

    marked: Callable[..., None] = pytest.mark.parametrize("face", FACES)(run)
    return marked


async def done(result: Any) -> Any:
    """What the driver gives: at once from the faces for threads, awaited from the other."""
    return await result if isawaitable(result) else result


async def query(conn: Any, statement: str, parameters: Any = (), **cursor: Any) -> list[Any]:
    """Run a statement on a cursor of its own and give its rows."""
    opened = await done(conn.cursor(**cursor))
    try:
        await done(opened.execute(statement, parameters))
        return list(await done(opened.fetchall())) if opened.description else []
    finally:
        await done(opened.close())


async def where(conn: Any) -> str:
    """The instance that a connection is on, by the server's word."""
    ((name,),) = await query(conn, WHO)
    return str(name)


async def kill_own_session(lab: MysqlLab, conn: Any) -> None:
    """End the session of a connection, as an administrator would."""
    assert lab.kill_session(await where(conn), conn.connection_id)


class begun:  # noqa: N801 - reads as a word of the test
    """A call under way: in a thread, or as a task. ``end()`` waits for it and gives what came of it, errors included."""

    def __init__(self, face: Face, call: Callable[[], Any]) -> None:
        self._result: list[Any] = []
        if face.is_async:
            self._task = asyncio.ensure_future(call())
            self._thread = None
        else:
            self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
            self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._result.append(call())
        except BaseException as error:  # noqa: BLE001 - it is what the test wants to see
            self._result.append(error)

    @property
    def ended(self) -> bool:
        return bool(self._result) if self._thread is not None else self._task.done()

    async def end(self) -> Any:
        if self._thread is None:
            async with asyncio.timeout(BOUND_SECONDS):
                return (await asyncio.gather(self._task, return_exceptions=True))[0]
        await asyncio.to_thread(self._thread.join, BOUND_SECONDS)
        assert self._result, "the call was never ended"
        return self._result[0]


async def monitors_log_in_again(conn: Any) -> None:
    """End the sessions of the monitors that log in as the user of *conn*, and wait for the next one."""
    others = "FROM information_schema.processlist WHERE user = SUBSTRING_INDEX(USER(), '@', 1) AND id <> CONNECTION_ID()"
    ended = [number for (number,) in await query(conn, f"SELECT id {others}")]
    for number in ended:
        await query(conn, f"KILL {number}")
    newest = max(ended, default=conn.connection_id)
    until = monotonic() + BOUND_SECONDS
    while not await query(conn, f"SELECT id {others} AND id > {newest} AND command = 'Sleep'"):
        assert monotonic() < until, "no monitor logged in again"
