"""The writer is killed under many connections: how long until all are back, and what it costs client and servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from aurora_actors.flow.io import LOGINS_AT_ONCE
from tests.benchmarks.clients import Client, once
from tests.benchmarks.harness import Plan, Spread, Table
from tests.benchmarks.servers import Servers, running

__all__ = ["Found", "one_round", "tables"]

SIZES = (50, 200)
SUBJECTS = {
    "ours": ("ours", "sync"), "libpq": ("libpq", "sync"),
    "ours, async": ("ours", "async"), "raw, async": ("libpq", "async"),
}  # fmt: skip
USERS = ("bench_ours", "bench_libpq", "bench_raw")
LATEST_SECONDS = 0.05
AFTER_SECONDS = 1.0
HOSTS = 3
LONGEST_SHARE = 1.2
PAUSE_SECONDS = 0.004
"""Between two commits of one connection, times the number of connections: all together some 250 a second, whatever
their number, so that those who are back do not keep the rest from coming back."""
BACK_SECONDS = 45.0


@dataclass(slots=True)
class Found:
    """What the rounds of one subject and size gave."""

    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    last_promoted: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    share_writing: list[float] = field(default_factory=list)
    logins: list[float] = field(default_factory=list)
    writing: list[float] = field(default_factory=list)
    sessions: list[float] = field(default_factory=list)
    searches: list[float] = field(default_factory=list)
    silent: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    recovered: int = 0
    wanted: int = 0


def tables(plan: Plan) -> list[Table]:
    """One table for all sizes."""
    table = Table(
        "Failover of many connections",
        [
            "recovered", "first back", "all back", "all back, from the promotion", "raw: as many logins",
            "raw: logins and a commit", "all back / raw logins", "… / raw with a commit", "without an error",
            "new sessions", "searches", "ticker late", "peak threads", "client CPU",
        ],
    )  # fmt: skip
    for size in SIZES[:1] if plan.quick else SIZES:
        found = {name: Found() for name in SUBJECTS}
        with running(USERS, hosts=HOSTS) as servers:
            for number in range(plan.count(5, 1)):
                for name in SUBJECTS if number % 2 == 0 else reversed(SUBJECTS):
                    subject, colour = SUBJECTS[name]
                    one_round(servers, subject, size, found[name], colour=colour)
                    plan.say(f"{size} connections: {name}, round {number + 1}")
        for name, one in found.items():
            table.add(
                f"{size}: {name}",
                f"{one.recovered} of {one.wanted}",
                Spread.of(one.first, "ms", scale=1000, digits=0),
                Spread.of(one.last, "ms", scale=1000, digits=0),
                Spread.of(one.last_promoted, "ms", scale=1000, digits=0),
                Spread.of(one.logins, "ms", scale=1000, digits=0),
                Spread.of(one.writing, "ms", scale=1000, digits=0),
                Spread.of(one.share, digits=2),
                Spread.of(one.share_writing, digits=2),
                Spread.of(one.silent, digits=0),
                Spread.of(one.sessions, digits=0),
                Spread.of(one.searches, digits=0) if SUBJECTS[name][0] == "ours" else None,
                Spread.of(one.late, "ms", scale=1000, digits=0) if SUBJECTS[name][1] == "async" else None,
                Spread.of(one.threads, digits=0),
                Spread.of(one.cpu, "s", digits=2),
            )
        _judge(table, size, "", found["ours"])
        _judge(table, size, ", async", found["ours, async"])
        _judge_ticker(table, size, found["ours, async"], found["raw, async"])
    table.notes = [
        "Times in ms from the lab's first commit unless said otherwise; CPU in seconds, from the kill until all are back.",
        (f"Subjects take turns, one event each, sessions kept, promotion {AFTER_SECONDS:g} s after the kill. Threads"
        " include one per connection, the application's own."),
        (f"raw: after each event a fresh process of psycopg alone opens as many connections to the same host,"
        f" {LOGINS_AT_ONCE} at a time; it sends nothing, or one INSERT each."),
        ("async: all connections in one event loop, a task each, and so are the raw logins; 'raw, async' is libpq's loop"
        " over the hosts. 'ticker late': the worst delay of a sleep of 10 ms in that loop, from the kill until all are"
        " back. libpq computes SCRAM's 4096 rounds of HMAC at each login, within one step of the driver's, in that loop."),
        "Back: with its first commit acknowledged, so that the like of it is the raw login with a commit.",
        ("New sessions: logins that servers let in, from the kill until all are back, those of monitors and of libpq on"
        " readers included."),
    ]
    return [table]


def _judge_ticker(table: Table, size: int, ours: Found, raw: Found) -> None:
    late, beside = (Spread.of(found.late) for found in (ours, raw))
    bound = max(LATEST_SECONDS, beside.median if beside is not None else 0.0)
    table.target(
        f"{size} connections, async: a ticker in their loop at most {1000 * bound:.0f} ms late (the larger of"
        f" {1000 * LATEST_SECONDS:.0f} ms and raw's), the median of the rounds' worst",
        late is not None and late.median <= bound,
    )


def _judge(table: Table, size: int, colour: str, ours: Found) -> None:
    share = Spread.of(ours.share_writing)
    table.target(
        f"{size} connections{colour}: all back with a commit each, within {LONGEST_SHARE:g} of raw logins with a commit",
        ours.recovered == ours.wanted and share is not None and share.median <= LONGEST_SHARE,
    )
    table.target(f"{size} connections{colour}: one search", set(ours.searches) == {1})
    most = size + 2 * HOSTS
    table.target(f"{size} connections{colour}: at most {most} new sessions", max(ours.sessions, default=most + 1) <= most)


def one_round(servers: Servers, subject: str, size: int, found: Found, **more: Any) -> None:
    """Kill the writer under *size* connections of *subject*, and log in as often with psycopg alone."""
    lab = servers.lab
    lab.wait_ready()
    old = lab.writer
    colour = more.get("colour")
    order = servers.order(subject, f"bench_{subject}", connections=size, pause=PAUSE_SECONDS * size, **more)
    with Client(order) as client:
        client.ask("report")
        servers.mark()
        before = client.ask("mark")
        client.threads = 0
        # The old writer's copying of itself would take its share of the machine meanwhile.
        record = lab.failover(how="crash", after_seconds=AFTER_SECONDS, rejoin=False)
        after = client.until(lambda mark: mark["back"] >= size, monotonic() + BACK_SECONDS)
        threads = client.threads
        client.ask("idle")
        sessions = [line for line in servers.lines() if line.is_session and line.user == f"bench_{subject}"]
        report = client.ask("report")
        client.ask("close")
        alike: dict[str, Any] = {"do": "logins", "connections": size, "at_once": LOGINS_AT_ONCE, "colour": colour}
        bare, writing = (once(servers.order("raw", "bench_raw", commit=commit, **alike)) for commit in (False, True))
    lab.restart(old)
    back = sorted(loss["back"] for loss in report["losses"] if loss["back"] > record.killed_at)
    found.recovered += len(back)
    found.wanted += size
    if len(back) < size:
        return
    found.first.append(back[0] - record.first_commit_at)
    found.last.append(back[size - 1] - record.first_commit_at)
    found.last_promoted.append(back[size - 1] - record.promoted_at)
    found.logins.append(bare["seconds"])
    found.writing.append(writing["seconds"])
    for share, took in ((found.share, bare), (found.share_writing, writing)):
        share.append((back[size - 1] - record.first_commit_at) / took["seconds"])
    found.sessions.append(len([line for line in sessions if line.at <= back[size - 1]]))
    found.silent.append(sum(loss["silent"] for loss in report["losses"]))
    found.searches.append(sum(fact["name"] == "failover_started" for fact in report["facts"]))
    found.late.append(report["late"])
    found.threads.append(threads)
    found.cpu.append(after["cpu"] - before["cpu"])
