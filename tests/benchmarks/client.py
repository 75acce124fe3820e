"""The application of the benchmarks, in a process of its own: connections that commit over and over.

    python -P client.py '{"subject": "libpq", "conninfo": "...", "connections": 1, ...}'

It reads one command a line and answers each with one line of JSON. It imports nothing of this suite, so that the
interpreter of another environment can run it for another subject. Times are those of ``time.monotonic()``, which all
processes of a machine share.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from time import monotonic, process_time, sleep
from typing import Any

import psycopg

RETRY_SECONDS = 0.05
"""Between two tries of the raw loops: what issue and documentation call "retry every 50 ms"."""
INSERT = "INSERT INTO bench VALUES (1)"

Order = dict[str, Any]
Connect = Callable[[], Any]
SIGNALS = ("failover_started", "failover_completed", "failover_failed", "writer_changed", "connection_switched")

facts: list[Order] = []
lookups: list[tuple[str, float]] = []


def raw(order: Order) -> tuple[Connect, tuple[type[Exception], ...]]:
    """psycopg alone; with several hosts in the conninfo it is libpq's own loop over them."""
    return lambda: psycopg.connect(order["conninfo"], autocommit=True), ()


def ours(order: Order) -> tuple[Connect, tuple[type[Exception], ...]]:
    import aurora_actors
    from aurora_actors import signals
    from aurora_actors.lab import resolver_from

    # A host that is down is news to a user, and here the subject.
    logging.getLogger("aurora_actors").setLevel(logging.ERROR)
    resolve = resolver_from(order["state"])

    def counted(host: str, port: int) -> list[tuple[str, int]]:
        lookups.append((host, monotonic()))
        return resolve(host, port)

    aurora_actors.set_resolver(counted)
    for name in SIGNALS:
        signals.namespace.signal(name).connect(_noted(name), weak=False)
    parameters = order.get("parameters", {})
    return (
        lambda: aurora_actors.connect(psycopg.connect, order["conninfo"], autocommit=True, **parameters),
        (aurora_actors.FailoverSuccessError, aurora_actors.TransactionResolutionUnknownError),
    )


SUBJECTS: dict[str, Callable[[Order], tuple[Connect, tuple[type[Exception], ...]]]] = {
    "raw": raw, "libpq": raw, "ours": ours,
}  # fmt: skip


def _noted(name: str) -> Callable[..., None]:
    def note(sender: str, *, event: Any) -> None:
        ledger = asdict(event.ledger) if name == "connection_switched" else None
        facts.append({"name": name, "at": event.at, "ledger": ledger})

    return note


class Application:
    """*workers* threads with a connection each; the rest of the *connections* is open and idle."""

    def __init__(self, order: Order) -> None:
        self.connect, self.kept = SUBJECTS[order["subject"]](order)
        self.pause = order.get("pause", 0.002)
        self.losses: list[Order] = []
        self.failures: list[str] = []
        self.lost: float | None = None
        self.held: list[Any] = []
        self.work = threading.Event()
        self.stop = threading.Event()
        self.ready = threading.Semaphore(0)
        connections = int(order.get("connections", 1))
        workers = int(order.get("workers", connections))
        self.work.set()
        self.threads = [threading.Thread(target=self._worked, name=f"application-{n}") for n in range(workers)]
        for thread in self.threads:
            thread.start()
        self.held = [self.connect() for _ in range(connections - workers)]
        for _ in self.threads:
            self.ready.acquire()

    def _worked(self) -> None:
        try:
            self._commit()
        except BaseException as error:  # noqa: BLE001 - whatever ends a connection's work is reported
            self.failures.append(f"{type(error).__name__}: {error}")
            self.ready.release()

    def _commit(self) -> None:
        conn: Any = None
        # A connection may go on elsewhere without an error: what tells is the server's process, each its own on a machine.
        session, lost, told = 0, 0.0, 0.0
        while not self.stop.is_set():
            began = monotonic()
            try:
                if conn is None or conn.closed:
                    conn = self.connect()
                conn.execute(INSERT)
            except psycopg.Error as error:
                told = monotonic()
                lost = lost or told
                self.lost = self.lost or lost
                if not isinstance(error, self.kept):
                    if conn is not None:
                        conn.close()
                    self.stop.wait(RETRY_SECONDS)
            else:
                now, pid = monotonic(), conn.pgconn.backend_pid
                if session == 0:
                    self.ready.release()
                elif pid != session:
                    found = {"lost": lost or began, "told": told if lost else began, "back": now, "silent": not lost}
                    self.losses.append(found)
                session, lost = pid, 0.0
                if not self.stop.wait(self.pause):
                    self.work.wait()
        if conn is not None:
            conn.close()

    def close(self) -> None:
        """Close all connections."""
        self.stop.set()
        self.work.set()
        for thread in self.threads:
            thread.join()
        for conn in self.held:
            conn.close()
        self.held = []

    def mark(self) -> Order:
        """Where the process is now."""
        names = [thread.name for thread in threading.enumerate() if not thread.name.startswith("application-")]
        return {"at": monotonic(), "cpu": process_time(), "threads": names, "back": len(self.losses), "lost": self.lost}

    def report(self) -> Order:
        """What happened since the last report."""
        found = {
            "losses": self.losses, "facts": facts[:], "lookups": lookups[:], "failures": self.failures,
        }  # fmt: skip
        self.losses, self.failures = [], []
        facts.clear()
        lookups.clear()
        return found


def connects(order: Order) -> Order:
    """The first connect of a process, and the next ones while it is open."""
    connect, _ = SUBJECTS[order["subject"]](order)
    taken: list[tuple[float, float]] = []
    held = None
    for _ in range(1 + order["times"]):
        sleep(0.02)  # what an earlier connect left to other threads is not this one's
        at, cpu = monotonic(), process_time()
        conn = connect()
        taken.append((monotonic() - at, process_time() - cpu))
        held = held or conn
        if conn is not held:
            conn.close()
    if held is not None:
        held.close()
    return {"first": taken[0], "next": taken[1:]}


def logins(order: Order) -> Order:
    """Open *connections*, *at_once* at a time, each with a *commit* or none, and note when all are open."""
    from concurrent.futures import ThreadPoolExecutor

    connect, _ = SUBJECTS[order["subject"]](order)

    def opened_one(_: int) -> Any:
        conn = connect()
        if order["commit"]:
            conn.execute(INSERT)
        return conn

    with ThreadPoolExecutor(order["at_once"]) as pool:
        began, cpu = monotonic(), process_time()
        opened = list(pool.map(opened_one, range(order["connections"])))
        ended = monotonic(), process_time()
    for conn in opened:
        conn.close()
    return {"seconds": ended[0] - began, "cpu": ended[1] - cpu}


def main() -> None:
    order = json.loads(sys.argv[1])
    once = {"connects": connects, "logins": logins}.get(order.get("do", ""))
    if once is not None:
        print(json.dumps(once(order)), flush=True)
        return
    application = Application(order)
    print(json.dumps(application.mark()), flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "idle":
            application.work.clear()
        elif command == "work":
            application.work.set()
        elif command == "close":
            application.close()
        answer = application.report() if command == "report" else application.mark()
        print(json.dumps(answer), flush=True)
        if command == "quit":
            break
    application.close()


if __name__ == "__main__":
    main()
