"""What a plugin sees of its connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from aurora_actors.model.failover import Mode
from aurora_actors.model.hosts import Host
from aurora_actors.model.topology import ClusterTopology
from aurora_actors.plugin import Plugin, Recover
from aurora_actors.settings import Settings

if TYPE_CHECKING:
    from aurora_actors.proxies.proxy import Proxy

__all__ = ["Context"]

P = ParamSpec("P")
R = TypeVar("R")

ONCE_SECONDS = 60.0
"""How long others wait for the one that fetches for all."""

_lock = threading.Lock()
_under_way: dict[tuple[str, str | None, str], Future[Any]] = {}


class Context:
    """The ``PluginContext`` of one plugin on one connection."""

    def __init__(self, proxy: Proxy, plugin: type[Plugin]) -> None:
        self._proxy = proxy
        self._plugin = plugin

    def __repr__(self) -> str:
        return f"<Context of {self._plugin.name} for {self._proxy!r}>"

    @property
    def cluster(self) -> str | None:
        return self._proxy.cluster

    @property
    def settings(self) -> Settings:
        return self._proxy.settings

    @property
    def plugin_settings(self) -> Mapping[str, Any]:
        return {name: self._proxy.settings.of_plugins[name] for name in self._plugin.parameters}

    @property
    def host(self) -> Host | None:
        return self._proxy.host

    @property
    def mode(self) -> Mode:
        return self._proxy.mode

    @property
    def topology(self) -> ClusterTopology | None:
        control = self._proxy.control
        return control.cell.view.topology if control is not None else None

    async def fail_over(self, call: Recover) -> Exception:
        return await self._proxy.fail_over(call)

    async def blocking(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._proxy.io.blocking(fn, *args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        await self._proxy.io.sleep(seconds)

    async def once(self, key: str, fn: Callable[[], R]) -> R:
        io = self._proxy.io
        name = (self._plugin.name, self._proxy.cluster, key)
        with _lock:
            theirs = _under_way.get(name)
            ours: Future[Any] = Future()
            if theirs is None:
                _under_way[name] = ours
        if theirs is not None:
            return await io.wait(theirs, io.now() + ONCE_SECONDS)
        try:
            result = await io.blocking(fn)
        except BaseException as error:
            # A cancelled fetcher must not leave the others waiting.
            shown = error if isinstance(error, Exception) else RuntimeError("whoever fetched it was interrupted")
            ours.set_exception(shown)
            raise
        else:
            ours.set_result(result)
            return result
        finally:
            with _lock:
                _under_way.pop(name, None)
