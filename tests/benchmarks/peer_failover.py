"""The writer goes, in six ways, under one connection of each subject: who writes again how soon, and at what price."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from aurora_actors.lab.lab import Lab
from aurora_actors.lab.values import Habit, OperationRecord
from tests.benchmarks import peer
from tests.benchmarks.clients import Client
from tests.benchmarks.failover import AFTER_SECONDS, RESTART_SECONDS
from tests.benchmarks.harness import Beside, Cell, Plan, Spread, Table
from tests.benchmarks.servers import Line, Servers, running

__all__ = ["KINDS", "SILENT", "SUBJECTS", "Found", "extras", "strike", "tables"]

SUBJECTS = ("ours", "libpq", "peer")
KINDS: dict[str, Habit] = {
    "crash, sessions kept": "keep", "crash, sessions dropped": "drop", "crash, host restarted": "restart",
    "planned switchover": "keep", "frozen writer": "keep", "black hole": "keep",
}  # fmt: skip
SILENT = {"frozen writer": ("freeze", "thaw"), "black hole": ("black_hole", "heal")}
DETECTION = {"failure_detection_time_ms": 1000, "failure_detection_interval_ms": 500, "failure_detection_count": 3}
BACK_SECONDS = 8.0
"""How long after the new writer is up a subject is waited for; in silence, so long after the verdict it could have had."""
THIRD = 3
FIGURES = (
    ("first success after the new writer's first commit, ms", "commit", "ms"),
    ("… after the promotion, ms", "promotion", "ms"),
    ("… after the fault, ms", "fault", "ms"),
    ("new server sessions", "sessions", ""),
    ("client CPU, ms", "cpu", "ms"),
)


@dataclass(slots=True)
class Found:
    """What the events of one kind gave one subject."""

    commit: list[float] = field(default_factory=list)
    promotion: list[float] = field(default_factory=list)
    fault: list[float] = field(default_factory=list)
    sessions: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    events: int = 0

    @property
    def recovered(self) -> str:
        return f"{len(self.commit)} of {self.events}"

    def cell(self, values: Sequence[float], unit: str = "ms", digits: int = 0) -> Cell:
        """The figure, or that there is none."""
        if len(self.commit) < self.events and values is not self.cpu and values is not self.sessions:
            return f"{self.recovered} came back"
        return Spread.of(values, unit, scale=1000 if unit == "ms" else 1, digits=digits)


def extras(kind: str, subject: str) -> dict[str, Any]:
    """What tells a subject of a silent host: the same settings for ours and the peer, the kernel's for libpq."""
    if kind not in SILENT:
        return {}
    return {"known": {"tcp_user_timeout": 2000}} if subject == "libpq" else {"parameters": DETECTION}


def strike(lab: Lab, kind: str, *, rejoin: bool = True) -> tuple[float, OperationRecord, str]:
    """Take the writer away: when that was, the record of the promotion, and who wrote."""
    old = lab.writer
    if kind in SILENT:
        fault = getattr(lab, SILENT[kind][0])(old).started_at
        sleep(AFTER_SECONDS)
        return fault, lab.failover(), old
    how: Any = "planned" if kind == "planned switchover" else "crash"
    record = lab.failover(how=how, rejoin=rejoin, after_seconds=AFTER_SECONDS if how == "crash" else 0.0)
    return record.at("killed" if how == "crash" else "stop_requested"), record, old


def probed(lines: Sequence[Line], user: str, until: float) -> int:
    """What a subject asks of hosts while it searches: monitors' statements, or logins where nothing is asked."""
    asked = [line for line in lines if line.user == user and line.at <= until]
    words = ("BEGIN", "COMMIT", "ROLLBACK", "INSERT")
    statements = [line for line in asked if "statement: " in line.text or "execute " in line.text]
    return sum(not any(word in line.text for word in words) for line in statements) + sum(line.is_session for line in asked)


def tables(plan: Plan) -> list[Table]:
    """One table."""
    return peer.installed(lambda: [_table(plan)])


def _table(plan: Plan) -> Table:
    columns = ["recovered", "from the first commit", "from the promotion", "from the fault"]
    columns += ["new sessions", "probes/s/host", "client CPU ms"]
    table = Table("Failover of one connection beside the peer, ms", columns)
    for kind, habit in KINDS.items():
        found = _events(plan, kind, habit)
        for name, one in found.items():
            times = [Spread.of(v, "ms", scale=1000, digits=0) for v in (one.commit, one.promotion, one.fault)]
            rates = Spread.of(one.sessions, digits=0), Spread.of(one.probes, digits=1)
            table.add(f"{kind}: {name}", one.recovered, *times, *rates, Spread.of(one.cpu, "ms", scale=1000, digits=0))
        _judge(table, kind, found)
    table.notes = [
        (f"Side by side in the same {plan.rounds} events of each kind, a process each. Crash: SIGKILL, promotion"
        f" {AFTER_SECONDS:g} s later; frozen, black hole: promotion {AFTER_SECONDS:g} s after the silence began, in which"
        " the old writer stays. first commit: the lab's own on the promoted host, tried every 2 ms."),
        (f"Waited for {BACK_SECONDS:g} s after the new writer was up; who did not come back starts afresh. peer: its"
        f" defaults with {peer.SETTINGS}; in silence ours and the peer 1000/500/3, libpq tcp_user_timeout=2000."),
        ("Sessions: logins that servers let in, monitors included; CPU: of the process; both from the fault until all were"
        " back or given up. Probes: statements and logins on the two live hosts, from the fault to the promotion."),
    ]
    return table


def _judge(table: Table, kind: str, found: dict[str, Found]) -> None:
    ours, libpq, theirs = (found[name] for name in SUBJECTS)
    for what, name, unit in FIGURES:
        cells = [one.cell(getattr(one, name), unit) for one in (ours, theirs, libpq)]
        limit = 0.0 if name == "commit" else AFTER_SECONDS * 1000 if name == "fault" and "crash" in kind else None
        bound = {"commit": "the promotion, a login", "fault": "the promotion"}.get(name, "") if limit is not None else ""
        title = f"{kind}, 1 connection: {what}"
        table.beside.append(Beside(title, cells[0], cells[1], libpq=cells[2], limit=limit, bound=bound))
    mine, its = Spread.of(ours.promotion), Spread.of(theirs.promotion)
    reached = len(ours.commit) == ours.events and mine is not None
    if its is not None and mine is not None and len(theirs.commit) == theirs.events:
        reached = reached and mine.median <= its.median / THIRD
        table.target(f"{kind}: at most a third of the peer's median after the promotion", reached)
    else:
        table.target(f"{kind}: every event recovers, where the peer came back in {theirs.recovered}", reached)


def _events(plan: Plan, kind: str, habit: Habit) -> dict[str, Found]:
    found = {name: Found() for name in SUBJECTS}
    users = [f"bench_{name}" for name in SUBJECTS]
    with (
        running(users, habit=habit, restart_seconds=RESTART_SECONDS) as servers,
        peer.named(servers.lab) as places,
        ExitStack() as stack,
    ):
        opened: dict[str, Client] = {}
        for number in range(plan.rounds):
            _event(servers, stack, opened, places, kind, found)
            plan.say(f"failover, {kind}: event {number + 1} of {plan.rounds}")
    return found


def _event(
    servers: Servers, stack: ExitStack, opened: dict[str, Client], places: Path, kind: str, found: dict[str, Found]
) -> None:
    for name in SUBJECTS:
        if name not in opened:
            order = peer.order(servers, name, places, **extras(kind, name))
            opened[name] = stack.enter_context(Client(order, sampled=False))
        opened[name].ask("report")
    servers.mark()
    before = {name: client.ask("mark")["cpu"] for name, client in opened.items()}
    fault, record, old = strike(servers.lab, kind)
    until = max(monotonic(), record.first_commit_at) + BACK_SECONDS
    marks = {name: client.until(lambda mark: mark["back"] > 0, until) for name, client in opened.items()}
    lines = servers.lines()
    for name, client in list(opened.items()):
        one = found[name]
        back = min((loss["back"] for loss in client.ask("report")["losses"] if loss["back"] > fault), default=None)
        one.events += 1
        one.cpu.append(marks[name]["cpu"] - before[name])
        one.sessions.append(sum(line.is_session and line.user == f"bench_{name}" for line in lines))
        outage = record.promoted_at - fault
        one.probes.append(probed(lines, f"bench_{name}", record.promoted_at) / outage / (len(servers.lab.hosts) - 1))
        if back is not None:
            one.commit.append(back - record.first_commit_at)
            one.promotion.append(back - record.promoted_at)
            one.fault.append(back - fault)
        else:
            opened.pop(name).kill()
    if kind in SILENT:
        getattr(servers.lab, SILENT[kind][1])(old)
    servers.lab.wait_ready()
