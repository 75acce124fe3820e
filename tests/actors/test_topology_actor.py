"""What the topology's one writer looks at, publishes and announces, on a clock turned by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from aurora_actors.actors.base import Stop, tell
from aurora_actors.actors.clock import HandClock
from aurora_actors.actors.messages import HostObserved, HostSilent, HostSuspected, ProcessSlept, RefreshTopology, Retire
from aurora_actors.model.hosts import Role
from aurora_actors.model.topology import Observation
from tests.actors.rig import REFRESH, SECONDS, START, Rig, host, rig

HOUR = 3600.0


@pytest.fixture
def cluster() -> Iterator[Rig]:
    """A writes; B and C read."""
    with rig() as made:
        made.turn(0.0)
        yield made
        assert made.crashes == []


def lost(cluster: Rig, **options: Any) -> None:
    cluster.refuses("a")
    cluster.lose("a", **options)
    cluster.settle()


def test_a_quiet_cluster_is_asked_by_one_question_to_its_writer_each_interval(cluster: Rig) -> None:
    cluster.turn(HOUR)
    assert Counter(cluster.probed()) == {"a": HOUR / REFRESH}
    assert cluster.told() == []


def test_the_same_news_publishes_no_new_view(cluster: Rig) -> None:
    cluster.turn(REFRESH + 1)
    view = cluster.cell.view
    cluster.turn(HOUR)
    assert cluster.cell.view is view


def test_a_search_asks_everybody_and_after_it_the_readers_rest(cluster: Rig) -> None:
    lost(cluster)
    assert set(cluster.probed()) == {"a", "b", "c"}
    cluster.writes("b", promotion=2)
    cluster.turn(2.0)
    assert set(cluster.rested) >= {"a", "c"}
    assert "b" not in cluster.rested
    ended = cluster.clock.now()
    cluster.reads("a")
    cluster.turn(10 * REFRESH)
    assert set(cluster.probed(since=ended)) == {"b"}


def test_a_silent_writer_is_searched_for_before_any_connection_notices(cluster: Rig) -> None:
    cluster.refuses("a")
    cluster.turn(REFRESH)
    cluster.writes("c", promotion=2)
    cluster.turn(3.0)
    assert cluster.writer == "c"
    assert cluster.told() == ["topology_changed", "writer_changed"]


def test_members_come_and_go_by_the_writer_s_word(cluster: Rig) -> None:
    cluster.names = "abd"
    cluster.reads("d")
    cluster.writes("a", promotion=1)
    cluster.turn(REFRESH)
    assert [each.id for each in cluster.cell.view.topology.hosts] == ["a", "b", "d"]
    assert cluster.told() == ["topology_changed", "host_added", "host_removed"]
    assert [event.host.id for _, event in cluster.events[1:]] == ["d", "c"]


def test_the_monitor_of_a_host_that_left_is_stopped(cluster: Rig) -> None:
    lost(cluster)
    cluster.turn(1.0)
    monitor = cluster.monitors["c"]
    cluster.names = "ab"
    cluster.writes("b", promotion=2)
    cluster.turn(2.0)
    assert monitor.actor_stopped.wait(SECONDS)
    assert not cluster.monitors["b"].actor_stopped.is_set()


def test_a_monitor_that_has_stopped_is_replaced(cluster: Rig) -> None:
    cluster.turn(REFRESH)
    old = cluster.monitors["a"]
    tell(old, Stop())
    assert old.actor_stopped.wait(SECONDS)
    cluster.turn(2 * REFRESH)
    assert cluster.monitors["a"] is not old
    assert not cluster.monitors["a"].actor_stopped.is_set()
    assert cluster.writer == "a"


def test_whoever_asks_for_the_topology_is_answered_by_a_look_after_the_question(cluster: Rig) -> None:
    before = len(cluster.probes)
    request = RefreshTopology(cluster.clock.now() + 5.0)
    tell(cluster.topology, request)
    cluster.settle()
    assert request.reply.result(0) is cluster.cell.view.topology
    assert len(cluster.probes) > before


def test_news_of_an_application_s_own_connection_counts(cluster: Rig) -> None:
    now = cluster.clock.now()
    seen = Observation(host("b", Role.WRITER), Role.WRITER, (), now, now, promotion=2)
    members = (host("b", Role.WRITER), host("a", Role.READER))
    tell(cluster.topology, HostObserved(seen, members))
    cluster.settle()
    assert cluster.writer == "b"
    assert cluster.told() == ["topology_changed", "writer_changed", "host_removed"]


def test_while_the_writer_is_in_doubt_nobody_is_handed_out(cluster: Rig) -> None:
    cluster.reads("a")
    cluster.turn(REFRESH)
    doubtful = cluster.cell.standing
    cluster.writes("b", promotion=2)
    cluster.turn(REFRESH)
    assert (doubtful.settled, cluster.cell.standing.settled) == (False, True)
    assert cluster.writer == "b"


def test_what_was_tried_is_told_by_host(cluster: Rig) -> None:
    for name in "abc":
        cluster.refuses(name)
    lost(cluster)
    cluster.turn(3.0)
    tried = {attempt.host.partition(" ")[0]: attempt for attempt in cluster.cell.attempts}
    assert {"a", "b", "c"} <= set(tried)
    assert all(attempt.error == "connection refused" for attempt in tried.values())
    cluster.reads("b")
    cluster.turn(1.0)
    cluster.refuses("b")
    cluster.turn(3.0)
    assert len([a for a in cluster.cell.attempts if a.host.startswith("b ")]) == 1


def test_a_host_that_does_not_answer_delays_nobody(cluster: Rig) -> None:
    """The actor that decides never waits: a probe that hangs costs its own monitor only."""
    cluster.is_silent("c")
    lost(cluster)
    cluster.writes("b", promotion=2)
    cluster.turn(1.5)
    assert cluster.writer == "b"
    assert cluster.probed().count("c") == 1


def test_more_hosts_than_processors_are_all_asked() -> None:
    names = "abcdefghi"
    with rig(names=names) as cluster:
        for name in names:
            cluster.refuses(name)
        cluster.lose("a")
        cluster.turn(5.0)
        assert set(cluster.probed()) == {*names, "endpoint"}
        cluster.writes("i", promotion=2)
        cluster.turn(2.0)
        assert cluster.writer == "i"
        searched = len(cluster.probes)
        cluster.turn(REFRESH)
        # What is left after the search is the regular look, not a panic.
        assert len(cluster.probes) - searched <= 3


def test_all_members_were_replaced_and_only_the_endpoint_still_leads_somewhere(cluster: Rig) -> None:
    for name in "abc":
        cluster.refuses(name)
    lost(cluster)
    cluster.names = "xyz"
    for name in "yz":
        cluster.reads(name)
    cluster.writes("x", promotion=2)
    # The endpoint leads to X, which says its own name.
    cluster.script["endpoint"] = cluster.script["x"]
    cluster.turn(2.0)
    assert cluster.writer == "x"
    assert [each.id for each in cluster.cell.view.topology.hosts] == ["x", "y", "z"]
    assert cluster.told()[:3] == ["failover_started", "topology_changed", "writer_changed"]
    assert cluster.told()[-1] == "failover_completed"


def test_the_end_of_a_grace_period_is_passed_on() -> None:
    over: list[bool] = []
    with rig(HandClock(START), grace=lambda: over.append(True)) as cluster:
        cluster.clock.tell_after(60.0, cluster.topology, Retire())
        cluster.turn(59.0)
        assert over == []
        cluster.turn(2.0)
        assert over == [True]


def test_a_writer_under_suspicion_is_searched_for_and_deposed_when_another_writes(cluster: Rig) -> None:
    cluster.turn(REFRESH)
    cluster.is_silent("a")
    tell(cluster.topology, HostSuspected(host("a", Role.WRITER)))
    cluster.settle()
    assert not cluster.cell.standing.settled
    cluster.writes("b", promotion=2)
    cluster.turn(2.0)
    assert cluster.writer == "b"
    assert cluster.deposed["a"]


def test_suspicion_of_a_reader_starts_no_search(cluster: Rig) -> None:
    cluster.turn(REFRESH)
    tell(cluster.topology, HostSuspected(host("b", Role.READER)))
    cluster.settle()
    assert cluster.cell.standing.settled


def test_after_a_sleep_the_writer_is_asked_anew_and_nobody_is_down(cluster: Rig) -> None:
    tell(cluster.topology, HostSilent(host("b"), "no answer", cluster.clock.now()))
    cluster.settle()
    assert cluster.cell.view.down == {"b"}
    cluster.script["a"] = lambda probe, now: None
    slept = cluster.clock.now()
    tell(cluster.topology, ProcessSlept(host("b")))
    tell(cluster.topology, ProcessSlept(host("a")))
    cluster.settle()
    assert not cluster.cell.view.down
    assert (cluster.cell.view.doubt, cluster.cell.woken) == (slept, slept)
    asked = [probe for at, probe in cluster.probes if at >= slept]
    assert {probe.host.id for probe in asked} == {"a", "b", "c"}
    assert {probe.fresh_after for probe in asked if not probe.delay and not probe.hold} == {slept}
    cluster.writes("c", promotion=2)
    cluster.turn(3.0)
    assert (cluster.writer, cluster.cell.view.doubt) == ("c", None)
