"""The plugins of one connection: made, composed, and passed by where they fail, so that nobody is worse off for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from aurora_actors import errors
from aurora_actors.actors.complaints import HELD_UP_SECONDS, Origin, complain, described
from aurora_actors.flow.chain import Guard, Hook, Proceed, composed
from aurora_actors.flow.discovery import origin_of
from aurora_actors.flow.interrupts import pass_interrupt
from aurora_actors.model.health import Detection
from aurora_actors.model.hosts import Host
from aurora_actors.model.selection import Strategy, Weights, random_host
from aurora_actors.plugin import Authenticate, Connect, Execute, Plugin, Recover
from aurora_actors.proxies.context import Context

if TYPE_CHECKING:
    from aurora_actors.proxies.proxy import Proxy

__all__ = ["Plugins"]

R = TypeVar("R")


class Plugins:
    """Outermost first. Used by the thread or task that uses the connection; ``close`` by any thread."""

    def __init__(self, proxy: Proxy, classes: Sequence[type[Plugin]]) -> None:
        self._proxy = proxy
        self._plugins = tuple(_made(proxy, kind) for kind in classes)
        self._speaks: tuple[type[Exception], ...] = (errors.Error, *proxy.driver.errors)
        self._execute = Guard[Any](self._speaks, self._hook_failed, _is_result)
        self.executes = self._overridden("execute")
        self.recovers = bool(self._overridden("recover"))

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self._plugins)

    def connecting(self, innermost: Proceed[Connect, Any]) -> Proceed[Connect, Any]:
        """*innermost* within the ``connect`` hooks."""
        guard = Guard[Any](self._speaks, self._hook_failed, _is_connection)
        return composed(self._overridden("connect"), innermost, guard)

    def authenticating(
        self, innermost: Proceed[Authenticate, Mapping[str, Any]]
    ) -> Proceed[Authenticate, Mapping[str, Any]]:
        """*innermost* within the ``authenticate`` hooks."""
        guard = Guard[Mapping[str, Any]](self._speaks, self._hook_failed, _is_mapping)
        return composed(self._overridden("authenticate"), innermost, guard)

    def recovering(self, innermost: Proceed[Recover, Exception]) -> Proceed[Recover, Exception]:
        """*innermost* within the ``recover`` hooks."""
        guard = Guard[Exception](self._speaks, self._hook_failed, _is_error)
        return composed(self._overridden("recover"), innermost, guard)

    def executing(self, innermost: Proceed[Execute, Any]) -> Proceed[Execute, Any]:
        """*innermost* within the ``execute`` hooks."""
        return composed(self.executes, innermost, self._execute)

    def detection(self, kinds: Iterable[str]) -> Detection | None:
        """As the outermost plugin says that has an opinion; *kinds*: the monitors that the connection asked for."""
        known = frozenset(kinds)
        for plugin in self._plugins:
            detection = self._asked(plugin, "detection", plugin.detection)
            problem = _complaint(detection, known)
            if problem:
                self._complain(plugin, "detection", problem)
            elif detection is not None:
                return detection
        return None

    def choose(self, hosts: tuple[Host, ...], strategy: Strategy, weights: Weights, turn: int, chance: float) -> Host:
        """One of *hosts*: as a plugin says, else by *strategy*."""
        for plugin in self._plugins:
            chosen = self._asked(plugin, "choose_host", plugin.choose_host, hosts)
            if chosen is not None and chosen in hosts:
                return chosen
            if chosen is not None:
                self._complain(plugin, "choose_host", f"it chose {chosen!r}, which is none of those it was given")
        try:
            host = strategy(hosts, weights, turn, chance)
        except Exception as error:  # noqa: BLE001 - a host selector may raise anything
            pass_interrupt(error)
            problem: Exception | str = error
        else:
            if host in hosts:
                return host
            problem = f"it chose {host!r}, which is none of those it was given"
        complain(origin_of("aurora_actors.host_selectors", strategy), self._proxy.cluster or "", "choosing", problem)
        return random_host(hosts, weights, turn, chance)

    def switched(self, old: Host | None, new: Host) -> None:
        for plugin in self._plugins:
            self._asked(plugin, "switched", plugin.switched, old, new)

    def close(self) -> None:
        for plugin in self._plugins:
            self._asked(plugin, "close", plugin.close)

    def _overridden(self, hook: str) -> list[Hook[Any, Any]]:
        base = getattr(Plugin, hook)
        return [getattr(plugin, hook) for plugin in self._plugins if getattr(type(plugin), hook) is not base]

    def _asked(self, plugin: Plugin, hook: str, function: Callable[..., R], *arguments: Any) -> R | None:
        """What a hook says that is no flow; None where it fails."""
        began = monotonic()
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            pass_interrupt(error)
            self._complain(plugin, hook, error)
            return None
        finally:
            seconds = monotonic() - began
            if seconds > HELD_UP_SECONDS:
                self._complain(plugin, hook, f"it blocked for {seconds:.1f} s, which it must not")

    def _hook_failed(self, hook: Any, error: Exception) -> None:
        self._complain(hook.__self__, hook.__name__, error)

    def _complain(self, plugin: Plugin, hook: str, error: Exception | str) -> None:
        complain(_origin(type(plugin)), self._proxy.cluster or "", hook, error)


def _made(proxy: Proxy, kind: type[Plugin]) -> Plugin:
    try:
        return kind(Context(proxy, kind))
    except errors.Error:
        raise
    except Exception as error:
        pass_interrupt(error)
        raise errors.PluginError(f"{_origin(kind)} cannot be made: {described(error)}") from error


def _origin(kind: type[Plugin]) -> Origin:
    return origin_of("aurora_actors.plugins", kind)


def _is_result(result: Any, given: Any) -> bool:
    # None for what the driver gave is a forgotten return.
    return given is None or isinstance(result, type(given))


def _is_connection(result: Any, given: Any) -> bool:
    return result is not None if given is None else isinstance(result, type(given))


def _is_mapping(result: Any, _: object) -> bool:
    return isinstance(result, Mapping)


def _is_error(result: Any, _: object) -> bool:
    return isinstance(result, Exception)


def _complaint(detection: Any, known: frozenset[str]) -> str:
    if detection is None:
        return ""
    if not isinstance(detection, Detection):
        return f"it gave {type(detection).__name__}, which is no Detection"
    unknown = [kind for kind in detection.kinds if kind not in known]
    if unknown or not detection.kinds:
        return f"it wants the monitors {', '.join(unknown) or 'none'}; monitors= names {', '.join(sorted(known))}"
    if not (detection.interval > 0 and detection.count >= 1):
        return f"it gave {detection}: probes need a pause, and at least one has to be missed"
    return ""
