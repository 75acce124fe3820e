"""Threads and asyncio: how the application's connections are opened, wait, and run beside each other.

What they do is written once, as ``async def``: a thread runs it to its end without ever suspending,
because each call of a driver for threads has its result at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from inspect import isawaitable
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from aurora_actors.flow.running import run_blocking

if TYPE_CHECKING:
    from aurora_actors.lab.nemesis.engines import Engine, Lab

__all__ = ["COLOURS", "Colour", "Tasks", "Threads", "Work", "got"]

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


async def got(value: Any) -> Any:
    """The result of a driver's call, in either colour."""
    return await value if isawaitable(value) else value


class Colour(Protocol):
    """One way to run the application."""

    title: ClassVar[str]

    @property
    def stopping(self) -> bool:
        """Whether the application has been told to come to its end."""
        ...

    async def connect(self, engine: Engine, lab: Lab, **parameters: Any) -> Any: ...

    async def pause(self, seconds: float) -> None:
        """Wait that long, or until the application is told to come to its end."""
        ...

    def start(self, works: Sequence[Work]) -> None:
        """Begin all *works* beside each other, and return."""
        ...

    def stop(self, seconds: float) -> None:
        """Tell the application to come to its end, and wait up to *seconds* until it has."""
        ...


class Threads:
    """Each connection in a thread of its own."""

    title: ClassVar[str] = "threads"

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    async def connect(self, engine: Engine, lab: Lab, **parameters: Any) -> Any:
        return engine.connect(lab, **parameters)

    async def pause(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def start(self, works: Sequence[Work]) -> None:
        self._threads = [threading.Thread(target=_run, args=(work,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> None:
        self._stop.set()
        until = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))


def _run(work: Work) -> None:
    run_blocking(work())


class Tasks:
    """Each connection in a task of its own, all in one event loop, in a thread beside the one that shows what happens."""

    title: ClassVar[str] = "asyncio"

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    async def connect(self, engine: Engine, lab: Lab, **parameters: Any) -> Any:
        return await engine.connect_async(lab, **parameters)

    async def pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return

    def start(self, works: Sequence[Work]) -> None:
        self._thread = threading.Thread(target=self._serve, args=(works,), daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        if self._thread is None:
            self._loop.close()
            return
        with suppress(RuntimeError):  # every connection has given up, and the loop is closed
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(seconds)

    def _serve(self, works: Sequence[Work]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(_all(works))


async def _all(works: Sequence[Work]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work())


COLOURS: Mapping[str, type[Threads] | type[Tasks]] = MappingProxyType({"sync": Threads, "async": Tasks})
"""By the name that ``COLOUR=`` takes."""
