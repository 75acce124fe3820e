"""Connections that were idle when their writer was lost go to the new one before their next statement."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import rows, sql

from aurora_actors import FailoverError, FailoverSuccessError, Outcome, TransactionResolutionUnknownError, signals
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.failover.colours import Colour, Connect
from tests.lab.sessions import eventually

FACT_SECONDS = 30.0
WHO = "SELECT aurora_db_instance_identifier()"
QUICK: Any = {"failure_detection_time_ms": 400, "failure_detection_interval_ms": 200}


@pytest.fixture
def switched() -> Iterator[list[Any]]:
    events: list[Any] = []

    def note(_: object, event: Any) -> None:
        events.append(event)

    signals.connection_switched.connect(note)
    yield events
    signals.connection_switched.disconnect(note)


@pytest.fixture
def connect(colour: Colour) -> Connect:
    def connect(lab: PostgresLab, endpoint: str = "writer", **parameters: Any) -> Any:
        given = {"autocommit": True, **parameters}
        return colour.connect(lab, endpoint, **given)

    return connect


def lose_writer(lab: PostgresLab, other: Any) -> None:
    """The writer dies, another is promoted, and *other*, a connection that was in use, has found out."""
    lab.failover(how="crash")
    with suppress(FailoverError):
        other.execute("SELECT 1")
    assert other.execute(WHO).fetchone() == (lab.writer,)


def test_a_clean_session_sees_no_error(aurora_lab: PostgresLab, switched: list[Any], connect: Connect) -> None:
    with connect(aurora_lab) as used, connect(aurora_lab) as idle:
        old = aurora_lab.writer
        cursor = idle.cursor()
        cursor.execute("SELECT n FROM generate_series(1, 3) AS n")
        lose_writer(aurora_lab, used)
        assert idle.stale
        assert f"stale: {aurora_lab.writer} writes now" in repr(idle._aa_link.proxy)
        assert idle.execute(WHO).fetchone() == (aurora_lab.writer,)
        assert not idle.stale
        assert cursor.fetchall() == [(1,), (2,), (3,)]
        assert cursor.execute(WHO).fetchone() == (aurora_lab.writer,)
    assert signals.settle(FACT_SECONDS)
    events = [event for event in switched if event.idle]
    assert [(event.old_host.id, event.new_host.id, event.outcome) for event in events] == [
        (old, aurora_lab.writer, "not sent")
    ]


def test_a_loss_is_noticed_though_nobody_uses_a_connection(aurora_lab: PostgresLab, connect: Connect) -> None:
    """The writer's goodbye is seen long before the next look at the topology."""
    with connect(aurora_lab, topology_refresh_ms=600_000, **QUICK) as idle:
        aurora_lab.failover(how="crash")
        eventually(lambda: idle.stale)
        assert idle.execute(WHO).fetchone() == (aurora_lab.writer,)


@pytest.mark.parametrize(
    "statement",
    [
        "DO $$ BEGIN PERFORM set_config('work_mem', '7MB', false); END $$",
        "PREPARE p AS SELECT 1",
        "CREATE TEMP TABLE scratch (id int)",
        "SELECT pg_advisory_lock(1)",
        b"PREPARE p AS SELECT 1",
        sql.SQL("PREPARE {} AS SELECT 1").format(sql.Identifier("p")),
    ],
)
def test_a_session_that_holds_something_is_told_before_anything_is_sent(
    aurora_lab: PostgresLab, statement: Any, connect: Connect
) -> None:
    with connect(aurora_lab) as used, connect(aurora_lab) as idle:
        used.execute("CREATE TABLE t (id int)")
        idle.execute(statement)
        lose_writer(aurora_lab, used)
        with pytest.raises(FailoverSuccessError) as caught:
            idle.execute("INSERT INTO t VALUES (1)")
        assert caught.value.outcome is Outcome.NOT_SENT
        assert caught.value.host is not None
        assert caught.value.host.id == aurora_lab.writer
        assert idle.execute("SELECT * FROM t").fetchall() == []
        idle.execute("INSERT INTO t VALUES (1)")  # the new session holds nothing
        assert idle.execute("SELECT * FROM t").fetchall() == [(1,)]


def test_what_the_driver_set_goes_with_a_clean_session(aurora_lab: PostgresLab, connect: Connect) -> None:
    with connect(aurora_lab) as used, connect(aurora_lab, autocommit=False) as idle:
        idle.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        idle.row_factory = rows.dict_row
        lose_writer(aurora_lab, used)
        assert idle.execute("SHOW transaction_isolation").fetchone() == {"transaction_isolation": "serializable"}


def test_an_open_transaction_is_not_moved_but_told(aurora_lab: PostgresLab, connect: Connect) -> None:
    with connect(aurora_lab) as used, connect(aurora_lab, autocommit=False) as idle:
        used.execute("CREATE TABLE t (id int)")
        idle.execute("INSERT INTO t VALUES (1)")
        lose_writer(aurora_lab, used)
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            idle.execute("INSERT INTO t VALUES (2)")
        assert caught.value.outcome is Outcome.ROLLED_BACK
        assert idle.execute("SELECT * FROM t").fetchall() == []


def test_a_block_begins_on_the_new_writer(aurora_lab: PostgresLab, connect: Connect) -> None:
    with connect(aurora_lab) as used, connect(aurora_lab) as idle, connect(aurora_lab) as other:
        used.execute("CREATE TABLE t (id int)")
        lose_writer(aurora_lab, used)
        with idle.transaction():
            idle.execute("INSERT INTO t VALUES (1)")
        other.cursor().executemany("INSERT INTO t VALUES (%s)", [(2,), (3,)])
        with used.pipeline():
            used.execute("INSERT INTO t VALUES (4)")
        assert sorted(used.execute("SELECT * FROM t").fetchall()) == [(1,), (2,), (3,), (4,)]


def test_without_failover_a_connection_stays_where_it_is(aurora_lab: PostgresLab, connect: Connect) -> None:
    with connect(aurora_lab) as used, connect(aurora_lab, enable_failover=False) as idle:
        lose_writer(aurora_lab, used)
        with pytest.raises(psycopg.OperationalError) as caught:
            idle.execute("SELECT 1")
        assert not isinstance(caught.value, FailoverError)


def test_a_muted_signal_loses_nothing(aurora_lab: PostgresLab, connect: Connect) -> None:
    with (
        signals.writer_changed.muted(),
        signals.host_down.muted(),
        connect(aurora_lab) as used,
        connect(aurora_lab) as idle,
    ):
        lose_writer(aurora_lab, used)
        assert idle.stale
        assert idle.execute(WHO).fetchone() == (aurora_lab.writer,)


def test_a_host_that_is_down_is_left_without_waiting_for_it(aurora_lab: PostgresLab, connect: Connect) -> None:
    with connect(aurora_lab, **QUICK) as used, connect(aurora_lab) as idle, ThreadPoolExecutor(1) as pool:
        call = pool.submit(used.execute, "SELECT pg_catalog.pg_sleep(3600)")
        aurora_lab.freeze(aurora_lab.writer)
        aurora_lab.failover()
        with pytest.raises(FailoverSuccessError):
            call.result(FACT_SECONDS)
        assert idle.stale
        assert idle.execute(WHO).fetchone() == (aurora_lab.writer,)


def test_a_statement_that_finds_its_server_gone_waits_for_the_new_writer(aurora_lab: PostgresLab, connect: Connect) -> None:
    """While nobody writes yet, an idle connection whose server has closed it does not even try."""
    with connect(aurora_lab) as used, connect(aurora_lab) as idle, ThreadPoolExecutor(2) as pool:
        aurora_lab.crash(aurora_lab.writer)
        lost = pool.submit(used.execute, "SELECT 1")
        eventually(lambda: system.clusters[0].cell.view.doubt is not None)
        waiting = pool.submit(lambda: idle.execute(WHO).fetchone())
        aurora_lab.failover()
        assert waiting.result(FACT_SECONDS) == (aurora_lab.writer,)
        with pytest.raises(FailoverSuccessError):
            lost.result(FACT_SECONDS)


def test_a_planned_switchover_is_followed(aurora_lab: PostgresLab, switched: list[Any], connect: Connect) -> None:
    with connect(aurora_lab) as used, connect(aurora_lab) as idle:
        aurora_lab.failover(how="planned")
        with suppress(FailoverError):
            used.execute("SELECT 1")
        assert idle.execute(WHO).fetchone() == (aurora_lab.writer,)
        assert used.execute(WHO).fetchone() == (aurora_lab.writer,)


def test_threads_on_one_connection_all_go_on(aurora_lab: PostgresLab, connect: Connect) -> None:
    with connect(aurora_lab) as used, connect(aurora_lab) as shared, ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            lose_writer(aurora_lab, used)
            names = list(pool.map(lambda _: shared.execute(WHO).fetchone(), range(12)))
            assert set(names) == {(aurora_lab.writer,)}
            aurora_lab.wait_ready()


def test_a_strict_reader_leaves_a_host_that_was_promoted(aurora_lab: PostgresLab, connect: Connect) -> None:
    with (
        connect(aurora_lab) as used,
        connect(aurora_lab, "database-2", failover_mode="strict_reader") as reader,
    ):
        assert reader.execute(WHO).fetchone() == ("database-2",)
        aurora_lab.failover("database-2", how="crash")
        with suppress(FailoverError):
            used.execute("SELECT 1")
        aurora_lab.wait_ready()
        assert reader.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)


def test_a_closed_connection_hears_no_signal(aurora_lab: PostgresLab, connect: Connect) -> None:
    def heard() -> int:
        return sum(1 for _ in signals.writer_changed.receivers_for(system.clusters[0].name))

    with connect(aurora_lab):
        before = heard()
        conn = connect(aurora_lab)
        assert heard() == before + 1
        conn.close()
        assert heard() == before
