"""An empty statement is how pools ask whether a connection is good: after a switch it is, and nobody has to know more."""

from __future__ import annotations

from contextlib import nullcontext

import psycopg
import pytest

import aurora_actors
from aurora_actors import FailoverFailedError, FailoverSuccessError
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


@pytest.mark.parametrize("way", ["killed", "stale"])
@pytest.mark.parametrize(("ping", "closed"), [("", False), (";", True)], ids=["psycopg_pool", "sqlalchemy"])
def test_a_ping_tells_what_its_session_has_lost(
    aurora_lab: PostgresLab, colour: Colour, ping: str, *, closed: bool, way: str
) -> None:
    """SQLAlchemy takes for lost what is closed, and gives every other error to the application."""
    with colour.connect(aurora_lab, autocommit=True) as conn, colour.connect(aurora_lab, autocommit=True) as other:
        conn.execute("SELECT pg_advisory_lock(1)")
        conn.execute("CREATE TEMP TABLE kept (id int)")
        if way == "killed":
            aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
        else:
            aurora_lab.failover()
            with pytest.raises(FailoverSuccessError):
                other.execute("SELECT 1")
            assert conn.stale
        with pytest.raises(FailoverFailedError if closed else FailoverSuccessError):
            conn.execute(ping)
        assert conn.closed is conn.broken is closed
        with pytest.raises(psycopg.OperationalError, match="is closed") if closed else nullcontext():
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_ping_inside_a_block_is_a_statement_of_the_block(aurora_lab: PostgresLab, colour: Colour) -> None:
    def ping() -> None:
        with conn.transaction():
            aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
            conn.execute("")

    with colour.connect(aurora_lab, autocommit=True) as conn:
        with pytest.raises(aurora_actors.TransactionResolutionUnknownError):
            ping()
        assert conn.execute("SELECT 1").fetchone() == (1,)
