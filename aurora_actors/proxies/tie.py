"""What ties a driver's connection to its proxy, whatever the driver and colour: how it catches up, how it recovers."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any

from aurora_actors import errors
from aurora_actors.actors.dispatch import dispatcher
from aurora_actors.deadlines import nearest
from aurora_actors.drivers.base import Failure
from aurora_actors.errors import FailoverSuccessError
from aurora_actors.flow.interrupts import pass_interrupt
from aurora_actors.flow.running import Flow
from aurora_actors.model.deadlines import overdue, past
from aurora_actors.model.faults import Fault, misses_savepoint
from aurora_actors.model.outcome import Operation, Outcome, outcome_of
from aurora_actors.model.session_state import Session
from aurora_actors.plugin import Execute, Recover
from aurora_actors.proxies.proxy import Proxy

__all__ = ["Tie", "nothing_lost", "placed"]


def placed(base: type[Any]) -> Callable[[Any], str]:
    """The repr of a connection of a class derived from *base*, the driver's: its own, and where the connection is."""
    plain: Any = base.__repr__

    def shown(conn: Any) -> str:
        proxy = conn._aa_link.proxy
        before, address, after = plain(conn).rpartition(" at 0x")
        where = proxy.shown if proxy is not None and address else ""
        return f"{before}{where and f' {where}'}{address}{after}"

    return shown


class Tie:
    """Of one guarded connection. ``outcome`` is the last error of ours that the application got; ``gone`` says that
    nothing has succeeded on the new session since."""

    def __init__(self, proxy: Proxy | None) -> None:
        self.proxy = proxy
        self._outcome: Callable[[], Exception | None] = lambda: None
        self.gone = False
        self.clean = True
        self.session = Session()
        self.lost_for_good = False
        self.limit = proxy.settings.deadline if proxy is not None else None

    def __del__(self) -> None:
        # The connection was dropped without close(): its cluster need not be kept for it.
        if self.proxy is not None:
            self.proxy.closed()
            if self.proxy.on_demand:
                # A finalizer waits for nobody: the thread delivers what waits, and ends.
                dispatcher.stop(0.0)

    async def closed(self) -> None:
        """The application has closed the connection."""

        async def dropped() -> None:
            self.drop()

        if self.proxy is not None:
            await self.proxy.demanded(dropped())
        else:
            self.drop()

    def drop(self) -> None:
        """The same without the end of what ran on demand."""
        if self.proxy is not None:
            self.proxy.closed()

    @property
    def outcome(self) -> Exception | None:
        """The object itself while the application has it, else one like it."""
        return self._outcome()

    @outcome.setter
    def outcome(self, error: Exception) -> None:
        # Its traceback has the application's frames, and what a pool gets back when those let go of it: this connection.
        like = _untraced(error, error.__cause__)
        alive = weakref.ref(error) if isinstance(error, errors.Error) else lambda: None
        self._outcome = lambda: alive() or _untraced(like, like.__cause__)

    @property
    def acts(self) -> bool:
        """Whether a plugin may bring the connection back, or elsewhere."""
        proxy = self.proxy
        return proxy is not None and proxy.recoverable and not self.lost_for_good and os.getpid() == proxy.pid

    async def caught_up(self, operation: Operation) -> bool:
        """The connection is at rest, and stale: bring it elsewhere before *operation* is sent. False: it stayed.

        Raises what the application has to know before anything is sent.
        """
        proxy, clean = self.proxy, self.clean
        assert proxy is not None
        raised = await proxy.catch_up(operation)
        silent = clean and nothing_lost(raised)
        if raised is not None:
            # Of a silent switch, too: rows of a server-side cursor are gone with it.
            self.outcome = raised
            try:
                if not silent:
                    raise raised
            finally:
                del raised  # else its traceback holds this frame, and this frame it
        return not proxy.stale

    async def answer(
        self, error: Exception, failure: Failure, operation: Callable[[Fault], Operation | None]
    ) -> Exception:
        """What the application gets for *error*: the same object unless the connection was lost and a plugin acts.

        *operation* tells what was under way; None: the fault is none of ours after all.
        """
        proxy = self.proxy
        pass_interrupt(error)
        if proxy is not None and os.getpid() != proxy.pid:
            return self.inherited(error)
        if proxy is None or not self.acts:
            return error
        if self.gone and self.outcome is not None and misses_savepoint(error):
            # An ORM leaves its blocks; that its savepoint is not there would hide from it what has happened.
            return self.outcome
        fault = proxy.fault(failure)
        known = None if fault in (Fault.NONE, Fault.LOGIN) else operation(fault)
        if known is None:
            return error
        raised = await proxy.recover(Recover(error, fault, known, proxy.io.now()))
        if raised is not error:
            raised.__cause__ = raised.__cause__ or error
            self.outcome = raised
            self.gone = True
        return raised

    async def executed(self, operation: Operation, perform: Callable[[], Flow[Any]]) -> Any:
        """*perform* within the plugins' ``execute`` hooks, where there are any."""
        proxy = self.proxy
        if proxy is None or not proxy.executes:
            return await perform()

        async def innermost(_: Execute) -> Any:
            return await perform()

        return await proxy.execution(innermost)(Execute(operation, proxy.host))

    def until(self) -> float:
        """When the call that begins now has to end: ``NEVER``, or a time on the clock of ``time.monotonic()``."""
        own = self.proxy.settings.socket_timeout if self.proxy is not None else None
        return nearest() if own is None else min(nearest(), monotonic() + own)

    def refused(self, name: str, until: float) -> Exception:
        """The error for a call of which nothing was sent, since its deadline had passed."""
        return self._overdue(past(name, monotonic() - until), Outcome.NOT_SENT, 0.0)

    def late(self, operation: Operation, began: float, *, closed: bool) -> Exception:
        """The error for a call that its deadline ended; *closed*: with its session."""
        outcome, seconds = outcome_of(operation), monotonic() - began
        message = overdue(operation.name, seconds, outcome, closed=closed, two_phase=bool(operation.gid))
        return self._overdue(message, outcome, seconds)

    def inherited(self, error: Exception) -> Exception:
        """In a forked child: the session is the parent's, and nothing of what was asked for was sent to it."""
        assert self.proxy is not None
        kind: type[errors.FailoverError] = self.proxy.driver.error(errors.FailoverError)
        raised = kind(
            f"this connection to {self.proxy.host} belongs to process {self.proxy.pid}, from which process {os.getpid()}"
            " was forked: nothing was sent. Connect anew in the child",
            outcome=Outcome.NOT_SENT,
        )
        raised.__cause__ = error
        return raised

    def _overdue(self, message: str, outcome: Outcome, seconds: float) -> Exception:
        assert self.proxy is not None
        kind: type[errors.DeadlineExceededError] = self.proxy.driver.error(errors.DeadlineExceededError)
        return kind(message, outcome=outcome, seconds=seconds)

    def leave(self) -> None:
        """The session is about to be closed: nobody may touch its socket from here on."""
        if self.proxy is not None:
            self.proxy.unwatch()


def _untraced(error: BaseException, cause: BaseException | None = None) -> Any:
    """One like *error* that nobody has raised yet."""
    like = type(error).__new__(type(error), *error.args)
    like.__dict__.update(error.__dict__)
    like.__cause__ = _untraced(cause) if cause is not None else None
    return like


def nothing_lost(raised: Exception | None) -> bool:
    """Whether *raised* tells of a switch by which the session lost nothing but what its application may have open."""
    return isinstance(raised, FailoverSuccessError) and not (raised.ledger and raised.ledger.lacking)
