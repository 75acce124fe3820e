"""Engines of SQLAlchemy on a lab; the work of a test is written once, for asyncio it runs in SQLAlchemy's greenlet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import mysql.connector
import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from aurora_actors import AwsWrapperConnection, aio

__all__ = ["ENGINES", "Engines", "ask", "driver_of"]

ENGINES = ("psycopg", "psycopg_async", "mysql")


def driver_of(conn: Connection) -> Any:
    """The object of ours under a connection of SQLAlchemy's."""
    return conn.connection.driver_connection


def ask(engine: Engine, query: str) -> Any:
    """One value, on a connection from the pool."""
    with engine.connect() as conn:
        return conn.execute(text(query)).scalar_one()


class Engines:
    """One kind of engine, and the cluster that it is for."""

    def __init__(self, name: str, lab: Any) -> None:
        self.name, self.lab = name, lab
        self.who = "SELECT @@aurora_server_id" if name == "mysql" else "SELECT aurora_db_instance_identifier()"

    def url(self, **query: str) -> URL:
        """The address of the writer under our dialect's name."""
        login = self.lab.login
        dialect = "mysql+aurora_mysqlconnector" if self.name == "mysql" else "postgresql+aurora_psycopg"
        port = self.lab.address(self.lab.writer)[1]
        return URL.create(dialect, login.user, login.password, self.lab.writer_endpoint, port, login.database, query)

    def run(self, work: Callable[..., Any], *, by_creator: bool = False, query: dict[str, str] | None = None,
            **options: Any) -> Any:  # fmt: skip
        """*work* with an engine."""
        url: Any = self.url(**(query or {}))
        if by_creator:
            url = "mysql+mysqlconnector://" if self.name == "mysql" else "postgresql+psycopg://"
            options["async_creator" if self.name == "psycopg_async" else "creator"] = self._creator
        if self.name != "psycopg_async":
            engine = create_engine(url, **options)
            try:
                return work(engine)
            finally:
                engine.dispose()

        async def main() -> Any:
            made = create_async_engine(url, **options)
            try:
                return await greenlet_spawn(work, made.sync_engine)
            finally:
                await made.dispose()

        return asyncio.run(main())

    def _creator(self) -> Any:
        # As the AWS wrapper's documentation has it.
        if self.name == "psycopg_async":
            return aio.AwsWrapperConnection.connect(psycopg.AsyncConnection.connect, self.lab.conninfo())
        return self.connect()

    def connect(self) -> Any:
        """A connection of ours for threads, in no pool."""
        target = mysql.connector.connect if self.name == "mysql" else psycopg.Connection.connect
        return AwsWrapperConnection.connect(target, self.lab.conninfo())

    def kill(self, conn: Any) -> None:
        """End the session of a connection of ours, as an administrator would."""
        number = conn.connection_id if self.name == "mysql" else conn.info.backend_pid
        assert self.lab.kill_session(self.lab.writer, number)
