"""The class that the application holds on psycopg: its own connection class, watched at its lowest point.

Every wait of an open connection passes ``Connection.wait``; what lies under it, ``pgconn``, is exchanged on a switch.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any

import psycopg
from psycopg import pq
from psycopg._connection_base import BaseConnection
from psycopg._preparing import PrepareManager
from psycopg.generators import notifies

from aurora_actors.drivers.psycopg_reading import failure_of, locals_of, on_reader, statement_to_come, text_of
from aurora_actors.flow.running import run_blocking
from aurora_actors.model.faults import Fault
from aurora_actors.model.outcome import Operation
from aurora_actors.plugin import Execute, Recover
from aurora_actors.proxies.proxy import Proxy

__all__ = ["guarded", "link_of"]

log = logging.getLogger("aurora_actors.drivers")

Connection = psycopg.Connection[Any]

_ACTIVE = pq.TransactionStatus.ACTIVE
_OPEN = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
_DEAD = pq.TransactionStatus.UNKNOWN

# What a generator of psycopg's does, and whether the session may be exchanged before it takes its first step.
_STARTS = {
    "_execute_gen": "execute",
    "_executemany_gen_no_pipeline": "executemany",
    "_stream_send_gen": "stream",
    "_start_copy_gen": "copy",
    "_declare_gen": "execute",
    "_enter_gen": "begin",
    "_tpc_begin_gen": "tpc_begin",
    "notifies": "notifies",
}
_NAMES = {
    **_STARTS,
    "_executemany_gen_pipeline": "executemany",
    "_commit_gen": "commit",
    "_rollback_gen": "rollback",
    "_tpc_prepare_gen": "tpc_prepare",
    "_tpc_finish_gen": "tpc_finish",
    "_exit_gen": "end of block",
    "copy_to": "copy",
    "copy_end": "copy",
}
_COMMITS = {"_commit_gen", "_tpc_prepare_gen", "_tpc_finish_gen"}
_SETTERS = {f"_set_{name}_gen" for name in ("autocommit", "isolation_level", "read_only", "deferrable")}
_SENDS_NOTHING = {"notifies", *_SETTERS}

# psycopg's own names that an exchange rests on. Where a release lacks one, connections are psycopg's alone.
_NEEDED = ("_check_connection_ok", "_pipeline_nolock", "_notice_handler", "_notify_handler", "wait", "transaction")
_NEEDED_MADE = ("_pipeline", "_num_transactions", "_prepared", "_tpc", "_notifies_backlog", "_closed")

_classes: dict[type[Connection], type[Connection]] = {}


class Link:
    """The cold half of one guarded connection: asked only when something is wrong, or has been."""

    def __init__(self) -> None:
        self.proxy: Proxy | None = None
        self.depth = 0
        self.began = 0
        self.spare: Connection | None = None
        self.outcome: Exception | None = None
        self.moved = False
        self.lost_for_good = False
        self.base_wait: Callable[..., Any] = psycopg.Connection.wait
        self._retired = False

    def may_recover(self, conn: Connection) -> bool:
        if self.spare is not None:
            return True
        alive = self.proxy is not None and self.proxy.recoverable and not self.lost_for_good
        return alive and not conn._closed and os.getpid() == (self.proxy.pid if self.proxy else 0)

    def wait(self, conn: Connection, gen: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The long way: for connections that have switched, or whose plugins want to see what is sent."""
        if self.spare is not None and self.depth == 0 and gen.__name__ in _STARTS:
            self.exchange(conn)
        if self.moved:
            gen = self._rebound(conn, gen)
            if gen is None:
                return None
        proxy = self.proxy
        if proxy is None or not proxy.executes:
            return self._guarded(conn, gen, args, kwargs)
        call = Execute(Operation(_NAMES.get(gen.__name__) or str(gen.__name__), statement_to_come(gen)), proxy.host)

        async def innermost(_: Execute) -> Any:
            return self._guarded(conn, gen, args, kwargs)

        return run_blocking(proxy.execution(innermost)(call))

    def _guarded(self, conn: Any, gen: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        status = conn.pgconn.transaction_status
        if status != _ACTIVE:
            conn._aa_status = status
        conn._aa_busy_since = monotonic()
        try:
            return self.base_wait(conn, gen, *args, **kwargs)
        except Exception as error:
            raised = self.failed(conn, error, gen)
            if raised is error:
                raise
            raise raised from error
        finally:
            conn._aa_busy_since = 0.0

    def failed(self, conn: Connection, error: Exception, gen: Any) -> Exception:
        """What the application gets for *error*: the same object unless the connection was lost and a plugin acts."""
        proxy = self.proxy
        if proxy is None or not isinstance(error, psycopg.Error):
            return error
        if self.outcome is not None and (self._retired or self.spare is not None):
            # One loss, one outcome: the driver's clean-up fails again on what is gone already.
            return self.outcome
        if not proxy.recoverable or os.getpid() != proxy.pid:
            return error
        fault = proxy.fault(failure_of(error, conn))
        if fault is Fault.NONE or fault is Fault.LOGIN or (fault is Fault.READ_ONLY and not on_reader(conn)):
            return error
        operation = self._operation(conn, error, gen, refused=fault is Fault.READ_ONLY)
        raised = run_blocking(proxy.recover(Recover(error, fault, operation, proxy.io.now())))
        if raised is not error:
            self.outcome = raised
        return raised

    def take(self, conn: Connection, spare: Connection) -> None:
        """Go on with *spare*: now, or when the block is left that has to meet its dead connection."""
        self.spare = spare
        if self.depth == 0:
            self.exchange(conn)
        else:
            conn.pgconn.finish()
            self._long_way(conn)

    def exchange(self, conn: Any) -> None:
        """Exchange what lies under *conn*. Called under the driver's lock, with nothing under way."""
        spare: Any = self.spare
        self.spare = None
        new = spare.pgconn
        this = weakref.ref(conn)
        new.notice_handler = partial(BaseConnection._notice_handler, this)
        new.notify_handler = partial(BaseConnection._notify_handler, this)
        prepared = PrepareManager()
        prepared.prepare_threshold = conn._prepared.prepare_threshold
        prepared.prepared_max = conn._prepared.prepared_max
        conn._prepared = prepared
        conn._tpc = None
        conn._num_transactions = 0
        if conn._notifies_backlog is not None:
            conn._notifies_backlog = deque()
        conn.pgconn, spare.pgconn = new, conn.pgconn
        spare.pgconn.finish()
        self.moved = True
        self._long_way(conn)

    def give_up(self, conn: Connection) -> None:
        self.lost_for_good = True
        conn.pgconn.finish()

    def left(self, conn: Connection) -> None:
        """A block was left: nothing of it can reach the new session any more."""
        self.depth -= 1
        if self.depth == 0 and self.spare is not None:
            with conn.lock:
                self.exchange(conn)

    def drop(self) -> None:
        spare, self.spare = self.spare, None
        if spare is not None:
            spare.close()
        if self.proxy is not None:
            self.proxy.closed()

    def _long_way(self, conn: Any) -> None:
        conn._aa_seen = None

    def _operation(self, conn: Any, error: Exception, gen: Any, *, refused: bool) -> Operation:
        name = gen.__name__
        found = locals_of(error, getattr(gen, "gi_code", None))
        owner = found.get("self")
        commits = name in _COMMITS
        if name == "_exit_gen" and isinstance(owner, psycopg.Transaction):
            commits = found.get("exc_val") is None and not owner.force_rollback
        pipeline = conn._pipeline
        if pipeline is not None and not getattr(pipeline, "_no_lock", False):
            # Any of the statements in the pipeline may have been a COMMIT.
            commits = True
        status = self.began if pipeline is not None else conn._aa_status
        begins = name == "_enter_gen" and isinstance(owner, psycopg.Transaction)
        return Operation(
            _NAMES.get(name, name),
            text_of(found),
            in_transaction=status in _OPEN,
            autocommit=conn.autocommit and not begins,
            commits=commits,
            sent=conn._aa_status != _DEAD and name not in _SENDS_NOTHING,
            refused=refused,
        )

    def _rebound(self, conn: Any, gen: Any) -> Any:
        """*gen* on the session of now: a cursor, transaction or pipeline remembers the one that it was made on."""
        self._retired = False
        frame = getattr(gen, "gi_frame", None)
        if frame is None:
            return gen
        name = gen.__name__
        found = frame.f_locals
        if name == "notifies" and found.get("pgconn") not in (None, conn.pgconn):
            return notifies(conn.pgconn)
        owner = found.get("self")
        attribute = "_pgconn" if hasattr(owner, "_pgconn") else "pgconn"
        if owner is None or owner is conn or getattr(owner, attribute, conn.pgconn) is conn.pgconn:
            return gen
        if isinstance(owner, psycopg.ServerCursor) and name != "_declare_gen":
            return self._server_cursor(gen, name)
        if name not in _STARTS and name not in ("_executemany_gen_pipeline", "_enter_gen"):
            self._retired = True
            return gen
        setattr(owner, attribute, conn.pgconn)
        if attribute == "_pgconn":
            owner._last_query = None
        if isinstance(owner, psycopg.ServerCursor):
            owner._described = False
        return gen

    def _server_cursor(self, gen: Any, name: str) -> Any:
        gen.close()
        if name == "_close_gen":
            return None
        raise self.outcome or psycopg.OperationalError("the server-side cursor was lost with its session")


_NONE = Link()
"""Of connections that are still being made, or that nobody attached anything to."""


class _Seen:
    """Stands for a cell whose view never changes."""

    view: Any = object()


def link_of(conn: Any) -> Link:
    """What watches over *conn*."""
    link: Link = conn._aa_link
    return link


def guarded(base: type[Connection]) -> type[Connection]:
    """The class derived from *base*, made once; it has the driver's name and this one base."""
    made = _classes.get(base)
    if made is None:
        fits = not hasattr(base, "_aa_link") and _fits(base)
        made = _classes[base] = _made(base) if fits else base
    return made


def _fits(base: type[Connection]) -> bool:
    names = set(BaseConnection.__init__.__code__.co_names)
    missing = [name for name in _NEEDED if not hasattr(base, name)]
    missing += [name for name in _NEEDED_MADE if name not in names]
    if missing:
        log.warning("psycopg %s lacks %s: lost connections are not recovered", psycopg.__version__, ", ".join(missing))
    return not missing


def _made(base: Any) -> type[Connection]:
    base_wait = base.wait
    base_check, base_close, base_exit = base._check_connection_ok, base.close, base.__exit__
    base_transaction, base_pipeline, base_nolock = base.transaction, base.pipeline, base._pipeline_nolock

    class Guarded(base):  # type: ignore[misc]
        __doc__ = base.__doc__
        _aa_link = _NONE
        _aa_cell: Any = _Seen
        _aa_seen: Any = _Seen.view
        _aa_busy_since = 0.0
        _aa_status = pq.TransactionStatus.IDLE

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            if self._aa_cell.view is not self._aa_seen:
                return self._aa_link.wait(self, gen, args, kwargs)
            status = self.pgconn.transaction_status
            if status != _ACTIVE:
                self._aa_status = status
            self._aa_busy_since = monotonic()
            try:
                return base_wait(self, gen, *args, **kwargs)
            except Exception as error:
                raised = self._aa_link.failed(self, error, gen)
                if raised is error:
                    raise
                raise raised from error
            finally:
                self._aa_busy_since = 0.0

        def _check_connection_ok(self) -> None:
            # Called where nothing can be awaited: a dead connection that can be brought back is let through to wait().
            if self.pgconn.status != pq.ConnStatus.OK and self._aa_link.may_recover(self):
                return
            base_check(self)

        def close(self) -> None:
            returned = getattr(getattr(self, "_pool", None), "close_returns", False)
            base_close(self)
            if not returned:
                self._closed = True
                self._aa_link.drop()

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            base_exit(self, kind, error, trace)
            if not getattr(self, "_pool", None):
                self.close()

        def transaction(self, *args: Any, **kwargs: Any) -> AbstractContextManager[Any]:
            return _block(self, lambda: base_transaction(self, *args, **kwargs))

        def pipeline(self) -> AbstractContextManager[Any]:
            return _block(self, lambda: base_pipeline(self))

        def _pipeline_nolock(self) -> AbstractContextManager[Any]:
            return _block(self, lambda: base_nolock(self), locked=True)

    for name in ("__name__", "__qualname__", "__module__"):
        setattr(Guarded, name, getattr(base, name))
    return Guarded


@contextmanager
def _block(conn: Any, enter: Callable[[], AbstractContextManager[Any]], *, locked: bool = False) -> Iterator[Any]:
    """A block of the driver's whose end has to meet the session that it began on."""
    link: Link = conn._aa_link
    if link is _NONE:
        with enter() as entered:
            yield entered
        return
    if link.spare is not None and link.depth == 0:
        if locked:
            link.exchange(conn)
        else:
            with conn.lock:
                link.exchange(conn)
    if link.depth == 0:
        link.began = conn.pgconn.transaction_status
    link.depth += 1
    try:
        with enter() as entered:
            yield entered
    finally:
        if locked:
            link.depth -= 1
            if link.depth == 0 and link.spare is not None:
                link.exchange(conn)
        else:
            link.left(conn)
