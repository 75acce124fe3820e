"""PEP 249 module: ``connect()`` bound to ``psycopg.Connection.connect``; everything else is psycopg's own.

Its two classes are for whatever takes a class of connections, such as the pools of ``psycopg_pool``:

    pool = ConnectionPool("host=… dbname=…", connection_class=aurora_actors.psycopg.Connection)
    pool = AsyncConnectionPool("host=… dbname=…", connection_class=aurora_actors.psycopg.AsyncConnection, open=False)
"""

from __future__ import annotations

from typing import Any, Self

import psycopg as driver
from psycopg.rows import Row

from aurora_actors import aio
from aurora_actors.connecting import connect as _connect

__all__ = ["AsyncConnection", "Connection", "connect"]


def connect(conninfo: str = "", /, **parameters: Any) -> Any:
    """See ``aurora_actors.connect``."""
    return _connect(driver.Connection.connect, conninfo, **parameters)


class Connection(driver.Connection[Row]):
    """psycopg's connection, as one that survives the loss of its host. May be derived from."""

    @property
    def stale(self) -> bool:
        """Whether the connection will go elsewhere before its next statement: its host is down or not the one to use.

        Asks nobody: a pool can check by it without a round trip.
        """
        return False

    @classmethod
    def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
        """See ``aurora_actors.connect``; the result is a connection of this class."""
        conn: Self = _connect(super().connect, conninfo, **parameters)
        return conn


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


def __getattr__(name: str) -> Any:
    return getattr(driver, name)
