"""Whom a search asks and when: as tables, and its rate by simulation of clusters of every size."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise

import pytest

from aurora_actors.model import search
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.search import (
    ENDPOINT_SECONDS,
    HOLD_SECONDS,
    LOST_SHARE,
    SEARCH_SECONDS,
    SLOWEST_SECONDS,
    Probe,
    Watch,
)
from aurora_actors.model.topology import ClusterTopology, Knowledge, Observation, Verdict, doubted

ENDPOINT = Host("cluster.abc", "cluster.abc", 5432)
PROBES_A_SECOND = 25
"""What a process may ask of a cluster while it searches, once everybody was asked for the first time."""
JITTER = 0.2
"""As the topology actor spreads delayed probes."""


def member(number: int, role: Role = Role.READER) -> Host:
    return Host(f"h{number}", f"h{number}.abc", 5432, role)


def watch(hosts: int = 3, *, endpoints: tuple[Host, ...] = (ENDPOINT,), least: tuple[float, float] = (0.0, 0.0)) -> Watch:
    """A cluster whose first host writes, by its own word at second 10."""
    members = tuple(member(n, Role.WRITER if n == 0 else Role.READER) for n in range(hosts))
    known = Knowledge(ClusterTopology("test", members, 1), Verdict(at=10.0, promotion=1.0))
    return Watch(known, endpoints, least=least[0], least_lost=least[1])


def ids(probes: tuple[Probe, ...]) -> list[str]:
    return [probe.host.id for probe in probes]


def said(host: Host, role: Role, at: float, *, session: float | None = None, promotion: float = 0.0) -> Observation:
    return Observation(host.playing(role), role, (), at if session is None else session, at, promotion)


# Beginning


def test_a_search_asks_every_member_at_once_and_the_endpoint_a_little_later() -> None:
    begun, probes = search.begun(watch(), 20.0, "h0")
    assert [(p.host.id, p.delay, p.fresh_after) for p in probes] == [
        ("h0", 0.0, 20.0),
        ("h1", 0.0, 20.0),
        ("h2", 0.0, 20.0),
        (ENDPOINT.id, ENDPOINT_SECONDS, 20.0),
    ]
    assert (begun.since, begun.lost, begun.held, begun.known.doubt) == (20.0, "h0", True, 20.0)


def test_without_members_the_endpoint_is_asked_at_once() -> None:
    empty = Watch(Knowledge(ClusterTopology("test")), (ENDPOINT,))
    _, probes = search.begun(empty, 20.0)
    assert [(p.host.id, p.delay) for p in probes] == [(ENDPOINT.id, 0.0)]


def test_who_comes_late_joins_the_search_and_its_doubt_stays() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    joined, probes = search.begun(begun, 21.0, "h0")
    assert probes == ()
    assert (joined.since, joined.known.doubt) == (20.0, 20.0)


def test_a_search_that_nobody_waits_for_is_held_by_the_first_who_does() -> None:
    quiet, _ = search.begun(watch(), 20.0, "h0", held=False)
    held, _ = search.begun(quiet, 20.5, "h0")
    assert (quiet.held, held.held) == (False, True)


def test_a_search_after_an_answer_raises_a_doubt_of_its_own() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    probe = Probe(member(1), 0.0, 20.0)
    found, _ = search.saw(begun, said(member(1), Role.WRITER, 20.5, promotion=2.0), probe, (), 20.5)
    again, probes = search.begun(found, 21.0, "h1")
    assert again.known.doubt == 21.0
    assert set(ids(probes)) >= {"h0", "h1"} - found.probing


def test_an_ended_search_forgets_what_was_to_come() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    ended = search.ended(begun)
    assert (ended.searching, ended.held, ended.lost, ended.delayed) == (False, False, "", {})
    assert search.started(ended, ENDPOINT.id, begun.turn) == (ended, ())


# Delayed probes


def test_a_delayed_probe_is_sent_in_its_search_and_only_once() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    sent, probes = search.started(begun, ENDPOINT.id, begun.turn)
    assert [(p.host.id, p.fresh_after, p.hold) for p in probes] == [(ENDPOINT.id, 20.0, HOLD_SECONDS)]
    assert search.started(sent, ENDPOINT.id, begun.turn)[1] == ()


def test_a_host_that_could_not_be_reached_says_at_once_that_it_is_back() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    missed, _ = search.missed(begun, "h1", 20.1, had_session=False)
    back, probes = search.started(missed, "h1", missed.turn)
    assert [(p.host.id, p.hold) for p in probes] == [("h1", 0.0)]
    _, probes = search.saw(back, said(member(1), Role.READER, 20.2), probes[0], (), 20.2)
    assert [(p.host.id, p.hold) for p in probes] == [("h1", HOLD_SECONDS)]


def test_a_delayed_probe_of_an_earlier_search_is_dropped() -> None:
    first, _ = search.begun(watch(), 19.0, "h0")
    begun, _ = search.begun(search.ended(first), 20.0, "h0")
    assert search.started(begun, ENDPOINT.id, first.turn) == (begun, ())
    assert ids(search.started(begun, ENDPOINT.id, begun.turn)[1]) == [ENDPOINT.id]


def test_a_delayed_probe_of_a_host_that_has_left_is_dropped() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    waiting = replace(begun, delayed={**begun.delayed, "gone": 9})
    after, probes = search.started(waiting, "gone", 9)
    assert probes == ()
    assert "gone" not in after.delayed


# Failed probes


def test_a_session_that_died_under_the_question_is_replaced_at_once() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    _, probes = search.missed(begun, "h1", 20.1, had_session=True)
    assert [(p.host.id, p.delay) for p in probes] == [("h1", 0.0)]


def test_a_host_that_cannot_be_reached_is_asked_again_at_the_search_s_pace() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    missed, probes = search.missed(begun, "h1", 20.1, had_session=False)
    assert ids(probes) == ["h1"]
    assert probes[0].delay == search.pace(missed, "h1", 20.1) > 0
    assert missed.unreachable == {"h1"}


@pytest.mark.parametrize(("host", "searches"), [("h0", True), ("h1", False)])
def test_outside_a_search_only_a_silent_writer_begins_one(host: str, searches: bool) -> None:
    quiet, _ = search.looked(watch())
    missed, probes = search.missed(quiet, host, 40.0, had_session=False)
    assert missed.searching is searches
    assert (set(ids(probes)) >= {"h1", "h2"}) is searches
    assert not missed.held


def test_a_search_that_nobody_holds_ends_with_the_writer() -> None:
    quiet, _ = search.missed(search.looked(watch())[0], "h0", 40.0, had_session=False)
    seen = said(member(1), Role.WRITER, 41.0, promotion=2.0)
    found, probes = search.saw(quiet, seen, Probe(member(1)), (), 41.0)
    assert not found.searching
    assert found.known.topology.writer is not None
    assert found.known.topology.writer.id == "h1"
    assert probes == ()


# Answers


def test_a_reader_is_asked_to_hold_its_answer_until_it_is_promoted() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    _, probes = search.saw(begun, said(member(1), Role.READER, 20.01), Probe(member(1)), (), 20.01)
    assert [(p.host.id, p.delay, p.hold) for p in probes] == [("h1", 0.0, HOLD_SECONDS)]


def test_an_answer_that_was_held_is_followed_by_the_next_question_at_once() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    held = Probe(member(1), hold=HOLD_SECONDS)
    _, probes = search.saw(begun, said(member(1), Role.READER, 20.0), held, (), 20.0 + HOLD_SECONDS)
    assert [p.delay for p in probes] == [0.0]


def test_a_server_that_cannot_hold_does_not_make_a_busy_loop() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    held = Probe(member(1), hold=HOLD_SECONDS)
    _, probes = search.saw(begun, said(member(1), Role.READER, 20.001), held, (), 20.002)
    assert [p.delay > 0 for p in probes] == [True]


def test_the_writer_s_own_word_ends_the_questions_to_it() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    seen = said(member(1), Role.WRITER, 20.5, promotion=2.0)
    found, probes = search.saw(begun, seen, Probe(member(1)), (), 20.5)
    assert found.known.settled
    assert probes == ()


def test_a_reader_s_word_has_its_candidate_asked() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    begun = replace(begun, known=replace(begun.known, candidate="h2"), probing=begun.probing - {"h2"})
    _, probes = search.saw(begun, said(member(1), Role.READER, 20.2), Probe(member(1)), (), 20.2)
    assert ids(probes) == ["h2", "h1"]


def test_a_host_is_asked_one_question_at_a_time() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    assert begun.probing == {"h0", "h1", "h2"}
    assert search.due(begun, begun.hosts)[1] == ()
    assert search.looked(begun)[1] == ()


def test_what_is_due_now_takes_the_place_of_what_is_due_later() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    missed, _ = search.missed(begun, "h1", 20.1, had_session=False)
    assert "h1" in missed.delayed
    now, probes = search.due(missed, (member(1),))
    assert ids(probes) == ["h1"]
    assert "h1" not in now.delayed
    assert search.started(now, "h1", missed.turn)[1] == ()


def test_the_timer_of_a_probe_that_another_took_the_place_of_sends_none() -> None:
    """Else each would keep a pace of its own from then on."""
    begun, _ = search.begun(watch(), 20.0, "h0")
    waits, _ = search.missed(begun, "h1", 20.1, had_session=False)
    asked, _ = search.due(waits, (member(1),))
    waits_again, _ = search.missed(asked, "h1", 20.2, had_session=False)
    assert "h1" in waits_again.delayed
    assert search.started(waits_again, "h1", waits.turn) == (waits_again, ())
    assert ids(search.started(waits_again, "h1", waits_again.turn)[1]) == ["h1"]


# The regular look


def test_the_regular_look_is_at_the_writer() -> None:
    assert ids(search.looked(watch())[1]) == ["h0"]


def test_while_no_writer_is_known_the_regular_look_is_at_everybody() -> None:
    doubtful = replace(watch(), known=doubted(watch().known, 20.0))
    _, probes = search.looked(doubtful)
    assert ids(probes) == ["h0", "h1", "h2"]
    assert {probe.fresh_after for probe in probes} == {20.0}


# Pace


def test_the_lost_host_is_asked_more_rarely_than_those_that_may_take_over() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    begun = replace(begun, unreachable=frozenset({"h0", "h1"}))
    assert search.pace(begun, "h0", 20.0) == pytest.approx(LOST_SHARE * search.pace(begun, "h1", 20.0))


def test_given_intervals_are_kept() -> None:
    begun, _ = search.begun(watch(least=(0.5, 0.9)), 20.0, "h0")
    assert search.pace(begun, "h1", 20.0) == 0.5
    assert search.pace(begun, "h0", 20.0) == 0.9


def test_an_endpoint_has_a_pace_of_its_own_unless_it_is_all_there_is() -> None:
    begun, _ = search.begun(watch(), 20.0, "h0")
    assert search.pace(begun, ENDPOINT.id, 20.0) == ENDPOINT_SECONDS


@pytest.mark.parametrize(("age", "slower"), [(0.0, 1), (29.9, 1), (30.1, 2), (60.1, 4), (90.1, 8)])
def test_an_old_search_slows_down(age: float, slower: int) -> None:
    begun, _ = search.begun(watch(), 0.0, "h0")
    fresh = search.pace(begun, "h1", 0.0)
    assert search.pace(begun, "h1", age) == pytest.approx(fresh * slower)


def test_the_slowest_pace_is_a_look_a_second() -> None:
    begun, _ = search.begun(watch(), 0.0, "h0")
    assert search.pace(begun, "h1", 100 * SEARCH_SECONDS) == SLOWEST_SECONDS


# The rate, by simulation

Step = tuple[Watch, tuple[Probe, ...]]
Answers = Callable[[Host], bool]
"""Whether a host answers as a reader, after it held the answer back; it refuses otherwise."""


def nobody(host: Host) -> bool:
    return False


def readers(host: Host) -> bool:
    return host.id not in ("h0", ENDPOINT.id)


def all_but_the_lost(host: Host) -> bool:
    return host.id != "h0"


def simulated(known: Watch, answers: Answers, seconds: float) -> list[tuple[float, str]]:
    """When which host was asked in a search for the lost h0, with the jitter that the actor adds."""
    chance = random.Random(7)
    order = count()
    sent: list[tuple[float, str]] = []
    queue: list[tuple[float, int, bool, Probe]] = []

    def send(probes: tuple[Probe, ...], now: float) -> None:
        for probe in probes:
            if probe.delay > 0:
                due = now + probe.delay * chance.uniform(1 - JITTER, 1 + JITTER)
                heapq.heappush(queue, (due, next(order), False, probe))
            else:
                sent.append((now, probe.host.id))
                answered = now + (probe.hold if answers(probe.host) else 0.0)
                heapq.heappush(queue, (answered, next(order), True, probe))

    state, probes = search.begun(known, 0.0, "h0")
    send(probes, 0.0)
    while queue and queue[0][0] < seconds:
        now, _, answered, probe = heapq.heappop(queue)
        if answered:
            state, probes = answered_by(state, probe, now, answers)
        else:
            state, probes = search.started(state, probe.host.id, probe.turn)
        send(probes, now)
    return sent


def answered_by(state: Watch, probe: Probe, now: float, answers: Answers) -> Step:
    if not answers(probe.host):
        return search.missed(state, probe.host.id, now, had_session=False)
    # The endpoint leads to a reader.
    host = member(1) if probe.host.id == ENDPOINT.id else probe.host
    return search.saw(state, said(host, Role.READER, now - probe.hold), probe, (), now)


@pytest.mark.parametrize("hosts", [1, 2, 3, 5, 9, 16])
@pytest.mark.parametrize("answers", [nobody, readers, all_but_the_lost])
@pytest.mark.parametrize("endpoints", [(), (ENDPOINT,)])
def test_a_search_asks_no_more_than_its_budget(hosts: int, answers: Answers, endpoints: tuple[Host, ...]) -> None:
    sent = Counter(int(at) for at, _ in simulated(watch(hosts, endpoints=endpoints), answers, SEARCH_SECONDS))
    # Everybody is asked at once when the search begins, and again by a question that can be held: that makes it quick.
    assert sent[0] <= PROBES_A_SECOND + 2 * hosts
    later = [sent[second] for second in range(1, int(SEARCH_SECONDS))]
    assert sum(later) <= PROBES_A_SECOND * len(later)
    assert max(later) <= 1.25 * PROBES_A_SECOND


@pytest.mark.parametrize("hosts", [2, 3, 9])
def test_a_search_without_end_decays_to_a_look_a_second(hosts: int) -> None:
    sent = Counter(int(at / SEARCH_SECONDS) for at, _ in simulated(watch(hosts), nobody, 10 * SEARCH_SECONDS))
    rates = [sent[period] / SEARCH_SECONDS for period in range(10)]
    assert rates[1] < 0.7 * rates[0]
    assert all(later < 1.05 * earlier for earlier, later in pairwise(rates))
    assert rates[-1] <= (hosts + 1) / SLOWEST_SECONDS * 1.1


@pytest.mark.parametrize("hosts", [2, 3, 9, 16])
def test_every_host_gets_its_turn(hosts: int) -> None:
    """A cluster with more hosts than the machine has processors starves none of them."""
    asked = Counter(host for _, host in simulated(watch(hosts), nobody, SEARCH_SECONDS))
    assert set(asked) == {f"h{n}" for n in range(hosts)} | {ENDPOINT.id}
    assert min(asked.values()) >= SEARCH_SECONDS / 10


def test_the_endpoint_takes_nothing_from_the_hosts() -> None:
    with_it, without = (
        Counter(host for _, host in simulated(watch(3, endpoints=endpoints), readers, SEARCH_SECONDS))["h0"]
        for endpoints in ((ENDPOINT,), ())
    )
    assert with_it == pytest.approx(without, rel=0.1)
