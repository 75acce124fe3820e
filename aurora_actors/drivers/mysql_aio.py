"""The classes that the application holds on MySQL Connector for asyncio. See ``mysql_guard``; here is only what awaits."""

from __future__ import annotations

import asyncio
import functools
from asyncio import current_task
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from mysql.connector.errors import Error

from aurora_actors.actors.asking import DeadlineExceeded
from aurora_actors.deadlines import NEVER, nearest
from aurora_actors.drivers.mysql_classes import cursor_calls, driver_s_own, guarded_cursor, named
from aurora_actors.drivers.mysql_guard import QUIET, TRAITS, connection_calls, handles_ok, read_only, released, stale
from aurora_actors.drivers.mysql_link import NO_LINK
from aurora_actors.drivers.mysql_marking import marking_async
from aurora_actors.drivers.mysql_reading import HARMLESS, STARTS, STATEMENTS, keywords_as_known
from aurora_actors.drivers.mysql_session import SESSION_CHANGES, handle_of, noted, shut
from aurora_actors.errors import FailoverSuccessError

__all__ = ["close_pooled", "made_async", "within"]


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Raises ``DeadlineExceeded`` where what is awaited takes longer."""
    try:
        async with asyncio.timeout(None if seconds == inf else seconds):
            yield
    except TimeoutError:
        raise DeadlineExceeded("the server did not answer in time") from None


def made_async(base: Any) -> type[Any]:
    """The guarded class derived from *base*, a class of connections for asyncio."""
    calls = {name: _acting(name, method) for name, method in connection_calls(base) if name != "cmd_query_iter"}
    calls["commit"] = _acting("commit", marking_async(base.commit))
    calls |= {name: _watched(getattr(base, name)) for name in QUIET}
    calls["get_rows"], calls["cmd_query"] = _reading(base.get_rows), _passing(calls["cmd_query"], base.cmd_query)
    base_cursor, base_auth = _acting("cursor", base.cursor), base._do_auth

    async def cursor(self: Any, *args: Any, **kwargs: Any) -> Any:
        link = self._aa_link
        made = await base_cursor(self, *args, **kwargs)
        if not link.busy_since:
            made = guarded_cursor(self, made, _made_cursor)
            link.cursors.add(made)
        return made

    async def set_read_only(self: Any, value: bool) -> None:
        """See ``read_only``."""
        await self.cmd_query(f"SET SESSION TRANSACTION READ {'ONLY' if value else 'WRITE'}")
        self._aa_read_only = bool(value)

    async def _do_auth(self: Any) -> None:
        # The driver names no host for TLS, and then cannot verify an identity at all.
        wire, name = self._socket, self._aa_name or self._host
        wire.switch_to_ssl = lambda context: wire._writer.start_tls(context, server_hostname=name)
        await base_auth(self)

    own = (cursor, _do_auth, handles_ok(base._handle_ok), *_coming_and_going(base))
    calls |= {each.__name__: functools.wraps(getattr(base, each.__name__))(each) for each in own}
    calls |= {"disconnect": calls["close"], "stale": property(stale), "read_only": property(read_only)}
    calls["set_read_only"] = _acting("set_read_only", set_read_only)
    return named(base, {**TRAITS, **driver_s_own(base), **calls})


def close_pooled(base_close: Any) -> Any:
    """``close`` of pooled connections."""

    async def close(self: Any) -> None:
        conn = self._cnx
        try:
            await base_close(self)
        except FailoverSuccessError:
            return  # the pool has it, and it works again
        finally:
            if conn is not None:
                await released(conn)

    return close


def _made_cursor(base: type[Any]) -> dict[str, Any]:
    return cursor_calls(base, _acting, _watched)


def _acting(name: str, base: Any, *, of_cursor: bool = False) -> Any:
    states, changes = name in STATEMENTS, name in SESSION_CHANGES
    if not (states or changes or name in STARTS):
        return _watched(base, name, of_cursor=of_cursor)

    @functools.wraps(base)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        conn = self._connection if of_cursor else self
        link = conn._aa_link if conn is not None else NO_LINK
        me = current_task()
        if link.busy_since:
            if link.user is not me:
                link.refuse(name)
            return await base(self, *args, **kwargs)
        unread = states and not (args and args[0].__class__ is str and args[0] in HARMLESS)
        was = link.user
        if was and was is not me:
            link.refuse(name)
        link.user = me
        try:
            if unread or link.cell.view is not link.seen or nearest() is not NEVER or link.limited:
                call = partial(base, self, *args, **kwargs)
                result = await link.call(conn, name, args or (*kwargs.values(),), call)
            else:
                link.busy_since = monotonic()
                try:
                    result = await base(self, *args, **kwargs)
                except BaseException as error:
                    await link.failed(conn, error, name, args)
                    raise
                finally:
                    link.busy_since = 0.0
            if changes and result is not False:
                noted(conn, name, args, kwargs)
            return result
        finally:
            link.user = was

    return method


def _watched(base: Any, name: str | None = None, *, of_cursor: bool = False) -> Any:
    @functools.wraps(base)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        conn = self._connection if of_cursor else self
        link = conn._aa_link if conn is not None else NO_LINK
        with link.used_by(current_task(), name):
            if link.busy_since:
                return await base(self, *args, **kwargs)
            if name is not None and (nearest() is not NEVER or link.limited):
                return await link.call(conn, name, args or (*kwargs.values(),), partial(base, self, *args, **kwargs))
            link.busy_since = monotonic()
            try:
                return await base(self, *args, **kwargs)
            except BaseException as error:
                if name is not None:
                    await link.failed(conn, error, name, args)
                raise
            finally:
                link.busy_since = 0.0

    return method


def _passing(guarded: Any, base: Any) -> Any:
    """*guarded*, without a task's step of its own where a cursor's call, guarded itself, is under way."""

    @functools.wraps(base)
    def cmd_query(self: Any, *args: Any, **kwargs: Any) -> Any:
        link = self._aa_link
        return (base if link.busy_since and link.user is current_task() else guarded)(self, *args, **kwargs)

    return cmd_query


def _reading(base: Any) -> Any:
    watched = _watched(base, "get_rows")

    @functools.wraps(base)
    async def get_rows(
        self: Any, count: Any = None, binary: Any = False, columns: Any = None, raw: Any = None, prep_stmt: Any = None,
        read_timeout: Any = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        link = self._aa_link
        if link.busy_since or link.user or nearest() is not NEVER or link.limited or kwargs:
            return await watched(self, count, binary, columns, raw, prep_stmt, read_timeout=read_timeout, **kwargs)
        link.busy_since, link.user = monotonic(), current_task()
        try:
            return await base(self, count, binary, columns, raw, prep_stmt, read_timeout=read_timeout)
        except BaseException as error:
            await link.failed(self, error, "get_rows", ())
            raise
        finally:
            link.busy_since, link.user = 0.0, None

    return get_rows if keywords_as_known(base) else watched


def _coming_and_going(base: Any) -> tuple[Any, ...]:
    base_close, base_connect, base_reconnect = base.close, base.connect, base.reconnect
    base_ping, base_asked = _acting("ping", base.ping), _watched(base.is_connected)

    async def is_connected(self: Any) -> bool:
        if await base_asked(self):
            return True
        shut(self)
        return False

    async def connect(self: Any) -> None:
        with self._aa_link.used_by(current_task(), "connect") as link:
            if link.busy_since:
                await base_connect(self)
                self._aa_handle = handle_of(self)
            else:
                await link.reconnected(self, "connect", partial(base_connect, self))

    async def ping(self: Any, reconnect: bool = False, attempts: int = 1, delay: int = 0) -> None:
        if not reconnect or self._aa_link.busy_since:
            await base_ping(self, reconnect, attempts, delay)
            return
        try:
            await base_ping(self)
        except FailoverSuccessError:
            return  # it is connected again, as asked
        except Error:
            await self.reconnect(attempts, delay)

    async def reconnect(self: Any, attempts: int = 1, delay: int = 0) -> None:
        attempt = partial(base_reconnect, self, attempts, delay)
        with self._aa_link.used_by(current_task(), "reconnect") as link:
            if link.busy_since:
                await attempt()
            else:
                await link.reconnected(self, "reconnect", attempt)

    async def close(self: Any) -> None:
        link = self._aa_link
        if link.busy_since:
            await base_close(self)
            return
        with link.used_by(current_task(), "close"):
            link.busy_since = monotonic()
            try:
                await base_close(self)
            finally:
                link.busy_since = 0.0
                await link.closed()

    return is_connected, connect, ping, reconnect, close
