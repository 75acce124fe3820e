"""What the tests of the lab share: raw sessions, and waiting for facts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from aurora_actors.lab import PostgresLab

Row = tuple[Any, ...]
Session = psycopg.Connection[Row]

FACT_SECONDS = 20.0
LOOK_SECONDS = 0.01
TOPOLOGY = (
    "SELECT SERVER_ID, CASE WHEN SESSION_ID OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID' THEN TRUE ELSE FALSE END, CPU, "
    "COALESCE(REPLICA_LAG_IN_MSEC, 0), LAST_UPDATE_TIMESTAMP FROM pg_catalog.aurora_replica_status() "
    "WHERE EXTRACT(EPOCH FROM(pg_catalog.NOW() OPERATOR(pg_catalog.-) LAST_UPDATE_TIMESTAMP)) OPERATOR(pg_catalog.<=) 300 "
    "OR SESSION_ID OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID' OR LAST_UPDATE_TIMESTAMP IS NULL"
)


def connect(lab: PostgresLab, endpoint: str = "writer", **extra: Any) -> Session:
    """A raw psycopg session where the lab's names lead now."""
    ((address, port),) = lab.resolve(lab.endpoint(endpoint), 5432)
    return psycopg.connect(lab.conninfo(endpoint, hostaddr=address, port=port, **extra), autocommit=True)


def rows(lab: PostgresLab, endpoint: str, statement: str) -> list[Row]:
    """One statement on a session of its own."""
    with connect(lab, endpoint) as session:
        return session.execute(statement.encode()).fetchall()


def believed_writers(lab: PostgresLab, endpoint: str) -> set[str]:
    """Who writes, as that host tells."""
    return {row[0] for row in rows(lab, endpoint, TOPOLOGY) if row[1]}


def eventually(fact: Callable[[], bool]) -> None:
    """Wait for a fact that nothing announces."""
    deadline = time.monotonic() + FACT_SECONDS
    pause = threading.Event()
    while not fact():
        assert time.monotonic() < deadline, "the fact did not come about"
        pause.wait(LOOK_SECONDS)


@contextmanager
def in_background(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run *work* on a thread that must have ended when the block is left."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(FACT_SECONDS)
    assert not thread.is_alive()
