"""SQLAlchemy's dialects for psycopg and MySQL Connector, on connections that survive the loss of their host.

    create_engine("postgresql+aurora_psycopg://app@orders.cluster-abc.eu-west-1.rds.amazonaws.com/orders?plugins=failover,efm")
    create_async_engine("postgresql+aurora_psycopg://…")
    create_engine("mysql+aurora_mysqlconnector://…")

SQLAlchemy finds them by entry points. What stands in the query of the URL, or in ``connect_args``, goes to ``connect()``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects.mysql.mysqlconnector import MariaDBDialect_mysqlconnector, MySQLDialect_mysqlconnector
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGDialectAsync_psycopg
from sqlalchemy.exc import DisconnectionError

from aurora_actors.errors import FailoverError

__all__ = ["AsyncPsycopgDialect", "MariadbDialect", "MysqlDialect", "PsycopgDialect"]


class _Pinged:
    """What a pool asks before it hands out a connection (``pool_pre_ping``)."""

    def do_ping(self, dbapi_connection: Any) -> Any:
        """The dialect's own ping.

        A session that went elsewhere and left something behind is exchanged for one that the engine's events prepare anew:
        nobody has to see an error for it, and the pool's other connections stay.
        """
        asked: Any = super()
        try:
            return asked.do_ping(dbapi_connection)
        except FailoverError as error:
            raise DisconnectionError(str(error)) from error


class PsycopgDialect(_Pinged, PGDialect_psycopg):
    """``postgresql+aurora_psycopg`` for threads."""

    driver = "aurora_psycopg"
    supports_statement_cache = True

    def connect(self, *arguments: Any, **parameters: Any) -> Any:
        """See ``aurora_actors.connect``."""
        from aurora_actors.psycopg import connect

        return connect(*arguments, **parameters)

    @classmethod
    def get_async_dialect_cls(cls, url: Any) -> Any:  # noqa: ARG003 - SQLAlchemy's signature
        """For ``create_async_engine``."""
        return AsyncPsycopgDialect


class AsyncPsycopgDialect(_Pinged, PGDialectAsync_psycopg):
    """``postgresql+aurora_psycopg`` for asyncio."""

    driver = "aurora_psycopg"
    supports_statement_cache = True

    def connect(self, *arguments: Any, **parameters: Any) -> Any:
        """See ``aurora_actors.aio.connect``."""
        from aurora_actors.psycopg import AsyncConnection

        return super().connect(*arguments, **{"async_creator_fn": AsyncConnection.connect, **parameters})


class MysqlDialect(_Pinged, MySQLDialect_mysqlconnector):
    """``mysql+aurora_mysqlconnector``."""

    driver = "aurora_mysqlconnector"
    supports_statement_cache = True

    def connect(self, *arguments: Any, **parameters: Any) -> Any:
        """See ``aurora_actors.connect``."""
        from aurora_actors.mysql_connector import connect

        return connect(*arguments, **parameters)


class MariadbDialect(MysqlDialect, MariaDBDialect_mysqlconnector):
    """``mariadb+aurora_mysqlconnector``."""

    supports_statement_cache = True
