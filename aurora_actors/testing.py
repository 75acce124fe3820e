"""For the tests of applications, plugins, monitors and host selectors.

    with recorded(signals.plugin_failed) as failures:
        ...
    assert failures.so_far() == ()

The cluster to test with is the pytest fixture ``aurora_lab``. Nothing here needs a server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Generic, ParamSpec, TypeVar

from aurora_actors import signals
from aurora_actors.actors.health_probes import Context, judged
from aurora_actors.actors.polling import Poller
from aurora_actors.actors.reply import Reply
from aurora_actors.actors.system import system
from aurora_actors.conformance.dialects import DialectSuite
from aurora_actors.conformance.drivers import DriverSuite
from aurora_actors.errors import ConfigurationError, PluginError
from aurora_actors.flow.conformance import complaint
from aurora_actors.flow.running import run_blocking as run
from aurora_actors.model.topology import ClusterTopology
from aurora_actors.plugin import Host, IdentityProvider, Mode, Monitor, Plugin, Recover, Setting, Settings, Sign
from aurora_actors.settings import Table, split
from aurora_actors.signals import settle

__all__ = [
    "Answer",
    "DialectSuite",
    "DriverSuite",
    "PluginScript",
    "Recording",
    "check",
    "forget_clusters",
    "probed",
    "recorded",
    "run",
    "settle",
]

E = TypeVar("E")
P = ParamSpec("P")
R = TypeVar("R")

FACT_SECONDS = 30.0
"""How long is waited for what has to come; only a test that fails waits so long."""
STOP_SECONDS = 5.0
"""How long is waited for actors to end; they do not hold up the end of the process."""
PROBE_SECONDS = 5.0
"""The interval of ``failure_detection_interval_ms`` as it is by default: what a probe has at most."""


class Recording(Generic[E]):
    """The events of one signal, in their order. See :func:`recorded`."""

    def __init__(self) -> None:
        self._events: list[E] = []
        self._came = threading.Condition()

    def _note(self, _: object, /, *, event: E) -> None:
        with self._came:
            self._events.append(event)
            self._came.notify_all()

    def so_far(self) -> tuple[E, ...]:
        """Every event that was sent before this call."""
        if not settle(FACT_SECONDS):
            raise AssertionError(f"signals wait for a receiver for more than {FACT_SECONDS:.0f} s")
        return tuple(self._events)

    def first(self, count: int = 1, seconds: float = FACT_SECONDS) -> tuple[E, ...]:
        """The first *count* events, waited for; ``AssertionError`` if they do not come in time."""
        with self._came:
            if not self._came.wait_for(lambda: len(self._events) >= count, seconds):
                raise AssertionError(f"{len(self._events)} of {count} events came within {seconds:g} s: {self._events}")
            return tuple(self._events[:count])


@contextmanager
def recorded(signal: signals.EventSignal[E]) -> Iterator[Recording[E]]:
    """Record the events of *signal* while the block runs."""
    recording = Recording[E]()
    # Held until the block ends: receivers are connected weakly.
    note = recording._note
    signal.connect(note)
    try:
        yield recording
    finally:
        signal.disconnect(note)


def forget_clusters(seconds: float = STOP_SECONDS) -> None:
    """Stop what watches the clusters of this process, and forget them: for tests on clusters of the same names.

    Waits up to *seconds* for each. Connections that are still open keep what they know.
    """
    system.stop(seconds)


def check(extension: Any) -> None:
    """Raise ``PluginError`` for an extension that ``connect()`` would refuse when it is named.

    It is a plugin, monitor, host selector or identity provider.
    """
    group = "plugins" if isinstance(extension, type) else "host_selectors"
    for other, base in (("monitors", Monitor), ("identity_providers", IdentityProvider)):
        if isinstance(extension, type) and issubclass(extension, base):
            group = other
    problem = complaint(f"aurora_actors.{group}", extension)
    if problem:
        raise PluginError(f"{getattr(extension, '__qualname__', extension)} cannot be used: {problem}")


class Answer:
    """A ``proceed`` for hooks under test: gives *result*, or raises it if it is an exception.

    ``calls`` has what it was awaited with.
    """

    def __init__(self, result: Any = None) -> None:
        self._result = result
        self.calls: list[Any] = []

    async def __call__(self, call: Any) -> Any:
        self.calls.append(call)
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


class PluginScript:
    """A ``PluginContext`` that is no connection: what a plugin under test sees and does, written down.

    *parameters* are read and checked as ``connect()`` does, those of *plugin* among them. ``slept`` has the pauses that
    were asked for, none of which is made; ``failed_over`` the calls that were given to :meth:`fail_over`, which answers
    with ``outcome``, or the error of the call where that is None.
    """

    def __init__(
        self,
        plugin: type[Plugin],
        *,
        cluster: str | None = "orders",
        host: Host | None = None,
        driver: str = "psycopg",
        asynchronous: bool = False,
        mode: Mode = Mode.STRICT_WRITER,
        topology: ClusterTopology | None = None,
        **parameters: Any,
    ) -> None:
        check(plugin)
        self.cluster = cluster
        self.host = host
        self.driver = driver
        self.asynchronous = asynchronous
        self.mode = mode
        self.topology = topology
        self.settings, self.plugin_settings = _read(plugin.parameters, parameters)
        self.outcome: Exception | None = None
        self.slept: list[float] = []
        self.failed_over: list[Recover] = []

    async def fail_over(self, call: Recover) -> Exception:
        self.failed_over.append(call)
        return self.outcome or call.error

    async def blocking(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return fn(*args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def once(self, key: str, fn: Callable[[], R], *, everywhere: bool = False) -> R:
        return fn()

    def meanwhile(self, key: str, fn: Callable[[], object]) -> None:
        fn()


def probed(
    monitor: type[Monitor],
    host: Host,
    *,
    resolve: Callable[[str, int], Sequence[tuple[str, int]]] | None = None,
    answer: Sign | None = Sign.SPOKE,
    seconds: float = PROBE_SECONDS,
    **parameters: Any,
) -> Sign:
    """Send one probe to *host* and give what the host's monitor would conclude from it. Blocks for up to *seconds*.

    The probe runs as in production, on real sockets and with its deadline. *answer* is what ``context.ask()`` brings; None:
    nothing, ever. Raises what production would report by ``plugin_failed``.
    """
    check(monitor)
    _, own = _read(monitor.parameters, parameters)
    poller = Poller()

    def word() -> Reply[Sign]:
        reply: Reply[Sign] = Reply()
        if answer is not None:
            reply.set_result(answer)
        return reply

    try:
        made = monitor(Context(word, host, own, resolve, poller))
        task = poller.start(monitor.name, made.probe(), monotonic() + seconds)
        while not task.is_done:
            poller.get()
        made.close()
        return judged(task)
    finally:
        poller.close()


def _read(declared: Mapping[str, Setting], parameters: Mapping[str, Any]) -> tuple[Settings, Mapping[str, Any]]:
    settings, unknown = split(parameters, (), Table(declared))
    if unknown:
        raise ConfigurationError(f"unknown parameters: {', '.join(unknown)}")
    return settings, {name: settings.of_plugins.get(name, getattr(settings, name, None)) for name in declared}
