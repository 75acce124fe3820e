"""While no writer is there: how often hosts are asked, over how many sessions, and what it costs the client."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any

import psycopg

from tests.benchmarks.clients import Client, marks
from tests.benchmarks.harness import Cell, Plan, Table
from tests.benchmarks.servers import MONITOR, Line, Servers, running

__all__ = ["tables"]

OUTAGES = (10.0, 40.0)
SLOWS_AFTER_SECONDS = 30.0
"""A search this old slows down (model.search)."""
SIZES = (1, 50)
SETTLED_SECONDS = 0.5
"""Left out at the start of an outage: connections notice, monitors start."""
SAMPLE_SECONDS = 0.25
CPU, TRIES, TRIES_LATE = "CPU, % of a core", "tries per s, all hosts", "tries per s, after 30 s"
SESSIONS = "sessions per reader, most"


@dataclass(slots=True)
class Sampler:
    """Counts the monitors' sessions of each user on each host that answers, while it runs."""

    servers: Servers
    most: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _ended: Event = field(default_factory=Event)
    _thread: Thread | None = None

    def __enter__(self) -> Sampler:
        self._thread = Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self) -> None:
        statement = "SELECT usename::text, count(*) FROM pg_stat_activity WHERE application_name = %s GROUP BY 1"
        while not self._ended.wait(SAMPLE_SECONDS):
            for host in self.servers.lab.cluster.live_readers():
                try:
                    for user, count in host.server.query(statement, (MONITOR,)):
                        self.most[user] = max(self.most[user], count)
                except psycopg.Error:
                    continue  # it is being promoted, and its sessions end


def tables(plan: Plan) -> list[Table]:
    """One row for each outage, subject and number of connections."""
    table = Table(
        "While searching, per process",
        [
            CPU, f"{CPU}, after 30 s", TRIES, TRIES_LATE, "at the lost host", "at readers",
            "by the endpoint", SESSIONS, "logins at readers",
        ],
    )  # fmt: skip
    for outage in OUTAGES[:1] if plan.quick else OUTAGES:
        with running([f"bench_{subject}_{size}" for subject in ("ours", "libpq") for size in SIZES]) as servers:
            _outage(plan, servers, table, [("ours", 1), ("ours", 50), ("libpq", 1)], outage)
            if outage == OUTAGES[0]:
                _outage(plan, servers, table, [("libpq", 50)], outage)
    table.notes = [
        "Applications side by side, each with its own process and login; the writer is dead, two readers live.",
        "CPU of the client process from half a second into the outage to its end; 'after 30 s': of the time after that.",
        ("Tries: statements of monitors and logins seen by readers, and look-ups of the names of the lost host and the"
        " endpoint (a refused TCP connect leaves no trace on a dead server); libpq looks nothing up."),
    ]
    ours = [dict(zip(table.columns, cells, strict=True)) for name, cells in table.rows if name.startswith("ours")]
    table.target("at most 25 tries a second and process", all(_number(row[TRIES]) <= 25 for row in ours))
    table.target("at most one session per host and process", all(_number(row[SESSIONS]) <= 1 for row in ours))
    table.target("under 5 % of a core", all(_number(row[CPU]) < 5 for row in ours))
    late = [row for row in ours if row[TRIES_LATE] is not None]
    if late:
        table.target("fewer tries after 30 s", all(_number(row[TRIES_LATE]) < _number(row[TRIES]) for row in late))
    return [table]


def _outage(plan: Plan, servers: Servers, table: Table, subjects: list[tuple[str, int]], seconds: float) -> None:
    lab = servers.lab
    lab.wait_ready()
    names = [f"bench_{subject}_{size}" for subject, size in subjects]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Client(servers.order(subject, name, connections=size, pause=0.004 * size)))
            for (subject, size), name in zip(subjects, names, strict=True)
        ]
        for client in clients:
            client.ask("report")
        lost = lab.writer
        killed = lab.crash(lost).started_at
        sampler = stack.enter_context(Sampler(servers))
        pause(killed + SETTLED_SECONDS)
        servers.mark()
        begun = marks(clients)
        middle = None
        if seconds > SLOWS_AFTER_SECONDS:
            pause(killed + SLOWS_AFTER_SECONDS)
            middle = marks(clients)
        pause(killed + seconds)
        ended = marks(clients)
        lines = servers.lines()
        lab.failover()
        reports = [client.ask("report") for client in clients]
        plan.say(f"search: {', '.join(names)}, {seconds:g} s")
    for number, name in enumerate(names):
        start, end = begun[number], ended[number]
        cut = middle[number] if middle is not None else None
        tries = [
            *(("lost" if host.startswith(lost) else "name", at) for host, at in reports[number]["lookups"]),
            *(("reader", line.at) for line in lines if line.user == name and _is_try(line)),
        ]
        counts = {kind: _rate([at for one, at in tries if one == kind], start["at"], end["at"]) for kind in
                  ("lost", "reader", "name")}
        until = cut["at"] if cut is not None else end["at"]
        late = [_share(cut, end), _rate([at for _, at in tries], cut["at"], end["at"])] if cut is not None else [None] * 2
        table.add(
            f"{name.removeprefix('bench_').replace('_', ', ')}: {seconds:g} s",
            _share(start, cut or end),
            late[0],
            _rate([at for _, at in tries], start["at"], until),
            late[1],
            counts["lost"],
            counts["reader"],
            counts["name"],
            sampler.most.get(name, 0),
            sum(line.is_session for line in lines if line.user == name),
        )


def _is_try(line: Line) -> bool:
    # A login that is let in and asks is one try; libpq's asks nothing, its login is the try.
    return line.text.startswith("LOG:  statement:") if line.is_monitor else line.is_session


def _number(cell: Cell) -> float:
    assert isinstance(cell, (int, float))
    return cell


def _rate(times: list[float], start: float, end: float) -> float:
    return sum(start <= at < end for at in times) / (end - start)


def _share(start: dict[str, Any], end: dict[str, Any]) -> float:
    return 100 * float(end["cpu"] - start["cpu"]) / float(end["at"] - start["at"])


def pause(until: float) -> None:
    """Let the outage last."""
    sleep(max(0.0, until - monotonic()))
