"""Failover: who is promoted, what survives, what sessions see."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import mysql.connector
import pytest

from aurora_actors.lab import LabError, MysqlLab
from tests.lab.on_mysql.sessions import LOST, connect, execute, open_session, rows
from tests.lab.sessions import eventually, in_background

WRITERS = 4
ENOUGH = 60
"""Acknowledged rows between two failovers."""


class Writing:
    """Threads that insert numbers through every failover, and what was acknowledged to them.

    Whether the number in flight was written is not known when a session is lost; it is given up, for a new one.
    """

    def __init__(self, lab: MysqlLab) -> None:
        self.lab = lab
        self.acknowledged: list[int] = []
        self.more = threading.Condition()
        self.over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,), daemon=True) for number in range(WRITERS)]

    def __enter__(self) -> Writing:
        for thread in self._threads:
            thread.start()
        self.wait_for_more()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def wait_for_more(self) -> None:
        with self.more:
            goal = len(self.acknowledged) + ENOUGH
            assert self.more.wait_for(lambda: len(self.acknowledged) >= goal, 30)

    def _write(self, first: int) -> None:
        numbers = iter(range(first, 10_000_000, WRITERS))
        while not self.over.is_set():
            try:
                with connect(self.lab) as session:
                    self._insert(session, numbers)
            except mysql.connector.Error:
                self.over.wait(0.01)

    def _insert(self, session: Any, numbers: Any) -> None:
        for id_ in numbers:
            execute(session, "INSERT INTO written VALUES (%s)", (id_,))
            with self.more:
                self.acknowledged.append(id_)
                self.more.notify_all()
            if self.over.is_set():
                return


def found(lab: MysqlLab, endpoint: str = "writer") -> list[int]:
    return [row[0] for row in rows(lab, endpoint, "SELECT id FROM written")]


@pytest.fixture
def written(aurora_mysql_lab: MysqlLab) -> MysqlLab:
    """A lab with a table that would take a row twice."""
    with connect(aurora_mysql_lab) as session:
        execute(session, "CREATE TABLE written (id bigint)")
    return aurora_mysql_lab


HABITS = [
    pytest.param("keep", marks=pytest.mark.aurora_mysql_lab(habit="keep")),
    pytest.param("drop", marks=pytest.mark.aurora_mysql_lab(habit="drop")),
    pytest.param("restart", marks=pytest.mark.aurora_mysql_lab(habit="restart", restart_seconds=0.3)),
]


@pytest.mark.parametrize("habit", HABITS)
def test_every_acknowledged_row_is_found_once_after_failover_upon_failover(written: MysqlLab, habit: str) -> None:
    with Writing(written) as writing:
        for how in ("crash", "crash", "planned"):
            written.failover(how=how)
            writing.wait_for_more()
            written.wait_ready()
    there = found(written)
    assert len(there) == len(set(there))
    assert set(writing.acknowledged) <= set(there)
    assert len(writing.acknowledged) == len(set(writing.acknowledged)) >= 4 * ENOUGH
    for reader in written.readers:
        eventually(lambda host=reader: sorted(found(written, host)) == sorted(there))  # type: ignore[misc]


@pytest.mark.parametrize("habit", HABITS)
def test_what_sessions_see_of_a_crash(aurora_mysql_lab: MysqlLab, habit: str) -> None:
    lab = aurora_mysql_lab
    old = open_session(lab)
    on_reader = {host: open_session(lab, host) for host in lab.readers}
    record = lab.failover()
    with pytest.raises(mysql.connector.Error) as lost:
        execute(old, "SELECT 1")
    assert lost.value.errno in LOST
    promoted = on_reader.pop(lab.writer)
    if habit == "keep":
        execute(promoted, "CREATE TABLE orders (id int)")
    else:
        with pytest.raises(mysql.connector.Error) as dropped:
            execute(promoted, "SELECT 1")
        assert dropped.value.errno in LOST
    (other,) = on_reader.values()
    assert execute(other, "SELECT 1") == [(1,)]
    for session in (old, promoted, other):
        with suppress(mysql.connector.Error):
            session.close()
    assert record.killed_at < record.promoted_at < record.first_commit_at < record.finished_at
    lab.wait_ready()
    assert {status.timeline for status in lab.status()} == {2}


def test_an_old_writer_comes_back_under_a_new_server_id(aurora_mysql_lab: MysqlLab) -> None:
    before = rows(aurora_mysql_lab, "database-1", "SELECT @@server_id")
    aurora_mysql_lab.failover()
    aurora_mysql_lab.wait_ready()
    others = [rows(aurora_mysql_lab, host, "SELECT @@server_id") for host in ("database-2", "database-3")]
    assert rows(aurora_mysql_lab, "database-1", "SELECT @@server_id") not in [before, *others]
    assert rows(aurora_mysql_lab, "database-1", "SELECT @@read_only") == [(1,)]


def test_a_planned_failover_goes_where_it_is_told(aurora_mysql_lab: MysqlLab) -> None:
    with connect(aurora_mysql_lab) as session:
        record = aurora_mysql_lab.failover("database-3", "planned")
        assert aurora_mysql_lab.writer == "database-3"
        with pytest.raises(mysql.connector.Error) as lost:
            execute(session, "SELECT 1")
        assert lost.value.errno in LOST | {1053, 1927}
    assert record.happened("stopped")
    assert not record.happened("killed")
    aurora_mysql_lab.wait_ready()
    names = [event.name for event in aurora_mysql_lab.events if event.host == "database-1"]
    assert names == ["stop_requested", "stopped", "rejoined"]


def test_locks_of_a_session_do_not_stop_a_planned_failover(written: MysqlLab) -> None:
    with connect(written) as session:
        execute(session, "LOCK TABLES written WRITE")
        written.failover(how="planned")
    assert written.writer != "database-1"


def test_a_host_that_is_behind_first_receives_what_it_lacks(written: MysqlLab) -> None:
    written.cluster.host("database-3").server.query("STOP REPLICA IO_THREAD")
    with connect(written) as session:
        for number in range(100):
            execute(session, "INSERT INTO written VALUES (%s)", (number,))
    written.failover("database-3")
    assert written.writer == "database-3"
    assert len(found(written)) == 100


def test_what_a_promoted_host_received_is_applied_first(written: MysqlLab) -> None:
    for host in ("database-2", "database-3"):
        written.cluster.host(host).server.query("STOP REPLICA SQL_THREAD")
    with connect(written) as session:
        for number in range(100):
            execute(session, "INSERT INTO written VALUES (%s)", (number,))
    for host in ("database-2", "database-3"):
        written.cluster.host(host).server.query("START REPLICA SQL_THREAD")
    written.failover()
    assert sorted(found(written)) == list(range(100))


def test_the_old_writer_stays_down_if_it_is_not_to_rejoin(aurora_mysql_lab: MysqlLab) -> None:
    aurora_mysql_lab.failover(rejoin=False)
    assert aurora_mysql_lab.status()[0].state == "crashed"
    aurora_mysql_lab.restart("database-1")
    assert aurora_mysql_lab.status()[0].role == "READER"
    aurora_mysql_lab.wait_ready()


@pytest.mark.aurora_mysql_lab(dns_lag_seconds=1.0)
def test_names_lag_behind_a_failover(aurora_mysql_lab: MysqlLab) -> None:
    lab = aurora_mysql_lab
    old = lab.resolve(lab.writer_endpoint, 3306)
    lab.failover()
    assert lab.resolve(lab.writer_endpoint, 3306) == old
    eventually(lambda: lab.resolve(lab.writer_endpoint, 3306) == [lab.address(lab.writer)])


def replication(lab: MysqlLab) -> str:
    return lab.replication


@pytest.mark.aurora_mysql_lab(hosts=2)
def test_nobody_is_promoted_who_may_lack_something(aurora_mysql_lab: MysqlLab) -> None:
    lab = aurora_mysql_lab
    lab.crash("database-2")
    assert replication(lab) == "none"
    with pytest.raises(LabError, match="no reader is alive"):
        lab.failover()
    with connect(lab) as session:
        execute(session, "CREATE TABLE written (id bigint)")
    lab.restart("database-2")
    lab.wait_ready()
    assert replication(lab) == "synchronous"
    lab.failover()
    assert found(lab) == []


def test_a_silent_holder_of_acknowledged_writes_forbids_a_promotion(aurora_mysql_lab: MysqlLab) -> None:
    aurora_mysql_lab.freeze("database-1")
    aurora_mysql_lab.freeze("database-2")
    with pytest.raises(LabError, match="database-2 may alone hold"):
        aurora_mysql_lab.failover()
    aurora_mysql_lab.thaw("database-2")
    aurora_mysql_lab.failover()
    assert aurora_mysql_lab.writer in {"database-2", "database-3"}


@pytest.mark.aurora_mysql_lab(hosts=2, asynchronous=True)
def test_asynchronous_replication_announces_itself(aurora_mysql_lab: MysqlLab) -> None:
    assert {status.replication for status in aurora_mysql_lab.status()} == {"asynchronous"}
    aurora_mysql_lab.failover()
    assert aurora_mysql_lab.writer == "database-2"


def test_a_commit_waits_for_a_reader(written: MysqlLab) -> None:
    for host in written.readers:
        written.cluster.host(host).server.query("STOP REPLICA IO_THREAD")
    with (
        connect(written) as session,
        in_background(lambda: execute(session, "INSERT INTO written VALUES (1)")) as waiting,
    ):
        waiting.join(0.3)
        assert waiting.is_alive()
        written.cluster.host("database-3").server.query("START REPLICA IO_THREAD")
        waiting.join(20)
        assert not waiting.is_alive()


@pytest.mark.parametrize(("to", "message"), [("database-9", "there is no host"), ("database-1", "cannot be promoted")])
def test_who_cannot_be_promoted_is_said(aurora_mysql_lab: MysqlLab, to: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        aurora_mysql_lab.failover(to)
    assert aurora_mysql_lab.writer == "database-1"
