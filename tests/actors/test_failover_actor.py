"""Searches from the first request to the last answer: on a clock turned by hand, and on the real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from aurora_actors.actors.asking import DeadlineExceeded, ask
from aurora_actors.actors.base import ActorStopped, tell
from aurora_actors.actors.clock import Clock
from aurora_actors.actors.messages import FindHost
from aurora_actors.model.failover import READER_GRACE_SECONDS, Mode
from aurora_actors.model.hosts import Role
from tests.actors.rig import SECONDS, Rig, rig

SEARCH = ["failover_started", "topology_changed", "writer_changed", "failover_completed"]


@pytest.fixture
def cluster() -> Iterator[Rig]:
    """A writes; B and C read. Everybody was looked at for the first time."""
    with rig() as made:
        made.turn(0.0)
        yield made
        assert made.crashes == []


def given(request: FindHost) -> list[str]:
    assert request.reply.done()
    return [host.id for host in request.reply.result(0)]


def lose_the_writer(cluster: Rig, **options: Any) -> FindHost:
    cluster.refuses("a")
    request = cluster.lose("a", **options)
    cluster.settle()
    return request


def test_one_search_answers_all_who_ask() -> None:
    with rig() as cluster:
        cluster.refuses("a")
        requests = [cluster.lose("a") for _ in range(50)]
        cluster.turn(2.0)
        assert not any(request.reply.done() for request in requests)
        cluster.writes("b", promotion=2)
        cluster.turn(1.5)
        assert {tuple(given(request)) for request in requests} == {("b",)}
        assert cluster.told() == SEARCH
        assert cluster.events[-1][1].waiting == 50


def test_as_many_probes_for_one_connection_as_for_fifty() -> None:
    counts = []
    for connections in (1, 50):
        with rig() as cluster:
            cluster.refuses("a")
            for _ in range(connections):
                cluster.lose("a")
            cluster.turn(10.0)
            counts.append(len(cluster.probes))
    assert counts[1] == pytest.approx(counts[0], rel=0.1)


def test_nobody_is_given_the_old_writer_s_word(cluster: Rig) -> None:
    """A reader may still call the lost host the writer; only a host's own word counts."""
    request = lose_the_writer(cluster)
    cluster.turn(5.0)
    assert not request.reply.done()
    assert cluster.writer == "a"
    assert not cluster.cell.standing.settled


def test_a_session_that_was_killed_on_a_healthy_writer_goes_on_there(cluster: Rig) -> None:
    request = cluster.lose("a")
    cluster.turn(0.1)
    assert given(request) == ["a"]
    assert cluster.told() == ["failover_started", "failover_completed"]


def test_who_notices_late_is_answered_without_a_search(cluster: Rig) -> None:
    first = lose_the_writer(cluster)
    cluster.writes("b", promotion=2)
    cluster.turn(2.0)
    assert given(first) == ["b"]
    cluster.reads("a")
    for wait in (11.0, 60.0, 600.0):
        cluster.turn(wait)
        before = len(cluster.probes)
        late = cluster.lose("a")
        cluster.settle()
        assert given(late) == ["b"]
        assert len(cluster.probes) == before
    assert cluster.told() == SEARCH


def test_a_later_loss_of_the_new_writer_is_a_search_of_its_own(cluster: Rig) -> None:
    lose_the_writer(cluster)
    cluster.writes("b", promotion=2)
    cluster.turn(2.0)
    opened = cluster.clock.now()
    cluster.refuses("b")
    cluster.reads("a")
    cluster.turn(5.0)
    request = cluster.lose("b", opened=opened)
    cluster.turn(1.0)
    assert not request.reply.done()
    cluster.writes("a", promotion=3)
    cluster.turn(1.5)
    assert given(request) == ["a"]
    assert cluster.told() == SEARCH * 2


def test_the_search_ends_at_the_deadline(cluster: Rig) -> None:
    for name in "abc":
        cluster.refuses(name)
    request = lose_the_writer(cluster, until=5.0)
    cluster.turn(4.9)
    assert cluster.told() == ["failover_started"]
    cluster.turn(0.2)
    assert cluster.told() == ["failover_started", "failover_failed"]
    failed = cluster.events[-1][1]
    assert {attempt.host.partition(" ")[0] for attempt in failed.attempts} >= {"a", "b", "c"}
    asked = len(cluster.probes)
    cluster.turn(5.0)
    # Nobody waits: what is asked on is the regular look at a writer that does not answer.
    assert not request.reply.done()
    assert len(cluster.probes) == asked


def test_a_longer_deadline_keeps_the_search_going(cluster: Rig) -> None:
    short = lose_the_writer(cluster, until=1.0)
    long = lose_the_writer(cluster, until=20.0)
    cluster.turn(5.0)
    assert cluster.told() == ["failover_started"]
    cluster.writes("c", promotion=2)
    cluster.turn(1.5)
    assert given(long) == ["c"]
    assert not short.reply.done()
    assert cluster.told() == SEARCH
    assert cluster.events[-1][1].waiting == 1


def test_a_request_that_was_given_up_is_dropped(cluster: Rig) -> None:
    impatient = lose_the_writer(cluster)
    patient = lose_the_writer(cluster)
    impatient.reply.cancel()
    cluster.writes("b", promotion=2)
    cluster.turn(2.0)
    assert given(patient) == ["b"]
    assert cluster.told() == SEARCH
    assert cluster.events[-1][1].waiting == 1


def test_a_search_whose_only_asker_gave_up_ends_at_its_deadline(cluster: Rig) -> None:
    request = lose_the_writer(cluster, until=5.0)
    request.reply.cancel()
    cluster.turn(6.0)
    assert cluster.told() == ["failover_started", "failover_failed"]


# Readers


def test_either_takes_a_reader_within_the_grace(cluster: Rig) -> None:
    request = cluster.lose("b", mode=Mode.READER_OR_WRITER)
    cluster.settle()
    assert set(given(request)) <= {"b", "c"}


def test_either_takes_the_writer_when_no_reader_answered_in_time(cluster: Rig) -> None:
    cluster.refuses("b")
    cluster.is_silent("c")
    request = cluster.lose("b", mode=Mode.READER_OR_WRITER)
    cluster.turn(READER_GRACE_SECONDS - 0.01)
    assert not request.reply.done()
    cluster.turn(0.02)
    assert given(request) == ["a"]


def test_a_strict_reader_is_not_given_the_writer(cluster: Rig) -> None:
    cluster.refuses("b")
    cluster.refuses("c")
    request = cluster.lose("b", mode=Mode.STRICT_READER, until=10.0)
    cluster.turn(5.0)
    assert not request.reply.done()
    cluster.reads("c")
    cluster.turn(1.0)
    assert given(request) == ["c"]


def test_readers_do_not_wait_for_a_writer(cluster: Rig) -> None:
    cluster.refuses("a")
    request = cluster.lose("a", mode=Mode.READER_OR_WRITER)
    cluster.settle()
    assert set(given(request)) <= {"b", "c"}
    assert cluster.told() == ["failover_started", "failover_completed"]


# Crashes


@dataclass(frozen=True, slots=True)
class Nonsense:
    """No actor knows it."""


def test_a_crash_refuses_who_waits_and_closes_the_pair() -> None:
    with rig() as cluster:
        cluster.turn(0.0)
        request = lose_the_writer(cluster)
        tell(cluster.failover, Nonsense())
        cluster.settle()
        with pytest.raises(ActorStopped):
            request.reply.result(SECONDS)
        assert cluster.told() == ["failover_started", "failover_failed"]
        asked = len(cluster.probes)
        cluster.turn(5.0)
        assert len(cluster.probes) == asked
        again = lose_the_writer(cluster)
        cluster.writes("b", promotion=2)
        cluster.turn(2.0)
        assert given(again) == ["b"]
        assert [crash.final for crash in cluster.crashes] == [False]


def test_a_crash_of_the_topology_s_actor_only_delays_the_search() -> None:
    with rig() as cluster:
        cluster.turn(0.0)
        request = lose_the_writer(cluster)
        tell(cluster.topology, Nonsense())
        cluster.turn(1.0)
        cluster.writes("b", promotion=2)
        cluster.turn(5.0)
        assert given(request) == ["b"]
        assert cluster.told() == SEARCH
        assert len(cluster.crashes) == 1


# The real clock


def test_the_same_with_real_time() -> None:
    clock = Clock()
    with rig(clock) as cluster:
        cluster.refuses("a")
        requests = [cluster.lose("a") for _ in range(8)]
        cluster.settle()
        cluster.writes("b", promotion=2)
        assert {host.id for request in requests for host in request.reply.result(SECONDS)} == {"b"}
        cluster.settle()
        assert cluster.told() == SEARCH
        cluster.refuses("b")
        late = cluster.lose("b", opened=clock.now(), until=0.05)
        with pytest.raises(DeadlineExceeded):
            ask(cluster.failover, FindHost(late.want, late.until), late.until)
    assert clock.stop(SECONDS)


def test_a_reader_s_word_sends_somebody_to_its_candidate_at_once(cluster: Rig) -> None:
    """The promoted host is asked when another names it, not when its turn comes."""
    cluster.refuses("b")
    request = lose_the_writer(cluster)
    cluster.turn(2.0)
    cluster.writes("b", promotion=2)
    cluster.says("c", Role.READER)
    cluster.turn(0.2)
    assert given(request) == ["b"]
