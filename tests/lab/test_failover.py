"""Failover: who is promoted, what survives, what sessions see."""

from __future__ import annotations

import threading
from contextlib import suppress

import psycopg
import pytest

from aurora_actors.lab import LabError, PostgresLab
from aurora_actors.lab.engine import Server
from aurora_actors.lab.replication import follow
from tests.lab.sessions import Session, connect, eventually, in_background, rows

WRITERS = 4
PART_BYTES = 4 << 20
"""Several of the lab's segments of WAL."""
BIG = "SELECT pg_logical_emit_message(false, 'big', repeat('x', 256000000))"
"""So long that it is frozen long before its end."""


class Writing:
    """Sessions that insert numbers, and what was acknowledged to them."""

    def __init__(self, lab: PostgresLab) -> None:
        with connect(lab) as session:
            session.execute("CREATE TABLE written (id bigint)")
        self.acknowledged: list[int] = []
        self.enough = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(connect(lab), number), daemon=True) for number in range(WRITERS)
        ]

    def __enter__(self) -> Writing:
        for thread in self._threads:
            thread.start()
        assert self.enough.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _write(self, session: Session, number: int) -> None:
        """Insert until the session dies."""
        with session:
            for id_ in range(number, 10_000_000, WRITERS):
                try:
                    session.execute("INSERT INTO written VALUES (%s)", (id_,))
                except psycopg.OperationalError:
                    return
                self.acknowledged.append(id_)
                if len(self.acknowledged) >= 200:
                    self.enough.set()


def replication(lab: PostgresLab) -> str:
    return lab.replication


def found(lab: PostgresLab, endpoint: str = "writer") -> set[int]:
    return {row[0] for row in rows(lab, endpoint, "SELECT id FROM written")}


@pytest.mark.parametrize(
    "habit",
    [
        pytest.param("keep", marks=pytest.mark.aurora_lab(habit="keep")),
        pytest.param("drop", marks=pytest.mark.aurora_lab(habit="drop")),
        pytest.param("restart", marks=pytest.mark.aurora_lab(habit="restart", restart_seconds=0.3)),
    ],
)
def test_what_was_acknowledged_survives_a_crash(aurora_lab: PostgresLab, habit: str) -> None:
    old = connect(aurora_lab)
    on_reader = {host: connect(aurora_lab, host) for host in aurora_lab.readers}
    with Writing(aurora_lab) as writing:
        record = aurora_lab.failover()
    assert set(writing.acknowledged) <= found(aurora_lab)
    with pytest.raises(psycopg.OperationalError) as lost:
        old.execute("SELECT 1")
    assert lost.value.sqlstate is None, "a crashed server says nothing"
    promoted = on_reader.pop(aurora_lab.writer)
    if habit == "keep":
        promoted.execute("INSERT INTO written VALUES (-1)")
    else:
        with pytest.raises(psycopg.OperationalError) as dropped:
            promoted.execute("SELECT 1")
        assert dropped.value.sqlstate == ("57P01" if habit == "drop" else None)
    (other,) = on_reader.values()
    other.execute("SELECT 1")
    for session in (old, promoted, other):
        session.close()
    assert record.killed_at < record.promoted_at < record.first_commit_at < record.finished_at
    aurora_lab.wait_ready()
    eventually(lambda: set(writing.acknowledged) <= found(aurora_lab, record.host))
    assert len({status.timeline for status in aurora_lab.status()}) == 1


def test_three_failovers_in_a_row_lose_nothing(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE written (id bigint)")
    for number in range(3):
        before = aurora_lab.writer
        with connect(aurora_lab) as session:
            session.execute("INSERT INTO written VALUES (%s)", (number,))
        aurora_lab.failover()
        assert aurora_lab.writer != before
    assert found(aurora_lab) == {0, 1, 2}


def test_a_planned_failover_says_goodbye_and_goes_where_it_is_told(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session:
        record = aurora_lab.failover("database-3", "planned")
        assert aurora_lab.writer == "database-3"
        with pytest.raises(psycopg.errors.AdminShutdown):
            session.execute("SELECT 1")
    assert record.happened("stopped")
    assert not record.happened("killed")
    aurora_lab.wait_ready()
    names = [event.name for event in aurora_lab.events if event.host == "database-1"]
    assert names == ["stop_requested", "stopped", "rejoined"]


def test_a_host_that_is_behind_first_receives_what_it_lacks(aurora_lab: PostgresLab) -> None:
    follow(aurora_lab.cluster.host("database-3"), None)
    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE written (id bigint)")
        session.execute("INSERT INTO written SELECT generate_series(1, 1000)")
    aurora_lab.failover("database-3")
    assert aurora_lab.writer == "database-3"
    assert len(found(aurora_lab)) == 1000


def test_the_old_writer_stays_down_if_it_is_not_to_rejoin(aurora_lab: PostgresLab) -> None:
    aurora_lab.failover(rejoin=False)
    assert aurora_lab.status()[0].state == "crashed"
    aurora_lab.restart("database-1")
    assert aurora_lab.status()[0].role == "READER"
    aurora_lab.wait_ready()
    assert rows(aurora_lab, "database-1", "SELECT pg_is_in_recovery()") == [(True,)]


@pytest.mark.aurora_lab(dns_lag_seconds=1.0)
def test_names_lag_behind_a_failover(aurora_lab: PostgresLab) -> None:
    old = aurora_lab.resolve(aurora_lab.writer_endpoint, 5432)
    aurora_lab.failover()
    assert aurora_lab.resolve(aurora_lab.writer_endpoint, 5432) == old
    eventually(lambda: aurora_lab.resolve(aurora_lab.writer_endpoint, 5432) == [aurora_lab.address(aurora_lab.writer)])


@pytest.mark.aurora_lab(hosts=2)
def test_nobody_is_promoted_who_may_lack_something(aurora_lab: PostgresLab) -> None:
    aurora_lab.crash("database-2")
    assert replication(aurora_lab) == "none"
    with pytest.raises(LabError, match="no reader is alive"):
        aurora_lab.failover()
    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE written (id bigint)")
    aurora_lab.restart("database-2")
    aurora_lab.wait_ready()
    assert replication(aurora_lab) == "synchronous"
    aurora_lab.failover()
    assert found(aurora_lab) == set()


def test_a_silent_holder_of_acknowledged_writes_forbids_a_promotion(aurora_lab: PostgresLab) -> None:
    aurora_lab.freeze("database-1")
    aurora_lab.freeze("database-2")
    with pytest.raises(LabError, match="database-2 may alone hold"):
        aurora_lab.failover()
    aurora_lab.thaw("database-2")
    aurora_lab.failover()
    assert aurora_lab.writer in {"database-2", "database-3"}


@pytest.mark.aurora_lab(hosts=2, asynchronous=True)
def test_asynchronous_replication_announces_itself(aurora_lab: PostgresLab) -> None:
    assert {status.replication for status in aurora_lab.status()} == {"asynchronous"}
    aurora_lab.failover()
    assert aurora_lab.writer == "database-2"


def test_the_state_can_be_read_while_a_failover_takes_its_time(aurora_lab: PostgresLab) -> None:
    killed = threading.Event()
    aurora_lab.on_change(killed.set)
    with in_background(lambda: aurora_lab.failover(after_seconds=0.4)):
        eventually(lambda: any(event.name == "killed" for event in aurora_lab.events))
        assert aurora_lab.writer == "database-1"
        assert aurora_lab.resolve(aurora_lab.writer_endpoint, 5432) == [aurora_lab.address("database-1")]
    assert aurora_lab.writer != "database-1"
    assert killed.is_set()


@pytest.mark.parametrize(("to", "message"), [("database-9", "there is no host"), ("database-1", "cannot be promoted")])
def test_who_cannot_be_promoted_is_said(aurora_lab: PostgresLab, to: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        aurora_lab.failover(to)
    assert aurora_lab.writer == "database-1"


def test_readers_that_received_the_beginning_of_a_record_come_back(aurora_lab: PostgresLab) -> None:
    """One record fills many segments, and the writer's end cuts it off. The new timeline begins before it."""
    writer, reader = aurora_lab.cluster.writer.server, aurora_lab.cluster.live_readers()[0].server
    # Else the writer would throw away what a reader that is a little late has not received yet.
    writer.query("ALTER SYSTEM SET wal_keep_size = '1GB'")
    writer.query("SELECT pg_reload_conf()")
    before = received(reader)
    with connect(aurora_lab) as session, in_background(lambda: lose(session)):
        eventually(lambda: received(reader) - before > PART_BYTES)
        aurora_lab.freeze(aurora_lab.writer)
        assert writer.is_running
        aurora_lab.failover()
        assert {event.name for event in aurora_lab.events} >= {"strayed", "first_commit"}
        aurora_lab.thaw("database-1")
    aurora_lab.wait_ready()
    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE after (id int)")
    assert all(host.state == "available" for host in aurora_lab.status())


def lose(session: Session) -> None:
    # The old writer, thawed, may get to the end of it.
    with suppress(psycopg.OperationalError):
        session.execute(BIG)


def received(reader: Server) -> int:
    ((bytes_,),) = reader.query("SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')::bigint")
    return int(bytes_)
