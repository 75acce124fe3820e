"""The writer of a MariaDB cluster is killed under one connection of MySQL Connector, beside a raw loop over the hosts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import Any

import mysql.connector

import aurora_actors
from aurora_actors.lab import MysqlLab, resolver_from
from aurora_actors.lab.state import StateFile
from tests.benchmarks.harness import Plan, Spread, Table

__all__ = ["tables"]

SUBJECTS = ("ours", "raw")
AFTER_SECONDS = 1.0
BACK_SECONDS = 45.0
PAUSE_SECONDS = 0.002
RETRY_SECONDS = 0.05
"""Between two rounds of the raw loop over the hosts."""
CONNECT_SECONDS = 2
SOON_SECONDS = 0.1
INSERT = "INSERT INTO bench VALUES (1)"


def application(pipe: Any, connect: Callable[[], Any]) -> None:
    """Commit over and over, in a process of its own; each message is a time, and asks when the first commit on another
    session came back after it."""
    stop = threading.Event()
    backs: list[float] = []

    def work() -> None:
        conn, session = None, 0
        while not stop.is_set():
            try:
                conn = conn or connect()
                cursor = conn.cursor()
                cursor.execute(INSERT)
                if session not in (0, conn.connection_id):
                    backs.append(monotonic())
                session = conn.connection_id
                stop.wait(PAUSE_SECONDS)
            except aurora_actors.FailoverSuccessError:
                pass  # it is the same connection, on another session
            except mysql.connector.Error:
                conn = None
                stop.wait(RETRY_SECONDS)
        if conn is not None:
            conn.close()

    thread = threading.Thread(target=work)
    thread.start()
    while (since := pipe.recv()) is not None:
        until = monotonic() + BACK_SECONDS
        while not (found := [at for at in backs if at > since]) and monotonic() < until:
            stop.wait(PAUSE_SECONDS)
        pipe.send(found[0] if found else None)
    stop.set()
    thread.join()


def ours(pipe: Any, state: Path, parameters: dict[str, Any]) -> None:
    logging.getLogger("aurora_actors").setLevel(logging.ERROR)
    aurora_actors.set_resolver(resolver_from(state))
    application(pipe, lambda: aurora_actors.connect(mysql.connector.connect, **parameters))


def raw(pipe: Any, hosts: list[dict[str, Any]]) -> None:
    def connect() -> Any:
        for parameters in hosts:
            try:
                conn: Any = mysql.connector.connect(**parameters, connection_timeout=CONNECT_SECONDS)
            except mysql.connector.Error:
                continue
            cursor = conn.cursor()
            cursor.execute("SELECT @@global.read_only")
            if cursor.fetchone() == (0,):
                return conn
            conn.close()
        raise mysql.connector.OperationalError("no host writes")

    application(pipe, connect)


def tables(plan: Plan) -> list[Table]:
    """One table."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SUBJECTS}
    with ExitStack() as stack:
        lab = stack.enter_context(MysqlLab())
        state = lab.directory / "state.json"
        stack.enter_context(StateFile(lab, state, lab.directory / "control"))
        given = {"autocommit": True, "use_pure": True, "ssl_disabled": True}
        places = {host: dict(zip(("host", "port"), lab.address(host), strict=True)) for host in lab.hosts}
        hosts = {host: {**lab.parameters(), **given, **place} for host, place in places.items()}
        made: Any = mysql.connector.connect(**hosts[lab.writer])
        made.cursor().execute("CREATE TABLE bench (id int)")
        made.close()
        spawn = get_context("spawn")
        pipes: dict[str, Any] = {}
        orders: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
            "ours": (ours, (state, {**lab.parameters(), **given})),
            "raw": (raw, (list(hosts.values()),)),
        }
        for name, (function, arguments) in orders.items():
            pipes[name], theirs = spawn.Pipe()
            process = spawn.Process(target=function, args=(theirs, *arguments), daemon=True)
            process.start()
            stack.callback(process.join, BACK_SECONDS)
            stack.callback(pipes[name].send, None)
        # The first event finds processes that may still be starting, and is not counted.
        for number in range(plan.events + 1):
            lab.wait_ready()
            record = lab.failover(how="crash", after_seconds=AFTER_SECONDS)
            for pipe in pipes.values():
                pipe.send(record.killed_at)
            for name, pipe in pipes.items():
                back = pipe.recv()
                if number and back is not None:
                    found[name].append((back - record.first_commit_at, back - record.promoted_at))
            plan.say(f"failover on MySQL Connector: event {number} of {plan.events}")
    columns = ["recovered", "from the lab's first commit", "from the promotion"]
    table = Table("Failover of one connection on MySQL Connector, ms", columns)
    for name, values in found.items():
        starts = [Spread.of([value[n] for value in values], "ms", scale=1000, digits=0) for n in range(2)]
        table.add(name, f"{len(values)} of {plan.events}", *starts)
    medians = {name: spread.median for name, values in found.items() if (spread := Spread.of(v[1] for v in values))}
    bound = max(SOON_SECONDS, medians.get("raw", 0.0))
    table.notes = [
        "Median (least to most). MariaDB behind the lab's front; pure Python; each subject in a process of its own.",
        (f"Crash by SIGKILL, promotion {AFTER_SECONDS:g} s later, both in the same events. raw: all hosts in turn,"
        f" connection_timeout={CONNECT_SECONDS}, @@read_only asked, again after {1000 * RETRY_SECONDS:.0f} ms."),
    ]
    table.target(
        f"every event recovers, the median from the promotion at most {1000 * bound:.0f} ms (the larger of 100 ms and"
        " raw's)",
        len(found["ours"]) == plan.events and medians["ours"] <= bound,
    )
    return [table]
