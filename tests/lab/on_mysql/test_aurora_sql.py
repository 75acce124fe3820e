"""What only Aurora MySQL and Multi-AZ clusters know, answered from the real state of the cluster."""

from __future__ import annotations

import datetime as dt
from typing import Any

import mysql.connector
import pytest

from aurora_actors.lab import MysqlLab
from tests.lab.on_mysql.sessions import TOPOLOGY, believed_writers, connect, execute, rows
from tests.lab.sessions import eventually

WRITER_ID = (
    "SELECT SERVER_ID FROM information_schema.replica_host_status "
    "WHERE SESSION_ID = 'MASTER_SESSION_ID' AND SERVER_ID = @@aurora_server_id"
)
KINDS: list[dict[str, Any]] = [{}, {"prepared": True}]


def check_every_host(lab: MysqlLab) -> None:
    for host in lab.hosts:
        writes = host == lab.writer
        with connect(lab, host) as session:
            for kind in KINDS:
                assert execute(session, "SELECT @@aurora_server_id, @@aurora_server_id", **kind) == [(host, host)]
                assert execute(session, "SELECT @@innodb_read_only", **kind) == [(int(not writes),)]
                assert execute(session, WRITER_ID, **kind) == ([(host,)] if writes else [])
                topology = execute(session, TOPOLOGY, **kind)
                assert sorted(row[0] for row in topology) == sorted(lab.hosts)
                assert [row[0] for row in topology if row[1]] == [lab.writer]
                assert all(isinstance(row[2], float) and isinstance(row[4], dt.datetime) for row in topology)
            ((name, version),) = execute(session, "SHOW VARIABLES LIKE 'aurora_version'")
            assert (name, version[0]) == ("aurora_version", "3")
            assert execute(session, "SELECT AURORA_VERSION(), @@aurora_version") == [(version, version)]


def test_every_host_answers_before_and_after_a_failover(aurora_mysql_lab: MysqlLab) -> None:
    check_every_host(aurora_mysql_lab)
    aurora_mysql_lab.failover()
    aurora_mysql_lab.wait_ready()
    check_every_host(aurora_mysql_lab)


def test_a_prepared_statement_tells_of_the_present(aurora_mysql_lab: MysqlLab) -> None:
    with connect(aurora_mysql_lab, "database-3") as session, session.cursor(prepared=True) as cursor:
        for writer in ("database-1", "database-2"):
            if writer != aurora_mysql_lab.writer:
                aurora_mysql_lab.failover(writer)
            cursor.execute(TOPOLOGY)
            assert [row[0] for row in cursor.fetchall() if row[1]] == [writer]


def test_columns_have_the_names_that_they_have_on_aurora(aurora_mysql_lab: MysqlLab) -> None:
    with connect(aurora_mysql_lab) as session, session.cursor() as cursor:
        cursor.execute("SELECT @@aurora_server_id, @@innodb_read_only, @@aurora_version AS version")
        cursor.fetchall()
        assert cursor.column_names == ("@@aurora_server_id", "@@innodb_read_only", "version")
        cursor.execute("SELECT * FROM information_schema.replica_host_status")
        cursor.fetchall()
        assert cursor.column_names[:2] == ("SERVER_ID", "SESSION_ID")
        cursor.execute("SHOW GLOBAL VARIABLES LIKE 'aurora%'")
        assert [row[0] for row in cursor.fetchall()] == ["aurora_server_id", "aurora_version"]
        assert cursor.column_names == ("Variable_name", "Value")


def test_what_applications_store_is_left_alone(aurora_mysql_lab: MysqlLab) -> None:
    text = "@@aurora_server_id it's \\ information_schema.replica_host_status"
    with connect(aurora_mysql_lab) as session:
        execute(session, "CREATE TABLE notes (note text)")
        for kind in KINDS:
            execute(session, "INSERT INTO notes VALUES (%s)", (text,), **kind)
        execute(session, "INSERT INTO notes VALUES ('@@aurora_version') /* @@aurora_version */")
        assert execute(session, "SELECT note FROM notes") == [(text,), (text,), ("@@aurora_version",)]


@pytest.mark.parametrize("size", [1, 70_000, 3_000_000, 17_000_000])
def test_statements_and_rows_of_any_size_pass(aurora_mysql_lab: MysqlLab, size: int) -> None:
    with connect(aurora_mysql_lab) as session:
        text = "x" * (size - 1) + "y"
        assert execute(session, "SELECT %s, LENGTH(%s)", (text, text[:9])) == [(text, min(size, 9))]
        assert execute(session, "SELECT 1") == [(1,)]


def test_many_rows_pass_while_the_client_is_slow_to_read(aurora_mysql_lab: MysqlLab) -> None:
    with connect(aurora_mysql_lab) as session, session.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
            "SELECT a.i, REPEAT('x', 100) FROM n a, n b LIMIT 100000"
        )
        assert sum(1 for _ in cursor) == 100_000


def test_session_ids_tell_readers_apart(aurora_mysql_lab: MysqlLab) -> None:
    statement = "SELECT server_id, session_id FROM information_schema.replica_host_status"
    found: dict[str, str] = dict(rows(aurora_mysql_lab, "writer", statement))
    assert found.pop(aurora_mysql_lab.writer) == "MASTER_SESSION_ID"
    assert len(set(found.values())) == len(aurora_mysql_lab.readers) == 2


def test_the_report_of_a_live_host_advances_and_that_of_a_dead_one_does_not(aurora_mysql_lab: MysqlLab) -> None:
    aurora_mysql_lab.crash("database-3")
    statement = "SELECT server_id, last_update_timestamp FROM information_schema.replica_host_status"
    with connect(aurora_mysql_lab) as session:
        before: dict[str, dt.datetime] = dict(execute(session, statement))
        after: dict[str, dt.datetime] = dict(execute(session, statement))
    assert after["database-1"] > before["database-1"]
    assert after["database-3"] == before["database-3"]


@pytest.mark.aurora_mysql_lab(stale_topology_seconds=1.5)
def test_a_reader_may_tell_the_old_topology_for_a_while(aurora_mysql_lab: MysqlLab) -> None:
    aurora_mysql_lab.failover("database-2")
    assert believed_writers(aurora_mysql_lab, "database-3") == {"database-1"}
    assert believed_writers(aurora_mysql_lab, "database-2") == {"database-2"}
    eventually(lambda: believed_writers(aurora_mysql_lab, "database-3") == {"database-2"})


@pytest.mark.aurora_mysql_lab(flavour="multi-az")
def test_a_multi_az_cluster_has_its_table(aurora_mysql_lab: MysqlLab) -> None:
    lab = aurora_mysql_lab
    lab.failover()
    lab.wait_ready()
    (writer_id,) = rows(lab, "writer", "SELECT @@server_id")
    for host in lab.hosts:
        with connect(lab, host) as session:
            topology = execute(session, "SELECT id, endpoint, port FROM mysql.rds_topology ORDER BY endpoint")
            assert [row[1:] for row in topology] == [(lab.endpoint(name), lab.address(name)[1]) for name in lab.hosts]
            own = "SELECT SUBSTRING_INDEX(endpoint, '.', 1) FROM mysql.rds_topology WHERE id = @@server_id"
            assert execute(session, own) == [(host,)]
            status = execute(session, "SHOW REPLICA STATUS")
            assert [row[39] for row in status] == ([] if host == lab.writer else list(writer_id))
            assert execute(session, "SHOW VARIABLES LIKE 'report_host'") == [("report_host", lab.endpoint(host))]
            assert execute(session, "SELECT @@read_only") == [(int(host != lab.writer),)]
            with pytest.raises(mysql.connector.Error):
                execute(session, "SELECT @@aurora_server_id")


@pytest.mark.aurora_mysql_lab(flavour="plain", hosts=2)
def test_the_plain_flavour_is_the_community_server(aurora_mysql_lab: MysqlLab) -> None:
    assert rows(aurora_mysql_lab, "writer", "SHOW VARIABLES LIKE 'aurora_version'") == []
    for statement in (TOPOLOGY, "SELECT @@aurora_server_id", "SELECT * FROM mysql.rds_topology"):
        with pytest.raises(mysql.connector.Error):
            rows(aurora_mysql_lab, "writer", statement)
    aurora_mysql_lab.failover()
    assert rows(aurora_mysql_lab, "writer", "SELECT @@read_only") == [(0,)]


def test_the_application_is_no_superuser_and_may_create_tables(aurora_mysql_lab: MysqlLab) -> None:
    with connect(aurora_mysql_lab) as session:
        execute(session, "CREATE TABLE orders (id int)")
        for forbidden in ("SET GLOBAL read_only = ON", "SELECT LOAD_FILE('/etc/hostname') FROM mysql.user"):
            with pytest.raises(mysql.connector.Error):
                execute(session, forbidden)


@pytest.mark.parametrize(
    "login", [{"password": "wrong"}, {"user": "rdsadmin", "password": ""}, {"user": "root", "password": ""}]
)
def test_a_wrong_login_is_refused(aurora_mysql_lab: MysqlLab, login: dict[str, str]) -> None:
    with pytest.raises(mysql.connector.Error) as refused, connect(aurora_mysql_lab, database=None, **login):
        raise AssertionError("logged in")
    # MySQL pretends to know every name, and asks for what the driver does not send without TLS.
    assert refused.value.sqlstate == "28000" or ("user" in login and refused.value.errno == -1)


def test_a_reader_takes_no_write(aurora_mysql_lab: MysqlLab) -> None:
    with connect(aurora_mysql_lab) as session:
        execute(session, "CREATE TABLE orders (id int)")
    with pytest.raises(mysql.connector.Error, match="read-only") as refused:
        rows(aurora_mysql_lab, aurora_mysql_lab.readers[0], "CREATE TABLE more (id int)")
    assert refused.value.errno == 1290
