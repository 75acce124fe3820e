"""Where psycopg's own behaviour shows in corners, ours is the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import aurora_actors
import aurora_actors.psycopg
from aurora_actors.lab import PostgresLab
from tests.failover.colours import ONE_COLOUR, Colour


def test_a_lost_connection_stays_broken_when_it_is_closed(aurora_lab: PostgresLab, colour: Colour) -> None:
    for leave, arguments in (("close", ()), ("__exit__", (None, None, None))):
        conn = colour.connect(aurora_lab, plugins="")
        with pytest.raises(psycopg.errors.AdminShutdown):
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert (conn.closed, conn.broken) == (True, True)
        getattr(conn, leave)(*arguments)
        assert (conn.closed, conn.broken) == (True, True)


def test_a_connection_that_is_closed_while_it_is_lost_does_not_come_back(aurora_lab: PostgresLab, colour: Colour) -> None:
    conn = colour.connect(aurora_lab)
    aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
    colour.plain(conn).pgconn.finish()
    conn.close()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        conn.execute("SELECT 1")


@ONE_COLOUR
def test_a_close_of_the_application_s_own_is_called_once(aurora_lab: PostgresLab, colour: Colour) -> None:
    calls: list[str] = []

    class Own(aurora_actors.psycopg.Connection[Any]):
        def close(self) -> None:
            calls.append("close")
            super().close()

    with Own.connect(aurora_lab.conninfo()) as conn:
        conn.execute("SELECT 1")
    assert calls == ["close"]
