"""The class that the application holds on psycopg: its own connection class, watched at its lowest point.

Every wait of an open connection passes ``Connection.wait``; what lies under it, ``pgconn``, is exchanged on a switch. Here
is what threads need, and what both colours share; ``psycopg_aio`` has what asyncio needs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any

import psycopg
from psycopg import pq
from psycopg._connection_base import BaseConnection
from psycopg.connection import Connection
from psycopg.connection_async import AsyncConnection

from aurora_actors.deadlines import NEVER, nearest
from aurora_actors.drivers.psycopg_deadline import connecting
from aurora_actors.drivers.psycopg_link import Link
from aurora_actors.drivers.psycopg_marking import marking
from aurora_actors.drivers.psycopg_reading import ACTIVE, FINE, HARMLESS, ROW_TO_COME
from aurora_actors.flow.running import run_blocking
from aurora_actors.proxies.tie import placed

__all__ = ["guard_of", "link_of", "through_of"]

log = logging.getLogger("aurora_actors.drivers")

# psycopg's own names that an exchange rests on. Where a release lacks one, connections are psycopg's alone.
_NEEDED = (
    *("_check_connection_ok", "_connect_gen", "_pipeline_nolock", "_notice_handler", "_notify_handler", "wait"),
    *("transaction", "_exec_command"),
)
_NEEDED_MADE = ("_pipeline", "_num_transactions", "_prepared", "_tpc", "_notifies_backlog", "_closed")

_classes: dict[type[Any], type[Any]] = {}


async def _no_wait(*_: Any) -> None:
    """Of connections that nobody attached anything to."""


NO_LINK = Link(None, _no_wait)
"""Of connections that are still being made."""


class Seen:
    """Stands for a cell whose view never changes."""

    view: Any = object()


def link_of(conn: Any) -> Link:
    """What watches over *conn*."""
    link: Link = conn._aa_link
    return link


def through_of(made: Any) -> Callable[..., Any]:
    """The wait of the driver's own under a guarded class, as a flow."""
    through: Callable[..., Any] = made._aa_through
    return through


def guard_of(base: type[Any]) -> type[Any]:
    """The class derived from *base*, made once; it has the driver's name and this one base."""
    made = _classes.get(base)
    if made is None:
        made = base if hasattr(base, "_aa_link") or not _fits(base) else _derived(base)
        _classes[base] = made
    return made


def _derived(base: type[Any]) -> type[Any]:
    if issubclass(base, AsyncConnection):
        from aurora_actors.drivers.psycopg_aio import made_async

        made = made_async(base)
    else:
        made = _made(base)
    own = {name: getattr(base, name) for name in ("__name__", "__qualname__", "__module__")}
    ours = {"_check_connection_ok": _checked(base._check_connection_ok), "__repr__": placed(base)}
    for name, value in {**own, **_SHARED, **ours}.items():
        setattr(made, name, value)
    made._exec_command = marking(base._exec_command)
    made._connect_gen = classmethod(connecting(made, blocks=issubclass(base, Connection)))
    return made


def _fits(base: type[Any]) -> bool:
    names = set(BaseConnection.__init__.__code__.co_names)
    missing = [name for name in _NEEDED if not hasattr(base, name)]
    missing += [name for name in _NEEDED_MADE if name not in names]
    if missing:
        log.warning("psycopg %s lacks %s: lost connections are not recovered", psycopg.__version__, ", ".join(missing))
    return not missing


def stale(conn: Any) -> bool:
    """Whether the connection will go elsewhere before its next statement. Asks nobody: a pool can check by it."""
    proxy = conn._aa_link.proxy
    return proxy is not None and proxy.stale


def _checked(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """psycopg's *check* whether a connection can be used, where nothing can be awaited: one that is dead and can be brought
    back is let through to ``wait``."""

    def let_through(conn: Any) -> None:
        if conn.pgconn.status == FINE or not conn._aa_link.may_recover(conn):
            check(conn)

    return let_through


# Of a connection before anything is attached to it: attributes of the class, which cost a connection nothing.
_SHARED: dict[str, Any] = {
    "_aa_link": NO_LINK,
    "_aa_cell": Seen,
    "_aa_seen": Seen.view,
    "_aa_moved": False,
    "_aa_limited": False,
    "_aa_busy_since": 0.0,
    "_aa_status": pq.TransactionStatus.IDLE,
    "stale": property(stale),
}


def _made(base: Any) -> type[Any]:
    base_wait = base.wait

    async def through(conn: Any, gen: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return base_wait(conn, gen, *args, **kwargs)

    class Guarded(base):  # type: ignore[misc]
        __doc__ = base.__doc__
        _aa_through = staticmethod(through)

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            if self._aa_cell.view is not self._aa_seen or (
                (nearest() is not NEVER or self._aa_limited) and self._aa_link is not NO_LINK
            ):
                return run_blocking(self._aa_link.wait(self, gen, args, kwargs))
            if self._aa_moved or getattr(gen, "__name__", None) != ROW_TO_COME:
                status = self.pgconn.transaction_status
                if status != ACTIVE:
                    self._aa_status = status
                frame = getattr(gen, "gi_frame", None)
                if frame is not None:
                    found = frame.f_locals
                    if self._aa_moved and getattr(found.get("self"), "_pgconn", None) is not self.pgconn:
                        # Made before the switch, or no cursor: it may have to be bound anew.
                        return run_blocking(self._aa_link.wait(self, gen, args, kwargs))
                    query = found.get("query")
                    # A composed query cannot be hashed.
                    if (query.__class__ is not str and query is not None) or query not in HARMLESS:
                        link = self._aa_link
                        if link is not NO_LINK:
                            return run_blocking(link.wait(self, gen, args, kwargs))
            self._aa_busy_since = monotonic()
            try:
                if args or kwargs:
                    return base_wait(self, gen, *args, **kwargs)
                return base_wait(self, gen)  # nearly always, and a tenth of a microsecond sooner
            except psycopg.Error as error:
                return run_blocking(self._aa_link.failed(self, error, gen))
            except BaseException:
                self._aa_link.cut_off(self, gen)
                raise
            finally:
                self._aa_busy_since = 0.0

        def close(self) -> None:
            lost = self.closed
            super().close()
            # Else it went back to its pool.
            if lost or self._closed:
                run_blocking(self._aa_link.closed())

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            lost = self.closed
            super().__exit__(kind, error, trace)
            # The driver leaves a lost connection as it is.
            if lost and not getattr(self, "_pool", None):
                self.close()

        def transaction(self, *args: Any, **kwargs: Any) -> AbstractContextManager[Any]:
            return _block(self, partial(super().transaction, *args, **kwargs))

        def pipeline(self) -> AbstractContextManager[Any]:
            return _block(self, super().pipeline)

        def _pipeline_nolock(self) -> AbstractContextManager[Any]:
            return _block_nolock(self, super()._pipeline_nolock)

    return Guarded


@contextmanager
def _block(conn: Any, enter: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """A block of the driver's whose end has to meet the session that it began on."""
    link: Link = conn._aa_link
    if link is NO_LINK:
        with enter() as entered:
            yield entered
        return
    if link.is_due or link.has_news(conn):
        with conn.lock:
            run_blocking(link.before_block(conn))
    link.enter(conn)
    try:
        with enter() as entered:
            yield entered
    finally:
        if link.left():
            with conn.lock:
                link.exchange(conn)


@contextmanager
def _block_nolock(conn: Any, enter: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """The same where the driver holds its lock already."""
    link: Link = conn._aa_link
    run_blocking(link.before_block(conn))
    link.enter(conn)
    try:
        with enter() as entered:
            yield entered
    finally:
        if link.left():
            link.exchange(conn)
