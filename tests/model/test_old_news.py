"""The old news rule: what any order of reports, claims and doubts may and may not do to a topology."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.topology import ClusterTopology, HostRow, Knowledge, Observation, doubted, observed

NAMES = ("a", "b", "c", "d")
HOSTS = {name: Host(name, f"{name}.abc", 5432) for name in NAMES}
START = Knowledge(ClusterTopology("test"))


def members(writer: str | None, names: tuple[str, ...] = NAMES) -> tuple[Host, ...]:
    return tuple(HOSTS[name].playing(Role.WRITER if name == writer else Role.READER) for name in names)


@dataclass(frozen=True)
class News:
    """One observation: who spoke, in which role, when, and whom it called the writer."""

    host: str
    role: Role
    asked: float
    session: float
    promotion: float = 0.0
    names: str | None = None

    def apply(self, known: Knowledge) -> Knowledge:
        rows = tuple(HostRow(name, name == self.names) for name in NAMES) if self.names else ()
        seen = Observation(
            HOSTS[self.host].playing(self.role), self.role, rows, self.session, self.asked, self.promotion
        )
        return observed(known, seen, members(self.names) if self.names else ())


@dataclass(frozen=True)
class Doubt:
    """A connection was lost."""

    at: float

    def apply(self, known: Knowledge) -> Knowledge:
        return doubted(known, self.at)


def claim(host: str, at: float, promotion: float = 0.0, *, session: float | None = None) -> News:
    return News(host, Role.WRITER, at, at if session is None else session, promotion, host)


def report(host: str, at: float, names: str | None = None) -> News:
    return News(host, Role.READER, at, at, 0.0, names)


def writer_of(known: Knowledge) -> str | None:
    return known.topology.writer.id if known.topology.writer else None


def after(*events: News | Doubt, known: Knowledge = START) -> Knowledge:
    for event in events:
        known = event.apply(known)
    return known


PHASES: dict[str, tuple[list[News | Doubt], str | None, bool]] = {
    "from A to B and back": (
        [claim("a", 1, 1), Doubt(10), claim("b", 11, 2), Doubt(20), claim("a", 21, 3)],
        "a",
        True,
    ),
    "from A to B to C, the news of B last": (
        [claim("a", 1, 1), Doubt(10), claim("c", 21, 3), claim("b", 11, 2)],
        "c",
        True,
    ),
    "an old claim of A after it came back": (
        [claim("a", 1, 1), Doubt(10), claim("b", 11, 2), Doubt(20), claim("a", 21, 3), claim("a", 9, 1)],
        "a",
        True,
    ),
    "a former writer wakes up and claims": (
        [claim("a", 1, 1), Doubt(10), claim("b", 11, 2), claim("a", 30, 1)],
        "b",
        True,
    ),
    "a former writer claims while the new one is in doubt": (
        [claim("a", 1, 1), Doubt(10), claim("b", 11, 2), Doubt(20), claim("a", 21, 1)],
        "b",
        False,
    ),
    "two claim, neither tells its promotion: nobody is handed out": ([claim("a", 1), claim("b", 11)], "a", False),
    "two claim, and the old one denies": ([claim("a", 1), claim("b", 11), report("a", 12), claim("b", 13)], "b", True),
    "nobody claims": ([report("a", 1, "b"), report("c", 2, "b")], None, False),
    "all deny": ([claim("a", 1, 1), report("a", 10), report("b", 11), report("c", 12)], "a", False),
    "a stale reader names the former writer": (
        [claim("a", 1, 1), Doubt(10), claim("b", 11, 2), report("c", 12, "a")],
        "b",
        True,
    ),
    "an answer on a session from before the doubt": (
        [claim("a", 1, 1), Doubt(10), claim("b", 11, 2, session=9)],
        "a",
        False,
    ),
    "an answer from before the doubt on the doubted host": (
        [claim("a", 1, 1), Doubt(10), claim("a", 11, 1, session=5)],
        "a",
        False,
    ),
    "a restart in place": ([claim("a", 1, 1), Doubt(10), claim("a", 12, 1)], "a", True),
    "the doubted host answers with an older promotion": (
        [claim("a", 1, 3), Doubt(10), claim("a", 12, 2)],
        "a",
        False,
    ),
    "a second doubt needs a newer word": ([claim("a", 1, 1), Doubt(10), Doubt(20), claim("a", 15, 1)], "a", False),
    "an older doubt does not weaken a newer one": (
        [claim("a", 1, 1), Doubt(20), Doubt(10), claim("a", 15, 1)],
        "a",
        False,
    ),
}


@pytest.mark.parametrize("case", PHASES)
def test_phases(case: str) -> None:
    events, writer, settled = PHASES[case]
    known = after(*events)
    assert (writer_of(known), known.settled) == (writer, settled)


def test_a_reader_s_word_makes_a_candidate_and_the_candidate_s_own_word_a_writer() -> None:
    known = after(claim("a", 1, 1), Doubt(10), report("c", 11, "b"))
    assert (known.candidate, writer_of(known), known.settled) == ("b", "a", False)
    known = after(claim("b", 12, 2), known=known)
    assert (known.candidate, writer_of(known), known.settled) == (None, "b", True)


def test_a_new_member_is_learnt_from_a_reader_and_a_lost_one_only_from_the_writer() -> None:
    fewer = members("a", ("a", "b", "c"))
    seen = Observation(HOSTS["a"].playing(Role.WRITER), Role.WRITER, (), 1.0, 1.0, 1.0)
    known = observed(START, seen, fewer)
    more = after(report("b", 2, "a"), known=known)
    assert more.topology.host("d") is not None
    reader = Observation(HOSTS["b"].playing(Role.READER), Role.READER, (), 3.0, 3.0)
    assert observed(more, reader, fewer).topology.host("d") is not None
    assert observed(more, replace(seen, asked=4.0, session=4.0), fewer).topology.host("d") is None


# What holds for anything that may be heard, in any order

TIMES = st.integers(0, 40).map(float)
NEWS = st.builds(
    News,
    host=st.sampled_from(NAMES),
    role=st.sampled_from((Role.WRITER, Role.READER)),
    asked=TIMES,
    session=TIMES,
    promotion=st.integers(0, 4).map(float),
    names=st.none() | st.sampled_from(NAMES),
).map(lambda news: replace(news, session=min(news.session, news.asked)))
EVENTS = st.lists(NEWS | st.builds(Doubt, at=TIMES), max_size=12)


def history(events: list[News | Doubt]) -> list[Knowledge]:
    states = [START]
    for event in events:
        states.append(event.apply(states[-1]))
    return states


@given(EVENTS)
def test_only_a_host_s_own_word_makes_it_the_writer(events: list[News | Doubt]) -> None:
    for event, (before, now) in zip(events, pairwise(history(events)), strict=True):
        if writer_of(now) != writer_of(before):
            assert isinstance(event, News)
            assert (event.host, event.role) == (writer_of(now), Role.WRITER)


@given(EVENTS)
def test_only_a_word_on_a_session_from_after_the_doubt_settles_it(events: list[News | Doubt]) -> None:
    for event, (before, now) in zip(events, pairwise(history(events)), strict=True):
        if before.doubt is not None and now.settled:
            assert isinstance(event, News)
            assert event.session >= before.doubt


@given(EVENTS)
def test_a_report_older_than_the_verdict_changes_nothing(events: list[News | Doubt]) -> None:
    for event, (before, now) in zip(events, pairwise(history(events)), strict=True):
        if isinstance(event, News) and event.role is Role.READER and event.asked < before.verdict.at:
            assert now is before


@given(EVENTS)
def test_a_former_writer_is_never_restored_by_an_older_word(events: list[News | Doubt]) -> None:
    for event, (before, now) in zip(events, pairwise(history(events)), strict=True):
        if isinstance(event, News) and writer_of(now) != writer_of(before) and before.topology.writer is not None:
            newer_promotion = event.promotion > before.verdict.promotion
            newer_word = before.doubt is not None and event.session >= before.doubt
            assert newer_promotion or newer_word


@given(EVENTS.map(lambda es: [replace(e, promotion=max(e.promotion, 1.0)) if isinstance(e, News) else e for e in es]))
def test_where_promotions_are_told_they_never_go_back(events: list[News | Doubt]) -> None:
    promotions = [known.verdict.promotion for known in history(events)]
    assert promotions == sorted(promotions)


@given(EVENTS)
def test_there_is_never_a_second_writer_and_generations_count_the_changes(events: list[News | Doubt]) -> None:
    for before, now in pairwise(history(events)):
        assert sum(host.is_writer for host in now.topology.hosts) <= 1
        changed = now.topology.hosts != before.topology.hosts
        assert now.topology.generation == before.topology.generation + changed
        assert (now.topology is before.topology) is not changed


@given(EVENTS)
def test_the_same_news_twice_is_news_once(events: list[News | Doubt]) -> None:
    known = history(events)[-1]
    for event in events[-1:]:
        again = event.apply(known)
        assert again.topology is known.topology
        assert again.settled == known.settled


@given(EVENTS, st.sampled_from(NAMES))
def test_fresh_claims_with_the_newest_promotion_always_settle(events: list[News | Doubt], host: str) -> None:
    # The first may only raise a doubt, where the writer before told no promotion that it could be compared with.
    known = after(claim(host, 50.0, 9.0), claim(host, 51.0, 9.0), known=history(events)[-1])
    assert (writer_of(known), known.settled) == (host, True)
