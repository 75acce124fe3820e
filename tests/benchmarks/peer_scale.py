"""What a process at rest costs as hosts, connections and clusters grow: threads, memory, CPU, questions to servers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from time import sleep
from typing import Any

from tests.benchmarks import peer
from tests.benchmarks.clients import Client
from tests.benchmarks.harness import Beside, Curves, Plan, Table
from tests.benchmarks.servers import Servers, running

__all__ = ["tables"]

HOSTS, QUICK_HOSTS = (2, 5, 10, 15), (2, 5)
CONNECTIONS, QUICK_CONNECTIONS = (1, 100, 500, 1000, 2000), (1, 100)
CLUSTERS, QUICK_CLUSTERS = (1, 2, 5, 10), (1, 2)
EACH = 20
SUBJECTS = ("raw", "ours", "peer")
SETTLES_SECONDS = 1.0
IDLE_SECONDS = 4.0
ROOM = 2100
"""Connections that a server of the lab is made to take."""
FIGURES = ("threads", "RSS, MiB", "idle CPU, % of a core", "statements and logins a second")


def tables(plan: Plan) -> list[Table]:
    """One table, and a figure for each of its columns and axes."""
    return peer.installed(lambda: [_table(plan)])


def _table(plan: Plan) -> Table:
    table = Table("At rest, per process, as things grow", FIGURES)
    users = [f"bench_{name}" for name in SUBJECTS]
    axes: dict[str, dict[int, dict[str, list[float]]]] = {"hosts": {}, "connections": {}, "clusters": {}}
    for hosts in QUICK_HOSTS if plan.quick else HOSTS:
        with running(users, hosts=hosts) as servers:
            axes["hosts"][hosts] = _rest(servers, SUBJECTS, EACH)
        plan.say(f"scale: {hosts} hosts")
    with running(users, connections=0 if plan.quick else ROOM) as servers:
        for clusters in QUICK_CLUSTERS if plan.quick else CLUSTERS:
            axes["clusters"][clusters] = _rest(servers, SUBJECTS[1:], EACH * clusters, clusters=clusters)
            plan.say(f"scale: {clusters} clusters")
        for connections in QUICK_CONNECTIONS if plan.quick else CONNECTIONS:
            axes["connections"][connections] = {}
            for name in SUBJECTS:
                axes["connections"][connections] |= _rest(servers, (name,), connections)
            plan.say(f"scale: {connections} connections")
    for axis, points in axes.items():
        for point, of in points.items():
            for name, values in of.items():
                table.add(f"{point} {axis}: {name}", *values)
        most = max(points)
        for number, figure in enumerate(FIGURES):
            names = [name for name in SUBJECTS if name in points[most]]
            lines = {name: [(float(point), of[name][number]) for point, of in sorted(points.items())] for name in names}
            table.curves.append(Curves(f"scale-{axis}-{number + 1}", axis, figure, lines))
            raw = points[most]["raw"][number] if "raw" in points[most] else None
            ours, its = (points[most][name][number] for name in SUBJECTS[1:])
            table.beside.append(Beside(f"{most} {axis}, at rest: {figure}", ours, its, raw=raw))
    table.notes = [
        (f"Hosts are real servers, all of them. Clusters are simulated: one cluster under so many ids (cluster_id), {EACH}"
         f" connections each. {EACH} connections where hosts grow; three hosts where connections and clusters do."),
        (f"Every connection has worked once; {SETTLES_SECONDS:g} s later the process is watched for {IDLE_SECONDS:g} s."
         " Statements and logins are those that the servers log of all its sessions."),
    ]  # fmt: skip
    return table


def _rest(servers: Servers, names: Sequence[str], connections: int, **more: Any) -> dict[str, list[float]]:
    with ExitStack() as stack:
        places = stack.enter_context(peer.named(servers.lab))
        opened: dict[str, Client] = {}
        for name in names:
            client = Client(peer.order(servers, name, places, do="hold", **more), sampled=False)
            opened[name] = stack.enter_context(client)
            # Not all at once: an answer is waited for no longer than a minute and a half.
            for begun in range(0, connections, 250):
                client.ask(f"open {min(250, connections - begun)}")
        sleep(SETTLES_SECONDS)
        servers.mark()
        before = {name: client.ask("mark") for name, client in opened.items()}
        sleep(IDLE_SECONDS)
        after = {name: client.ask("mark") for name, client in opened.items()}
        lines = servers.lines()
    found = {}
    for name in names:
        seconds = after[name]["at"] - before[name]["at"]
        mine = [line for line in lines if line.user == f"bench_{name}"]
        asked = [line for line in mine if line.is_session or "statement: " in line.text or "execute " in line.text]
        cpu = 100 * (after[name]["cpu"] - before[name]["cpu"]) / seconds
        found[name] = [float(after[name]["threads"]), after[name]["resident"], cpu, len(asked) / seconds]
    return found
