"""MySQL Connector through the faults of a real cluster, in all its faces."""

from __future__ import annotations

import copy
import logging
import pickle
from contextlib import suppress

import mysql.connector
import pytest
from mysql.connector.errors import IntegrityError, OperationalError, ProgrammingError

import aurora_actors
from aurora_actors import (
    AwsWrapperConnection,
    FailoverError,
    FailoverSuccessError,
    Outcome,
    TransactionResolutionUnknownError,
)
from aurora_actors.actors.system import system
from aurora_actors.lab import MysqlLab
from tests.failover.applications import Noted
from tests.failover.mysql_faces import WHO, Face, done, in_every_face, kill_own_session, query, where


def test_as_users_of_the_aws_wrapper_write_it(aurora_mysql_lab: MysqlLab) -> None:
    with AwsWrapperConnection.connect(
        mysql.connector.Connect,
        "host=database.cluster-xyz.us-east-1.rds.amazonaws.com database=db user=john password=pwd",
        plugins="failover",
        wrapper_dialect="aurora-mysql",
        autocommit=True,
    ) as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT @@aurora_server_id")
        assert cursor.fetchone() == (aurora_mysql_lab.writer,)


@in_every_face
async def test_it_is_the_driver_s_own_connection(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        assert isinstance(conn, face.driver_class)
        assert (type(conn).__name__, type(conn).__module__) == (
            face.driver_class.__name__, face.driver_class.__module__,
        )  # fmt: skip
        assert await query(conn, "SELECT 1 AS one", dictionary=True) == [{"one": 1}]
        assert await query(conn, "SELECT %s AS one", ("it's",), prepared=True) == [("it's",)]
        cursor = await done(conn.cursor())
        assert type(cursor).__name__ in ("MySQLCursor", "CMySQLCursor")
        with pytest.raises(ProgrammingError) as caught:
            await done(cursor.execute("SELECT * FROM nowhere"))
        assert (caught.value.errno, caught.value.sqlstate) == (1146, "42S02")
        await query(conn, "CREATE TABLE t (id int PRIMARY KEY)")
        await query(conn, "INSERT INTO t VALUES (1)")
        with pytest.raises(IntegrityError):
            await query(conn, "INSERT INTO t VALUES (1)")


@in_every_face
async def test_three_failovers_in_a_row_on_one_connection(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        await query(conn, "CREATE TABLE t (id int)")
        cursor = await done(conn.cursor())
        for round_ in range(3):
            before = aurora_mysql_lab.writer
            aurora_mysql_lab.failover(how="crash")
            with pytest.raises(FailoverSuccessError) as caught:
                await done(cursor.execute("INSERT INTO t VALUES (0)"))
            error = caught.value
            assert issubclass(type(error), OperationalError)
            assert error.host is not None
            assert error.host.id == aurora_mysql_lab.writer != before
            assert (error.outcome, error.sqlstate) == (Outcome.UNKNOWN, "08S02")
            assert error.ledger is not None
            assert isinstance(error.__cause__, mysql.connector.Error)
            await done(cursor.execute("INSERT INTO t VALUES (%s)", (round_ + 1,)))
            assert await where(conn) == aurora_mysql_lab.writer
        assert await query(conn, "SELECT id FROM t ORDER BY id") == [(1,), (2,), (3,)]


@in_every_face
async def test_a_transaction_is_rolled_back_and_says_so(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, autocommit=False) as conn:
        await query(conn, "CREATE TABLE t (id int)")
        await query(conn, "INSERT INTO t VALUES (1)")
        aurora_mysql_lab.failover(how="crash")
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            await query(conn, "INSERT INTO t VALUES (2)")
        assert (caught.value.outcome, caught.value.sqlstate) == (Outcome.ROLLED_BACK, "08007")
        assert await query(conn, "SELECT * FROM t") == []


@pytest.mark.parametrize("commit", ["commit", "COMMIT", "ALTER TABLE t ADD b int"])
@in_every_face
async def test_a_commit_in_flight_has_an_unknown_outcome(aurora_mysql_lab: MysqlLab, face: Face, commit: str) -> None:
    async with face.connection(aurora_mysql_lab, autocommit=False) as conn:
        await query(conn, "CREATE TABLE t (id int)")
        cursor = await done(conn.cursor())
        await done(cursor.execute("INSERT INTO t VALUES (1)"))
        aurora_mysql_lab.failover(how="crash")
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            await done(conn.commit() if commit == "commit" else cursor.execute(commit))
        assert caught.value.outcome is Outcome.UNKNOWN
        assert await query(conn, "SELECT id FROM t") == []


@in_every_face
async def test_autocommit_is_the_server_s_word(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    """The driver's own record does not know of statements."""
    async with face.connection(aurora_mysql_lab, autocommit=False) as conn:
        await query(conn, "CREATE TABLE t (id int)")
        await query(conn, "SET autocommit = 1")
        cursor = await done(conn.cursor())
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverSuccessError) as caught:
            await done(cursor.execute("INSERT INTO t VALUES (1)"))
        assert caught.value.outcome is Outcome.UNKNOWN


@in_every_face
async def test_a_killed_session_on_a_healthy_writer(
    aurora_mysql_lab: MysqlLab, signals_noted: Noted, face: Face
) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        cursor = await done(conn.cursor())
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverSuccessError) as caught:
            await done(cursor.execute("SELECT 1"))
        assert caught.value.host is not None
        assert caught.value.host.id == aurora_mysql_lab.writer
        assert await query(conn, "SELECT 1") == [(1,)]
    assert signals_noted.of("writer_changed") == []


@in_every_face
async def test_a_restart_in_place(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        aurora_mysql_lab.restart(aurora_mysql_lab.writer)
        with pytest.raises(FailoverSuccessError):
            await query(conn, "SELECT 1")
        assert await query(conn, "SELECT 1") == [(1,)]


@in_every_face
async def test_a_cursor_that_cannot_be_had_is_a_loss_too(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    """``cursor()`` asks the server; the driver then raises an error that says nothing."""
    async with face.connection(aurora_mysql_lab) as conn:
        await kill_own_session(aurora_mysql_lab, conn)
        if face.is_async:
            with pytest.raises(FailoverSuccessError):
                await conn.ping()
        else:
            with pytest.raises(FailoverSuccessError) as caught:
                conn.cursor()
            assert caught.value.outcome is Outcome.NOT_SENT
        assert await query(conn, "SELECT 1") == [(1,)]


@in_every_face
async def test_a_loss_is_found_wherever_the_driver_waits(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        await query(conn, "CREATE TABLE t (id int)")
        await query(conn, "CREATE PROCEDURE p(a int) SELECT a")
        cursor = await done(conn.cursor())
        many = [(1,), (2,)]
        for lose in (
            lambda: cursor.executemany("INSERT INTO t VALUES (%s)", many),
            lambda: cursor.executemany("UPDATE t SET id = %s", many),
            lambda: cursor.callproc("p", (1,)),
            lambda: cursor.execute("SELECT %s", ("x",)),
            lambda: conn.cmd_query("SELECT 1"),
            conn.commit,
            conn.rollback,
            conn.ping,
            conn.start_transaction,
            lambda: conn.cmd_init_db("db"),
            # The C extension swallows the error of this one, and only records what was asked for.
            lambda: face.set(conn, "time_zone" if face.name == "c" else "autocommit", "+00:00"),
            lambda: face.set(conn, "time_zone", "+00:00"),
            lambda: conn.set_charset_collation("utf8mb4"),
            conn.reset_session,
        ):
            await kill_own_session(aurora_mysql_lab, conn)
            with pytest.raises(FailoverSuccessError):
                await done(lose())
            assert await query(conn, "SELECT 1") == [(1,)]
        assert await query(conn, "SELECT * FROM t") == []


@in_every_face
async def test_the_session_is_restored(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, autocommit=False) as conn:
        conn.of_the_application = "kept"
        await query(conn, "CREATE DATABASE IF NOT EXISTS db")
        await face.set(conn, "autocommit", True)
        await face.set(conn, "time_zone", "+05:30")
        await face.set(conn, "sql_mode", "ANSI_QUOTES,STRICT_ALL_TABLES")
        await face.set(conn, "read_only", True)
        await done(conn.set_charset_collation("latin1", "latin1_general_ci"))
        await query(conn, "USE information_schema")
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverSuccessError) as caught:
            await done(conn.ping())
        assert "session restored" in str(caught.value)
        (row,) = await query(
            conn,
            "SELECT @@autocommit, @@time_zone, @@sql_mode, @@collation_connection, DATABASE()",
        )
        assert row == (1, "+05:30", "ANSI_QUOTES,STRICT_ALL_TABLES", "latin1_general_ci", "information_schema")
        assert conn.read_only is True
        assert conn.of_the_application == "kept"
        with pytest.raises(mysql.connector.Error, match="READ ONLY"):
            await query(conn, "CREATE TABLE db.t (id int)")
        await face.set(conn, "read_only", False)
        await query(conn, "CREATE TABLE db.t (id int)")


@in_every_face
async def test_reconnecting_at_the_application_s_wish(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        number = conn.connection_id
        await done(conn.reconnect())
        assert conn.connection_id != number
        await kill_own_session(aurora_mysql_lab, conn)
        await done(conn.ping(reconnect=True))
        assert await query(conn, "SELECT 1") == [(1,)]
        aurora_mysql_lab.failover(how="crash")
        await done(conn.reconnect())
        assert await where(conn) == aurora_mysql_lab.writer
        aurora_mysql_lab.failover(how="crash")
        with pytest.raises(FailoverSuccessError):
            await done(conn.ping())


@in_every_face
async def test_many_connections_share_one_search(
    aurora_mysql_lab: MysqlLab, signals_noted: Noted, face: Face
) -> None:
    conns = [await face.connect(aurora_mysql_lab) for _ in range(10)]
    aurora_mysql_lab.failover(how="crash")
    for conn in conns:
        # One that begins after the news finds the writer without an error.
        with suppress(FailoverSuccessError):
            await query(conn, "SELECT 1")
        assert await where(conn) == aurora_mysql_lab.writer
    started = [event.lost for event in signals_noted.of("failover_started")]
    assert len(started) == 1, started
    for conn in conns:
        await done(conn.close())


@in_every_face
async def test_a_reader_endpoint_leads_to_a_reader_and_goes_on(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, "reader") as conn:
        before = await where(conn)
        assert before in aurora_mysql_lab.readers
        aurora_mysql_lab.crash(before)
        with pytest.raises(FailoverSuccessError):
            await query(conn, "SELECT 1")
        assert await query(conn, "SELECT @@innodb_read_only") == [(1,)]
        with pytest.raises(mysql.connector.Error) as caught:
            await query(conn, "CREATE TABLE t (id int)")
        assert not isinstance(caught.value, aurora_actors.FailoverError)


@in_every_face
async def test_failover_that_finds_nobody_says_what_was_tried(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, failover_timeout_sec=1.0) as conn:
        cursor = await done(conn.cursor())
        for host in aurora_mysql_lab.hosts:
            aurora_mysql_lab.crash(host)
        with pytest.raises(aurora_actors.FailoverFailedError, match=r"failover_timeout_sec") as caught:
            await done(cursor.execute("SELECT 1"))
        assert caught.value.attempts
        assert not await done(conn.is_connected())
        with pytest.raises(mysql.connector.Error) as again:
            await done(cursor.execute("SELECT 1"))
        assert not isinstance(again.value, aurora_actors.FailoverError)


@in_every_face
async def test_failover_errors_can_be_pickled_and_copied_and_show_no_secret(
    aurora_mysql_lab: MysqlLab, caplog: pytest.LogCaptureFixture, face: Face
) -> None:
    caplog.set_level(logging.DEBUG, "aurora_actors")
    async with face.connection(aurora_mysql_lab) as conn:
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverSuccessError) as caught:
            await done(conn.ping())
        shown = [repr(conn), repr(system.clusters), str(caught.value), repr(caught.value), caplog.text]
    assert [text for text in shown if "pwd" in text] == []
    for twin in (pickle.loads(pickle.dumps(caught.value)), copy.deepcopy(caught.value)):
        assert type(twin) is type(caught.value)
        assert (twin.outcome, twin.host, twin.ledger, twin.sqlstate) == (
            caught.value.outcome, caught.value.host, caught.value.ledger, "08S02",
        )  # fmt: skip


@pytest.mark.aurora_mysql_lab(flavour="plain")
@in_every_face
async def test_a_plain_database_behaves_as_without_us(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    address, port = aurora_mysql_lab.address(aurora_mysql_lab.writer)
    conn = await face.connect_with(aurora_mysql_lab.conninfo("writer", host=address, port=port), autocommit=True)
    assert system.clusters == ()
    cursor = await done(conn.cursor())
    assert aurora_mysql_lab.kill_session(aurora_mysql_lab.writer, conn.connection_id)
    with pytest.raises(mysql.connector.Error) as caught:
        await done(cursor.execute("SELECT 1"))
    assert not isinstance(caught.value, aurora_actors.FailoverError)
    await done(conn.reconnect())
    assert await query(conn, "SELECT 1") == [(1,)]
    await done(conn.close())


@pytest.mark.aurora_mysql_lab(flavour="multi-az")
@in_every_face
async def test_a_multi_az_cluster_through_its_endpoint(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        assert system.clusters[0].naming.dialect.code == "rds-multi-az-mysql-cluster"
        assert await query(conn, "SELECT @@read_only") in ([(0,)], [("OFF",)])
        aurora_mysql_lab.failover(how="crash")
        with pytest.raises(FailoverSuccessError) as caught:
            await query(conn, "SELECT 1")
        assert caught.value.host is not None
        assert caught.value.host.id == aurora_mysql_lab.writer


@pytest.mark.aurora_mysql_lab(dns_lag_seconds=60.0)
@in_every_face
async def test_a_new_connection_does_not_trust_late_dns(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    aurora_mysql_lab.failover(how="planned")
    aurora_mysql_lab.wait_ready()
    async with face.connection(aurora_mysql_lab) as conn:
        assert await query(conn, WHO) == [(aurora_mysql_lab.writer,)]


@in_every_face
async def test_a_wrong_password_is_the_driver_s_error(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    with pytest.raises(mysql.connector.Error) as caught:
        await face.connect(aurora_mysql_lab, password="wrong")
    # Real MySQL first wants TLS for a password that it has not seen, which the lab's front does not offer.
    assert caught.value.errno in (1045, 2061)
    assert not isinstance(caught.value, aurora_actors.FailoverError)


@in_every_face
async def test_another_user_of_the_session_goes_along(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        await query(conn, "SET @a = 1")
        await done(conn.cmd_change_user(username="john", password="pwd", database="information_schema"))
        # The driver's aio passes the database over.
        before = await query(conn, "SELECT USER(), DATABASE(), @a")
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverSuccessError):
            await done(conn.ping())
        assert await query(conn, "SELECT USER(), DATABASE(), @a") == before


@in_every_face
async def test_the_engine_is_found_out_behind_an_instance_endpoint(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, aurora_mysql_lab.hosts[1]) as conn:
        assert system.clusters[0].naming.dialect.code == "aurora-mysql"
        assert await where(conn) == aurora_mysql_lab.hosts[1]


@pytest.mark.parametrize("step", ["XA PREPARE 'x'", "XA COMMIT 'x'", "XA ROLLBACK 'x'", ""])
@in_every_face
async def test_a_loss_in_xa_is_never_told_as_rolled_back(aurora_mysql_lab: MysqlLab, face: Face, step: str) -> None:
    """What is prepared outlives its session, and can be finished on the next."""
    before = ["XA START 'x'", "INSERT INTO t VALUES (1)", "XA END 'x'"]
    before += ["XA PREPARE 'x'"] * ("PREPARE" not in step)
    async with face.connection(aurora_mysql_lab, autocommit=False) as conn:
        await query(conn, "CREATE TABLE t (id int)")
        for each in before:
            await query(conn, each)
        cursor = await done(conn.cursor())
        assert aurora_mysql_lab.kill_session(aurora_mysql_lab.writer, conn.connection_id)
        with pytest.raises(FailoverError) as caught:
            await (done(cursor.execute(step)) if step else query(conn, "SELECT 1"))
        assert caught.value.outcome is Outcome.UNKNOWN
        prepared = len(await query(conn, "XA RECOVER"))
        await query(conn, "SET autocommit = 1")  # which MariaDB wants of who finishes another session's
        assert prepared == ("PREPARE" not in step)
        if prepared:
            await query(conn, "XA COMMIT 'x'")
        assert await query(conn, "SELECT id FROM t") == [(1,)] * prepared
