"""PEP 249 module: ``connect()`` bound to ``psycopg.Connection.connect``; everything else is psycopg's own.

Its two classes are for whatever takes a class of connections, such as the pools of ``psycopg_pool``:

    from aurora_actors.psycopg import AsyncConnection, Connection

    pool = ConnectionPool("host=… dbname=…", connection_class=Connection, check=Connection.check)
    pool = AsyncConnectionPool("host=… dbname=…", connection_class=AsyncConnection, check=AsyncConnection.check, open=False)

The check is optional: without it a connection goes elsewhere before its first statement, with an error only if its session
held something.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Self

import psycopg as driver
from psycopg.connection import Connection as DriverConnection
from psycopg.rows import Row

from aurora_actors import aio
from aurora_actors.connecting import connect as _connect
from aurora_actors.errors import FailoverSuccessError

__all__ = ["AsyncConnection", "Connection", "connect"]


def connect(conninfo: str = "", /, **parameters: Any) -> Any:
    """See ``aurora_actors.connect``."""
    return _connect(DriverConnection.connect, conninfo, **parameters)


class Connection(driver.Connection[Row]):
    """psycopg's connection, as one that survives the loss of its host. May be derived from."""

    @property
    def stale(self) -> bool:
        """Whether the connection will go elsewhere before its next statement: its host is down or not the one to use.

        Asks nobody.
        """
        return False

    @classmethod
    def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
        """See ``aurora_actors.connect``; the result is a connection of this class."""
        conn: Self = _connect(super().connect, conninfo, **parameters)
        return conn

    @staticmethod
    def check(conn: Connection[Any]) -> None:
        """For the ``check`` of a pool: a connection that is stale goes elsewhere now; the others cost nothing.

        Whatever its session held is gone then, as a pool may expect. Raises psycopg's error if it cannot go anywhere.
        """
        if conn.stale:
            with suppress(FailoverSuccessError):
                conn.execute("")
            conn.rollback()


class AsyncConnection(driver.AsyncConnection[Row]):
    """psycopg's connection for asyncio, as one that survives the loss of its host. May be derived from."""

    @property
    def stale(self) -> bool:
        """See ``Connection.stale``."""
        return False

    @classmethod
    async def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
        """See ``aurora_actors.connect``; the result is a connection of this class."""
        conn: Self = await aio.connect(super().connect, conninfo, **parameters)
        return conn

    @staticmethod
    async def check(conn: AsyncConnection[Any]) -> None:
        """See ``Connection.check``."""
        if conn.stale:
            with suppress(FailoverSuccessError):
                await conn.execute("")
            await conn.rollback()


def __getattr__(name: str) -> Any:
    return getattr(driver, name)
