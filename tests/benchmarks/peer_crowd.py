"""The same under 50 and 200 connections of one process: first back, last back, sessions, threads, CPU."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from tests.benchmarks import peer
from tests.benchmarks.clients import Client, NoAnswer
from tests.benchmarks.failover import RESTART_SECONDS
from tests.benchmarks.harness import Beside, Cell, Plan, Spread, Table
from tests.benchmarks.many import PAUSE_SECONDS
from tests.benchmarks.peer_failover import KINDS, SILENT, SUBJECTS, extras, strike
from tests.benchmarks.servers import Servers, running

__all__ = ["tables"]

SIZES = (50, 200)
FULL = {("crash, sessions kept", 50), ("crash, sessions kept", 200)}
"""Where every round is run. Elsewhere one: what cannot come back is waited for each time."""
BACK_SECONDS = 12.0
FIGURES = (("last back after the first commit, ms", "last", 1000), ("new server sessions", "sessions", 1),
           ("client CPU, ms", "cpu", 1000))  # fmt: skip


@dataclass(slots=True)
class _Crowd:
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    fault: list[float] = field(default_factory=list)
    sessions: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    back: int = 0
    wanted: int = 0

    @property
    def whole(self) -> bool:
        return self.back == self.wanted

    def cell(self, values: list[float], unit: str = "", *, scale: float = 1, digits: int = 0) -> Cell:
        return Spread.of(values, unit, scale=scale, digits=digits) if self.whole else f"{self.back} of {self.wanted} back"


def tables(plan: Plan) -> list[Table]:
    """One table."""
    return peer.installed(lambda: [_table(plan)])


def _table(plan: Plan) -> Table:
    columns = ["recovered", "first back", "last back", "last, from the fault", "new sessions", "threads", "client CPU s"]
    table = Table("Failover of many connections beside the peer, ms", columns)
    for kind, habit in KINDS.items():
        users = [f"bench_{name}" for name in SUBJECTS]
        with running(users, habit=habit, restart_seconds=RESTART_SECONDS) as servers, peer.named(servers.lab) as places:
            for size in SIZES[:1] if plan.quick else SIZES:
                found = {name: _Crowd() for name in SUBJECTS}
                rounds = plan.rounds if (kind, size) in FULL else 1
                for number in range(rounds):
                    for name in SUBJECTS if number % 2 == 0 else reversed(SUBJECTS):
                        _round(servers, places, kind, name, size, found[name])
                    plan.say(f"crowd, {kind}, {size}: round {number + 1} of {rounds}")
                for name, one in found.items():
                    table.add(
                        f"{kind}, {size}: {name}", f"{one.back} of {one.wanted}",
                        *(Spread.of(v, "ms", scale=1000, digits=0) for v in (one.first, one.last, one.fault)),
                        *(Spread.of(v, digits=0) for v in (one.sessions, one.threads)), Spread.of(one.cpu, "s", digits=2),
                    )  # fmt: skip
                _judge(table, kind, size, found)
    table.notes = [
        "One event a subject, in turns; times from the lab's first commit, threads those of the application included.",
        (f"Waited for {BACK_SECONDS:g} s; the settings of the table of one connection. Sessions kept: {plan.rounds} rounds;"
        " the other kinds one."),
    ]
    return table


def _judge(table: Table, kind: str, size: int, found: dict[str, _Crowd]) -> None:
    ours, libpq, theirs = (found[name] for name in SUBJECTS)
    for what, name, scale in FIGURES:
        cells = [one.cell(getattr(one, name), scale=scale) for one in (ours, theirs, libpq)]
        limit, bound = (float(size), "a session each") if name == "sessions" else (None, "")
        title = f"{kind}, {size} connections: {what}"
        table.beside.append(Beside(title, cells[0], cells[1], libpq=cells[2], limit=limit, bound=bound))
    last, its = Spread.of(ours.last), Spread.of(theirs.last)
    earlier = not theirs.whole or (last is not None and its is not None and last.median < its.median)
    table.target(f"{kind}, {size}: all of ours are back, before the peer's", ours.whole and earlier)
    pairs = [(Spread.of(a), Spread.of(b)) for a, b in ((ours.cpu, libpq.cpu), (ours.sessions, libpq.sessions))]
    below = all(a is not None and b is not None and a.median < b.median for a, b in pairs)
    table.target(f"{kind}, {size}: less client CPU and fewer server sessions than libpq's loop", below)


def _round(servers: Servers, places: Path, kind: str, name: str, size: int, found: _Crowd) -> None:
    lab = servers.lab
    lab.wait_ready()
    order = peer.order(servers, name, places, connections=size, pause=PAUSE_SECONDS * size, **extras(kind, name))
    client = Client(order)
    try:
        client.__enter__()
        client.ask("report")
        servers.mark()
        before = client.ask("mark")
        client.threads = 0
        fault, record, old = strike(lab, kind, rejoin=False)
        after, back = before, list[float]()
        with suppress(NoAnswer):  # seen of the AWS wrapper: none of its connections counts as back
            after = client.until(lambda mark: mark["back"] >= size, monotonic() + BACK_SECONDS)
            back = sorted(loss["back"] for loss in client.ask("report")["losses"] if loss["back"] > fault)
        lines = servers.lines()
        threads = client.threads
    finally:
        client.kill()
    if kind in SILENT:
        getattr(lab, SILENT[kind][1])(old)
    else:
        lab.restart(old)
    found.back += min(len(back), size)
    found.wanted += size
    if after is not before:
        found.cpu.append(after["cpu"] - before["cpu"])
    found.threads.append(threads)
    until = back[size - 1] if len(back) >= size else record.first_commit_at + BACK_SECONDS
    found.sessions.append(sum(x.is_session and x.user == f"bench_{name}" and x.at <= until for x in lines))
    if len(back) >= size:
        found.first.append(back[0] - record.first_commit_at)
        found.last.append(back[size - 1] - record.first_commit_at)
        found.fault.append(back[size - 1] - fault)
