"""All hosts end their sessions at once."""

from __future__ import annotations

import psycopg
import pytest

from aurora_actors.lab import PostgresLab
from tests.lab.sessions import connect, eventually, in_background, rows


def test_all_sessions_end_and_every_host_stays_up(aurora_lab: PostgresLab) -> None:
    sessions = [connect(aurora_lab, host) for host in aurora_lab.hosts]
    record = aurora_lab.drop_sessions()
    assert [event.name for event in record.events] == ["sessions_dropped"] * 3
    for session in sessions:
        with pytest.raises(psycopg.errors.AdminShutdown):
            session.execute("SELECT 1")
        session.close()
    assert {status.state for status in aurora_lab.status()} == {"available"}
    assert aurora_lab.writer == "database-1"
    for host in aurora_lab.hosts:
        assert rows(aurora_lab, host, "SELECT 1") == [(1,)]
    assert aurora_lab.replication == "synchronous"


def test_logins_may_be_refused_for_a_while(aurora_lab: PostgresLab) -> None:
    def is_refused() -> bool:
        try:
            connect(aurora_lab, "database-2").close()
        except psycopg.OperationalError as error:
            return "pg_hba.conf rejects connection" in str(error)
        return False

    with connect(aurora_lab) as session:
        with in_background(lambda: aurora_lab.drop_sessions(refuse_seconds=0.5)):
            eventually(is_refused)
            assert {status.refuses_logins for status in aurora_lab.status()} == {True}
        with pytest.raises(psycopg.errors.AdminShutdown):
            session.execute("SELECT 1")
    assert not is_refused()
    names = [event.name for event in aurora_lab.events]
    assert names == ["logins_refused"] * 3 + ["sessions_dropped"] * 3 + ["logins_accepted"] * 3


def test_hosts_that_are_down_or_refuse_already_are_left_so(aurora_lab: PostgresLab) -> None:
    aurora_lab.refuse_logins("database-2")
    aurora_lab.freeze("database-3")
    record = aurora_lab.drop_sessions(refuse_seconds=0.01)
    assert [event.host for event in record.events if event.name == "sessions_dropped"] == ["database-1", "database-2"]
    assert [status.refuses_logins for status in aurora_lab.status()] == [False, True, False]
    assert aurora_lab.status()[2].state == "frozen"
