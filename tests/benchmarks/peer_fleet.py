"""A fleet of processes with twenty connections each through one failover, and what it means for ten thousand, on paper."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tests.benchmarks import peer
from tests.benchmarks.clients import Client
from tests.benchmarks.harness import Beside, Plan, Table
from tests.benchmarks.many import PAUSE_SECONDS
from tests.benchmarks.peer_failover import SUBJECTS, probed, strike
from tests.benchmarks.servers import Servers, running

__all__ = ["tables"]

EACH = 20
PROCESSES, QUICK_PROCESSES = 30, 4
ROOM = 900
"""Connections that a server of the lab is made to take: those of the fleet, and of its monitors."""
BACK_SECONDS = 45.0
STEP_SECONDS = 0.1
PAPER = 10_000


def tables(plan: Plan) -> list[Table]:
    """The fleet that was run, and the one on paper."""
    return peer.installed(lambda: _tables(plan))


def _tables(plan: Plan) -> list[Table]:
    count = plan.count(PROCESSES, QUICK_PROCESSES)
    columns = ["back", "first back, ms", "last back, ms", "logins", "logins/s at the new writer, most in 100 ms",
               "probes/s/process", "client CPU, s"]  # fmt: skip
    table = Table(f"A fleet of {count} processes x {EACH} connections through one failover", columns)
    figures: dict[str, list[Any]] = {}
    for name in SUBJECTS:
        with running([f"bench_{one}" for one in SUBJECTS], connections=ROOM) as servers, peer.named(servers.lab) as places:
            figures[name] = _round(servers, places, name, count)
        table.add(name, *figures[name])
        plan.say(f"fleet: {name}")
    for number, column in enumerate(columns):
        if column.startswith(("back", "first", "logins/s")):
            continue  # a count, chance, and a rate of which more is as good as less
        ours, libpq, its = (figures[name][number] for name in SUBJECTS)
        limit, bound = (float(EACH * count), "a session each") if column == "logins" else (None, "")
        title = f"fleet of {count} x {EACH}: {column}"
        table.beside.append(Beside(title, ours, its, libpq=libpq, limit=limit, bound=bound))
    table.notes = [
        ("Crash, sessions kept, one event a subject; times from the lab's first commit. All processes share this machine's"
         f" cores with the servers: the last one back is bound by {EACH * count} logins, client and server together."),
    ]
    return [table, _paper(figures["ours"], count)]


def _round(servers: Servers, places: Path, name: str, count: int) -> list[Any]:
    order = peer.order(servers, name, places, connections=EACH, pause=PAUSE_SECONDS * EACH * count)
    fleet = [Client(order, sampled=False) for _ in range(count)]
    try:
        for client in fleet:
            client.__enter__()
        for client in fleet:
            client.ask("report")
        servers.mark()
        before = sum(client.ask("mark")["cpu"] for client in fleet)
        fault, record, _ = strike(servers.lab, "crash, sessions kept", rejoin=False)
        deadline, marks = monotonic() + BACK_SECONDS, list[dict[str, Any]]()
        while monotonic() < deadline:
            marks = [client.ask("mark") for client in fleet]
            if sum(mark["back"] for mark in marks) >= EACH * count:
                break
            sleep(STEP_SECONDS)
        lines = servers.lines()
        losses = [loss["back"] for client in fleet for loss in client.ask("report")["losses"]]
    finally:
        for client in fleet:
            client.kill()
    back = sorted(at for at in losses if at > fault)
    mine = [line for line in lines if line.is_session and line.user == f"bench_{name}"]
    sessions = [line.at for line in mine if line.host == servers.lab.writer]
    steps = Counter(int((at - record.promoted_at) / STEP_SECONDS) for at in sessions if at > record.promoted_at)
    whole = len(back) >= EACH * count
    return [
        f"{len(back)} of {EACH * count}",
        (back[0] - record.first_commit_at) * 1e3 if back else None,
        (back[EACH * count - 1] - record.first_commit_at) * 1e3 if whole else f"{len(back)} back",
        len(mine),
        max(steps.values(), default=0) / STEP_SECONDS,
        probed(lines, f"bench_{name}", record.promoted_at) / (record.promoted_at - fault) / count,
        sum(mark["cpu"] for mark in marks) - before,
    ]


def _paper(ours: list[Any], count: int) -> Table:
    """What the constants of ours, just measured, make of a fleet of ten thousand."""
    _, _, last, logins, _, probes, cpu = ours
    table = Table(f"{PAPER:,} processes x {EACH} connections, on paper", ["measured here", f"{PAPER:,} processes"])
    total = PAPER * EACH
    sustained = EACH * count / (last / 1e3) if isinstance(last, float) and last > 0 else None
    table.add("connections", EACH * count, total)
    table.add("logins beside those, monitors'", logins - EACH * count, (logins - EACH * count) / count * PAPER)
    table.add("questions a second to each cluster while the writer is gone", probes * count, probes * PAPER)
    table.add("the same with one source of events a machine of 50 processes", None, probes * PAPER / 50)
    table.add("logins that knock at once (8 a process)", 8 * count, 8 * PAPER)
    table.add("logins a second that the writer grants", sustained, sustained)
    if sustained is not None:
        table.add("seconds until the last is back at that rate", last / 1e3, total / sustained)
    table.add("client CPU seconds a process", cpu / count, cpu / count)
    table.notes = ["docs/scaling.md has the reasoning; the rate is that of this machine, which runs clients and servers."]
    return table

