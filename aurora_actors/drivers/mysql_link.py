"""The cold half of a guarded MySQL connection: what happens when something is wrong, or has been.

Written once for threads and asyncio, as flows: the guards of both colours call it from the outermost method of the driver's
that the application called. In between the driver swallows errors and replaces them.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from inspect import isawaitable
from time import monotonic
from typing import Any

from aurora_actors.actors.names import names
from aurora_actors.actors.system import system
from aurora_actors.deadlines import END_SECONDS, NEVER, limited
from aurora_actors.drivers.base import Failure
from aurora_actors.drivers.mysql_deadline import Alarm
from aurora_actors.drivers.mysql_errors import LOST, TIMED_OUT, FailoverSuccessError, SharedError
from aurora_actors.drivers.mysql_killing import INTERRUPTED, Killing
from aurora_actors.drivers.mysql_reading import (
    COMMITS,
    NAMES,
    SENDS_NOTHING,
    STARTS,
    failure_of,
    harmless,
    out_of_step,
    text_of,
)
from aurora_actors.drivers.mysql_server import AUTOCOMMIT, IN_TRANSACTION
from aurora_actors.drivers.mysql_session import (
    Handle,
    at_rest,
    cure,
    drop,
    error_of,
    exchange,
    going_to,
    shut,
    status_of,
)
from aurora_actors.flow.recovering import tries_again
from aurora_actors.model import mysql_statements as statements
from aurora_actors.model.faults import Fault
from aurora_actors.model.hosts import Host
from aurora_actors.model.outcome import Operation
from aurora_actors.model.session_state import Session
from aurora_actors.proxies.proxy import Proxy
from aurora_actors.proxies.tie import Tie

__all__ = ["NO_LINK", "Link"]

Arguments = tuple[Any, ...]
# What may still be sent when the deadline has passed: a pool resets the session of what it is given back.
_CLEANS_UP = frozenset({"rollback", "reset_session", "cmd_reset_connection"})


class Seen:
    """Stands for a cell whose view never changes."""

    view: Any = object()


class Link(Tie):
    """What watches over one connection object, whatever session is under it.

    ``busy_since``: since when a call of the application's waits for its host, so that what the driver calls in turn is no
    call of its own; 0.0: there is none. ``user``: the thread or task whose call it is, the recovery that it may lead to
    included, for the driver serves one at a time; false: nobody's.
    """

    def __init__(self, proxy: Proxy | None = None) -> None:
        super().__init__(proxy)
        self.busy_since = 0.0
        self.user: object = 0
        self.cell: Any = Seen
        self.seen: Any = Seen.view
        self.cursors: weakref.WeakSet[Any] = weakref.WeakSet()
        self.limited = proxy is not None and bool(
            proxy.settings.deadline or proxy.settings.socket_timeout or proxy.on_demand
        )
        self._alarm: Alarm | None = None
        self._doubt: Operation | None = None  # lost in what commits; the connection has not gone on since
        self._has_prepared = False  # the open transaction, by XA PREPARE
        if proxy is not None and proxy.control is not None and proxy.recoverable:
            self.cell = proxy.control.cell
            self.seen = None
        if proxy is not None and proxy.executes:
            self.seen = None

    @contextmanager
    def used_by(self, user: object, name: str | None) -> Iterator[Link]:
        """While *user* calls *name*. Raises ``SharedError`` where somebody else has a call under way."""
        was = self.user
        if was and was != user:
            self.refuse(name)
        self.user = user
        try:
            yield self
        finally:
            self.user = was

    def refuse(self, name: str | None) -> None:
        """Raise for a call by another thread or task than the one whose call is under way, which goes on undisturbed."""
        if self is NO_LINK:
            return  # whatever is called, it is the driver that calls
        raised = SharedError(
            f"{NAMES.get(name or '', name) or 'the call'} was not sent: another thread or task has a call under way on this"
            " connection, and MySQL Connector's serve one at a time. Give each a connection of its own, or one of a pool's"
        )
        if self.proxy is not None and os.getpid() != self.proxy.pid:
            raise self.inherited(raised)
        raise raised

    @property
    def marks(self) -> bool:
        """Whether each COMMIT leaves a token with the server."""
        return self.proxy is not None and self.proxy.marker is not None

    async def call(self, conn: Any, name: str, args: Arguments, perform: Callable[[], Any]) -> Any:
        """The long way: there is news, a deadline, a new statement, or a plugin wants to see what is sent."""
        called = self._called(conn, name, args, perform)
        with limited(self.limit):
            return await (called if self.proxy is None else self.proxy.demanded(called))

    async def _called(self, conn: Any, name: str, args: Arguments, perform: Callable[[], Any]) -> Any:
        text = text_of(name, args)
        on_demand = self.proxy is not None and self.proxy.on_demand
        if (on_demand or self.cell.view is not self.seen) and name in STARTS:
            await self._catch_up(conn, name, text)
        harmed = bool(text) and not harmless(text)
        effects = statements.effects_of(text) if harmed else ()
        if effects is None and statements.used_database(text) is None:
            self.clean = False
        operation = Operation(NAMES.get(name, name), text)
        result = await self.executed(operation, partial(self._performed, conn, name, args, perform))
        if text or name in COMMITS or name in _CLEANS_UP or name == "start_transaction":
            self.gone = False
        if harmed:
            # MySQL lets go of it at once, and MariaDB keeps it in its session.
            self._has_prepared = statements.prepares(text) and bool(status_of(conn) & IN_TRANSACTION)
        if effects:
            self.session = self.session.after(effects, in_transaction=False)
        elif harmed and (database := statements.used_database(text)) is not None:
            conn._aa_database = database
        return result

    async def failed(self, conn: Any, error: BaseException, name: str, args: Arguments) -> None:
        """Raise what the application gets in place of *error*, if the connection was lost and a plugin acts."""
        self.busy_since = 0.0
        # The driver's memory, to be read before anything else touches the connection.
        status = status_of(conn)
        if out_of_step(error):
            # The answer may still come, and would be taken for the next statement's.
            shut(conn)
        if not isinstance(error, Exception):
            return

        def operation(fault: Fault) -> Operation:
            return self._operation(status, name, text_of(name, args), refused=fault is Fault.READ_ONLY)

        raised = await self.answer(error, failure_of(error), operation)
        if self.gone:
            # The long way, until something succeeds.
            self.seen = None
        try:
            if raised is not error:
                raise raised from raised.__cause__ or error
        finally:
            del raised  # else its traceback holds this frame, and this frame it

    async def reconnected(self, conn: Any, name: str, attempt: Callable[[], Any]) -> None:
        """The application wants a new session: with the same host, or, where that cannot be had, with one that will do."""
        proxy = self.proxy
        if proxy is None or not self.acts:
            await self._attempted(conn, attempt)
            return
        try:
            await proxy.demanded(proxy.renew())
        except tries_again(proxy) as error:
            gone = Operation(name, sent=False)
            raised = await proxy.demanded(self.answer(error, Failure(None, lost=True), lambda _: gone))
            if not isinstance(raised, FailoverSuccessError):
                raise raised from None if raised is error else error

    def take(self, conn: Any, spare: Any) -> None:
        """Go on with *spare*."""
        self._cure_all()
        if self.proxy is not None:
            self.proxy.watch(conn, spare)
        exchange(conn, spare)
        self.clean, self._doubt, self._has_prepared = True, None, False
        drop(spare)

    def give_up(self, conn: Any) -> None:
        self.lost_for_good = True
        self.drop()
        drop(conn)

    async def _attempted(self, conn: Any, attempt: Callable[[], Any]) -> None:
        """The driver's own way to reconnect, by the addresses that the connection's resolver knows."""
        proxy = self.proxy
        place = None
        if proxy is not None and not conn._unix_socket and names.effective(proxy.access.resolve) is not None:
            place = await proxy.io.place(proxy.access, Host(conn._host, conn._host, conn._port), None)
        if proxy is not None and proxy.access.credentials is not None:
            # The driver would log in with what the connection was opened with.
            conn._password = (await proxy.authenticated(proxy.host, proxy.access.parameters, None, None))["password"]
        self.busy_since = monotonic()
        try:
            with going_to(conn, place.addresses[0] if place is not None else None):
                result = attempt()
                if isawaitable(result):
                    await result
        finally:
            self.busy_since = 0.0
        self.clean, self.session, self._doubt, self._has_prepared = True, Session(), None, False
        if proxy is not None:
            proxy.watch(conn)

    async def _catch_up(self, conn: Any, name: str, text: str) -> None:
        """The published view has changed: go elsewhere before the call, if need be and nothing is open here."""
        proxy, view = self.proxy, self.cell.view
        if proxy is None or not self.acts:
            return
        if proxy.stale:
            if not at_rest(conn):
                return
            self.clean = self.clean and not statements.looks_back(text)
            try:
                if not await self.caught_up(Operation(NAMES.get(name, name), text, sent=False)):
                    return
            except FailoverSuccessError as raised:
                if name == "ping":
                    # To a pool that asks it has to look like a loss: the session left something behind.
                    raised.errno = LOST
                raise
        # Once for each view: what it says has been acted on.
        if not self.gone and not proxy.executes:
            self.seen = view

    async def _performed(self, conn: Any, name: str, args: Arguments, perform: Callable[[], Any]) -> Any:
        began, until = monotonic(), self.until()
        text = text_of(name, args)
        if began >= until:
            if name not in _CLEANS_UP and text.strip().rstrip(";").upper() != "ROLLBACK":
                raise self.refused(NAMES.get(name, name), until)
            # What the deadline cut off is cleaned up all the same.
            until = began + END_SECONDS
        alarm = None
        if until != NEVER:
            alarm = self._alarm = self._alarm or Alarm(on_demand=self.proxy is not None and self.proxy.on_demand)
            alarm.set(conn, until, partial(self._killing, conn._aa_handle, name, text, outside=_is_outside(conn)))
        self.busy_since = began
        proxy = self.proxy
        if proxy is not None and proxy.look_after != NEVER:
            # Nothing else wakes up while the driver waits.
            system.clock.call_at(began + proxy.look_after, partial(self._look, began))
        try:
            result = perform()
            result = await result if isawaitable(result) else result
        except BaseException as error:
            if alarm is not None and isinstance(error, Exception) and alarm.ended():
                raise await self._cut_off(conn, alarm, name, text, began, error, perform) from error
            await self.failed(conn, error, name, args)
            raise
        else:
            if alarm is not None and alarm.killed():
                # What it says may be what the KILL made of it, as of SLEEP() and GET_LOCK().
                raise await self._cut_off(conn, alarm, name, text, began, None, perform)
            return result
        finally:
            self.busy_since = 0.0
            if alarm is not None:
                alarm.off()

    def _killing(self, handle: Handle | None, name: str, text: str, *, outside: bool) -> Killing | None:
        """What kills the statement of a call, whose deadline has come; None: nothing does. Any thread."""
        if not (text or name == "get_rows") or not statements.may_be_killed(text) or self.proxy is None:
            return None
        if handle is None or handle.number is None:
            return None
        return Killing(self.proxy, handle, alone=outside and _is_alone(name, text))

    async def _cut_off(
        self, conn: Any, alarm: Alarm, name: str, text: str, began: float, error: Exception | None, perform: Any
    ) -> Exception:
        """The error for a call that its deadline has ended, and that came back with *error* or with a result.

        The session goes on only where one statement was killed outside a transaction, and its answer is read to the end.
        """
        goes_on = False
        try:
            if error is None:
                error = await self._rest(conn, perform.args[0])
            alone, number = _is_outside(conn) and _is_alone(name, text), getattr(error, "errno", None)
            operation = self._operation(status_of(conn), name, text, refused=alone and number in INTERRUPTED)
            if alone and (error is None or number in INTERRUPTED):
                goes_on = await self._goes_on(conn, alarm)
        finally:
            if not goes_on:
                alarm.sever()
                shut(conn)
                self.leave()
                self._cure_all()
        if goes_on and error is None:
            # It was done, whatever the KILL has made of it, and nobody undoes it.
            operation = replace(operation, autocommit=True)
        raised: Any = self.late(operation, began, closed=not goes_on)
        raised.__cause__ = error
        if goes_on:
            raised.errno = TIMED_OUT
        made: Exception = raised
        return made

    def _cure_all(self) -> None:
        for cursor in list(self.cursors):
            cure(cursor)

    async def _rest(self, conn: Any, cursor: Any) -> Exception | None:
        """Read what is left of a result whose columns came before the KILL, which is told of where the rows end."""
        if not conn.unread_result:
            return None
        if cursor in self.cursors:
            cure(cursor)
        return await error_of(conn.get_rows)

    async def _goes_on(self, conn: Any, alarm: Alarm) -> bool:
        """Whether the KILL has come back, and nothing is open or still to be read."""
        if self.proxy is None or not await alarm.settled(self.proxy.io) or not at_rest(conn):
            return False
        # Says what an error does not: whether the statement has left a transaction open.
        if await error_of(conn.ping) is not None:
            return False
        alarm.off(settled=True)
        return not alarm.rang

    def _look(self, began: float) -> None:
        if self.proxy is not None and self.busy_since == began:
            self.proxy.look()

    def _operation(self, status: int, name: str, text: str, *, refused: bool) -> Operation:
        """What the failed call was to do."""
        if self._doubt is not None:
            # Of the session nothing is left but the driver's memory, in which its transaction is still open.
            return self._doubt if name in ("commit", "rollback") else replace(self._doubt, token="")
        in_transaction = bool(status & IN_TRANSACTION)
        commits = bool(text) and statements.commits(text, in_transaction=in_transaction)
        commits = commits or name in COMMITS or self._has_prepared
        marker = self.proxy.marker if self.proxy is not None else None
        made = Operation(
            NAMES.get(name, name),
            text,
            in_transaction=in_transaction,
            autocommit=bool(status & AUTOCOMMIT),
            commits=commits,
            sent=in_transaction or name not in SENDS_NOTHING,
            refused=refused,
            token=marker.sent if marker is not None and name == "commit" else "",
        )
        if made.commits and not refused:
            self._doubt = made
        return made


def _is_outside(conn: Any) -> bool:
    """Whether a statement is in no transaction, and the driver does not ask for warnings after it, in words of its own."""
    return not (status_of(conn) & IN_TRANSACTION or conn._get_warnings)


def _is_alone(name: str, text: str) -> bool:
    """Whether a call is one statement, which outside a transaction the server does as a whole or not at all."""
    return name in ("execute", "cmd_query") and statements.is_alone(text)


NO_LINK = Link()
"""Of connections that are still being made, and of those that only carry a session: every call is the driver's own."""
NO_LINK.busy_since = 1.0
