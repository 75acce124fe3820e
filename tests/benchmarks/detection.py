"""A host falls silent under a call in flight: how long until the call is ended, against what the settings promise."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.clients import Client
from tests.benchmarks.harness import Plan, Spread, Table
from tests.benchmarks.servers import Servers, running

__all__ = ["tables"]

GIVEN = {"failure_detection_time_ms": 1000, "failure_detection_interval_ms": 500, "failure_detection_count": 3}
SLACK_SECONDS = 0.1
UNGIVEN_SECONDS = 5.0
PATIENCE_SECONDS = 7.0
"""What was not ended by then counts as not ended."""


@dataclass(slots=True)
class Subject:
    """One application; ``bound``: seconds in which its call has to be ended, None where nothing is promised."""

    name: str
    kind: str
    bound: float | None
    parameters: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


SUBJECTS = (
    Subject("ours, 1000/500/3", "ours", 1.0 + 2 * 0.5 + SLACK_SECONDS, {"plugins": "efm", **GIVEN}),
    Subject("ours, nothing given", "ours", UNGIVEN_SECONDS, {"plugins": "efm"}),
    Subject("raw, tcp_user_timeout=2000", "raw", None, {}, {"tcp_user_timeout": 2000, "connect_timeout": 2}),
)


def tables(plan: Plan) -> list[Table]:
    """Black holes and frozen servers, all applications side by side in each."""
    table = Table("A silent writer: from the silence to the end of the call, s", ["ended", "seconds", "bound"])
    kind = ""
    users = [f"bench_{number}" for number in range(len(SUBJECTS))]
    for silence, end in (("black_hole", "heal"), ("freeze", "thaw")):
        with running(users) as servers:
            kind = servers.lab.black_hole_kind
            count = plan.count(5, 1)
            found: list[list[float]] = [[] for _ in SUBJECTS]
            for number in range(count):
                for values, seconds in zip(found, _event(servers, users, silence, end), strict=True):
                    if seconds is not None:
                        values.append(seconds)
                plan.say(f"detection, {silence}: event {number + 1} of {count}")
        for subject, values in zip(SUBJECTS, found, strict=True):
            spread = Spread.of(values, "s", digits=2)
            table.add(f"{silence}: {subject.name}", f"{len(values)} of {count}", spread, subject.bound)
            if subject.bound is not None:
                within = len(values) == count and max(values, default=subject.bound + 1) <= subject.bound
                table.target(f"{silence}, {subject.name}: every call ended within {subject.bound:g} s", within)
    table.notes = [
        f"Counted from the moment at which the lab begins to silence the host, so some ms too long; black holes by {kind}.",
        "Each application commits every 2 ms on one connection; plugins: efm alone, so that the end of the call is seen.",
    ]
    return [table]


def _event(servers: Servers, users: list[str], silence: str, end: str) -> list[float | None]:
    lab = servers.lab
    lab.wait_ready()
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                Client(servers.order(subject.kind, user, known=subject.extra, parameters=subject.parameters))
            )
            for subject, user in zip(SUBJECTS, users, strict=True)
        ]
        writer = lab.writer
        began = getattr(lab, silence)(writer).started_at
        deadline = began + PATIENCE_SECONDS
        seen = [client.until(lambda mark: mark["lost"] is not None, deadline) for client in clients]
        getattr(lab, end)(writer)
        lab.wait_ready()
    return [None if mark["lost"] is None else mark["lost"] - began for mark in seen]
