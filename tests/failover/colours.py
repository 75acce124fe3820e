"""One test body for threads and asyncio: asyncio's connections, spoken to as if they were blocking.

    def test_it_is_survived(aurora_lab: PostgresLab, colour: Colour) -> None:
        with colour.connect(aurora_lab, autocommit=True) as conn:
            aurora_lab.failover()
            with pytest.raises(FailoverSuccessError):
                conn.execute("SELECT 1")

For asyncio each call runs as a task of an event loop in a thread of its own, `with` is `async with`, `for` is `async for`,
and an assignment that asyncio knows as `set_…()` is that. Any number of threads may speak.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import psycopg
import pytest
import uvloop

import aurora_actors
import aurora_actors.psycopg
from aurora_actors import aio
from aurora_actors.lab import PostgresLab

__all__ = ["COLOURS", "EVERY_LOOP", "LOOPS", "ONE_COLOUR", "Colour", "Connect", "Loop", "Tasks", "Threads", "colour"]

END_SECONDS = 10.0
"""How long a loop's thread may take to end; a hang is an error of the test, not a silence."""
_END = object()
_OTHER_NAMES = {"close": "aclose"}


class Loop:
    """An event loop that runs in a thread of its own."""

    def __init__(self, new: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self.loop = new()
        self._thread = threading.Thread(target=self._serve, name="test-loop", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def thread(self) -> int:
        """The id of the thread."""
        assert self._thread.ident is not None
        return self._thread.ident

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call *fn* in the loop's thread, await what it gives if need be, and return the result. Any other thread."""

        async def call() -> Any:
            result = fn(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result()

    def tasks(self) -> set[str]:
        """What runs in the loop, as far as nobody waits for it here."""
        return self.run(_other_tasks)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the loop. Tasks that are left are an error."""
        left = self.tasks()
        self.run(self.loop.shutdown_default_executor)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(END_SECONDS)
        assert not self._thread.is_alive()
        self.loop.close()
        assert not left


def _other_tasks() -> set[str]:
    return {repr(task) for task in asyncio.all_tasks() - {asyncio.current_task()}}


class Spoken:
    """An object of asyncio's, spoken to from threads as if it blocked."""

    __slots__ = ("_loop", "_object")

    def __init__(self, loop: Loop, spoken: Any) -> None:
        object.__setattr__(self, "_loop", loop)
        object.__setattr__(self, "_object", spoken)

    def __repr__(self) -> str:
        return repr(self._object)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._object, name, _END)
        if found is _END:
            found = getattr(self._object, _OTHER_NAMES.get(name, name))
        return _spoken(self._loop, found)

    def __setattr__(self, name: str, value: Any) -> None:
        setter = getattr(self._object, f"set_{name}", None)
        if setter is None:
            setattr(self._object, name, value)
        else:
            self._loop.run(setter, value)

    def __enter__(self) -> Any:
        return _spoken(self._loop, self._loop.run(self._object.__aenter__))

    def __exit__(self, *error: Any) -> Any:
        return self._loop.run(self._object.__aexit__, *error)

    def __iter__(self) -> Iterator[Any]:
        return Spoken(self._loop, self._loop.run(self._object.__aiter__))

    def __next__(self) -> Any:
        async def following() -> Any:
            # A future cannot carry the end of an iteration.
            try:
                return await self._object.__anext__()
            except StopAsyncIteration:
                return _END

        found = self._loop.run(following)
        if found is _END:
            raise StopIteration
        return _spoken(self._loop, found)


def _spoken(loop: Loop, found: Any) -> Any:
    if inspect.ismethod(found) or inspect.isbuiltin(found):

        def call(*args: Any, **kwargs: Any) -> Any:
            return _spoken(loop, loop.run(found, *map(_plain, args), **{key: _plain(v) for key, v in kwargs.items()}))

        return call
    awaits = any(hasattr(type(found), name) for name in ("__aenter__", "__aiter__", "__anext__"))
    return Spoken(loop, found) if awaits else found


def _plain(found: Any) -> Any:
    return found._object if isinstance(found, Spoken) else found


class Colour:
    """One face of the product, and what it is built on."""

    name: str
    face: Callable[..., Any]
    """``connect()`` of the product."""
    wrapper: type[Any]
    """The same under the AWS wrapper's name."""
    ours: type[Any]
    """Its class of connections, for what takes a class."""
    connection: type[Any]
    """The driver's class of connections."""

    def connect(self, lab: PostgresLab, endpoint: str = "writer", /, **parameters: Any) -> Any:
        """A connection that survives, to an endpoint of the lab."""
        return self.open(lab.conninfo(endpoint), **parameters)

    def open(self, conninfo: str, target: Callable[..., Any] | None = None, /, **parameters: Any) -> Any:
        """The same to anywhere; *target*: the driver's connect, if another than that of its own class."""
        return self.spoken(self.run(self.face, target or self.connection.connect, conninfo, **parameters))

    def raw(self, conninfo: str, **parameters: Any) -> Any:
        """A connection of the driver's alone."""
        return self.spoken(self.run(self.connection.connect, conninfo, **parameters))

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of *fn*, called where connections of this face may be used, and of what it may give to be awaited."""
        raise NotImplementedError

    def spoken(self, found: Any) -> Any:
        """*found*, to be used as if it blocked."""
        return found

    def plain(self, conn: Any) -> Any:
        """The object itself."""
        return _plain(conn)

    def close(self) -> None:
        """No more is spoken."""


class Threads(Colour):
    """Connections for threads."""

    name = "threads"
    face = staticmethod(aurora_actors.connect)
    wrapper = aurora_actors.AwsWrapperConnection
    ours = aurora_actors.psycopg.Connection
    connection = psycopg.Connection

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)


class Tasks(Colour):
    """Connections for asyncio, in a loop of the standard library's or uvloop's."""

    face = staticmethod(aio.connect)
    wrapper = aio.AwsWrapperConnection
    ours = aurora_actors.psycopg.AsyncConnection
    connection = psycopg.AsyncConnection

    def __init__(self, name: str = "asyncio") -> None:
        self.name = name
        self.loop = Loop(LOOPS[name])

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.loop.run(fn, *args, **kwargs)

    def spoken(self, found: Any) -> Any:
        return _spoken(self.loop, found)

    def close(self) -> None:
        self.loop.close()


LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
COLOURS = ("threads", "asyncio")
Connect = Callable[..., Any]
"""``connect(lab, endpoint, **parameters)`` of a colour."""
ONE_COLOUR = pytest.mark.parametrize("colour", ["threads"], indirect=True)
"""For tests of what threads and asyncio share."""
EVERY_LOOP = pytest.mark.parametrize("colour", ["threads", *LOOPS], indirect=True)
"""For tests whose subject may depend on the kind of loop."""


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Iterator[Colour]:
    """Each face of the product in turn."""
    made = Threads() if request.param == "threads" else Tasks(request.param)
    try:
        yield made
    finally:
        made.close()
