"""Who is answered with which host, as tables: writers, readers, either, and losses that are explained already."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from aurora_actors.model.failover import (
    FRESH_SECONDS,
    READER_GRACE_SECONDS,
    Mode,
    Sighting,
    Want,
    answer,
    explained,
    why_stale,
)
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.topology import ClusterTopology, ClusterView, Verdict

A, B, C = (Host(name, f"{name}.abc", 5432, Role.READER) for name in "abc")
WRITING_B = ClusterTopology("test", (B.playing(Role.WRITER), A, C), 2)
WRITING_A = ClusterTopology("test", (A.playing(Role.WRITER), B, C), 1)
ALONE = ClusterTopology("test", (A.playing(Role.WRITER),), 1)
NOBODY = ClusterTopology("test", (A, B, C), 1)

# A connection to A, opened at 10, that noticed its loss at 20. The doubt arose at 20, B said at 21 that it writes.
WANT = Want(Mode.STRICT_WRITER, A.playing(Role.WRITER), 10.0, 20.0)
MOVED = Verdict(at=21.0, doubt=20.0, promotion=2.0)


@pytest.mark.parametrize(
    ("mode", "role", "accepted"),
    [
        (Mode.STRICT_WRITER, Role.WRITER, True),
        (Mode.STRICT_WRITER, Role.READER, False),
        (Mode.STRICT_READER, Role.WRITER, False),
        (Mode.STRICT_READER, Role.READER, True),
        (Mode.READER_OR_WRITER, Role.WRITER, True),
        (Mode.READER_OR_WRITER, Role.READER, True),
        *((mode, Role.UNKNOWN, False) for mode in Mode),
    ],
)
def test_a_mode_goes_by_the_role(mode: Mode, role: Role, accepted: bool) -> None:
    assert mode.accepts(A.playing(role)) is accepted


@dataclass(frozen=True)
class Loss:
    want: Want
    verdict: Verdict
    explained: bool
    topology: ClusterTopology = WRITING_B
    settled: bool = True


LOSSES = {
    "the writer spoke after the loss was noticed": Loss(WANT, MOVED, True),
    "noticed late, the writer has moved since the session was opened": Loss(replace(WANT, since=600.0), MOVED, True),
    "noticed just after the search, on the host that goes on writing": Loss(
        replace(WANT, since=21.0 + FRESH_SECONDS / 2), MOVED, True, WRITING_A
    ),
    "noticed late, on the host that goes on writing": Loss(replace(WANT, since=31.0), MOVED, False, WRITING_A),
    "a session opened after the doubt was lost to something newer": Loss(
        replace(WANT, lost=WRITING_B.writer, opened=21.5, since=30.0), MOVED, False
    ),
    "the session was opened after the doubt, to a host that has lost its role since": Loss(
        replace(WANT, opened=20.5, since=30.0), MOVED, True
    ),
    "the session was opened after the writer's last word, to another host": Loss(
        replace(WANT, opened=21.5, since=30.0), MOVED, False
    ),
    "nobody doubted the writer yet": Loss(WANT, Verdict(at=9.0), False, WRITING_A),
    "the writer is in doubt": Loss(WANT, MOVED, False, settled=False),
    "no writer is known": Loss(WANT, MOVED, False, NOBODY),
    "the session was opened just as the doubt arose": Loss(
        replace(WANT, opened=20.0, since=30.0), MOVED, False, WRITING_A
    ),
    "a connection that was on no host yet": Loss(replace(WANT, lost=None, opened=0.0, since=40.0), MOVED, False),
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_is_explained_or_needs_a_search(case: str) -> None:
    loss = LOSSES[case]
    assert explained(loss.want, loss.topology, loss.verdict, loss.settled) is loss.explained


@pytest.mark.parametrize("mode", [Mode.STRICT_READER, Mode.READER_OR_WRITER])
def test_the_loss_of_a_reader_is_never_explained_by_a_writer(mode: Mode) -> None:
    assert not explained(replace(WANT, mode=mode), WRITING_B, MOVED, True)


@dataclass(frozen=True)
class Question:
    mode: Mode
    given: tuple[str, ...]
    topology: ClusterTopology = WRITING_B
    verdict: Verdict = MOVED
    settled: bool = True
    seen: tuple[Host, ...] = ()
    waited: float = 0.0


W, R, E = Mode.STRICT_WRITER, Mode.STRICT_READER, Mode.READER_OR_WRITER
LATER = READER_GRACE_SECONDS
QUESTIONS = {
    "the writer, once it is settled": Question(W, ("b",)),
    "no writer while in doubt": Question(W, (), settled=False),
    "no writer whose word is older than the session": Question(W, (), verdict=Verdict(at=9.0)),
    "a writer's connection is given no reader": Question(W, (), settled=False, seen=(C,), waited=60.0),
    "a reader that answered": Question(R, ("c",), seen=(C,)),
    "every reader that answered": Question(R, ("a", "c"), seen=(A, C)),
    "no reader that did not": Question(R, ()),
    "a reader's connection is given no writer": Question(R, (), seen=(B.playing(Role.WRITER),), waited=60.0),
    "the only host, whatever it does": Question(R, ("a",), ALONE),
    "the only host is not given while in doubt": Question(R, (), ALONE, settled=False),
    "either: a reader first": Question(E, ("c",), seen=(C,), waited=LATER),
    "either: readers have their time": Question(E, (), waited=LATER / 2),
    "either: then the writer": Question(E, ("b",), waited=LATER),
    "either: no writer in doubt, however long": Question(E, (), settled=False, waited=60.0),
    "either: the only host at once": Question(E, ("a",), ALONE),
    "a sighting of a writer is no reader": Question(E, ("b",), seen=(B.playing(Role.WRITER),), waited=LATER),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_what_a_connection_is_given(case: str) -> None:
    asked = QUESTIONS[case]
    sightings = tuple(Sighting(host, 21.0) for host in asked.seen)
    want = replace(WANT, mode=asked.mode)
    hosts = answer(want, asked.topology, asked.verdict, asked.settled, sightings, asked.waited)
    assert tuple(host.id for host in hosts) == asked.given


# Idle connections

VIEW = ClusterView(WRITING_B)
C_DOWN = ClusterView(WRITING_B, frozenset("c"))


@dataclass(frozen=True)
class Idle:
    mode: Mode
    host: Host
    reason: str
    view: ClusterView = VIEW
    opened: float = 10.0


IDLE = {
    "on the former writer": Idle(W, A.playing(Role.WRITER), "b writes now"),
    "on the writer": Idle(W, B.playing(Role.WRITER), ""),
    "on a reader by its instance endpoint": Idle(W, C, ""),
    "on the former writer, opened after the news": Idle(W, A.playing(Role.WRITER), "", opened=22.0),
    "while the writer is in doubt": Idle(W, A.playing(Role.WRITER), "", ClusterView(WRITING_B, doubt=30.0)),
    "while nobody writes": Idle(W, A.playing(Role.WRITER), "", ClusterView(NOBODY)),
    "a reader on a host that writes now": Idle(R, B, "b writes now"),
    "a reader on a host that writes now, and there is no other": Idle(
        R, B, "", ClusterView(replace(WRITING_B, hosts=(B.playing(Role.WRITER),)))
    ),
    "a reader on a reader": Idle(R, C, ""),
    "either, wherever it is": Idle(E, B, ""),
    **{f"{mode.value} on a host that is down": Idle(mode, C, "c is down", C_DOWN) for mode in Mode},
    "on a host that is down, while the writer is in doubt": Idle(
        W, C, "c is down", ClusterView(WRITING_B, frozenset("c"), 30.0)
    ),
}


@pytest.mark.parametrize("case", IDLE)
def test_why_an_idle_connection_goes_elsewhere(case: str) -> None:
    idle = IDLE[case]
    assert why_stale(idle.view, MOVED, idle.mode, idle.host, idle.opened) == idle.reason
