"""The class that the application holds on psycopg for asyncio. See ``psycopg_guard``; here is only what awaits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from time import monotonic
from typing import Any

import psycopg

from aurora_actors.deadlines import NEVER, nearest
from aurora_actors.drivers.psycopg_guard import NO_LINK
from aurora_actors.drivers.psycopg_link import Link
from aurora_actors.drivers.psycopg_reading import ACTIVE, HARMLESS, ROW_TO_COME

__all__ = ["made_async"]


def made_async(base: Any) -> type[Any]:
    """The guarded class derived from *base*, a class of connections for asyncio."""
    base_wait = base.wait

    async def through(conn: Any, gen: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await base_wait(conn, gen, *args, **kwargs)

    class Guarded(base):  # type: ignore[misc]
        __doc__ = base.__doc__
        _aa_through = staticmethod(through)

        async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            if self._aa_cell.view is not self._aa_seen or (
                (nearest() is not NEVER or self._aa_limited) and self._aa_link is not NO_LINK
            ):
                return await self._aa_link.wait(self, gen, args, kwargs)
            if self._aa_moved or getattr(gen, "__name__", None) != ROW_TO_COME:
                status = self.pgconn.transaction_status
                if status != ACTIVE:
                    self._aa_status = status
                frame = getattr(gen, "gi_frame", None)
                found = frame.f_locals if frame is not None else {}
                if self._aa_moved and getattr(found.get("self"), "_pgconn", None) is not self.pgconn:
                    return await self._aa_link.wait(self, gen, args, kwargs)
                query = found.get("query")
                # A composed query cannot be hashed.
                if (query.__class__ is not str and query is not None) or query not in HARMLESS:
                    link = self._aa_link
                    if link is not NO_LINK:
                        return await link.wait(self, gen, args, kwargs)
            self._aa_busy_since = monotonic()
            try:
                if args or kwargs:
                    return await base_wait(self, gen, *args, **kwargs)
                return await base_wait(self, gen)
            except psycopg.Error as error:
                return await self._aa_link.failed(self, error, gen)
            except BaseException:
                self._aa_link.cut_off(self, gen)
                raise
            finally:
                self._aa_busy_since = 0.0

        async def __aexit__(self, *error: Any) -> None:
            lost = self.closed
            await super().__aexit__(*error)
            if lost and not getattr(self, "_pool", None):
                await self.close()

        async def close(self) -> None:
            lost = self.closed
            await super().close()
            if lost or self._closed:
                await self._aa_link.closed()

        def transaction(self, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[Any]:
            return _block(self, partial(super().transaction, *args, **kwargs))

        def pipeline(self) -> AbstractAsyncContextManager[Any]:
            return _block(self, super().pipeline)

        def _pipeline_nolock(self) -> AbstractAsyncContextManager[Any]:
            return _block_nolock(self, super()._pipeline_nolock)

    return Guarded


@asynccontextmanager
async def _block(conn: Any, enter: Callable[[], AbstractAsyncContextManager[Any]]) -> AsyncIterator[Any]:
    link: Link = conn._aa_link
    if link is NO_LINK:
        async with enter() as entered:
            yield entered
        return
    if link.is_due or link.has_news(conn):
        async with conn.lock:
            await link.before_block(conn)
    link.enter(conn)
    try:
        async with enter() as entered:
            yield entered
    finally:
        if link.left():
            async with conn.lock:
                link.exchange(conn)


@asynccontextmanager
async def _block_nolock(conn: Any, enter: Callable[[], AbstractAsyncContextManager[Any]]) -> AsyncIterator[Any]:
    link: Link = conn._aa_link
    await link.before_block(conn)
    link.enter(conn)
    try:
        async with enter() as entered:
            yield entered
    finally:
        if link.left():
            link.exchange(conn)
