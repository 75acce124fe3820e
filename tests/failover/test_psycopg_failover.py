"""psycopg connections through the faults of a real cluster."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import errors, rows

import aurora_actors
from aurora_actors import FailoverSuccessError, Outcome, TransactionResolutionUnknownError
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from aurora_actors.lab.values import Habit
from tests.failover.colours import Colour


def kill_own_session(lab: PostgresLab, conn: Any) -> None:
    lab.kill_session(conn.execute("SELECT aurora_db_instance_identifier()").fetchone()[0], conn.info.backend_pid)


def swallow_in_a_block(lab: PostgresLab, conn: Any, raised: list[Exception]) -> None:
    with conn.transaction():
        conn.execute("INSERT INTO t VALUES (1)")
        kill_own_session(lab, conn)
        try:
            conn.execute("INSERT INTO t VALUES (2)")
        except TransactionResolutionUnknownError as error:
            raised.append(error)
        conn.execute("INSERT INTO t VALUES (3)")


def insert_until_it_fails(conn: Any) -> None:
    while True:
        conn.execute("INSERT INTO t VALUES (1)")


def test_as_users_of_the_aws_wrapper_write_it(aurora_lab: PostgresLab, colour: Colour) -> None:
    conninfo = "host=database.cluster-xyz.us-east-1.rds.amazonaws.com dbname=db user=john password=pwd"
    parameters = {"plugins": "failover", "wrapper_dialect": "aurora-pg", "autocommit": True}
    opened = colour.run(colour.wrapper.connect, colour.connection.connect, conninfo, **parameters)
    with colour.spoken(opened) as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT aurora_db_instance_identifier()")
        assert cursor.fetchone() == (aurora_lab.writer,)


def test_the_wrapper_s_default_list_connects(aurora_lab: PostgresLab, colour: Colour) -> None:
    plugins = "initial_connection, aurora_connection_tracker, failover_v2, host_monitoring_v2"
    with colour.connect(aurora_lab, plugins=plugins, autocommit=True) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_it_is_the_driver_s_own_connection(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, row_factory=rows.dict_row) as conn:
        held = colour.plain(conn)
        assert isinstance(held, colour.connection)
        assert type(held).__name__ == colour.connection.__name__
        conn.autocommit = True
        assert conn.execute("SELECT 1 AS one").fetchone() == {"one": 1}
        conn.row_factory = rows.tuple_row
        assert conn.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(errors.UndefinedTable) as caught:
            conn.execute("SELECT * FROM nowhere")
        assert caught.value.diag.sqlstate == "42P01"
    assert conn.closed


def test_a_with_block_commits(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab) as conn:
        conn.execute("CREATE TABLE kept (id int)")
        conn.execute("INSERT INTO kept VALUES (1)")
    with colour.connect(aurora_lab) as conn:
        assert conn.execute("SELECT id FROM kept").fetchall() == [(1,)]


def test_three_failovers_in_a_row_on_one_connection(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        conn.execute("CREATE TABLE t (id int)")
        for round_ in range(3):
            before = aurora_lab.writer
            aurora_lab.failover(how="crash")
            with pytest.raises(FailoverSuccessError) as caught:
                conn.execute("INSERT INTO t VALUES (0)")
            error = caught.value
            assert issubclass(type(error), psycopg.OperationalError)
            assert error.host is not None
            assert error.host.id == aurora_lab.writer != before
            assert error.outcome is Outcome.UNKNOWN
            assert error.sqlstate == "08S02"
            assert error.ledger is not None
            assert error.ledger.restored is not None
            assert isinstance(error.__cause__, psycopg.OperationalError)
            conn.execute("INSERT INTO t VALUES (%s)", (round_ + 1,))
            assert conn.execute("SELECT aurora_db_instance_identifier()").fetchone() == (aurora_lab.writer,)
            aurora_lab.wait_ready()
        assert conn.execute("SELECT count(*) FROM t WHERE id > 0").fetchone() == (3,)


@pytest.mark.parametrize("habit", ["keep", "drop", "restart"])
def test_every_habit_of_a_promotion_is_survived(habit: Habit, colour: Colour) -> None:
    with PostgresLab(habit=habit, restart_seconds=0.5) as lab:
        before = aurora_actors.set_resolver(lab.resolve)
        try:
            with colour.connect(lab, autocommit=True) as conn:
                conn.execute("CREATE TABLE t (id int)")
                with ThreadPoolExecutor(1) as pool:
                    promotion = pool.submit(lab.failover, how="crash", after_seconds=0.3)
                    with pytest.raises(FailoverSuccessError):
                        insert_until_it_fails(conn)
                    promotion.result(30)
                assert conn.execute("SELECT aurora_db_instance_identifier()").fetchone() == (lab.writer,)
                conn.execute("INSERT INTO t VALUES (2)")
        finally:
            aurora_actors.set_resolver(before)


def test_a_transaction_is_rolled_back_and_says_so(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab) as conn:
        conn.execute("CREATE TABLE t (id int)")
        conn.commit()
        conn.execute("INSERT INTO t VALUES (1)")
        aurora_lab.failover(how="crash")
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            conn.execute("INSERT INTO t VALUES (2)")
        assert caught.value.outcome is Outcome.ROLLED_BACK
        assert caught.value.sqlstate == "08007"
        assert conn.execute("SELECT * FROM t").fetchall() == []


def test_a_commit_in_flight_has_an_unknown_outcome(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab) as conn:
        conn.execute("CREATE TABLE t (id int)")
        conn.commit()
        conn.execute("INSERT INTO t VALUES (1)")
        aurora_lab.failover(how="crash")
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            conn.commit()
        assert caught.value.outcome is Outcome.UNKNOWN
        assert conn.execute("SELECT * FROM t").fetchall() == []


def test_a_transaction_block_stays_on_its_session(aurora_lab: PostgresLab, colour: Colour) -> None:
    """What the application sends after it swallowed the error must not run outside the block's transaction."""
    with colour.connect(aurora_lab, autocommit=True) as conn:
        conn.execute("CREATE TABLE t (id int)")
        raised: list[Exception] = []
        with pytest.raises(TransactionResolutionUnknownError) as last:
            swallow_in_a_block(aurora_lab, conn, raised)
        assert raised == [last.value]
        assert conn.execute("SELECT * FROM t").fetchall() == []
        with conn.transaction():
            conn.execute("INSERT INTO t VALUES (4)")
        assert conn.execute("SELECT * FROM t").fetchall() == [(4,)]


def test_a_killed_session_on_a_healthy_writer(aurora_lab: PostgresLab, colour: Colour) -> None:
    changed: list[Any] = []
    aurora_actors.signals.writer_changed.connect(changed.append, weak=False)
    try:
        with colour.connect(aurora_lab, autocommit=True) as conn:
            kill_own_session(aurora_lab, conn)
            with pytest.raises(FailoverSuccessError) as caught:
                conn.execute("SELECT 1")
            assert caught.value.host is not None
            assert caught.value.host.id == aurora_lab.writer
            assert conn.execute("SELECT 1").fetchone() == (1,)
        assert aurora_actors.signals.settle(5.0)
    finally:
        aurora_actors.signals.writer_changed.disconnect(changed.append)
    assert changed == []


def test_a_restart_in_place(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        aurora_lab.restart(aurora_lab.writer)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_open_cursors_and_fetched_rows_outlive_the_switch(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT n FROM generate_series(1, 3) AS n")
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert cursor.fetchall() == [(1,), (2,), (3,)]
        assert cursor.execute("SELECT n FROM generate_series(1, 3) AS n").fetchall() == [(1,), (2,), (3,)]


def test_losses_in_executemany_copy_and_pipeline_are_recovered(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        conn.execute("CREATE TABLE t (id int)")
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError):
            conn.cursor().executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)])
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError), conn.cursor().copy("COPY t FROM STDIN") as copying:
            copying.write_row((1,))
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError), conn.pipeline():
            conn.execute("SELECT 1").fetchone()
        assert conn.execute("SELECT * FROM t").fetchall() == []


def test_the_session_is_restored(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab) as conn:
        conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        conn.execute("SET TIME ZONE 'Asia/Tokyo'")
        conn.commit()
        conn.execute("SELECT 1")
        aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
        with pytest.raises(TransactionResolutionUnknownError):
            conn.execute("SELECT 1")
        assert conn.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
        assert conn.execute("SHOW timezone").fetchone() == ("Asia/Tokyo",)


def test_many_connections_share_one_search(aurora_lab: PostgresLab, colour: Colour) -> None:
    started: list[Any] = []
    switched: list[Any] = []

    def note(_: object, event: Any) -> None:
        started.append(event)

    def note_switch(_: object, event: Any) -> None:
        switched.append(event)

    aurora_actors.signals.failover_started.connect(note)
    aurora_actors.signals.connection_switched.connect(note_switch)
    conns = [colour.connect(aurora_lab, autocommit=True) for _ in range(20)]
    aurora_lab.failover(how="crash")

    def lose(conn: Any) -> str:
        # One that begins after the news finds the writer without an error.
        with suppress(FailoverSuccessError):
            conn.execute("SELECT 1")
        name: str = conn.execute("SELECT aurora_db_instance_identifier()").fetchone()[0]
        return name

    with ThreadPoolExecutor(len(conns)) as pool:
        assert set(pool.map(lose, conns)) == {aurora_lab.writer}
    assert aurora_actors.signals.settle(5.0)
    assert len(started) == 1
    assert len(switched) == len(conns)
    for conn in conns:
        conn.close()


def test_a_reader_endpoint_leads_to_a_reader_and_goes_on(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, "reader", autocommit=True, failover_mode="strict_reader") as conn:
        before = conn.execute("SELECT aurora_db_instance_identifier()").fetchone()[0]
        assert before in aurora_lab.readers
        aurora_lab.crash(before)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert conn.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)


@pytest.mark.aurora_lab(dns_lag_seconds=60.0)
def test_a_new_connection_does_not_trust_late_dns(aurora_lab: PostgresLab, colour: Colour) -> None:
    aurora_lab.failover(how="planned")
    aurora_lab.wait_ready()
    with colour.connect(aurora_lab, autocommit=True) as conn:
        assert conn.execute("SELECT aurora_db_instance_identifier()").fetchone() == (aurora_lab.writer,)


def test_failover_that_finds_nobody_says_what_was_tried(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True, failover_timeout_sec=1.0) as conn:
        for host in aurora_lab.hosts:
            aurora_lab.crash(host)
        with pytest.raises(aurora_actors.FailoverFailedError, match=r"failover_timeout_sec") as caught:
            conn.execute("SELECT 1")
        assert caught.value.attempts
        assert "Whether the execute took effect is not known" in str(caught.value)
        assert conn.closed
        with pytest.raises(psycopg.OperationalError, match="closed"):
            conn.execute("SELECT 1")


def test_failover_errors_can_be_pickled_and_copied(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError) as caught:
            conn.execute("SELECT 1")
    for twin in (pickle.loads(pickle.dumps(caught.value)), copy.deepcopy(caught.value)):
        assert type(twin) is type(caught.value)
        assert (twin.outcome, twin.host, twin.ledger) == (
            caught.value.outcome,
            caught.value.host,
            caught.value.ledger,
        )


def test_no_secret_is_logged(aurora_lab: PostgresLab, caplog: pytest.LogCaptureFixture, colour: Colour) -> None:
    caplog.set_level(logging.DEBUG)
    with colour.connect(aurora_lab, autocommit=True) as conn:
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError) as caught:
            conn.execute("SELECT 1")
        shown = [repr(conn), repr(system.clusters), str(caught.value), repr(caught.value), caplog.text]
    assert [text for text in shown if "pwd" in text] == []


@pytest.mark.aurora_lab(flavour="plain")
def test_a_plain_database_behaves_as_without_us(aurora_lab: PostgresLab, colour: Colour) -> None:
    address, port = aurora_lab.address(aurora_lab.writer)
    conninfo = aurora_lab.conninfo("writer", host=address, port=port)
    # Those of clusters of before may be about to end.
    before = set(threading.enumerate())
    conn = colour.open(conninfo, autocommit=True)
    assert system.clusters == ()
    assert not [thread for thread in set(threading.enumerate()) - before if "topology" in thread.name]
    aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
    with pytest.raises(errors.AdminShutdown):
        conn.execute("SELECT 1")
    assert conn.closed
    conn.close()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"failover_timeot_sec": 3}, "failover_timeout_sec"),
        ({"failover_timeout_sec": -1}, "failover_timeout_sec"),
        ({"plugins": "failovr"}, "did you mean 'failover"),
        ({"wrapper_dialect": "aurora-pgg"}, "aurora-pg"),
        ({"cluster_instance_host_pattern": "db.example.com"}, r"\?"),
        ({"failover_mode": "strict-writter"}, "strict_writer"),
    ],
)
def test_bad_input_is_one_clear_error_before_anything_starts(
    parameters: dict[str, Any], message: str, colour: Colour
) -> None:
    before = threading.active_count()
    with pytest.raises(aurora_actors.ConfigurationError, match=message):
        colour.open("host=127.0.0.1 port=1 user=x", **parameters)
    assert threading.active_count() == before


def test_a_wrong_password_is_the_driver_s_error(aurora_lab: PostgresLab, colour: Colour) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        colour.connect(aurora_lab, password="wrong")
