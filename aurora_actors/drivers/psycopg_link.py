"""The cold half of a guarded psycopg connection: what happens when something is wrong, or has been.

Written once for threads and asyncio, as flows: the guards of both colours call it from their ``wait``, under the driver's
lock.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

import psycopg
from psycopg import pq
from psycopg._connection_base import BaseConnection
from psycopg._preparing import PrepareManager

from aurora_actors.deadlines import END_SECONDS, NEVER, limited
from aurora_actors.drivers.psycopg_deadline import Overdue, Steps, cancelled, pace, watching
from aurora_actors.drivers.psycopg_errors import DeadlineExceededError, FailoverFailedError, FailoverSuccessError
from aurora_actors.drivers.psycopg_reading import (
    ACTIVE,
    AT_REST,
    CLEANED_UP,
    DEAD,
    SQLALCHEMY_S_PING,
    TWO_PHASE,
    asked_by,
    effects_in,
    failure_of,
    locals_of,
    on_reader,
    operation_of,
    starts,
    to_come,
)
from aurora_actors.drivers.psycopg_rebinding import rebound
from aurora_actors.drivers.psycopg_tracking import block_effects, done_effects, reported
from aurora_actors.flow.running import Flow
from aurora_actors.model.faults import Fault
from aurora_actors.model.outcome import Operation, Outcome
from aurora_actors.model.session_state import Effect, Session, only_transactions
from aurora_actors.proxies.proxy import Proxy
from aurora_actors.proxies.tie import Tie, nothing_lost

__all__ = ["Link"]

INERROR = pq.TransactionStatus.INERROR
Through = Callable[..., Flow[Any]]
"""``through(conn, gen, args, kwargs)``: the driver's own wait."""



class Link(Tie):
    """The cold half of one guarded connection: asked only when something is wrong, or has been."""

    def __init__(self, proxy: Proxy | None, through: Through) -> None:
        super().__init__(proxy)
        self.depth = 0
        self.began = 0
        self.spare: Any = None
        self.moved = False
        self.doubted: Any = None
        self.reported: dict[str, bytes] | None = None
        self._through = through
        self._seen: Any = None
        self._retired = False

    def may_recover(self, conn: Any) -> bool:
        return self.spare is not None or (self.acts and not conn._closed)

    async def wait(self, conn: Any, gen: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The long way: for connections that have switched, or whose plugins want to see what is sent; and deadlines."""
        waited = self._waited(conn, gen, args, kwargs)
        with limited(self.limit):
            return await (waited if self.proxy is None else self.proxy.demanded(waited))

    async def _waited(self, conn: Any, gen: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        at_start = self.depth == 0 and starts(conn, gen)
        if self.spare is not None and at_start:
            self.exchange(conn)
        proxy, operation = self.proxy, to_come(gen)
        if proxy is not None and (proxy.on_demand or conn._aa_cell.view is not self._seen):
            await self._catch_up(conn, proxy, replace(operation, sent=False), at_start=at_start)
        if self.moved:
            gen, self._retired = rebound(conn, gen, self.outcome)
            if gen is None:
                return None
        return await self.executed(operation, partial(self._guarded, conn, gen, args, kwargs))

    async def before_block(self, conn: Any) -> None:
        """A block is about to begin, under the driver's lock: on the right host, since it ends where it begins."""
        if self.is_due:
            self.exchange(conn)
        if self.proxy is not None and self.has_news(conn):
            await self.proxy.demanded(self._catch_up(conn, self.proxy, Operation("begin", sent=False), at_start=True))

    async def _catch_up(self, conn: Any, proxy: Proxy, operation: Operation, *, at_start: bool) -> None:
        """The published view has changed: go elsewhere before the statement, if need be and nothing is open here."""
        view = conn._aa_cell.view
        if not self.acts:
            return
        if proxy.stale:
            at_rest = at_start and conn._pipeline is None and conn.pgconn.transaction_status in AT_REST
            if not at_rest:
                return
            try:
                if not await self.caught_up(operation):
                    return
            except FailoverSuccessError as raised:
                raise self._told(conn, raised, operation.statement) from raised.__cause__
        # Once for each view: what it says has been acted on.
        self._seen = view
        self._way(conn, proxy)

    def _way(self, conn: Any, proxy: Proxy) -> None:
        """Whether calls may go the short way: not while the end of a transaction has to be seen."""
        short = self.spare is None and not self.gone and not self.session.pending and not proxy.executes
        conn._aa_seen = self._seen if short else None

    async def _guarded(self, conn: Any, gen: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        status = conn.pgconn.transaction_status
        if status != ACTIVE:
            conn._aa_status = status
        frame = getattr(gen, "gi_frame", None)
        found = dict(frame.f_locals) if frame is not None else {}
        effects = self._announced(conn, gen.__name__, found)
        began = conn._aa_busy_since = monotonic()
        try:
            until = self.until()
            if until == NEVER:
                result = await self._through(conn, watching(gen, began, self.proxy), args, kwargs)
            else:
                result = await self._bounded(conn, gen, args, kwargs, until)
        except Exception as error:
            if effects is None or effects or self.session.pending:
                self._took_none(conn, effects)
            if isinstance(error, DeadlineExceededError) or not isinstance(error, psycopg.Error):
                self.cut_off(conn, gen)
                raise
            return await self.failed(conn, error, gen)
        except BaseException:
            # Cut off: whether the statement succeeded nobody knows.
            self.clean = self.clean and effects is not None and only_transactions(effects)
            self.cut_off(conn, gen)
            raise
        else:
            if effects is None or effects or self.session.pending:
                self._took_effect(conn, gen.__name__, found, effects)
            if self.gone and self.proxy is not None:
                self.gone = False
                self._way(conn, self.proxy)
            return result
        finally:
            conn._aa_busy_since = 0.0

    async def _bounded(self, conn: Any, gen: Any, args: tuple[Any, ...], kwargs: dict[str, Any], until: float) -> Any:
        """The driver's wait, no longer than *until*. Raises ``DeadlineExceededError``."""
        began = monotonic()
        operation = operation_of(conn, gen.gi_frame.f_locals, gen, refused=False)
        if began >= until:
            if not (gen.__name__ == "_rollback_gen" or (gen.__name__ == "_exit_gen" and not operation.commits)):
                gen.close()
                raise self.refused(operation.name, until)
            # What the deadline cut off is cleaned up all the same.
            until = began + END_SECONDS
        steps = Steps(watching(gen, began, self.proxy))
        try:
            return await self._through(conn, steps.until(until), args, pace(args, kwargs, until))
        except Overdue:
            pass
        idle = conn._pipeline is None and conn.pgconn.transaction_status != ACTIVE
        try:
            if not idle and await cancelled(conn):
                until = monotonic() + END_SECONDS
                return await self._through(conn, steps.until(until), args, pace(args, kwargs, until))
        except psycopg.errors.QueryCanceled as error:
            raise self.late(replace(operation, refused=True), began, closed=False) from error
        except Overdue:
            pass
        gen.close()
        if not idle:
            # The answer would be taken for the next statement's.
            if self.proxy is not None:
                self.proxy.unwatch()
            conn.pgconn.finish()
        raise self.late(operation, began, closed=not idle)

    def _announced(self, conn: Any, name: str, found: dict[str, Any]) -> tuple[Effect, ...] | None:
        """What the call is about to do to the session, as far as the text of a statement tells; see ``effects_in``."""
        query = found.get("query")
        effects = effects_in(query, conn) if query is not None else ()
        if effects is None or not only_transactions(effects):
            if self.reported is None:
                self.reported = reported(conn)
            if name != "_execute_gen" or conn._pipeline is not None:
                # The answers come later, or there are several.
                return None
        return effects

    def _took_effect(self, conn: Any, name: str, found: dict[str, Any], effects: tuple[Effect, ...] | None) -> None:
        """A call succeeded that changed the session, or in a transaction that did."""
        self.clean = self.clean and effects is not None
        done = done_effects((effects or ()) + block_effects(name, found), found, failed=conn._aa_status == INERROR)
        kinds = {effect.kind for effect in done}
        if "discard all" in kinds:
            self.clean = True
        at_rest = conn.pgconn.transaction_status == pq.TransactionStatus.IDLE
        if at_rest and self.session.pending and kinds.isdisjoint({"commit", "rollback"}):
            # Ended where nobody could see how: in a pipeline, or by a procedure.
            self.clean = False
        self._held(conn, self.session.after(done, in_transaction=not at_rest))

    def _took_none(self, conn: Any, effects: tuple[Effect, ...] | None) -> None:
        """The call failed. Where the session lives on, an open transaction that is gone was rolled back."""
        status = conn.pgconn.transaction_status
        if status == DEAD:
            return
        self.clean = self.clean and effects is not None and (len(effects) < 2 or only_transactions(effects))
        rolled_back = (Effect("rollback"),) if status == pq.TransactionStatus.IDLE else ()
        self._held(conn, self.session.after(rolled_back, in_transaction=not rolled_back))

    def _held(self, conn: Any, session: Session) -> None:
        self.session = session
        if not session.pending:
            self.reported = None
        if self.proxy is not None and self.acts:
            self._way(conn, self.proxy)

    async def failed(self, conn: Any, error: Exception, gen: Any) -> None:
        """Raise what the application gets for *error*: the same object unless the connection was lost and a plugin acts.

        Nothing is, if nothing was lost, for an empty statement, by which pools ask whether a connection is good, and for a
        rollback on a session that was gone before, as an interrupt leaves it: there is nothing to roll back.
        """
        ping = asked_by(error, gen) if conn.autocommit and self.depth == 0 else ""
        pings = ping or (gen.__name__ == "_rollback_gen" and conn._aa_status == DEAD and self.depth == 0)
        clean = self.clean
        tpc = conn._tpc if gen.__name__ in TWO_PHASE else None
        raised = await self._answered(conn, error, gen)
        if tpc is not None:
            # By its name it can be finished; a connection that goes on has nothing open, as after every loss.
            self.doubted = tpc
            conn._tpc = tpc if raised is error else None
        try:
            if raised is error:
                raise error
            if not (pings and clean and nothing_lost(raised)):
                raise self._told(conn, raised, ping) from raised.__cause__ or error
        finally:
            del raised, error  # else its traceback holds this frame, and this frame it

    def _told(self, conn: Any, raised: Exception, statement: str) -> Exception:
        """*raised*, and to the ping of SQLAlchemy's pool that the connection is lost, which it takes only from one that is
        closed: its session has left something behind, and the pool has another one prepared."""
        if statement != SQLALCHEMY_S_PING or not isinstance(raised, FailoverSuccessError):
            return raised
        self.give_up(conn)
        message = f"a ping found that the session had lost something: the connection is closed. {raised}"
        return FailoverFailedError(message, outcome=Outcome.NOT_SENT, attempts=raised.attempts, ledger=raised.ledger)

    async def _answered(self, conn: Any, error: Exception, gen: Any) -> Exception:
        if self.proxy is None:
            return error
        if self.outcome is not None and (self._retired or self.spare is not None):
            # One loss, one outcome: the driver's clean-up fails again on what is gone already.
            return self.outcome

        def operation(fault: Fault) -> Operation | None:
            if fault is Fault.READ_ONLY and not on_reader(conn):
                return None
            found = locals_of(error, getattr(gen, "gi_code", None))
            return operation_of(conn, found, gen, refused=fault is Fault.READ_ONLY)

        return await self.answer(error, failure_of(error, conn), operation)

    def cut_off(self, conn: Any, gen: Any) -> None:
        """A call ended by what is no error of the driver's. psycopg has the server cancel a statement only for Ctrl-C, for
        tasks, and where a stream or COPY ends; any other answer would still come, and be taken for the next statement's.
        """
        if gen.__name__ in TWO_PHASE:
            self.doubted = conn._tpc
        dirty = gen.__name__ not in CLEANED_UP and conn.pgconn.transaction_status == ACTIVE
        if dirty and self.acts and conn._pipeline is None:
            self.leave()
            conn.pgconn.finish()

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
        if conn._tpc is self.doubted or not (conn._tpc and conn._tpc[1]):
            conn._tpc = None  # what is prepared outlives its session
        conn._num_transactions = 0
        if conn._notifies_backlog is not None:
            conn._notifies_backlog = deque()
        session = Session(self.session.kept)
        if self.proxy is not None:
            self.proxy.watch(conn, spare)
        # Up to the end of the exchange nothing is called, so that no signal handler comes between.
        conn.pgconn, spare.pgconn = new, conn.pgconn
        self.moved = self.clean = conn._aa_moved = True
        self.session, self.reported, self._seen, conn._aa_seen = session, None, None, None  # see _long_way
        spare.pgconn.finish()

    def give_up(self, conn: Any) -> None:
        # A pool throws it away without a close().
        self.lost_for_good = True
        self.drop()
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
        on_demand = self.proxy is not None and self.proxy.on_demand
        return self.depth == 0 and (on_demand or conn._aa_cell.view is not self._seen)

    @property
    def is_due(self) -> bool:
        """Whether another session waits for the first moment at which nothing is open here."""
        return self.depth == 0 and self.spare is not None

    def drop(self) -> None:
        spare, self.spare = self.spare, None
        if spare is not None:
            spare._closed = True
            spare.pgconn.finish()
        super().drop()

    def _long_way(self, conn: Any) -> None:
        """Until the published view has been looked at again."""
        self._seen = conn._aa_seen = None
