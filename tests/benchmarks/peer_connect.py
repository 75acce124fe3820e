"""Connecting beside the peer: round trips, time, memory, threads, with few and with many open; and what importing costs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep
from typing import Any

from aurora_actors.lab import PostgresLab
from aurora_actors.lab.addresses import choose_apart
from tests.benchmarks import clients, peer
from tests.benchmarks.clients import Client
from tests.benchmarks.harness import Beside, Plan, Spread, Table
from tests.benchmarks.relay import Relay, Talk
from tests.benchmarks.servers import running

__all__ = ["tables"]

SUBJECTS = ("raw", "ours", "peer")
AFTERWARDS_SECONDS = 1.0
"""How long to watch for what a connect leaves to the background."""
NEXT, MANY, QUICK_MANY = 20, 300, 50
THIRD, FIFTH = 3, 5


def tables(plan: Plan) -> list[Table]:
    """Round trips, then times and memory, then the import."""
    return peer.installed(lambda: [_trips(plan), _times(plan), _import(plan)])


def _trips(plan: Plan) -> Table:
    many = plan.count(MANY, QUICK_MANY)
    columns = ["first", "first, and 1 s after", "sessions by then", "next", f"next, {many} open"]
    table = Table("Round trips of a connect to a cluster of three, counted on the way", columns)
    found: dict[str, list[int]] = {}
    with PostgresLab() as lab, _relayed(lab) as (relays, places):
        for name in SUBJECTS:
            where = relays[lab.writer].address
            known = {"host": where[0], "port": where[1]} if name == "raw" else {}
            order: dict[str, Any] = {"subject": name, "do": "hold", "works": False, "relayed": True, "places": str(places),
                                     "conninfo": lab.conninfo("writer", **known)}  # fmt: skip
            with Client(order, sampled=False) as client:
                first, later, sessions = _seen(relays, client, 1)
                second, _, _ = _seen(relays, client, 1)
                _seen(relays, client, many - 2)
                last, _, _ = _seen(relays, client, 1)
                client.ask("quit")
            found[name] = [first, later, sessions, second, last]
            table.add(name, *found[name])
            plan.say(f"round trips: {name}")
    table.notes = [
        "Counted by relays between clients and servers, at the ports of the hosts, of all sessions until connect returned;",
        "the TCP handshake of each session is one more, and TLS, which the lab's servers decline, some on top.",
    ]
    for column, what in ((0, "first connect"), (1, "first connect and the second after it"), (3, "next connect"),
                         (4, f"connect with {many} open")):  # fmt: skip
        raw, ours, its = (found[name][column] for name in SUBJECTS)
        one = Beside(f"{what}: round trips", ours, its, raw=raw, limit=float(raw), bound="a login")
        table.beside.append(one)
    ours, its = found["ours"][0], found["peer"][0]
    table.target(f"first connect in at most a third of the peer's round trips ({ours} of {its})", ours <= its / THIRD)
    return table


@contextmanager
def _relayed(lab: PostgresLab) -> Iterator[tuple[dict[str, Relay], Path]]:
    with ExitStack() as stack:
        relays = {}
        for host in lab.hosts:
            place = lab.address(host)
            relays[host] = stack.enter_context(Relay(place, choose_apart(*place)))
        of = {lab.address(host): relays[host].address for host in lab.hosts}
        port = lab.address(lab.writer)[1]
        names = (lab.endpoint(), lab.reader_endpoint, *map(lab.endpoint, lab.hosts))
        path = lab.directory / "places.json"
        path.write_text(json.dumps({name: of[lab.resolve(name, port)[0]] for name in names}), "utf-8")
        yield relays, path


def _seen(relays: dict[str, Relay], client: Client, count: int) -> tuple[int, int, int]:
    """Round trips of so many connects: until they returned, with what follows them, and sessions."""

    def every() -> list[Talk]:
        return [talk for relay in relays.values() for talk in relay.talks]

    known = every()
    before = sum(talk.trips for talk in known)
    client.ask(f"open {count}")
    at_once = sum(talk.trips for talk in every()) - before
    sleep(AFTERWARDS_SECONDS)
    return at_once, sum(talk.trips for talk in every()) - before, len(every()) - len(known)


def _times(plan: Plan) -> Table:
    many = plan.count(MANY, QUICK_MANY)
    columns = ["first: ms", "first: CPU ms", "next: ms", "next: CPU ms", f"next, {many} open: ms", "start to first: CPU ms",
               "RSS per 1,000, MiB", "threads"]
    table = Table("Connect to a cluster of three beside the peer, default plugins", columns)
    found: dict[str, dict[str, list[float]]] = {name: {column: [] for column in columns} for name in SUBJECTS}
    with running([f"bench_{name}" for name in SUBJECTS]) as servers, peer.named(servers.lab) as places:
        for number in range(plan.rounds):
            for name in SUBJECTS if number % 2 == 0 else reversed(SUBJECTS):
                with Client(peer.order(servers, name, places, do="hold", works=False), sampled=False) as client:
                    one, several = client.ask("open 1"), client.ask(f"open {NEXT}")
                    more, last = client.ask(f"open {many - NEXT - 1}"), client.ask("open 5")
                    client.ask("quit")
                values = (
                    *(one["took"] * 1e3, one["took_cpu"] * 1e3, several["took"] / NEXT * 1e3),
                    *(several["took_cpu"] / NEXT * 1e3, last["took"] / 5 * 1e3, one["cpu"] * 1e3),
                    (more["resident"] - several["resident"]) / (many - NEXT - 1) * 1e3,
                    last["threads"],
                )
                for column, value in zip(columns, values, strict=True):
                    found[name][column].append(value)
            plan.say(f"connect, times: round {number + 1}")
    cells = {name: {c: Spread.of(v, digits=2 if "ms" in c else 0) for c, v in of.items()} for name, of in found.items()}
    for name, of in cells.items():
        table.add(name, *of.values())
    for column in columns:
        raw, ours, its = (cells[name][column] for name in SUBJECTS)
        limit = raw.median if raw is not None else None
        table.beside.append(Beside(f"connect: {column}", ours, its, raw=raw, limit=limit, bound="the driver alone"))
    table.notes = [
        f"Fresh processes in turns, {plan.rounds} of each, libraries imported before; but 'start to first' is all CPU",
        f"of a process up to its first connection, imports included. {many} connections are open at most.",
        "first: ours finds its extensions in what is installed, some 3 ms in the 130 packages of this environment.",
    ]
    return table


_IMPORTS = {
    "raw": ("import psycopg", ""),
    "ours": ("from aurora_actors import connect; import aurora_actors.drivers.psycopg", "import psycopg"),
    "ours, import aurora_actors": ("import aurora_actors", "import psycopg"),
    "peer": ("from aws_advanced_python_wrapper import AwsWrapperConnection", "import psycopg"),
}
_IMPORTED = """
import json, sys, time
{before}
modules, at = len(sys.modules), time.process_time()
{statement}
with open("/proc/self/statm") as file:
    pages = int(file.read().split()[1])
print(json.dumps([(time.process_time() - at) * 1e3, len(sys.modules) - modules, pages * 4096 / 2**20]))
"""


def _import(plan: Plan) -> Table:
    table = Table("Import over psycopg, all that connect needs", ["CPU ms", "modules", "RSS after, MiB"])
    found: dict[str, list[list[float]]] = {name: [] for name in _IMPORTS}
    for number in range(plan.rounds + 1):
        for name, (statement, before) in _IMPORTS.items():
            code = _IMPORTED.format(before=before, statement=statement)
            python = clients.INTERPRETERS.get(name, sys.executable)
            taken = json.loads(subprocess.check_output([python, "-c", code], text=True, cwd="/"))
            if number:  # the first writes bytecode
                found[name].append(taken)
    size = len(table.columns)
    cells = {name: [Spread.of((run[n] for run in runs), digits=1) for n in range(size)] for name, runs in found.items()}
    for name, of in cells.items():
        table.add(name, *of)
    for number, column in enumerate(table.columns):
        raw, ours, its = (cells[name][number] for name in SUBJECTS)
        table.beside.append(Beside(f"import: {column}", ours, its, raw=raw))
    ours, its = cells["ours"][0], cells["peer"][0]
    if ours is not None and its is not None:
        alone = cells["ours, import aurora_actors"][0]
        assert alone is not None
        reached = alone.median <= its.median / FIFTH
        table.target(f"the import that users write: at most a fifth of the peer's CPU ({alone.median:.0f} ms)", reached)
        reached = ours.median <= its.median / FIFTH
        figures = f"{ours.median:.0f} of {its.median:.0f} ms"
        table.target(f"all that connect needs: at most a fifth of the peer's CPU ({figures})", reached)
    return table
