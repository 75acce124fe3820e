"""What a plugin sees of its connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from aurora_actors.actors.complaints import complain
from aurora_actors.actors.forking import on_fork
from aurora_actors.actors.reply import Reply
from aurora_actors.flow.discovery import origin_of
from aurora_actors.model.failover import Mode
from aurora_actors.model.hosts import Host
from aurora_actors.model.topology import ClusterTopology
from aurora_actors.plugin import Plugin, Recover
from aurora_actors.settings import Settings

if TYPE_CHECKING:
    from aurora_actors.proxies.proxy import Proxy

__all__ = ["Context", "own_parameters"]

P = ParamSpec("P")
R = TypeVar("R")

ONCE_SECONDS = 60.0
"""How long others wait for the one that fetches for all."""

_under_way: dict[tuple[str, str, str], Reply[Any]] = {}
on_fork(_under_way.clear)


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
        return own_parameters(self._proxy.settings, self._plugin.parameters)

    @property
    def host(self) -> Host | None:
        return self._proxy.host

    @property
    def driver(self) -> str:
        return self._proxy.driver.name

    @property
    def asynchronous(self) -> bool:
        return self._proxy.access.asynchronous

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
        return _no_flow(fn, await self._proxy.io.blocking(fn, *args, **kwargs))

    async def sleep(self, seconds: float) -> None:
        await self._proxy.io.sleep(seconds)

    async def once(self, key: str, fn: Callable[[], R], *, everywhere: bool = False) -> R:
        io = self._proxy.io
        # Before the cluster is known, connections share what they fetch with those to the same place.
        near = "" if everywhere else self._proxy.cluster or repr(self._proxy.seeds)
        name = (self._plugin.name, near, key)
        ours: Reply[Any] = Reply()
        # One operation that only one caller can win: no lock that a fork could leave held.
        theirs = _under_way.setdefault(name, ours)
        if theirs is not ours:
            return await io.wait(theirs, io.now() + ONCE_SECONDS)
        try:
            result = _no_flow(fn, await io.blocking(fn))
        except BaseException as error:
            # A cancelled fetcher must not leave the others waiting.
            shown = error if isinstance(error, Exception) else RuntimeError("whoever fetched it was interrupted")
            ours.set_exception(shown)
            raise
        else:
            ours.set_result(result)
            return result
        finally:
            if _under_way.get(name) is ours:
                del _under_way[name]

    def meanwhile(self, key: str, fn: Callable[[], object]) -> None:
        name = (self._plugin.name, "", key)
        ours: Reply[Any] = Reply()
        if _under_way.setdefault(name, ours) is not ours:
            return

        def work() -> None:
            try:
                ours.set_result(_no_flow(fn, fn()))
            except BaseException as error:  # noqa: BLE001 - whoever joined it is told, and it is reported
                ours.set_exception(error)
                complain(origin_of("aurora_actors.plugins", self._plugin), self._proxy.cluster or "", "meanwhile", error)
            finally:
                _under_way.pop(name, None)

        threading.Thread(target=work, name="aurora_actors-worker", daemon=True).start()


def own_parameters(settings: Settings, names: Iterable[str]) -> Mapping[str, Any]:
    """What an extension declared, and what it shares with the core by the same row."""
    of_plugins = settings.of_plugins
    return {name: of_plugins[name] if name in of_plugins else getattr(settings, name) for name in names}


def _no_flow(fn: Callable[..., Any], result: R) -> R:
    if iscoroutine(result):
        result.close()
        raise TypeError(f"{getattr(fn, '__qualname__', fn)} is an async def: await it, or give code that blocks")
    return result
