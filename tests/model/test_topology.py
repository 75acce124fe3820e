"""Phases of observations, and the writer that is known after each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.topology import ClusterTopology, HostRow, Knowledge, Observation, doubted, observed

HOSTS = {name: Host(name, f"{name}.abc", 5432) for name in ("a", "b", "c")}


def said(
    host: str, role: Role, at: float, *, session: float | None = None, promotion: float = 0.0, writer: str = ""
) -> Observation:
    rows = tuple(HostRow(name, name == writer) for name in HOSTS) if writer else ()
    return Observation(HOSTS[host].playing(role), role, rows, at if session is None else session, at, promotion)


def members(writer: str) -> tuple[Host, ...]:
    return tuple(host.playing(Role.WRITER if host.id == writer else Role.READER) for host in HOSTS.values())


def settled_on_a() -> Knowledge:
    start = Knowledge(ClusterTopology("test"))
    return observed(start, said("a", Role.WRITER, 10.0, promotion=1.0, writer="a"), members("a"))


@dataclass(frozen=True)
class Phase:
    seen: Observation
    writer: str | None
    settled: bool = True
    candidate: str | None = None


CASES: dict[str, tuple[Knowledge, list[Phase]]] = {
    "the writer's own word makes a writer": (
        Knowledge(ClusterTopology("test")),
        [Phase(said("a", Role.WRITER, 1.0), "a")],
    ),
    "a reader's word about another makes a candidate only": (
        Knowledge(ClusterTopology("test")),
        [Phase(said("b", Role.READER, 1.0, writer="a"), None, False, "a"), Phase(said("a", Role.WRITER, 2.0), "a")],
    ),
    "in doubt only a session opened after it counts": (
        doubted(settled_on_a(), 20.0),
        [
            Phase(said("b", Role.WRITER, 21.0, session=19.0, promotion=2.0), "a", False),
            Phase(said("b", Role.WRITER, 21.5, session=20.5, promotion=2.0), "b"),
        ],
    ),
    "the same host may go on writing, by a fresh word": (
        doubted(settled_on_a(), 20.0),
        [Phase(said("a", Role.WRITER, 21.0, session=20.5, promotion=1.0), "a")],
    ),
    "a former writer that comes back loses to the newer promotion": (
        settled_on_a(),
        [
            Phase(said("b", Role.WRITER, 20.0, promotion=2.0), "b"),
            Phase(said("a", Role.WRITER, 21.0, promotion=1.0), "b"),
        ],
    ),
    "two claims that cannot be ordered leave it undecided": (
        replace(settled_on_a(), verdict=replace(settled_on_a().verdict, promotion=0.0)),
        [Phase(said("b", Role.WRITER, 20.0), "a", False, "b")],
    ),
    "the writer's denial raises a doubt": (
        settled_on_a(),
        [Phase(said("a", Role.READER, 20.0), "a", False)],
    ),
    "old news changes nothing": (
        settled_on_a(),
        [Phase(said("b", Role.READER, 9.0, writer="c"), "a"), Phase(said("a", Role.READER, 9.0), "a")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_phases(case: str) -> None:
    known, phases = CASES[case]
    for phase in phases:
        known = observed(known, phase.seen, ())
        writer = known.topology.writer
        assert (writer.id if writer else None, known.settled, known.candidate) == (
            phase.writer,
            phase.settled,
            phase.candidate,
        )


def test_the_same_news_again_changes_no_topology() -> None:
    known = settled_on_a()
    again = observed(known, said("a", Role.WRITER, 11.0, promotion=1.0, writer="a"), members("a"))
    assert again.topology is known.topology
    assert observed(known, said("b", Role.READER, 11.0, writer="a"), members("a")) is known


def test_only_the_writer_removes_hosts() -> None:
    known = settled_on_a()
    fewer = tuple(host for host in members("a") if host.id != "c")
    assert observed(known, said("b", Role.READER, 11.0), fewer).topology.host("c") is not None
    assert observed(known, said("a", Role.WRITER, 11.0, promotion=1.0), fewer).topology.host("c") is None
