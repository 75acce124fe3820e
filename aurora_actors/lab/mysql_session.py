"""The lab's own session on a MySQL or MariaDB server."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import mysql.connector

from .mysql_sql import OWNER

__all__ = ["Session", "log_in"]

CONNECT_SECONDS = 5
ANSWER_SECONDS = 20
"""No statement of the lab takes nearly as long, except on a server that was frozen behind its back."""


def log_in(socket: Path, user: str, password: str) -> Any:
    """Open a session over a private Unix socket, with the driver's pure variant: it never ends the process."""
    return mysql.connector.connect(
        unix_socket=str(socket), user=user, password=password, use_pure=True, autocommit=True, ssl_disabled=True,
        connection_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS, collation="utf8mb4_general_ci",
    )  # fmt: skip


class Session:
    """A superuser's session that is opened when it is needed. Thread-safe."""

    def __init__(self, socket: Path, password: str) -> None:
        self._socket = socket
        self._password = password
        self._lock = threading.RLock()
        self._connection: Any = None

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement. :class:`mysql.connector.Error` as the driver raises it; the session is closed then."""
        return self._run(statement, parameters)[1]

    def row(self, statement: str) -> dict[str, Any]:
        """The first row of a statement by column name, empty if there is none."""
        names, rows = self._run(statement, ())
        return dict(zip(names, rows[0], strict=True)) if rows else {}

    def _run(self, statement: str, parameters: Sequence[Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        with self._lock:
            if self._connection is None:
                self._connection = log_in(self._socket, OWNER, self._password)
            try:
                cursor = self._connection.cursor()
                cursor.execute(statement, tuple(parameters))
                rows = cast("list[tuple[Any, ...]]", cursor.fetchall()) if cursor.description else []
                names = tuple(cursor.column_names)
                cursor.close()
            except mysql.connector.Error:
                self.close()
                raise
            return names, rows

    def close(self) -> None:
        """End the session, without a word to a server that may be dead."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(mysql.connector.Error, OSError):
                    connection.shutdown()
