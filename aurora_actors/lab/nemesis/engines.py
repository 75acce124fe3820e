"""Which database servers the workloads and the demonstration run on, and what is different between them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from aurora_actors import aio, connecting
from aurora_actors.dialects.markers import Markers, of_mysql, of_postgres

if TYPE_CHECKING:
    from aurora_actors.lab import MysqlLab, PostgresLab

    Lab: TypeAlias = PostgresLab | MysqlLab

__all__ = ["ENGINES", "Engine"]


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: its lab, its drivers' connects for threads and for asyncio with what they need, its statements.

    ``session`` names the server's session that a connection has now: another name, another session.
    """

    title: str
    lab: Callable[[], Lab]
    connects: Callable[[], tuple[Callable[..., Any], Callable[..., Any]]]
    session: Callable[[Any], Hashable]
    create: tuple[str, ...] = (
        # No unique constraint: nothing but the application keeps a row from being there twice.
        "CREATE TABLE demo (id char(32))",
        "CREATE INDEX demo_id ON demo (id)",
    )
    insert: str = "INSERT INTO demo (id) VALUES (%s)"
    find: str = "SELECT id FROM demo WHERE id = %s"
    delete: str = "DELETE FROM demo WHERE id = %s"
    markers: Markers | None = None
    everything: str = "SELECT id FROM demo"
    for_threads: tuple[tuple[str, Any], ...] = ()
    for_asyncio: tuple[tuple[str, Any], ...] = ()

    def connect(self, lab: Lab, **parameters: Any) -> Any:
        """A connection for threads to the writer of *lab*, with autocommit unless told otherwise."""
        parameters = {"autocommit": True, **dict(self.for_threads), **parameters}
        return connecting.connect(self.connects()[0], lab.conninfo("writer"), **parameters)

    async def connect_async(self, lab: Lab, **parameters: Any) -> Any:
        """A connection for asyncio to the writer of *lab*, with autocommit unless told otherwise."""
        parameters = {"autocommit": True, **dict(self.for_asyncio), **parameters}
        return await aio.connect(self.connects()[1], lab.conninfo("writer"), **parameters)


def _postgres_lab() -> PostgresLab:
    from aurora_actors.lab import PostgresLab

    return PostgresLab()


def _psycopg() -> tuple[Callable[..., Any], Callable[..., Any]]:
    import psycopg

    return psycopg.Connection.connect, psycopg.AsyncConnection.connect


def _backend(conn: Any) -> Hashable:
    return conn.info.host, conn.info.backend_pid


def _mysql_lab() -> MysqlLab:
    from aurora_actors.lab import MysqlLab

    return MysqlLab()


def _mysql_connector() -> tuple[Callable[..., Any], Callable[..., Any]]:
    import mysql.connector
    from mysql.connector import aio as connector

    return mysql.connector.connect, connector.connect


def _connection_id(conn: Any) -> Hashable:
    return conn.server_host, conn.connection_id


ENGINES: Mapping[str, Engine] = MappingProxyType({
    "postgres": Engine("PostgreSQL", _postgres_lab, _psycopg, _backend, markers=of_postgres()),
    "mysql": Engine(
        "MariaDB",
        _mysql_lab,
        _mysql_connector,
        _connection_id,
        markers=of_mysql(),
        for_threads=(("use_pure", True),),
        # The lab's front offers no TLS, and without it the driver's aio wants to be told so.
        for_asyncio=(("ssl_disabled", True),),
    ),
})
"""By the name that ``ENGINE=`` takes."""
