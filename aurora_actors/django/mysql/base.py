"""MySQL Connector's backend for Django, with our connections."""

from __future__ import annotations

from typing import Any

from django.utils.functional import cached_property
from mysql.connector.django import base

from aurora_actors import mysql_connector

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(base.DatabaseWrapper):
    """The driver's own, but for what it connects with."""

    Database = mysql_connector

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A connection of ours."""
        return mysql_connector.connect(**{"converter_class": base.DjangoMySQLConverter, **conn_params})

    @cached_property
    def mysql_version(self) -> tuple[int, ...]:
        """The server's; the driver's own way to it would be a connection of the driver's alone."""
        this: Any = self
        with this.temporary_connection():
            return this.connection.server_version  # type: ignore[no-any-return]
