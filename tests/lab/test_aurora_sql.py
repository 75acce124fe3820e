"""Aurora's SQL, answered from the real state of the cluster."""

from __future__ import annotations

import datetime as dt

import psycopg
import pytest

from aurora_actors.lab import PostgresLab
from tests.lab.sessions import TOPOLOGY, believed_writers, connect, eventually, rows

EXTENSIONS = (
    "SELECT (setting LIKE '%rds_tools%') AS rds_tools, (setting LIKE '%aurora_stat_utils%') AS aurora_stat_utils "
    "FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'rds.extensions'"
)
IDENTITY = "SELECT pg_catalog.aurora_db_instance_identifier(), pg_catalog.aurora_db_instance_identifier()"
WRITER_ID = (
    "SELECT SERVER_ID FROM pg_catalog.aurora_replica_status() WHERE SESSION_ID OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID' "
    "AND SERVER_ID OPERATOR(pg_catalog.=) pg_catalog.aurora_db_instance_identifier()"
)


def check_every_host(lab: PostgresLab) -> None:
    for host in lab.hosts:
        assert rows(lab, host, IDENTITY) == [(host, host)]
        assert rows(lab, host, EXTENSIONS) == [(False, True)]
        assert rows(lab, host, "SELECT 1 FROM pg_catalog.aurora_replica_status() LIMIT 1") == [(1,)]
        assert rows(lab, host, "SELECT pg_catalog.pg_is_in_recovery()") == [(host != lab.writer,)]
        assert rows(lab, host, WRITER_ID) == ([(host,)] if host == lab.writer else [])
        topology = rows(lab, host, TOPOLOGY)
        assert sorted(row[0] for row in topology) == sorted(lab.hosts)
        assert [row[0] for row in topology if row[1]] == [lab.writer]
        assert all(isinstance(row[2], float) and isinstance(row[4], dt.datetime) for row in topology)


def test_every_host_answers_before_and_after_a_failover(aurora_lab: PostgresLab) -> None:
    check_every_host(aurora_lab)
    aurora_lab.failover()
    aurora_lab.wait_ready()
    check_every_host(aurora_lab)


def test_session_ids_tell_readers_apart(aurora_lab: PostgresLab) -> None:
    found: dict[str, str] = dict(rows(aurora_lab, "writer", "SELECT server_id, session_id FROM aurora_replica_status()"))
    assert found.pop(aurora_lab.writer) == "MASTER_SESSION_ID"
    assert len(set(found.values())) == len(aurora_lab.readers) == 2
    assert all(len(session) == 36 for session in found.values())


def test_the_report_of_a_live_host_advances_and_that_of_a_dead_one_does_not(aurora_lab: PostgresLab) -> None:
    aurora_lab.crash("database-3")
    statement = "SELECT server_id, last_update_timestamp FROM aurora_replica_status()"
    with connect(aurora_lab) as session:
        before: dict[str, dt.datetime] = dict(session.execute(statement).fetchall())
        after: dict[str, dt.datetime] = dict(session.execute(statement).fetchall())
    assert after["database-1"] > before["database-1"]
    assert after["database-2"] > before["database-2"]
    assert after["database-3"] == before["database-3"]


@pytest.mark.aurora_lab(own_report_time=False)
def test_a_host_may_leave_out_its_own_report_time(aurora_lab: PostgresLab) -> None:
    for host in aurora_lab.hosts:
        times = {row[0]: row[4] for row in rows(aurora_lab, host, TOPOLOGY)}
        assert {id_ for id_, time in times.items() if time is None} == {host}


@pytest.mark.aurora_lab(stale_topology_seconds=1.5)
def test_a_reader_may_tell_the_old_topology_for_a_while(aurora_lab: PostgresLab) -> None:
    aurora_lab.failover("database-2")
    statement = "SELECT last_update_timestamp FROM aurora_replica_status() WHERE session_id = 'MASTER_SESSION_ID'"
    with connect(aurora_lab, "database-3") as session:
        stale = [session.execute(each).fetchall() for each in (TOPOLOGY, statement, statement)]
    assert {row[0] for row in stale[0] if row[1]} == {"database-1"}
    assert stale[1] == stale[2], "old news must not look new"
    assert believed_writers(aurora_lab, "database-2") == {"database-2"}
    eventually(lambda: believed_writers(aurora_lab, "database-3") == {"database-2"})


def test_settings_can_still_be_changed_through_the_view(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session:
        session.execute("UPDATE pg_settings SET setting = '7777' WHERE name = 'work_mem'")
        assert session.execute("SELECT setting FROM pg_settings WHERE name = 'work_mem'").fetchall() == [("7777",)]


@pytest.mark.aurora_lab(flavour="plain", hosts=2)
def test_the_plain_flavour_is_community_postgresql(aurora_lab: PostgresLab) -> None:
    assert rows(aurora_lab, "writer", EXTENSIONS) == []
    for function in ("aurora_replica_status", "aurora_db_instance_identifier"):
        with pytest.raises(psycopg.errors.UndefinedFunction):
            rows(aurora_lab, "writer", f"SELECT {function}()")
    aurora_lab.failover()
    assert rows(aurora_lab, "writer", "SELECT pg_is_in_recovery()") == [(False,)]


def test_the_application_is_no_superuser_and_may_create_tables(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE orders (id int)")
        assert session.execute("SELECT rolsuper, rolreplication FROM pg_roles WHERE rolname = current_user").fetchall() == [
            (False, False)
        ]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("SELECT pg_read_file('aurora_topology.json')")


def test_a_wrong_password_is_refused(aurora_lab: PostgresLab) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(aurora_lab, password="wrong")
