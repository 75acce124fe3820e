"""`make bench`: what a guarded statement costs, and how soon a connection works again, beside raw psycopg in one run.

Medians and ratios of one run; nothing here is asserted. `python tests/benchmarks/run.py [events per habit]`
"""

from __future__ import annotations

import statistics
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, process_time, sleep
from typing import Any

import psycopg

import aurora_actors
from aurora_actors.actors.system import system
from aurora_actors.drivers.psycopg_guard import guard_of
from aurora_actors.lab import PostgresLab
from aurora_actors.lab.values import Habit

CALLS = 20_000
ROUNDS = 15
RETRY_SECONDS = 0.05
AFTER_SECONDS = 1.0


def answered(self: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
    """A wait that returns at once."""
    gen.close()


class AtOnce(psycopg.Connection[Any]):
    """The real class over a wait that returns at once."""

    wait = answered


def cpu(conn: Any) -> float:
    cursor = conn.cursor()
    began = process_time()
    for _ in range(CALLS):
        cursor.execute("SELECT 1")
    return (process_time() - began) / CALLS * 1e6


def cost(lab: PostgresLab) -> None:
    address, port = lab.address(lab.writer)
    conninfo = lab.conninfo("writer", hostaddr=address, port=port)
    with AtOnce.connect(conninfo) as raw, guard_of(AtOnce).connect(conninfo) as ours, AtOnce.connect(conninfo) as again:
        rounds = [(cpu(raw), cpu(ours), cpu(again)) for _ in range(ROUNDS)]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    print(
        f"CPU per execute, wait stubbed, µs: raw {medians[0]:.2f}, ours {medians[1]:.2f}"
        f" (+{medians[1] - medians[0]:.2f}), raw again {medians[2]:.2f} ({medians[2] - medians[0]:+.2f})"
    )


def commit_in_a_loop(connect: Callable[[], Any], stop: threading.Event, times: list[float]) -> None:
    """Commit over and over, with a new connection whenever the old one cannot be used; note when each commit came back."""
    conn: Any = None
    while not stop.is_set():
        try:
            conn = connect() if conn is None or conn.closed else conn
            conn.execute("INSERT INTO bench VALUES (1)")
        except psycopg.Error as error:
            if not isinstance(error, aurora_actors.FailoverError):
                conn = None if conn is None or conn.closed else conn
                sleep(RETRY_SECONDS)
        else:
            times.append(monotonic())
            sleep(0.002)
    if conn is not None:
        conn.close()


def failovers(habit: Habit, events: int) -> None:
    found: dict[str, list[float]] = {"libpq": [], "ours": []}
    with PostgresLab(habit=habit, restart_seconds=1.0) as lab:
        aurora_actors.set_resolver(lab.resolve)
        with aurora_actors.connect(psycopg.connect, lab.conninfo("writer"), autocommit=True) as conn:
            conn.execute("CREATE TABLE bench (id int)")
        addresses = [lab.address(host) for host in lab.hosts]
        several = lab.conninfo(
            "writer",
            host=",".join(address for address, _ in addresses),
            port=",".join(str(port) for _, port in addresses),
            target_session_attrs="read-write",
            connect_timeout=2,
        )
        subjects: dict[str, Callable[[], Any]] = {
            "libpq": lambda: psycopg.connect(several, autocommit=True),
            "ours": lambda: aurora_actors.connect(psycopg.connect, lab.conninfo("writer"), autocommit=True),
        }
        for _ in range(events):
            stop = threading.Event()
            times: dict[str, list[float]] = {name: [] for name in subjects}
            with ThreadPoolExecutor(2) as pool:
                for name, connect in subjects.items():
                    pool.submit(commit_in_a_loop, connect, stop, times[name])
                record = lab.failover(how="crash", after_seconds=AFTER_SECONDS)
                lab.wait_ready()
                stop.set()
            for name, at in times.items():
                later = [t for t in at if t > record.killed_at + AFTER_SECONDS / 2]
                if later:
                    found[name].append(1000 * (later[0] - record.first_commit_at))
    for name, values in found.items():
        shown = f"{statistics.median(values):.0f} (from {min(values):.0f} to {max(values):.0f})" if values else "never"
        print(f"sessions {habit}: {name} back after ms: {shown}; {len(values)} of {events} events recovered")
    system.stop(5.0)


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with PostgresLab(hosts=1) as lab:
        cost(lab)
    for habit in ("keep", "drop", "restart"):
        failovers(habit, events)


if __name__ == "__main__":
    main()
