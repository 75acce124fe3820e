"""What the tests of the MySQL lab share: raw sessions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mysql.connector

from aurora_actors.lab import MysqlLab

Row = tuple[Any, ...]
LOST = {2006, 2013, 2055, -1}
"""What the driver says of a connection that ended, by when it noticed."""
TOPOLOGY = (
    "SELECT SERVER_ID, CASE WHEN SESSION_ID = 'MASTER_SESSION_ID' THEN TRUE ELSE FALSE END, CPU, "
    "REPLICA_LAG_IN_MILLISECONDS, LAST_UPDATE_TIMESTAMP FROM information_schema.replica_host_status "
    "WHERE time_to_sec(timediff(now(), LAST_UPDATE_TIMESTAMP)) <= 300 OR SESSION_ID = 'MASTER_SESSION_ID'"
)


def open_session(lab: MysqlLab, endpoint: str = "writer", **extra: Any) -> Any:
    """A raw session where the lab's names lead now."""
    ((address, port),) = lab.resolve(lab.endpoint(endpoint), 3306)
    options = {"host": address, "port": port, "use_pure": True, "autocommit": True, "connection_timeout": 10, **extra}
    return mysql.connector.connect(**lab.parameters(endpoint, **options))


@contextmanager
def connect(lab: MysqlLab, endpoint: str = "writer", **extra: Any) -> Iterator[Any]:
    """As :func:`open_session`, closed at the end."""
    session = open_session(lab, endpoint, **extra)
    try:
        yield session
    finally:
        session.close()


def execute(session: Any, statement: str, parameters: tuple[Any, ...] = (), **cursor: Any) -> list[Row]:
    """Run a statement and return its rows."""
    with session.cursor(**cursor) as opened:
        opened.execute(statement, parameters)
        return list(opened.fetchall()) if opened.description else []


def rows(lab: MysqlLab, endpoint: str, statement: str) -> list[Row]:
    """One statement on a session of its own."""
    with connect(lab, endpoint) as session:
        return execute(session, statement)


def believed_writers(lab: MysqlLab, endpoint: str) -> set[str]:
    """Who writes, as that host tells."""
    return {row[0] for row in rows(lab, endpoint, TOPOLOGY) if row[1]}
