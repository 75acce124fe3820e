"""The cold half of a guarded psycopg connection: what happens when something is wrong, or has been.

Written once for threads and asyncio, as flows: the guards of both colours call it from their ``wait``, under the driver's
lock.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import psycopg
from psycopg._connection_base import BaseConnection
from psycopg._preparing import PrepareManager
from psycopg.generators import notifies

from aurora_actors.drivers.psycopg_reading import (
    ACTIVE,
    AT_REST,
    COMMITS,
    DEAD,
    NAMES,
    OPEN,
    SENDS_NOTHING,
    STARTS,
    failure_of,
    harmless,
    is_ping,
    locals_of,
    on_reader,
    query_of,
    statement_to_come,
    text_of,
)
from aurora_actors.errors import FailoverSuccessError
from aurora_actors.flow.running import Flow
from aurora_actors.model.faults import Fault
from aurora_actors.model.outcome import Operation
from aurora_actors.proxies.proxy import Proxy
from aurora_actors.proxies.tie import Tie

__all__ = ["Link"]

Through = Callable[..., Flow[Any]]
"""``through(conn, gen, args, kwargs)``: the driver's own wait."""

_TRANSACTIONS = (psycopg.Transaction, psycopg.AsyncTransaction)
_SERVER_CURSORS = (psycopg.ServerCursor, psycopg.AsyncServerCursor)


class Link(Tie):
    """The cold half of one guarded connection: asked only when something is wrong, or has been."""

    def __init__(self, proxy: Proxy | None, through: Through) -> None:
        super().__init__(proxy)
        self.depth = 0
        self.began = 0
        self.spare: Any = None
        self.moved = False
        self._through = through
        self._seen: Any = None
        self._retired = False

    def may_recover(self, conn: Any) -> bool:
        return self.spare is not None or (self.acts and not conn._closed)

    async def wait(self, conn: Any, gen: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The long way: for connections that have switched, or whose plugins want to see what is sent."""
        starts = self.depth == 0 and gen.__name__ in STARTS
        if self.spare is not None and starts:
            self.exchange(conn)
        proxy = self.proxy
        if proxy is not None and conn._aa_cell.view is not self._seen:
            await self._catch_up(conn, proxy, NAMES.get(gen.__name__, ""), gen, starts=starts)
        if self.moved:
            gen = self._rebound(conn, gen)
            if gen is None:
                return None
        operation = Operation(NAMES.get(gen.__name__) or str(gen.__name__), statement_to_come(gen))
        return await self.executed(operation, partial(self._guarded, conn, gen, args, kwargs))

    async def before_block(self, conn: Any) -> None:
        """A block is about to begin, under the driver's lock: on the right host, since it ends where it begins."""
        if self.is_due:
            self.exchange(conn)
        if self.proxy is not None and self.has_news(conn):
            await self._catch_up(conn, self.proxy, "begin", None, starts=True)

    async def _catch_up(self, conn: Any, proxy: Proxy, name: str, gen: Any, *, starts: bool) -> None:
        """The published view has changed: go elsewhere before the statement, if need be and nothing is open here."""
        view = conn._aa_cell.view
        if not self.acts:
            return
        if proxy.stale:
            at_rest = starts and conn._pipeline is None and conn.pgconn.transaction_status in AT_REST
            if not at_rest:
                return
            if not await self.caught_up(Operation(name, statement_to_come(gen), sent=False)):
                return
        # Once for each view: what it says has been acted on.
        self._seen = view
        if not proxy.executes and self.spare is None:
            conn._aa_seen = view

    def note(self, query: Any, conn: Any) -> None:
        """A statement that has not been read before: does it leave something in the session that a new one would lack?"""
        self.clean = self.clean and harmless(query, conn)

    async def _guarded(self, conn: Any, gen: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        status = conn.pgconn.transaction_status
        if status != ACTIVE:
            conn._aa_status = status
        query = query_of(gen)
        if query is not None:
            self.note(query, conn)
        conn._aa_busy_since = monotonic()
        try:
            return await self._through(conn, gen, args, kwargs)
        except psycopg.Error as error:
            return await self.failed(conn, error, gen)
        finally:
            conn._aa_busy_since = 0.0

    async def failed(self, conn: Any, error: Exception, gen: Any) -> None:
        """Raise what the application gets for *error*: the same object unless the connection was lost and a plugin acts.

        Nothing is raised for an empty statement, which is how pools ask whether a connection is good (SQLAlchemy's
        ``pool_pre_ping``, ``psycopg_pool``'s check), if it is good again and nothing was lost.
        """
        pings = self.clean and self.depth == 0 and conn.autocommit and is_ping(error, gen)
        raised = await self._answered(conn, error, gen)
        if raised is error:
            raise error
        if not (pings and isinstance(raised, FailoverSuccessError)):
            raise raised from error

    async def _answered(self, conn: Any, error: Exception, gen: Any) -> Exception:
        if self.proxy is None:
            return error
        if self.outcome is not None and (self._retired or self.spare is not None):
            # One loss, one outcome: the driver's clean-up fails again on what is gone already.
            return self.outcome

        def operation(fault: Fault) -> Operation | None:
            if fault is Fault.READ_ONLY and not on_reader(conn):
                return None
            return self._operation(conn, error, gen, refused=fault is Fault.READ_ONLY)

        return await self.answer(error, failure_of(error, conn), operation)

    def take(self, conn: Any, spare: Any) -> None:
        """Go on with *spare*: now, or when the block is left that has to meet its dead connection."""
        self.spare = spare
        if self.depth == 0:
            self.exchange(conn)
        else:
            if self.proxy is not None:
                self.proxy.unwatch()
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
        if self.proxy is not None:
            self.proxy.watch(conn)
        spare.pgconn.finish()
        self.moved = self.clean = True
        conn._aa_moved = True
        self._long_way(conn)

    def give_up(self, conn: Any) -> None:
        self.lost_for_good = True
        if self.proxy is not None:
            self.proxy.unwatch()
        conn.pgconn.finish()

    def enter(self, conn: Any) -> None:
        """A block is about to begin, which has to end on the session that it begins on."""
        if self.depth == 0:
            self.began = conn.pgconn.transaction_status
        self.depth += 1

    def left(self) -> bool:
        """A block was left; whether the session is to be exchanged now that nothing of it can reach the new one."""
        self.depth -= 1
        return self.is_due

    def has_news(self, conn: Any) -> bool:
        """Whether the published view has changed since it was last acted on."""
        return self.depth == 0 and conn._aa_cell.view is not self._seen

    @property
    def is_due(self) -> bool:
        """Whether another session waits for the first moment at which nothing is open here."""
        return self.depth == 0 and self.spare is not None

    def drop(self) -> None:
        spare, self.spare = self.spare, None
        if spare is not None:
            spare._closed = True
            spare.pgconn.finish()
        if self.proxy is not None:
            self.proxy.closed()

    def _long_way(self, conn: Any) -> None:
        """Until the published view has been looked at again."""
        self._seen = conn._aa_seen = None

    def _operation(self, conn: Any, error: Exception, gen: Any, *, refused: bool) -> Operation:
        name = gen.__name__
        found = locals_of(error, getattr(gen, "gi_code", None))
        owner = found.get("self")
        commits = name in COMMITS
        if name == "_exit_gen" and isinstance(owner, _TRANSACTIONS):
            commits = found.get("exc_val") is None and not owner.force_rollback
        pipeline = conn._pipeline
        if pipeline is not None and getattr(pipeline, "_lock", conn.lock) is conn.lock:
            # Any of the statements in it may have been a COMMIT. (executemany's own pipeline takes no lock.)
            commits = True
        status = self.began if pipeline is not None else conn._aa_status
        begins = name == "_enter_gen" and isinstance(owner, _TRANSACTIONS)
        return Operation(
            NAMES.get(name, name),
            text_of(found),
            in_transaction=status in OPEN,
            autocommit=conn.autocommit and not begins,
            commits=commits,
            sent=conn._aa_status != DEAD and name not in SENDS_NOTHING,
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
        if isinstance(owner, _SERVER_CURSORS) and name != "_declare_gen":
            return self._server_cursor(gen, name)
        if name not in STARTS and name not in ("_executemany_gen_pipeline", "_enter_gen"):
            self._retired = True
            return gen
        setattr(owner, attribute, conn.pgconn)
        if attribute == "_pgconn":
            owner._last_query = None
        if isinstance(owner, _SERVER_CURSORS):
            owner._described = False
        return gen

    def _server_cursor(self, gen: Any, name: str) -> Any:
        gen.close()
        if name == "_close_gen":
            return None
        raise self.outcome or psycopg.OperationalError("the server-side cursor was lost with its session")
