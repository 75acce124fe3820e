"""An empty statement is how pools ask whether a connection is good: after a switch it is, and nobody has to know more."""

from __future__ import annotations

import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.lab import PostgresLab
from tests.failover.applications import Noted
from tests.failover.colours import Colour


@pytest.mark.parametrize("ping", ["", ";"], ids=["psycopg_pool", "sqlalchemy"])
def test_a_ping_brings_a_lost_connection_back(
    aurora_lab: PostgresLab, colour: Colour, ping: str, signals_noted: Noted
) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
        conn.execute(ping)
        assert conn.execute("SELECT 1").fetchone() == (1,)
    assert len(signals_noted.of("connection_switched")) == 1


def test_a_ping_tells_what_its_session_has_lost(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(1)")
        conn.execute("CREATE TEMP TABLE kept (id int)")
        aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
        with pytest.raises(FailoverSuccessError):
            conn.execute(";")


def test_a_ping_inside_a_block_is_a_statement_of_the_block(aurora_lab: PostgresLab, colour: Colour) -> None:
    def ping() -> None:
        with conn.transaction():
            aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
            conn.execute("")

    with colour.connect(aurora_lab, autocommit=True) as conn:
        with pytest.raises(aurora_actors.TransactionResolutionUnknownError):
            ping()
        assert conn.execute("SELECT 1").fetchone() == (1,)
