"""All that the author of a plugin imports.

A plugin is a class with a ``name``, found through the entry-point group ``aurora_actors.plugins``; one object of it is
made for each connection. Override the hooks you need: one that is not overridden costs nothing. Hooks are flows, written
once for threads and asyncio: they await ``proceed(call)``, other flows, and the operations of ``context``, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, ParamSpec, Protocol, TypeVar

from aurora_actors.flow.chain import Proceed
from aurora_actors.flow.running import Flow
from aurora_actors.model.failover import Mode
from aurora_actors.model.faults import Fault
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.outcome import Attempt, Ledger, Operation, Outcome
from aurora_actors.model.topology import ClusterTopology
from aurora_actors.settings import Setting, Settings

__all__ = [
    "Attempt",
    "ClusterTopology",
    "Connect",
    "Execute",
    "Fault",
    "Flow",
    "Host",
    "Ledger",
    "Mode",
    "Operation",
    "Outcome",
    "Plugin",
    "PluginContext",
    "Proceed",
    "Recover",
    "Role",
    "Setting",
    "Settings",
]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Connect:
    """A connection is about to be opened: to ``host``, or where the parameters lead if that is None.

    ``parameters`` are the driver's, secrets among them; pass on a changed call (``dataclasses.replace``) to change them.
    ``initial``: it is the application's first, not one that takes over from a lost one.
    """

    host: Host | None
    parameters: Mapping[str, Any] = field(repr=False)
    initial: bool


@dataclass(frozen=True, slots=True)
class Execute:
    """Something is about to be sent: ``operation.name`` says what, ``operation.statement`` the text where there is one."""

    operation: Operation
    host: Host | None


@dataclass(frozen=True, slots=True)
class Recover:
    """A call failed with ``error``, which says ``fault`` about its connection.

    ``at``: when, on the clock of ``time.monotonic()``. The hook's result is the error that the application gets; the
    innermost ``proceed`` gives ``error`` itself.
    """

    error: Exception
    fault: Fault
    operation: Operation
    at: float


class PluginContext(Protocol):
    """What a plugin knows of its connection, and what it may do with it. One for each connection."""

    @property
    def cluster(self) -> str | None:
        """The id of the cluster; None where there is none."""
        ...

    @property
    def settings(self) -> Settings:
        """The parameters of the connection, validated."""
        ...

    @property
    def plugin_settings(self) -> Mapping[str, Any]:
        """The plugin's own parameters, with their defaults."""
        ...

    @property
    def host(self) -> Host | None:
        """The host that the connection is on."""
        ...

    @property
    def mode(self) -> Mode:
        """Which hosts the connection accepts (``failover_mode``)."""
        ...

    @property
    def topology(self) -> ClusterTopology | None:
        """The cluster as last seen; frozen."""
        ...

    async def fail_over(self, call: Recover) -> Exception:
        """Find a host for the lost connection, switch to it, and give the error that says so."""
        ...

    async def blocking(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking code: in threads here, in asyncio on a worker thread."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def once(self, key: str, fn: Callable[[], R]) -> R:
        """The result of *fn*, run once however many connections of this cluster and plugin ask at the same time."""
        ...


class Plugin:
    """Override the hooks you need. All run in the thread or task that uses the connection."""

    name: ClassVar[str] = ""
    """The name of its entry point."""
    order: ClassVar[int] = 500
    """A lower one runs further out: 100 sees a call before 900, which is close to the driver."""
    before: ClassVar[tuple[str, ...]] = ()
    """Names of plugins that have to be further in, whatever the ``order``."""
    after: ClassVar[tuple[str, ...]] = ()
    """Names of plugins that have to be further out."""
    parameters: ClassVar[Mapping[str, Setting]] = {}
    """The plugin's own parameters; they are read and checked with the rest."""
    needs_cluster: ClassVar[bool] = False
    """Whether the connection has to know its cluster: verified on connect, topology kept."""

    def __init__(self, context: PluginContext) -> None:
        self.context = context

    async def connect(self, call: Connect, proceed: Proceed[Connect, Any]) -> Any:
        """Round every opening of a connection; gives the driver's connection."""
        return await proceed(call)

    async def execute(self, call: Execute, proceed: Proceed[Execute, Any]) -> Any:
        """Round everything that is sent: statements, commit, rollback, COPY, fetches of server-side cursors."""
        return await proceed(call)

    async def recover(self, call: Recover, proceed: Proceed[Recover, Exception]) -> Exception:
        """A connection failed; gives the error that the application gets."""
        return await proceed(call)

    def choose_host(self, hosts: tuple[Host, ...]) -> Host | None:
        """Which of *hosts*, all of them acceptable, to use; None: no opinion. Must not block."""
        return None

    def switched(self, old: Host | None, new: Host) -> None:
        """The connection went on to another host (or the same, on a new session). Must not block."""

    def close(self) -> None:
        """The connection was closed. Must not block."""
