"""The same for asyncio: ``await aurora_actors.aio.connect(...)``.

    conn = await aurora_actors.aio.connect(psycopg.AsyncConnection.connect, "host=… dbname=…")
    conn = await aurora_actors.aio.connect("postgresql://…")

Signals, errors and plugins are those of ``aurora_actors``; a receiver of a signal may be a coroutine function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aurora_actors.actors.system import release_resources
from aurora_actors.connecting import opening
from aurora_actors.errors import ConfigurationError
from aurora_actors.flow.aio import AsyncIo
from aurora_actors.transactions import run_transaction_async as run_transaction

__all__ = ["AsyncAwsWrapperConnection", "AwsWrapperConnection", "connect", "release_resources_async", "run_transaction"]


async def connect(target: Callable[..., Any] | str | None = None, conninfo: str = "", /, **parameters: Any) -> Any:
    """Open a connection for asyncio that survives the loss of its host; see ``aurora_actors.connect``.

    Belongs to the running event loop, as the driver's own connection does. Any number of loops may run in as many threads.
    Raises ``ConfigurationError`` also where no event loop of asyncio runs.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "aurora_actors.aio.connect() has to be awaited in a running event loop of asyncio, as in asyncio.run(main());"
            " without one, use aurora_actors.connect()"
        ) from None
    return await opening(AsyncIo, target, conninfo, parameters)


class AwsWrapperConnection:
    """The AWS wrapper's name for what ``connect()`` does."""

    @staticmethod
    async def connect(target: Any = None, conninfo: str = "", /, **parameters: Any) -> Any:
        """See ``connect``."""
        return await connect(target, conninfo, **parameters)


AsyncAwsWrapperConnection = AwsWrapperConnection


async def release_resources_async() -> None:
    """See ``aurora_actors.release_resources``; the event loop goes on meanwhile."""
    await asyncio.to_thread(release_resources)
