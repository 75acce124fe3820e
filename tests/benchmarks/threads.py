"""Threads of a process by its connections and the hosts of its cluster: at rest, in a search, and after the last close."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.benchmarks.clients import Client
from tests.benchmarks.harness import Plan, Table
from tests.benchmarks.servers import Servers, running

__all__ = ["tables"]

BOUND = 7
HOSTS = (1, 3, 5)
CONNECTIONS = (1, 100)
SEARCH_SECONDS = 3.0
"""Long enough that every host was asked, in all ways, more than once."""
GRACE_SECONDS = 1.0
WORKERS_SECONDS = 7.0
"""Workers of name look-ups leave after five idle seconds; nothing else may stay longer than the grace period."""


def tables(plan: Plan) -> list[Table]:
    """One row for each number of hosts and connections."""
    table = Table(
        "Threads of the process, the application's own not counted",
        ["at rest", "most in a search", f"bound: hosts + {BOUND}", "gone after the last close, s", "left"],
    )
    notes: list[str] = []
    within = ended = True
    for hosts in HOSTS[1:2] if plan.quick else HOSTS:
        with running(["bench_ours"], hosts=hosts) as servers:
            for connections in CONNECTIONS[:1] if plan.quick else CONNECTIONS:
                rest, most, gone, left = _counted(servers, connections)
                name = f"{hosts} hosts, {connections} connections"
                table.add(name, len(rest), len(most), hosts + BOUND, gone, _told(left) or "none")
                within, ended = within and len(most) <= hosts + BOUND, ended and not left
                notes.append(f"most, {name}: {_told(most)}")
            plan.say(f"threads: {hosts} hosts")
    table.notes = [
        "One connection works in a thread of the application's (not counted), the rest idles; the main thread is counted.",
        (f"In a search: the writer is down for {SEARCH_SECONDS:g} s, its marks taken every 20 ms. Grace period"
        f" (monitor_disposal_time_ms): {GRACE_SECONDS:g} s."),
        *notes[-1:],
    ]
    table.target(f"at most hosts + {BOUND} threads, the main one included", within)
    table.target("none but the main one after the grace period", ended)
    return [table]


def _counted(servers: Servers, connections: int) -> tuple[list[str], list[str], float | None, list[str]]:
    parameters = {"monitor_disposal_time_ms": int(1000 * GRACE_SECONDS)}
    order = servers.order("ours", "bench_ours", connections=connections, workers=1, parameters=parameters)
    with Client(order) as client:
        rest = client.ask("mark")["threads"]
        writer = servers.lab.writer
        began = servers.lab.crash(writer).started_at
        most: list[str] = []

        def searched(mark: dict[str, Any]) -> bool:
            nonlocal most
            most = max(most, mark["threads"], key=len)
            return bool(mark["at"] > began + SEARCH_SECONDS)

        client.until(searched, began + 2 * SEARCH_SECONDS)
        servers.lab.restart(writer)
        servers.lab.wait_ready()
        closed = client.ask("close")["at"]
        last = client.until(lambda mark: len(mark["threads"]) == 1, closed + GRACE_SECONDS + WORKERS_SECONDS)
    left = [name for name in last["threads"] if name != "MainThread"]
    return rest, most, None if left else last["at"] - closed, left


def _told(names: list[str]) -> str:
    # "aurora_actors-topology <cluster>": the first word says what it does.
    counted = Counter(name.partition(" ")[0] for name in names)
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in sorted(counted.items()))
