"""The application of the benchmarks, in a process of its own: connections that commit over and over.

    python -P client.py '{"subject": "libpq", "conninfo": "...", "connections": 1, ...}'

It reads one command a line and answers each with one line of JSON. It imports nothing of this suite, so that the
interpreter of another environment can run it for another subject. Times are those of ``time.monotonic()``, which all
processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from time import monotonic, process_time, sleep
from typing import Any

import psycopg

TICK_SECONDS = 0.01
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
    kind: Any = psycopg.AsyncConnection if order.get("colour") == "async" else psycopg.Connection
    return lambda: kind.connect(order["conninfo"], autocommit=True), ()


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
    connect: Any = partial(aurora_actors.connect, psycopg.Connection.connect)
    if order.get("colour") == "async":
        from aurora_actors import aio

        connect = partial(aio.connect, psycopg.AsyncConnection.connect)
    return (
        lambda: connect(order["conninfo"], autocommit=True, **parameters),
        (aurora_actors.FailoverSuccessError, aurora_actors.TransactionResolutionUnknownError),
    )


def peer(order: Order) -> tuple[Connect, tuple[type[Exception], ...]]:
    """The AWS Advanced Python Wrapper. Names lead to the lab beneath it: where it looks them up, where psycopg connects."""
    import socket

    from psycopg.conninfo import conninfo_to_dict

    wrapper: Any = import_module("aws_advanced_python_wrapper")
    errors: Any = import_module("aws_advanced_python_wrapper.errors")
    for name in ("aws_advanced_python_wrapper", "psycopg"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def place(host: str) -> tuple[str, int] | None:
        found = json.loads(Path(order["places"]).read_text("utf-8")).get(host.lower())
        return None if found is None else (found[0], found[1])

    # Whatever module has taken a reference of its own to a name of socket still goes through the name that is patched.
    real_by_name, real_info = socket.gethostbyname, socket.getaddrinfo

    def by_name(host: str) -> str:
        return found[0] if (found := place(host)) else real_by_name(host)

    def info(host: Any, *args: Any, **kwargs: Any) -> Any:
        return real_info(found[0] if isinstance(host, str) and (found := place(host)) else host, *args, **kwargs)

    socket.gethostbyname, socket.getaddrinfo = by_name, info
    driver: Any = psycopg.Connection
    real = driver.connect.__func__

    @wraps(real)  # it knows the driver by the name of what it is given
    def connect(cls: Any, conninfo: str = "", **kwargs: Any) -> Any:
        given = conninfo_to_dict(conninfo)
        host = str(kwargs.get("host") or given.get("host") or "")
        if found := place(host):
            kwargs["hostaddr"] = found[0]
        return real(cls, conninfo, **kwargs)

    made: Any = connect
    driver.connect = classmethod(made)
    parameters = order.get("parameters", {})
    return (
        lambda: wrapper.AwsWrapperConnection.connect(driver.connect, order["conninfo"], autocommit=True, **parameters),
        (errors.FailoverSuccessError, errors.TransactionResolutionUnknownError),
    )


SUBJECTS: dict[str, Callable[[Order], tuple[Connect, tuple[type[Exception], ...]]]] = {
    "raw": raw, "libpq": raw, "ours": ours, "peer": peer,
}  # fmt: skip


def _noted(name: str) -> Callable[..., None]:
    def note(sender: str, *, event: Any) -> None:
        ledger = asdict(event.ledger) if name == "connection_switched" else None
        facts.append({"name": name, "at": event.at, "ledger": ledger})

    return note


class Course:
    """What befalls one connection."""

    def __init__(self, application: Application) -> None:
        self.application = application
        # A connection may go on elsewhere without an error: what tells is the server's process, each its own on a machine.
        self.session, self.lost, self.told = 0, 0.0, 0.0

    def failed(self) -> None:
        self.told = monotonic()
        self.lost = self.lost or self.told
        self.application.lost = self.application.lost or self.lost

    def committed(self, began: float, pid: int) -> None:
        now, lost = monotonic(), self.lost
        if self.session == 0:
            self.application.ready.release()
        elif pid != self.session:
            told = self.told if lost else began
            self.application.losses.append({"lost": lost or began, "told": told, "back": now, "silent": not lost})
        self.session, self.lost = pid, 0.0


class Application:
    """*workers* threads with a connection each; the rest of the *connections* is open and idle."""

    def __init__(self, order: Order) -> None:
        self.connect, self.kept = SUBJECTS[order["subject"]](order)
        self.pause = order.get("pause", 0.002)
        self.losses: list[Order] = []
        self.failures: list[str] = []
        self.lost: float | None = None
        self.held: list[Any] = []
        self.work, self.stop, self.ready = threading.Event(), threading.Event(), threading.Semaphore(0)
        connections = int(order.get("connections", 1))
        workers = int(order.get("workers", connections))
        self.late = 0.0
        self.work.set()
        self.threads = self._started(workers)
        for thread in self.threads:
            thread.start()
        self.held = [self.connect() for _ in range(connections - workers)]
        for _ in range(workers):
            self.ready.acquire()

    def _started(self, workers: int) -> list[threading.Thread]:
        return [threading.Thread(target=self._commit, name=f"application-{n}") for n in range(workers)]

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - whatever ends a connection's work is reported
            self.failures.append(f"{type(error).__name__}: {error}")
            self.ready.release()

    def _commit(self) -> None:
        with self._reported():
            conn: Any = None
            course = Course(self)
            while not self.stop.is_set():
                began = monotonic()
                try:
                    if conn is None or conn.closed:
                        conn = self.connect()
                    conn.execute(INSERT)
                except psycopg.Error as error:
                    course.failed()
                    if not isinstance(error, self.kept):
                        if conn is not None:
                            conn.close()
                        self.stop.wait(RETRY_SECONDS)
                else:
                    course.committed(began, getattr(conn, "target_connection", conn).pgconn.backend_pid)
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
            "losses": self.losses, "facts": facts[:], "lookups": lookups[:], "failures": self.failures, "late": self.late,
        }  # fmt: skip
        self.losses, self.failures, self.late = [], [], 0.0
        facts.clear()
        lookups.clear()
        return found


class AsyncApplication(Application):
    """The same with a task for each connection, all in one event loop, and a ticker beside them."""

    def _started(self, workers: int) -> list[threading.Thread]:
        return [threading.Thread(target=lambda: asyncio.run(self._all(workers)), name="application-loop")]

    async def _all(self, workers: int) -> None:
        await asyncio.gather(self._tick(), *(self._commit_async() for _ in range(workers)))

    async def _tick(self) -> None:
        while not self.stop.is_set():
            due = monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self.late = max(self.late, monotonic() - due)

    async def _commit_async(self) -> None:
        with self._reported():
            conn: Any = None
            course = Course(self)
            while not self.stop.is_set():
                began = monotonic()
                try:
                    if conn is None or conn.closed:
                        conn = await self.connect()
                    await conn.execute(INSERT)
                except psycopg.Error as error:
                    course.failed()
                    if not isinstance(error, self.kept):
                        if conn is not None:
                            await conn.close()
                        await asyncio.sleep(RETRY_SECONDS)
                else:
                    course.committed(began, conn.pgconn.backend_pid)
                    await asyncio.sleep(self.pause)
                    while not self.work.is_set() and not self.stop.is_set():  # noqa: ASYNC110 - another thread sets these
                        await asyncio.sleep(RETRY_SECONDS)
            if conn is not None:
                await conn.close()


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
    if order.get("colour") == "async":
        return asyncio.run(_logins_async(order, connect))

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


async def _logins_async(order: Order, connect: Connect) -> Order:
    turns = asyncio.Semaphore(order["at_once"])

    async def opened_one() -> Any:
        async with turns:
            conn = await connect()
            if order["commit"]:
                await conn.execute(INSERT)
            return conn

    began, cpu = monotonic(), process_time()
    opened = await asyncio.gather(*(opened_one() for _ in range(order["connections"])))
    ended = monotonic(), process_time()
    await asyncio.gather(*(conn.close() for conn in opened))
    return {"seconds": ended[0] - began, "cpu": ended[1] - cpu}


def calls(order: Order) -> dict[str, float]:
    """CPU seconds of one call of each kind, all threads of the process together."""
    connect, _ = SUBJECTS[order["subject"]](order)
    conn = connect()
    count, rows = int(order["times"]), int(order["rows"])
    taken: dict[str, float] = {}

    def take(name: str, times: int, act: Callable[[], object]) -> None:
        at = process_time()
        for _ in range(times):
            act()
        taken[name] = (process_time() - at) / times

    cursor = conn.cursor()

    def pair() -> None:
        cursor.execute("SELECT 1")
        cursor.fetchone()

    for _ in range(count):
        pair()
    take("execute + fetchone", count, pair)
    take("cursor()", count, conn.cursor)
    take("commit", count, conn.commit)
    cursor.execute("SELECT n, 'text' FROM generate_series(1, %s) AS n", (rows,))
    take("a row by fetchone", rows, cursor.fetchone)
    cursor.execute("SELECT n, 'text' FROM generate_series(1, %s) AS n", (rows,))
    at = process_time()
    for _ in cursor:
        pass
    taken["a row by iteration"] = (process_time() - at) / rows
    cursor.execute("SELECT n, 'text' FROM generate_series(1, %s) AS n", (rows,))
    take("a row by fetchall", 1, cursor.fetchall)
    taken["a row by fetchall"] /= rows
    take("a row by executemany", 1, partial(cursor.executemany, "INSERT INTO bench VALUES (%s)", [(1,)] * 1000))
    taken["a row by executemany"] /= 1000
    conn.close()
    return taken


def main() -> None:
    order = json.loads(sys.argv[1])
    once = {"calls": calls, "connects": connects, "logins": logins}.get(order.get("do", ""))
    if once is not None:
        print(json.dumps(once(order)), flush=True)
        return
    application = (AsyncApplication if order.get("colour") == "async" else Application)(order)
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
