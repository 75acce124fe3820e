"""What a call costs, measured in the process that makes it: one open connection, a job at a time as it is asked for."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import sys
from collections.abc import Callable, Coroutine
from time import perf_counter, process_time
from typing import Any

from tests.benchmarks.subjects import Order, subject

__all__ = ["JOBS", "work"]

ROWS_AT_ONCE = 1000
INSERT = "INSERT INTO bench VALUES (%s)"
JOBS = (
    "execute + fetchone", "executemany, a row", "a row by iteration", "a row by fetchone", "a row by fetchall",
    "a row by stream", "cursor()", "commit",
)  # fmt: skip


class _Clock:
    """CPU of all threads and wall time, summed over what is measured."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def __enter__(self) -> None:
        self._at = process_time(), perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu += process_time() - self._at[0]
        self.wall += perf_counter() - self._at[1]


def _rows(order: Order, count: int) -> str:
    if order.get("driver") == "mysql":
        return f"SELECT seq, 'text' FROM seq_1_to_{count}"
    return f"SELECT n, 'text' FROM generate_series(1, {count}) AS n"


def _sync(order: Order, conn: Any) -> Callable[[str, int, _Clock], None]:
    cursor = conn.cursor()

    def measure(job: str, times: int, clock: _Clock) -> None:
        if job == "execute + fetchone":
            with clock:
                for _ in range(times):
                    cursor.execute("SELECT 1")
                    cursor.fetchone()
        elif job == "executemany, a row":
            rows = [(1,)] * ROWS_AT_ONCE
            with clock:
                for _ in range(times // ROWS_AT_ONCE):
                    cursor.executemany(INSERT, rows)
        elif job == "a row by stream":
            with clock:
                for _ in cursor.stream(_rows(order, times)):
                    pass
        elif job == "cursor()":
            with clock:
                for _ in range(times):
                    conn.cursor()
        elif job == "commit":
            conn.autocommit = False
            for _ in range(times):
                cursor.execute("SELECT 1")
                cursor.fetchone()
                with clock:
                    conn.commit()
            conn.autocommit = True
        else:
            cursor.execute(_rows(order, times))
            with clock:
                if job == "a row by iteration":
                    for _ in cursor:
                        pass
                elif job == "a row by fetchall":
                    cursor.fetchall()
                else:
                    while cursor.fetchone() is not None:
                        pass

    return measure


def _async(order: Order, conn: Any) -> Callable[[str, int, _Clock], Coroutine[Any, Any, None]]:
    cursor = conn.cursor()

    async def measure(job: str, times: int, clock: _Clock) -> None:
        if job == "execute + fetchone":
            with clock:
                for _ in range(times):
                    await cursor.execute("SELECT 1")
                    await cursor.fetchone()
        elif job == "executemany, a row":
            rows = [(1,)] * ROWS_AT_ONCE
            with clock:
                for _ in range(times // ROWS_AT_ONCE):
                    await cursor.executemany(INSERT, rows)
        elif job == "a row by stream":
            with clock:
                async for _ in cursor.stream(_rows(order, times)):
                    pass
        elif job == "cursor()":
            with clock:
                for _ in range(times):
                    conn.cursor()
        elif job == "commit":
            await conn.set_autocommit(False)
            for _ in range(times):
                await cursor.execute("SELECT 1")
                await cursor.fetchone()
                with clock:
                    await conn.commit()
            await conn.set_autocommit(True)
        else:
            await cursor.execute(_rows(order, times))
            with clock:
                if job == "a row by iteration":
                    async for _ in cursor:
                        pass
                elif job == "a row by fetchall":
                    await cursor.fetchall()
                else:
                    while await cursor.fetchone() is not None:
                        pass

    return measure


def work(order: Order) -> None:
    """Answer each line "times job" of the standard input with seconds of CPU and of wall time a call."""
    with asyncio.Runner() as runner:
        is_async = order.get("colour") == "async"

        async def opened() -> Any:
            return await subject(order).connect()

        conn = runner.run(opened()) if is_async else subject(order).connect()
        measure: Any = (_async if is_async else _sync)(order, conn)
        print(json.dumps({}), flush=True)
        for line in sys.stdin:
            times, _, job = line.strip().partition(" ")
            clock = _Clock()
            gc.collect()
            gc.disable()
            try:
                done = measure(job, int(times), clock)
                if inspect.iscoroutine(done):
                    runner.run(done)
                answer: Order = {"cpu": clock.cpu / int(times), "wall": clock.wall / int(times)}
            except Exception as error:  # noqa: BLE001 - what a subject cannot do is told, and the next job is done
                answer = {"error": f"{type(error).__name__}: {error}"}
            finally:
                gc.enable()
            print(json.dumps(answer), flush=True)
