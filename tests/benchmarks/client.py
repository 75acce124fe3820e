"""The application of the benchmarks, in a process of its own: connections that commit over and over.

It reads one command a line and answers each with one line of JSON. Of this suite it imports what imports nothing by itself,
so that the interpreter of another environment can run it for another subject. Times are those of ``time.monotonic()``,
which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, process_time, sleep
from typing import Any

from tests.benchmarks import jobs
from tests.benchmarks.subjects import Order, facts, lookups, subject

TICK_SECONDS = 0.01
RETRY_SECONDS = 0.05
"""Between two tries of the raw loops: what issue and documentation call "retry every 50 ms"."""
INSERT = "INSERT INTO bench VALUES (1)"

Connect = Callable[[], Any]


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
        self.subject = subject(order)
        self.connect = self.subject.connect
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
                except self.subject.errors as error:
                    course.failed()
                    if not isinstance(error, self.subject.kept):
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
                except self.subject.errors as error:
                    course.failed()
                    if not isinstance(error, self.subject.kept):
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
    connect = subject(order).connect
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

    connect = subject(order).connect
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


def _resident() -> float:
    """MiB."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - nothing more is to be imported
        return int(file.read().split()[1]) * 4096 / 2**20


def hold(order: Order) -> None:
    """Answer "open N" once so many more connections are open and have worked, "mark" with where the process is."""
    connect, clusters = subject(order).connect, order.get("clusters", 0)
    held: list[Any] = []
    print(json.dumps({"resident": _resident()}), flush=True)
    for line in sys.stdin:
        command, _, count = line.strip().partition(" ")
        at, cpu = monotonic(), process_time()
        for _ in range(int(count or 0)):
            # As many clusters as asked for, by the one thing that tells one from another.
            known = {"cluster_id": f"cluster-{len(held) % clusters}"} if clusters else {}
            held.append(connect(**known))
            if order.get("works", True):
                held[-1].execute("SELECT 1").fetchone()
        answer = {"at": monotonic(), "cpu": process_time(), "resident": _resident(), "threads": threading.active_count()}
        answer |= {"took": monotonic() - at, "took_cpu": answer["cpu"] - cpu, "open": len(held)}
        print(json.dumps(answer), flush=True)
        if command == "quit":
            break
    for conn in held:
        conn.close()


def main() -> None:
    order = json.loads(sys.argv[1])
    if order.get("do") in {"jobs", "hold"}:
        (jobs.work if order["do"] == "jobs" else hold)(order)
        return
    once = {"connects": connects, "logins": logins}.get(order.get("do", ""))
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
