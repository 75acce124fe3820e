"""One connection of an application: where it is, what it may use, how it is recovered."""

from __future__ import annotations

import itertools
import logging
import os
import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from aurora_actors import errors, signals
from aurora_actors.actors.cluster import Cluster, Lease
from aurora_actors.actors.system import system
from aurora_actors.actors.watched import Kind, Watched
from aurora_actors.deadlines import NEVER
from aurora_actors.dialects.base import Dialect
from aurora_actors.drivers.base import Access, Driver, Failure, Wire
from aurora_actors.drivers.lines import Line
from aurora_actors.flow.chain import Proceed
from aurora_actors.flow.io import Io
from aurora_actors.flow.recovering import failed_over, renewed, topology_awaited
from aurora_actors.flow.running import Flow
from aurora_actors.model.failover import Mode, why_stale
from aurora_actors.model.faults import Fault, fault_of
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.outcome import Operation, Outcome
from aurora_actors.model.selection import Strategy, Weights
from aurora_actors.plugin import Authenticate, Connect, Execute, Plugin, Recover
from aurora_actors.proxies.marker import Marker
from aurora_actors.proxies.plugins import Plugins
from aurora_actors.settings import Settings

__all__ = ["Proxy"]

log = logging.getLogger("aurora_actors.proxy")

LONGEST_LOGIN_SECONDS = 5.0
"""No try to reach a host that is said to be there takes longer; the next may go elsewhere."""

LAMBDA = frozenset({"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_RUNTIME_API"})
"""What AWS Lambda says in the environment, of which one is enough. It freezes the process between two invocations.
https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""

UNVERIFIED = "who writes has not been asked since this process slept"

CATCH_UP_PAUSE_SECONDS = 1.0
"""After an idle connection could not be brought elsewhere, its statements go where it is for about this long."""

_turns = itertools.count()


class Proxy:
    """The half of a connection that no driver needs to know. Used by the thread or task that uses the connection."""

    def __init__(
        self,
        io: Io,
        access: Access,
        settings: Settings,
        mode: Mode,
        plugins: Sequence[type[Plugin]],
        selectors: tuple[Strategy, Strategy],
        kinds: tuple[Kind, ...] = (),
    ) -> None:
        self.io = io
        self.access = access
        self.settings = settings
        self.mode = mode
        self._wire: Callable[[], Wire] = _no_wire
        self.host: Host | None = None
        self.opened = 0.0
        self.session: int | None = None
        self.pid = os.getpid()
        in_lambda = settings.monitoring == "auto" and any(name in os.environ for name in LAMBDA)
        self.on_demand = in_lambda or settings.monitoring == "on_demand"
        self.control: Cluster | None = None
        self.dialect: Dialect | None = None
        self.marker: Marker | None = None
        self._selectors = selectors
        self._weights = _weights(settings)
        self._lease: Lease | None = None
        self._watched: Watched | None = None
        self._line: Line | None = None
        self._kinds = kinds
        self._noticed = ""
        self._pause_until = 0.0
        self._waited_for = 0.0
        self._closed = False
        self.plugins = Plugins(self, plugins)
        self._connect = self.plugins.connecting(self._log_in)
        self._authenticate = self.plugins.authenticating(self._called)
        self._recover = self.plugins.recovering(_unrecovered)
        self.recovers = self.plugins.recovers
        self.executes = bool(self.plugins.executes)

    def __repr__(self) -> str:
        where = f"on {self.host}" if self.host else "unplaced"
        state = ", closed" if self._closed else f", stale: {self.why_stale()}" if self.stale else ""
        state += f", noticed {self._noticed}" if self._noticed else ""
        return f"<Proxy {where}, cluster {self.cluster}, {self.mode.value}{state}>"

    @property
    def shown(self) -> str:
        """The host and its role, and whether the connection stays; empty of one that is in no cluster, or closed."""
        if self.control is None or self.host is None or self._closed:
            return ""
        role = "" if self.host.role is Role.UNKNOWN else f", {self.host.role.value}"
        if os.getpid() != self.pid:
            return f"on {self.host.id}{role}, of process {self.pid}"
        return f"on {self.host.id}{role}" + (f", stale: {self.why_stale()}" if self.stale else "")

    @property
    def wire(self) -> Wire:
        """The driver's connection. It holds the proxy, not the other way round."""
        return self._wire()

    @property
    def driver(self) -> Driver:
        return self.access.driver

    @cached_property
    def seeds(self) -> tuple[tuple[str, int], ...]:
        """The hosts and ports that its parameters lead to; the driver may read files for it."""
        return tuple(self.driver.seeds(self.access.parameters))

    @property
    def cluster(self) -> str | None:
        return self.control.name if self.control is not None else None

    @property
    def recoverable(self) -> bool:
        """Whether a plugin may bring a lost connection back."""
        return self.recovers and self.control is not None and not self._closed

    def placed(self, wire: Wire, host: Host, opened: float, dialect: Dialect | None, control: Cluster | None) -> None:
        """The first connection is open: from here on the proxy stands for it."""
        self._wire = weakref.ref(wire)
        self.host, self.opened, self.dialect = host, opened, dialect
        if control is not None:
            self.control = control
            self._lease = control.lease(self.access, on_demand=self.on_demand)
            self.watch(wire)
            if self.recovers:
                signals.host_down.connect(self._notice, control.name, first=True)
                signals.writer_changed.connect(self._notice, control.name, first=True)
            event = signals.ConnectionOpened(control.name, host, self.driver.session_id(wire), opened)
            signals.emit(signals.connection_opened, control.name, event)

    async def open(self, host: Host | None, until: float | None, *, initial: bool) -> Wire:
        """Open a connection through the plugins' hooks: to *host*, or where the parameters lead.

        Raises the driver's error, or ``OSError`` for a name that cannot be looked up.
        """
        self._until = until
        return await self._connect(Connect(host, self.access.parameters, initial))

    async def _log_in(self, call: Connect) -> Wire:
        access = self.access
        if call.parameters is not access.parameters:
            access = access.with_parameters(call.parameters)
        place = await self.io.place(access, call.host, self._until)
        if access.credentials is None:
            return await self.io.connect(access, place, self._until, guarded=call.initial)
        tried = await self.authenticated(call.host, call.parameters, None, self._until)
        while True:
            try:
                using = access.with_parameters(tried)
                return await self.io.connect(using, place, self._until, guarded=call.initial)
            except self.driver.errors as error:
                if not self.driver.is_refusal(error):
                    raise
                others = await self.authenticated(call.host, call.parameters, tried, self._until)
                if others == tried:
                    raise
                tried = others

    async def authenticated(
        self, host: Host | None, parameters: Mapping[str, Any], refused: Mapping[str, Any] | None, until: float | None
    ) -> Mapping[str, Any]:
        """What to log in to *host* with: as the plugins' hooks say, and a password that is a callable called."""
        if host is None:
            own = parameters is self.access.parameters
            name, port = (self.seeds if own else self.driver.seeds(parameters))[0]
            host = Host(name, name, port)
        return await self._authenticate(Authenticate(host, parameters, refused, until))

    async def _called(self, call: Authenticate) -> Mapping[str, Any]:
        password = call.parameters.get("password")
        return {**call.parameters, "password": await self.io.called(password)} if callable(password) else call.parameters

    @property
    def stale(self) -> bool:
        """Whether the connection will go elsewhere before its next statement: its host is down or not the one to use."""
        return bool(self.control is not None and self.recovers and not self._closed and self.why_stale())

    def _notice(self, _: object, event: object) -> None:
        """A signal said that something is the matter. Only noted, and shown: the truth is the published view."""
        self._noticed = type(event).__name__

    def why_stale(self) -> str:
        """Why the connection should go elsewhere; empty: it should not."""
        control, host = self.control, self.host
        if control is None or host is None:
            return ""
        view, verdict = control.cell.view, control.cell.standing.verdict
        reason = why_stale(view, verdict, self.mode, host, self.opened)
        if reason:
            return reason
        # On demand nobody else would have noticed.
        looks = view.doubt is not None or self.on_demand
        if looks and self._line is not None and self._line.has_ended():
            return "its server has closed it"
        return UNVERIFIED if self._is_unverified() else ""

    def _is_unverified(self) -> bool:
        """Whether what is known of the writer is from before the process slept, and its own session, too."""
        if self.control is None or self.mode is not Mode.STRICT_WRITER:
            return False
        cell = self.control.cell
        return cell.view.doubt is not None and cell.woken > max(self.opened, self._waited_for)

    def must_leave(self) -> bool:
        """Whether nothing can be had of the session any more: its host is down, or its server has closed it."""
        control, host, line = self.control, self.host, self._line
        down = control is not None and host is not None and host.id in control.cell.view.down
        return down or (line is not None and line.has_ended())

    async def catch_up(self, operation: Operation) -> Exception | None:
        """There is news, and the connection is at rest with *operation* about to be sent: go elsewhere first if need be.

        Gives the error for the application if it has to know; None: the statement may be sent where the connection is now.
        """
        now = self.io.now()
        if self.control is not None and self._is_unverified():
            self._waited_for = now
            await topology_awaited(self, self.control)
        if now < self._pause_until or not (reason := self.why_stale()):
            return None
        unsent = self.driver.error(errors.FailoverError)(reason, outcome=Outcome.NOT_SENT, host=self.host)
        raised = await self.recover(Recover(unsent, Fault.STALE, operation, now))
        if raised is unsent:
            # Nobody acts, or nobody could: the statement has its chance where the connection is.
            self._pause_until = self.io.now() + self.io.jitter(CATCH_UP_PAUSE_SECONDS)
            return None
        return raised

    def watch(self, wire: Wire, session: Wire | None = None) -> None:
        """Have the monitor of the host look at the calls of *wire*, as the plugins ask for.

        *session*: whose session it has next. Watched first and exchanged at once, so that no signal handler that raises
        leaves a session that nobody watches.
        """
        self.unwatch()
        control, host, lease, driver = self.control, self.host, self._lease, self.driver
        session = wire if session is None else session
        self.session = driver.session_id(session)  # which a driver may not know any more once it is lost
        detection = self.plugins.detection(kind.name for kind in self._kinds)
        if control is None or host is None or lease is None or not (detection or self.recovers):
            return
        line = self._line = driver.line(session)
        if detection is None:
            return
        if line is not None and not driver.keeps_alive(self.access.parameters):
            line.keep_alive(detection)
        wants_writer = self.mode is Mode.STRICT_WRITER
        self._watched = Watched(host, wire, line, detection, self._kinds, lease.access, wants_writer=wants_writer)
        if not self.on_demand:
            control.watch(self._watched)

    @property
    def look_after(self) -> float:
        """How many seconds after the beginning of a call its host has to be looked at, on demand; ``NEVER``."""
        return self._watched.detection.first if self.on_demand and self._watched is not None else NEVER

    def look(self) -> None:
        """A call lasts: have it watched from now on. Any thread."""
        if self.control is not None and self._watched is not None:
            self.control.watch(self._watched, on_demand=True)

    async def demanded(self, flow: Flow[Any]) -> Any:
        """*flow*, and every thread of ours stopped after it, where none is to outlive the calls that need it."""
        if not self.on_demand:
            return await flow
        call = system.begin_call()
        try:
            return await flow
        finally:
            if self.control is not None and self._watched is not None:
                self.control.unwatch(self._watched)
            if system.end_call(call):
                await self.io.blocking(system.park)

    def unwatch(self) -> None:
        """The session is over, or about to be."""
        watched, self._watched = self._watched, None
        line, self._line = self._line, None
        if watched is not None and self.control is not None:
            self.control.unwatch(watched)
        if line is not None:
            line.close()

    def moved(self, host: Host, opened: float) -> None:
        """The connection goes on at *host*, on a session opened at that time."""
        old, self.host, self.opened = self.host, host, opened
        self._noticed = ""
        if self.marker is not None:
            self.marker.renew()
        self.plugins.switched(old, host)

    def closed(self) -> None:
        """The application closed the connection, or dropped it. Any thread; more than once is harmless."""
        if self._closed:
            return
        self._closed = True
        self.unwatch()
        for signal in (signals.host_down, signals.writer_changed):
            signal.disconnect(self._notice)
        lease, self._lease = self._lease, None
        self.plugins.close()
        if lease is not None and self.control is not None and self.host is not None:
            lease.release()
            event = signals.ConnectionClosed(self.control.name, self.host, self.io.now())
            signals.emit(signals.connection_closed, self.control.name, event)

    def fault(self, failure: Failure) -> Fault:
        """What an error says about the connection."""
        return fault_of(failure.sqlstate, failure.lost, self.dialect.faults if self.dialect is not None else {})

    async def recover(self, call: Recover) -> Exception:
        """The error that the application gets for a failed call: through the plugins' hooks."""
        return await self._recover(call)

    async def fail_over(self, call: Recover) -> Exception:
        """Find a host, switch to it, and give the error that says so."""
        return call.error if self.control is None else await failed_over(self, self.control, call)

    async def renew(self) -> None:
        """A new session with the same host; the connection has a cluster."""
        if self.control is not None and self.host is not None:
            await renewed(self, self.control, self.host)

    def execution(self, innermost: Proceed[Execute, Any]) -> Proceed[Execute, Any]:
        """*innermost* within the plugins' ``execute`` hooks."""
        return self.plugins.executing(innermost)

    def choose(self, hosts: tuple[Host, ...], *, initial: bool) -> Host:
        """One of *hosts*: as a plugin says, else by the strategy that the settings name."""
        strategy = self._selectors[0 if initial else 1]
        return self.plugins.choose(hosts, strategy, self._weights, next(_turns), random.random())

    def login_limit(self, until: float) -> float:
        """The deadline of one try to log in: *until*, the connection's own ``connect_timeout``, or five seconds."""
        own = self.driver.connect_timeout(self.access.parameters)
        longest = min(own, LONGEST_LOGIN_SECONDS) if own else LONGEST_LOGIN_SECONDS
        if self.mode is not Mode.STRICT_WRITER and self.settings.failover_reader_connect_timeout_sec:
            longest = self.settings.failover_reader_connect_timeout_sec
        return min(until, self.io.now() + longest)


def _no_wire() -> None:
    """Before the first connection is open, and after the application dropped it."""


async def _unrecovered(call: Recover) -> Exception:
    return call.error


def _weights(settings: Settings) -> Weights:
    pairs = (*settings.round_robin_host_weight_pairs, *settings.weighted_random_host_weight_pairs)
    default = max(settings.round_robin_default_weight, settings.weighted_random_default_weight)
    return {"": default, **dict(pairs)}
