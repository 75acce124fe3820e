"""The writer is killed under one connection: how soon it commits again, beside libpq's loop, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aurora_actors.lab.values import Habit, OperationRecord
from tests.benchmarks.clients import Client
from tests.benchmarks.harness import Plan, Spread, Table
from tests.benchmarks.servers import Line, Servers, running

__all__ = ["tables"]

SUBJECTS = ("ours", "libpq")
HABITS: tuple[Habit, ...] = ("keep", "drop", "restart")
MEANT = {"keep": "sessions kept", "drop": "sessions dropped", "restart": "host restarted"}
AFTER_SECONDS = 1.0
RESTART_SECONDS = 1.0
SLOWEST_SECONDS = 0.04


@dataclass(slots=True)
class Event:
    """One failover: what the lab did, what each application saw, what the promoted host logged."""

    record: OperationRecord
    reports: dict[str, dict[str, Any]]
    lines: list[Line]

    def back(self, subject: str) -> float | None:
        """When the subject's first commit after the kill came back."""
        losses = [loss["back"] for loss in self.reports[subject]["losses"] if loss["back"] > self.record.killed_at]
        return min(losses, default=None)

    def after(self, subject: str, start: Callable[[OperationRecord], float]) -> float | None:
        back = self.back(subject)
        return None if back is None else back - start(self.record)


@dataclass(slots=True)
class Habitual:
    """All events of one habit."""

    habit: Habit
    events: list[Event] = field(default_factory=list)

    def commits(self, subject: str) -> list[float]:
        """Seconds from the lab's first commit to the subject's, of the events in which it recovered."""
        found = [event.after(subject, lambda record: record.first_commit_at) for event in self.events]
        return [seconds for seconds in found if seconds is not None]


def tables(plan: Plan) -> list[Table]:
    """Recovery in each habit, and the breakdown of ours."""
    seen = [_events(plan, habit) for habit in HABITS]
    return [_recovery(plan, seen), *(_breakdown(one) for one in seen)]


def _events(plan: Plan, habit: Habit) -> Habitual:
    seen = Habitual(habit)
    with (
        running([f"bench_{name}" for name in SUBJECTS], habit=habit, restart_seconds=RESTART_SECONDS) as servers,
        Client(servers.order("ours", "bench_ours")) as ours,
        Client(servers.order("libpq", "bench_libpq")) as libpq,
    ):
        clients = {"ours": ours, "libpq": libpq}
        for number in range(plan.events):
            seen.events.append(_event(servers, clients))
            plan.say(f"failover, {MEANT[habit]}: event {number + 1} of {plan.events}")
    return seen


def _event(servers: Servers, clients: dict[str, Client]) -> Event:
    for client in clients.values():
        client.ask("report")
    servers.mark()
    record = servers.lab.failover(how="crash", after_seconds=AFTER_SECONDS)
    new = servers.lab.writer
    servers.lab.wait_ready()
    reports = {name: client.ask("report") for name, client in clients.items()}
    return Event(record, reports, [line for line in servers.lines() if line.host == new])


def _recovery(plan: Plan, seen: Sequence[Habitual]) -> Table:
    table = Table(
        "Failover of one connection, ms",
        ["recovered", "from the lab's first commit", "from the promotion", "from the kill"],
    )
    for one in seen:
        for subject in SUBJECTS:
            starts: list[Callable[[OperationRecord], float]] = [
                lambda record: record.first_commit_at,
                lambda record: record.promoted_at,
                lambda record: record.killed_at,
            ]
            found = [[t for event in one.events if (t := event.after(subject, start)) is not None] for start in starts]
            table.add(
                f"{MEANT[one.habit]}: {subject}",
                f"{len(found[0])} of {len(one.events)}",
                *(Spread.of(values, "ms", scale=1000, digits=0) for values in found),
            )
    table.notes = [
        ("Median (least to most). The lab's own session on the promoted host tries to commit every 2 ms; a commit counts"
        " when a reader has it, the lab's own too."),
        (f"Crash by SIGKILL, promotion {AFTER_SECONDS:g} s later; ours and libpq side by side in the same events, each in"
        " a process of its own. libpq: all hosts, target_session_attrs=read-write, connect_timeout=2, retry every 50 ms."),
    ]
    for one in seen:
        ours, libpq = (Spread.of(one.commits(subject)) for subject in SUBJECTS)
        bound = max(SLOWEST_SECONDS, libpq.median if libpq is not None else 0.0)
        whole = ours is not None and ours.count == len(one.events)
        table.target(
            f"{MEANT[one.habit]}: every event recovers, the median from the lab's first commit at most"
            f" {1000 * bound:.0f} ms (the larger of 40 ms and libpq's)",
            whole and ours is not None and ours.median <= bound,
        )
    return table


STEPS = (
    "recovery has ended (server's log)",
    "lab saw the promotion",
    "writer known to our actors",
    "connection told",
    "login received by the server",
    "login authorized",
    "role asked for",
    "verified",
    "session restored",
    "application told",
    "its INSERT reached the server",
    "a reader streams",
    "lab's first commit",
    "our first commit",
)


def _breakdown(one: Habitual) -> Table:
    """The way of ours, each step counted from the end of recovery as the server logged it."""
    table = Table(f"Where our time goes, {MEANT[one.habit]}, ms after the end of recovery", ["after", "step"])
    ways = [way for event in one.events if (way := _way(event))]
    for number, step in enumerate(STEPS):
        found = [way[step] for way in ways if step in way]
        before = [
            way[step] - max((way[name] for name in STEPS[:number] if name in way), default=way[step])
            for way in ways if step in way
        ]  # fmt: skip
        table.add(step, Spread.of(found, "ms", scale=1000, digits=1), Spread.of(before, "ms", scale=1000, digits=1))
    table.notes = [
        "after: from the server's log line that says that recovery has ended; step: from the latest of the steps above.",
        "Server times have a resolution of 1 ms; ours come from signals and the ledger of connection_switched.",
    ]
    return table


def _way(event: Event) -> dict[str, float]:
    report, record = event.reports["ours"], event.record
    switched = next((fact for fact in report["facts"] if fact["name"] == "connection_switched"), None)
    loss = next((loss for loss in report["losses"] if loss["back"] > record.killed_at), None)
    if switched is None or loss is None:
        return {}
    ledger, lines = switched["ledger"], event.lines
    completed = [fact["at"] for fact in report["facts"] if fact["name"] == "writer_changed"]
    mine = [line for line in lines if line.user == "bench_ours" and not line.is_monitor]
    session = next((line.pid for line in mine if line.is_session and line.at <= loss["back"]), None)
    own = [line for line in lines if line.pid == session]
    way = {
        "recovery has ended (server's log)": _first(lines, "archive recovery complete"),
        "lab saw the promotion": record.promoted_at,
        "writer known to our actors": completed[-1] if completed else None,
        "connection told": _in(ledger, "writer_known"),
        "login received by the server": _first(own, "connection received"),
        "login authorized": _first(own, "connection authorized"),
        "role asked for": _first(own, "pg_is_in_recovery"),
        "verified": _in(ledger, "verified"),
        "session restored": _in(ledger, "restored"),
        "application told": loss["told"],
        "its INSERT reached the server": _first(own, "INSERT"),
        "a reader streams": _first(lines, "is now a candidate for quorum"),
        "lab's first commit": record.first_commit_at,
        "our first commit": loss["back"],
    }
    start = way["recovery has ended (server's log)"]
    return {} if start is None else {name: at - start for name, at in way.items() if at is not None}


def _first(lines: Sequence[Line], text: str) -> float | None:
    return next((line.at for line in lines if text in line.text), None)


def _in(ledger: dict[str, Any], step: str) -> float | None:
    return None if ledger[step] is None else float(ledger["symptom_at"] + ledger[step])
