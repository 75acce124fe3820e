"""More than one writer, or none, and sessions that end on all hosts at once."""

from __future__ import annotations

import datetime as dt

import mysql.connector
import pytest

from aurora_actors.lab import LabError, MysqlLab
from tests.lab.on_mysql.sessions import LOST, TOPOLOGY, believed_writers, connect, execute, open_session, rows
from tests.lab.sessions import eventually, in_background

HANG_SECONDS = 0.3
"""A commit that is acknowledged at all is so within some milliseconds."""


@pytest.mark.parametrize("ago", [-5.0, 60.0])
def test_a_reader_claims_to_write_beside_the_writer(aurora_mysql_lab: MysqlLab, ago: float) -> None:
    lab = aurora_mysql_lab
    lab.claim_writer("database-2", updated_seconds_ago=ago)
    assert believed_writers(lab, "database-2") == {"database-1", "database-2"}
    times = {row[0]: row[4] for row in rows(lab, "database-2", TOPOLOGY)}
    assert times["database-1"] - times["database-2"] == dt.timedelta(seconds=ago)
    assert rows(lab, "database-2", "SELECT @@innodb_read_only") == [(1,)]
    assert believed_writers(lab, "database-3") == {"database-1"}
    lab.claim_writer("database-2", on=False)
    assert believed_writers(lab, "database-2") == {"database-1"}


def test_nobody_may_be_told_to_write(aurora_mysql_lab: MysqlLab) -> None:
    aurora_mysql_lab.claim_nobody()
    assert all(believed_writers(aurora_mysql_lab, host) == set() for host in aurora_mysql_lab.hosts)
    aurora_mysql_lab.claim_nobody(on=False)
    assert all(believed_writers(aurora_mysql_lab, host) == {"database-1"} for host in aurora_mysql_lab.hosts)


@pytest.mark.aurora_mysql_lab(flavour="multi-az")
def test_a_multi_az_cluster_has_no_sql_for_lies(aurora_mysql_lab: MysqlLab) -> None:
    with pytest.raises(LabError, match="tell no topology that names a writer"):
        aurora_mysql_lab.claim_writer("database-2")


def test_a_former_writer_comes_back_and_acknowledges_nothing(aurora_mysql_lab: MysqlLab) -> None:
    lab = aurora_mysql_lab
    with connect(lab) as session:
        execute(session, "CREATE TABLE orders (id int)")
    lab.failover(rejoin=False)
    lab.resurrect("database-1")
    errors: list[Exception] = []

    def insert() -> None:
        try:
            execute(ghost, "INSERT INTO orders VALUES (1)")
        except mysql.connector.Error as error:
            errors.append(error)

    with connect(lab, "database-1") as ghost:
        assert execute(ghost, "SELECT @@innodb_read_only") == [(0,)]
        with in_background(insert) as waiting:
            waiting.join(HANG_SECONDS)
            assert waiting.is_alive()
            with connect(lab) as session:
                execute(session, "INSERT INTO orders VALUES (2)")
            lab.restart("database-1")
    assert len(errors) == 1
    lab.wait_ready()
    for host in lab.hosts:
        eventually(lambda host=host: rows(lab, host, "SELECT id FROM orders") == [(2,)])  # type: ignore[misc]


def test_a_former_writer_may_refuse_writes(aurora_mysql_lab: MysqlLab) -> None:
    aurora_mysql_lab.failover(rejoin=False)
    aurora_mysql_lab.resurrect("database-1", commits="refuse")
    with pytest.raises(mysql.connector.Error) as refused:
        rows(aurora_mysql_lab, "database-1", "CREATE TABLE orders (id int)")
    assert refused.value.errno == 1290


def test_only_a_former_writer_can_come_back(aurora_mysql_lab: MysqlLab) -> None:
    aurora_mysql_lab.failover()
    aurora_mysql_lab.wait_ready()
    for host in aurora_mysql_lab.hosts:
        with pytest.raises(LabError, match="is no former writer"):
            aurora_mysql_lab.resurrect(host)


def test_all_sessions_end_and_every_host_stays_up(aurora_mysql_lab: MysqlLab) -> None:
    lab = aurora_mysql_lab
    sessions = [open_session(lab, host) for host in lab.hosts]
    record = lab.drop_sessions(refuse_seconds=0.01)
    names = [event.name for event in record.events]
    assert names == ["logins_refused"] * 3 + ["sessions_dropped"] * 3 + ["logins_accepted"] * 3
    for session in sessions:
        with pytest.raises(mysql.connector.Error) as lost:
            execute(session, "SELECT 1")
        assert lost.value.errno in LOST | {1927}
        session.close()
    assert {status.state for status in lab.status()} == {"available"}
    for host in lab.hosts:
        assert rows(lab, host, "SELECT 1") == [(1,)]
