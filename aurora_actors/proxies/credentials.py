"""What the monitors of hosts log in with: found out as for the application's own connections, anew for each login."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aurora_actors.drivers.base import Access
from aurora_actors.flow.io import BlockingIo
from aurora_actors.flow.running import run_blocking
from aurora_actors.model.failover import Mode
from aurora_actors.model.hosts import Host
from aurora_actors.model.selection import random_host
from aurora_actors.plugin import Plugin
from aurora_actors.proxies.proxy import Proxy
from aurora_actors.settings import Settings

if TYPE_CHECKING:
    import asyncio

__all__ = ["OfMonitors", "credentials"]


def credentials(
    parameters: Sequence[Mapping[str, Any]], plugins: Sequence[type[Plugin]], settings: Settings, *, asynchronous: bool
) -> OfMonitors | None:
    """None where nothing has to be found out: the *parameters* have the password, or the server wants none."""
    asking = tuple(plugin for plugin in plugins if plugin.authenticate is not Plugin.authenticate)
    if not asking and not any(callable(each.get("password")) for each in parameters):
        return None
    if not asynchronous:
        return OfMonitors(asking, settings, lambda: None)
    from asyncio import get_running_loop  # loaded already by whoever has an event loop

    return OfMonitors(asking, settings, weakref.ref(get_running_loop()))


class OfMonitors:
    """See ``drivers.base.Credentials``. *loop* gives the application's event loop, which it does not keep alive."""

    def __init__(
        self,
        plugins: tuple[type[Plugin], ...],
        settings: Settings,
        loop: Callable[[], asyncio.AbstractEventLoop | None],
    ) -> None:
        self._plugins = plugins
        self._settings = settings
        self._loop = loop

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OfMonitors):
            return NotImplemented
        return (self._plugins, self._settings, self._loop()) == (other._plugins, other._settings, other._loop())

    def __hash__(self) -> int:
        return hash(self._plugins)

    def __call__(self, access: Access, host: Host, refused: Mapping[str, Any] | None, until: float) -> Mapping[str, Any]:
        merged = {**access.parameters, **access.monitoring}
        if isinstance(access.monitoring.get("password"), str):
            return merged  # monitors have a login of their own
        io = BlockingIo(access.driver, self._loop)
        proxy = Proxy(io, access, self._settings, Mode.STRICT_WRITER, self._plugins, (random_host, random_host))
        return run_blocking(proxy.authenticated(host, merged, refused, until))
