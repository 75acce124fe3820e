"""One connection of an application: where it is, what it may use, how it is recovered."""

from __future__ import annotations

import itertools
import logging
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aurora_actors import signals
from aurora_actors.actors.cluster import Cluster, Lease
from aurora_actors.dialects.base import Dialect
from aurora_actors.drivers.base import Access, Driver, Failure, Wire
from aurora_actors.flow.chain import Proceed, composed
from aurora_actors.flow.io import Io
from aurora_actors.flow.recovering import failed_over
from aurora_actors.model.failover import Mode
from aurora_actors.model.faults import Fault, fault_of
from aurora_actors.model.hosts import Host
from aurora_actors.model.selection import Strategy, Weights
from aurora_actors.plugin import Connect, Execute, Plugin, Recover
from aurora_actors.proxies.context import Context
from aurora_actors.settings import Settings

__all__ = ["Proxy"]

log = logging.getLogger("aurora_actors.proxy")

LONGEST_LOGIN_SECONDS = 5.0
"""No try to reach a host that is said to be there takes longer; the next may go elsewhere."""

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
    ) -> None:
        self.io = io
        self.access = access
        self.settings = settings
        self.mode = mode
        self.wire: Wire = None
        self.host: Host | None = None
        self.opened = 0.0
        self.pid = os.getpid()
        self.control: Cluster | None = None
        self.dialect: Dialect | None = None
        self._selectors = selectors
        self._weights = _weights(settings)
        self._lease: Lease | None = None
        self._closed = False
        self.plugins = tuple(plugin(Context(self, plugin)) for plugin in plugins)
        self._connect = composed([p.connect for p in self.plugins if _overrides(p, "connect")], self._log_in)
        self._recover = composed([p.recover for p in self.plugins if _overrides(p, "recover")], _unrecovered)
        self.recovers = any(_overrides(p, "recover") for p in self.plugins)
        self.executes = [p.execute for p in self.plugins if _overrides(p, "execute")]

    def __repr__(self) -> str:
        where = f"on {self.host}" if self.host else "unplaced"
        return f"<Proxy {where}, cluster {self.cluster}, {self.mode.value}{', closed' if self._closed else ''}>"

    @property
    def driver(self) -> Driver:
        return self.access.driver

    @property
    def cluster(self) -> str | None:
        return self.control.name if self.control is not None else None

    @property
    def recoverable(self) -> bool:
        """Whether a plugin may bring a lost connection back."""
        return self.recovers and self.control is not None and not self._closed

    def placed(self, wire: Wire, host: Host, opened: float, dialect: Dialect | None, control: Cluster | None) -> None:
        """The first connection is open: from here on the proxy stands for it."""
        self.wire, self.host, self.opened, self.dialect = wire, host, opened, dialect
        if control is not None:
            self.control = control
            self._lease = control.lease(self.access)
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
            access = replace(access, parameters=call.parameters)
        place = await self.io.place(access, call.host, self._until)
        return await self.io.connect(access, place, self._until, guarded=call.initial)

    def moved(self, host: Host, opened: float) -> None:
        """The connection goes on at *host*, on a session opened at that time."""
        old, self.host, self.opened = self.host, host, opened
        for plugin in self.plugins:
            try:
                plugin.switched(old, host)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                self._plugin_failed(plugin, error)

    def closed(self) -> None:
        """The application closed the connection, or dropped it. Any thread; more than once is harmless."""
        if self._closed:
            return
        self._closed = True
        lease, self._lease = self._lease, None
        for plugin in self.plugins:
            try:
                plugin.close()
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                self._plugin_failed(plugin, error)
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

    def execution(self, innermost: Proceed[Execute, Any]) -> Proceed[Execute, Any]:
        """*innermost* within the plugins' ``execute`` hooks."""
        return composed(self.executes, innermost)

    def choose(self, hosts: tuple[Host, ...], *, initial: bool) -> Host:
        """One of *hosts*: as a plugin says, else by the strategy that the settings name."""
        for plugin in self.plugins:
            chosen = plugin.choose_host(hosts)
            if chosen is not None:
                return chosen
        return self._selectors[0 if initial else 1](hosts, self._weights, next(_turns), random.random())

    def login_limit(self, until: float) -> float:
        """The deadline of one try to log in: *until*, the connection's own ``connect_timeout``, or five seconds."""
        own = self.driver.connect_timeout(self.access.parameters)
        longest = min(own, LONGEST_LOGIN_SECONDS) if own else LONGEST_LOGIN_SECONDS
        if self.mode is not Mode.STRICT_WRITER and self.settings.failover_reader_connect_timeout_sec:
            longest = self.settings.failover_reader_connect_timeout_sec
        return min(until, self.io.now() + longest)

    def _plugin_failed(self, plugin: Plugin, error: Exception) -> None:
        log.warning("plugin %s failed: %s: %s", plugin.name, type(error).__name__, error)
        event = signals.PluginFailed(plugin.name, None, f"{type(error).__name__}: {error}", self.io.now())
        signals.emit(signals.plugin_failed, self.cluster or "", event)


async def _unrecovered(call: Recover) -> Exception:
    return call.error


def _overrides(plugin: Plugin, hook: str) -> bool:
    return getattr(type(plugin), hook) is not getattr(Plugin, hook)


def _weights(settings: Settings) -> Weights:
    pairs = (*settings.round_robin_host_weight_pairs, *settings.weighted_random_host_weight_pairs)
    default = max(settings.round_robin_default_weight, settings.weighted_random_default_weight)
    return {"": default, **dict(pairs)}
