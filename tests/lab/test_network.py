"""What can be done to the packets between a host and its clients."""

from __future__ import annotations

import time

import psycopg
import pytest

from aurora_actors.lab import LabError, PostgresLab, black_holes, packet_filter
from tests.lab.sessions import Session, connect, eventually, in_background, rows

SILENCE_SECONDS = 0.3
"""A server on the same machine answers within a few milliseconds."""
LATE_MS = 80.0


@pytest.fixture(params=["nft", "socket-filter"])
def filter_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to cut flows that this machine has."""
    wanted: str = request.param
    possible = black_holes.kind()
    if possible == "none" or (wanted == "nft" and possible != "nft"):
        pytest.skip(f"no {wanted} here")
    monkeypatch.setattr(black_holes, "kind", lambda: wanted)
    return wanted


@pytest.fixture(params=["packet-queue", "pauses"])
def slow_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to be slow that this machine has."""
    wanted: str = request.param
    if wanted == "packet-queue" and packet_filter.feeder() == "none":
        pytest.skip("no packet queue here: needs CAP_NET_ADMIN, and a kernel in which nft or iptables feeds one")
    if wanted == "pauses":
        monkeypatch.setattr(packet_filter, "feeder", lambda: "none")
    return wanted




@pytest.mark.parametrize("host", ["database-1", "database-2"])
def test_cut_connections_are_silent_and_new_ones_work(aurora_lab: PostgresLab, host: str, filter_kind: str) -> None:
    with connect(aurora_lab, host) as cut, connect(aurora_lab) as writing:
        writing.execute("CREATE TABLE orders (id int)")
        record = aurora_lab.cut_flow(host)
        assert aurora_lab.black_hole_kind == filter_kind
        assert record.happened("flow_cut")
        assert [status.cut_flows for status in aurora_lab.status() if status.id == host] == [
            2 if host == aurora_lab.writer else 1
        ]
        with in_background(lambda: cut.execute("SELECT 1")) as waiting:
            waiting.join(SILENCE_SECONDS)
            assert waiting.is_alive()
            with connect(aurora_lab) as fresh:
                fresh.execute("INSERT INTO orders VALUES (1)")
            assert rows(aurora_lab, host, "SELECT 1") == [(1,)]
            assert aurora_lab.replication == "synchronous"
            assert waiting.is_alive()
            aurora_lab.heal(host)
        assert not any(status.cut_flows for status in aurora_lab.status())
        cut.execute("SELECT 1")


def test_an_answer_on_its_way_is_cut_too(aurora_lab: PostgresLab, filter_kind: str) -> None:
    waiters = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with connect(aurora_lab) as cut, connect(aurora_lab) as holding:
        holding.execute("SELECT pg_advisory_lock(1)")
        with in_background(lambda: cut.execute("SELECT pg_advisory_lock(1)")) as waiting:
            eventually(lambda: rows(aurora_lab, "writer", waiters) == [(1,)])
            aurora_lab.cut_flow("database-1")
            with connect(aurora_lab) as fresh:
                fresh.execute("SELECT pg_terminate_backend(%s)", (holding.info.backend_pid,))
            waiting.join(SILENCE_SECONDS)
            assert waiting.is_alive(), filter_kind
            aurora_lab.heal("database-1")


def test_a_host_without_connections_can_be_cut_and_healed(aurora_lab: PostgresLab, filter_kind: str) -> None:
    aurora_lab.cut_flow("database-2")
    assert aurora_lab.status()[1].cut_flows == 0, filter_kind
    aurora_lab.heal("database-2")
    with pytest.raises(LabError, match="is not black-holed but available"):
        aurora_lab.heal("database-2")


def test_a_host_with_cut_flows_dies_and_comes_back(aurora_lab: PostgresLab, filter_kind: str) -> None:
    cut = connect(aurora_lab)
    aurora_lab.cut_flow("database-1")
    aurora_lab.failover(how="planned")
    aurora_lab.wait_ready()
    aurora_lab.heal("database-1")
    with pytest.raises(psycopg.OperationalError):
        cut.execute("SELECT 1")
    assert rows(aurora_lab, "database-1", "SELECT pg_is_in_recovery()") == [(True,)], filter_kind


def test_a_slow_host_answers_late_on_every_connection(aurora_lab: PostgresLab, slow_kind: str) -> None:
    with connect(aurora_lab) as session, connect(aurora_lab, "database-2") as other:
        assert aurora_lab.slow("database-1", LATE_MS).happened("slowed")
        assert aurora_lab.slow_kind == slow_kind
        assert aurora_lab.status()[0].late_ms == LATE_MS
        eventually(lambda: lateness(session) > 0.8 * LATE_MS / 1000)
        with connect(aurora_lab) as fresh:
            eventually(lambda: lateness(fresh) > 0.8 * LATE_MS / 1000)
            if slow_kind == "packet-queue":
                assert min(lateness(fresh), lateness(fresh), lateness(session)) > 0.8 * LATE_MS / 1000, "each is late"
        other.execute("SELECT 1")
        assert aurora_lab.slow("database-1", 0).happened("sped")
        assert aurora_lab.status()[0].late_ms == 0
        session.execute("SELECT 1")


def lateness(session: Session) -> float:
    before = time.monotonic()
    session.execute("SELECT 1")
    return time.monotonic() - before


def test_a_slow_host_can_fall_silent_and_die(aurora_lab: PostgresLab, slow_kind: str) -> None:
    aurora_lab.slow("database-1", 20)
    aurora_lab.freeze("database-1")
    aurora_lab.failover("database-2")
    aurora_lab.thaw("database-1")
    aurora_lab.slow("database-2", 20)
    aurora_lab.crash("database-2")
    aurora_lab.restart("database-2")
    aurora_lab.reset()
    assert not any(status.late_ms for status in aurora_lab.status()), slow_kind
    assert aurora_lab.writer == "database-1"


def test_lost_packets_are_sent_again(aurora_lab: PostgresLab) -> None:
    if not packet_filter.is_possible():
        with pytest.raises(LabError, match="CAP_NET_ADMIN"):
            aurora_lab.drop_packets("database-1", 10)
        return
    with connect(aurora_lab) as session:
        aurora_lab.drop_packets("database-1", 100)
        with in_background(lambda: session.execute("SELECT 1")) as waiting:
            waiting.join(SILENCE_SECONDS)
            assert waiting.is_alive()
            record = aurora_lab.drop_packets("database-1", 20)
            assert record.happened("lossy")
        assert aurora_lab.status()[0].loss_percent == 20
        for _ in range(10):
            session.execute("SELECT 1")
        assert aurora_lab.drop_packets("database-1", 0).happened("lossless")
        assert aurora_lab.status()[0].loss_percent == 0


@pytest.mark.parametrize(
    ("operation", "argument", "message"),
    [("slow", -1.0, "0 to 60000 milliseconds"), ("drop_packets", 101.0, "0 to 100 percent")],
)
def test_what_makes_no_sense_is_said(aurora_lab: PostgresLab, operation: str, argument: float, message: str) -> None:
    with pytest.raises(LabError, match=message):
        getattr(aurora_lab, operation)("database-1", argument)


@pytest.mark.parametrize("operation", ["cut_flow", "slow", "drop_packets"])
def test_a_host_that_is_down_has_no_packets(aurora_lab: PostgresLab, operation: str) -> None:
    aurora_lab.crash("database-3")
    arguments = () if operation == "cut_flow" else (1.0,)
    with pytest.raises(LabError, match=f"{operation}: database-3 is crashed"):
        getattr(aurora_lab, operation)("database-3", *arguments)


def test_everything_done_to_packets_is_set_back(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab):
        aurora_lab.cut_flow("database-1")
        aurora_lab.slow("database-2", 20)
        if packet_filter.is_possible():
            aurora_lab.drop_packets("database-3", 20)
            aurora_lab.black_hole("database-3")
        aurora_lab.reset()
    assert all((status.cut_flows, status.late_ms, status.loss_percent) == (0, 0, 0) for status in aurora_lab.status())
