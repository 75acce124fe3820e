"""Ours beside the AWS Advanced Python Wrapper, raw psycopg and libpq's own loop: the same servers, in turns, one run."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import psycopg

from aurora_actors.lab.cache import locked
from aurora_actors.lab.values import Habit
from tests.benchmarks import clients, many
from tests.benchmarks.clients import Client, once
from tests.benchmarks.failover import AFTER_SECONDS, MEANT, RESTART_SECONDS
from tests.benchmarks.harness import Plan, Spread, Table
from tests.benchmarks.servers import Servers, running

__all__ = ["tables"]

VERSION = "3.1.0"
CALLS, ROWS, ROUNDS = 500, 100_000, 7
CONNECTS = 20
SIZES = (50, 200)
HABITS: tuple[Habit, ...] = ("keep", "drop", "restart")
BACK_SECONDS = 10.0
"""How long after the new writer is up a subject is waited for."""
FOLLOWS_SECONDS = 0.005
"""How often the peer's table of names follows the lab's."""


def tables(plan: Plan) -> list[Table]:
    """Cost, connecting, importing, failover of one and of many; nothing where the peer cannot be installed."""
    try:
        clients.INTERPRETERS["peer"] = str(_environment())
    except subprocess.CalledProcessError as error:
        table = Table("Beside the AWS Advanced Python Wrapper", [])
        table.notes = [f"Not run: aws-advanced-python-wrapper {VERSION} cannot be installed ({error})."]
        return [table]
    return [_cost(plan), _connect(plan), _import(plan), _failover(plan), _many(plan)]


def _environment() -> Path:
    """The interpreter of an environment that has the peer and the psycopg that we have."""
    with locked(f"aws-advanced-python-wrapper-{VERSION}-psycopg-{psycopg.__version__}") as entry:
        python = entry / "bin" / "python"
        if not (entry / "complete").exists():
            venv.create(entry, with_pip=True, clear=True)
            wanted = [f"aws-advanced-python-wrapper=={VERSION}", f"psycopg[binary]=={psycopg.__version__}"]
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--quiet", *wanted], check=True)
            (entry / "complete").touch()
        return python


@contextmanager
def _named(servers: Servers) -> Iterator[Path]:
    """A file with the place of each name, kept as the lab's resolver answers."""
    lab, path = servers.lab, servers.lab.directory / "places.json"
    names = (lab.endpoint(), lab.reader_endpoint, *map(lab.endpoint, lab.hosts))
    _, port = lab.address(lab.writer)
    stop = Event()

    def follow() -> None:
        last: dict[str, tuple[str, int]] = {}
        while not stop.is_set():
            found = {name: lab.resolve(name, port)[0] for name in names}
            if found != last:
                fresh = path.with_suffix(".new")
                fresh.write_text(json.dumps(found), "utf-8")
                fresh.replace(path)
                last = found
            stop.wait(FOLLOWS_SECONDS)

    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        stop.set()
        thread.join()


def _order(servers: Servers, subject: str, places: Path, **more: Any) -> dict[str, Any]:
    order = servers.order(subject, f"bench_{subject}", **more)
    return {**order, "places": str(places)} if subject == "peer" else order


def _cost(plan: Plan) -> Table:
    subjects = ("raw", "ours", "peer")
    table = Table("CPU per call on the lab, default plugins, µs", [*subjects, "ours: added", "peer: added"])
    found: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
    with running([f"bench_{name}" for name in subjects], hosts=2) as servers, _named(servers) as places:
        for number in range(plan.count(ROUNDS, 3)):
            for name in subjects if number % 2 == 0 else reversed(subjects):
                found[name].append(once(_order(servers, name, places, do="calls", times=CALLS, rows=ROWS)))
            plan.say(f"peer, cost: round {number + 1}")
    for call in found["raw"][0]:
        cells = [Spread.of((run[call] for run in found[name]), "µs", scale=1e6, digits=2) for name in subjects]
        cells += [
            Spread.of(
                (run[call] - raw[call] for run, raw in zip(found[name], found["raw"], strict=True)),
                "µs", scale=1e6, digits=2,
            )
            for name in subjects[1:]
        ]  # fmt: skip
        table.add(call, *cells)
    table.notes = [
        f"Fresh processes in turns, {len(found['raw'])} of each; process CPU over {CALLS} calls, {ROWS} rows.",
        "added: the difference from raw in the same turn. The noise of a real wait is some µs: the row 'cost' is finer.",
    ]
    return table


def _connect(plan: Plan) -> Table:
    subjects = ("raw", "ours", "peer")
    table = Table(
        "Connect to a cluster of three, default plugins",
        ["first: ms", "first: CPU ms", "next: ms", "next: CPU ms", "first: logins", "first: statements"],
    )
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in subjects}
    seen: dict[str, tuple[int, int]] = {}
    with running([f"bench_{name}" for name in subjects]) as servers, _named(servers) as places:
        for number in range(plan.count(ROUNDS, 3)):
            for name in subjects if number % 2 == 0 else reversed(subjects):
                servers.mark()
                times = 0 if number == 0 else CONNECTS
                found[name].append(once(_order(servers, name, places, do="connects", times=times)))
                if number == 0:
                    lines = [line for line in servers.lines() if line.user == f"bench_{name}"]
                    statements = [line for line in lines if "statement: " in line.text or "execute " in line.text]
                    seen[name] = (sum(line.is_session for line in lines), len(statements))
            plan.say(f"peer, connect: round {number + 1}")
    for name, runs in found.items():
        cells = [Spread.of((run["first"][n] for run in runs), "ms", scale=1000, digits=2) for n in (0, 1)]
        cells += [Spread.of((t[n] for run in runs for t in run["next"]), "ms", scale=1000, digits=2) for n in (0, 1)]
        table.add(name, *cells, *seen[name])
    table.notes = [
        ("Fresh processes in turns, libraries imported before. Logins and statements: those that the servers saw of a"
        " process that connects once and closes, monitors included. A login is four round trips here."),
    ]
    return table


_IMPORTS = {
    "raw": ("import psycopg", ""),
    "ours": ("from aurora_actors import connect; import aurora_actors.drivers.psycopg", "import psycopg"),
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
    for number in range(plan.count(ROUNDS, 3) + 1):
        for name, (statement, before) in _IMPORTS.items():
            code = _IMPORTED.format(before=before, statement=statement)
            python = clients.INTERPRETERS.get(name, sys.executable)
            taken = json.loads(subprocess.check_output([python, "-c", code], text=True, cwd="/"))
            if number:  # the first writes bytecode
                found[name].append(taken)
    for name, runs in found.items():
        table.add(name, *(Spread.of((run[n] for run in runs), digits=1) for n in range(3)))
    ours, peer = (Spread.of(run[0] for run in found[name]) for name in ("ours", "peer"))
    if ours and peer:
        table.target("ours at most a fifth of the peer's CPU", ours.median <= peer.median / 5)
    return table


def _failover(plan: Plan) -> Table:
    subjects = ("ours", "libpq", "peer")
    columns = ["recovered", "from the lab's first commit", "new sessions", "client CPU ms"]
    table = Table("Failover of one connection, default plugins, ms", columns)
    events = plan.count(max(ROUNDS, plan.events), 3)
    medians: dict[tuple[str, str], Spread | None] = {}
    for habit in HABITS:
        back: dict[str, list[float]] = {name: [] for name in subjects}
        sessions: dict[str, list[int]] = {name: [] for name in subjects}
        cpu: dict[str, list[float]] = {name: [] for name in subjects}
        users = [f"bench_{name}" for name in subjects]
        with (
            running(users, habit=habit, restart_seconds=RESTART_SECONDS) as servers,
            _named(servers) as places,
            ExitStack() as stack,
        ):
            opened: dict[str, Client] = {}
            for number in range(events):
                _event(servers, stack, opened, places, subjects, (back, sessions, cpu))
                plan.say(f"peer, failover, {MEANT[habit]}: event {number + 1} of {events}")
        for name in subjects:
            medians[habit, name] = Spread.of(back[name], "ms", scale=1000, digits=0)
            table.add(
                f"{MEANT[habit]}: {name}",
                f"{len(back[name])} of {events}",
                medians[habit, name],
                Spread.of(sessions[name], digits=0),
                Spread.of(cpu[name], "ms", scale=1000, digits=0),
            )
        ours, peer = medians[habit, "ours"], medians[habit, "peer"]
        if ours and (peer is None or ours.median <= max(peer.median / 3, 0.0)):
            table.target(f"{MEANT[habit]}: at most a third of the peer's median", reached=True)
        elif ours and peer:
            table.target(f"{MEANT[habit]}: at most a third of the peer's median", reached=False)
    table.notes = [
        (f"Side by side in the same events: SIGKILL, promotion {AFTER_SECONDS:g} s later, a process each, default"
        f" plugins. Waited for {BACK_SECONDS:g} s after the new writer is up; who did not come back starts afresh."),
        "New sessions and CPU: from the kill until all were back or given up, monitors included.",
    ]
    return table


def _event(
    servers: Servers,
    stack: ExitStack,
    opened: dict[str, Client],
    places: Path,
    subjects: Sequence[str],
    found: tuple[dict[str, list[float]], dict[str, list[int]], dict[str, list[float]]],
) -> None:
    back, sessions, cpu = found
    for name in subjects:
        if name not in opened:
            opened[name] = stack.enter_context(Client(_order(servers, name, places)))
        opened[name].ask("report")
    servers.mark()
    before = {name: client.ask("mark")["cpu"] for name, client in opened.items()}
    record = servers.lab.failover(how="crash", after_seconds=AFTER_SECONDS)
    until = monotonic() + BACK_SECONDS
    marks = {name: client.until(lambda mark: mark["back"] > 0, until) for name, client in opened.items()}
    lines = servers.lines()
    for name, client in list(opened.items()):
        losses = [loss["back"] for loss in client.ask("report")["losses"] if loss["back"] > record.killed_at]
        cpu[name].append(marks[name]["cpu"] - before[name])
        sessions[name].append(sum(line.is_session and line.user == f"bench_{name}" for line in lines))
        if losses:
            back[name].append(min(losses) - record.first_commit_at)
        else:
            opened.pop(name).kill()
    servers.lab.wait_ready()


def _many(plan: Plan) -> Table:
    subjects = ("ours", "libpq", "peer")
    columns = ["recovered", "first back", "all back", "new sessions", "peak threads", "client CPU s"]
    table = Table("Failover of many connections, default plugins, ms", columns)
    for size in SIZES[:1] if plan.quick else SIZES:
        found = {name: many.Found() for name in subjects}
        users = [*(f"bench_{name}" for name in subjects), "bench_raw"]
        with running(users, hosts=many.HOSTS) as servers, _named(servers) as places:
            for number in range(plan.count(ROUNDS, 1)):
                for name in subjects if number % 2 == 0 else reversed(subjects):
                    many.one_round(servers, name, size, found[name], places=str(places))
                    plan.say(f"peer, {size} connections: {name}, round {number + 1}")
        for name, one in found.items():
            table.add(
                f"{size}: {name}",
                f"{one.recovered} of {one.wanted}",
                *(Spread.of(values, "ms", scale=1000, digits=0) for values in (one.first, one.last)),
                *(Spread.of(values, digits=0) for values in (one.sessions, one.threads)),
                Spread.of(one.cpu, "s", digits=2),
            )
        spreads = {name: (Spread.of(one.last), Spread.of(one.cpu), Spread.of(one.sessions)) for name, one in found.items()}
        ours, libpq, peer = (spreads[name] for name in subjects)
        if ours[0] and ours[1] and ours[2] and libpq[1] and libpq[2]:
            below_peer = peer[0] is None or ours[0].median < peer[0].median
            table.target(f"{size}: all back before the peer's", below_peer)
            below = ours[1].median < libpq[1].median and ours[2].median < libpq[2].median
            table.target(f"{size}: less client CPU and fewer sessions than libpq", below)
    table.notes = ["One event a subject, in turns; times from the lab's first commit, sessions kept."]
    return table
