"""All that the author of a plugin imports.

A plugin is a class with a ``name``, found through the entry-point group ``aurora_actors.plugins``; one object of it is
made for each connection. Override the hooks you need: one that is not overridden costs nothing. Hooks are flows, written
once for threads and asyncio: they await ``proceed(call)``, other flows, and the operations of ``context``, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, ClassVar, Literal, ParamSpec, Protocol, TypeVar

from aurora_actors.flow.chain import Proceed
from aurora_actors.flow.running import Flow
from aurora_actors.model.endpoints import parse_endpoint
from aurora_actors.model.failover import Mode
from aurora_actors.model.faults import Fault
from aurora_actors.model.health import Detection, Sign
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.outcome import Attempt, Ledger, Operation, Outcome
from aurora_actors.model.topology import ClusterTopology
from aurora_actors.model.values import dataclass
from aurora_actors.settings import Setting, Settings

__all__ = [
    "Assertion",
    "Attempt",
    "Authenticate",
    "ClusterTopology",
    "Connect",
    "Detection",
    "Execute",
    "Fault",
    "Flow",
    "Host",
    "IdentityProvider",
    "Ledger",
    "Mode",
    "Monitor",
    "MonitorContext",
    "Operation",
    "Outcome",
    "Plugin",
    "PluginContext",
    "Proceed",
    "Recover",
    "Role",
    "Setting",
    "Settings",
    "Sign",
    "identity_provider",
    "parse_endpoint",
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
class Authenticate:
    """Somebody is about to log in to ``host``: the application, or the monitor of that host in its name.

    ``parameters`` are the driver's, secrets among them. ``refused``: those that this login was tried with before, and
    that the server refused; None: this is its first try.
    ``until``: its deadline, on the clock of ``time.monotonic()``; None: it has none.
    """

    host: Host
    parameters: Mapping[str, Any] = field(repr=False)
    refused: Mapping[str, Any] | None = field(repr=False, default=None)
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Execute:
    """Something is about to be sent: ``operation.name`` says what, ``operation.statement`` the text where there is one."""

    operation: Operation
    host: Host | None


@dataclass(frozen=True, slots=True)
class Recover:
    """A call failed with ``error``, which says ``fault`` about its connection.

    A call with ``Fault.STALE`` has not been sent: the host of its connection is down, or not the one to use any more.
    Where the hook brings the connection elsewhere and nothing of its session is lost, the call goes on there and the
    application sees no error; a hook that gives back ``error`` itself leaves the connection where it is.

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
    def driver(self) -> str:
        """The name of the driver, by which parameters mean what they mean: ``psycopg``, ``mysql``, or a stranger's."""
        ...

    @property
    def asynchronous(self) -> bool:
        """Whether the connection is one of asyncio; of a monitor, whether that is whose host it watches."""
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

    async def once(self, key: str, fn: Callable[[], R], *, everywhere: bool = False) -> R:
        """The result of *fn*, run once however many connections of this cluster and plugin ask at the same time.

        *everywhere*: of any cluster. Where *fn* fetches what is kept, it looks first whether it is there by now.
        """
        ...

    def meanwhile(self, key: str, fn: Callable[[], object]) -> None:
        """Begin *fn* on a thread, unless somebody is about it; wait for nothing. ``once(everywhere=True)`` joins it."""
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

    async def authenticate(
        self, call: Authenticate, proceed: Proceed[Authenticate, Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """The parameters to log in with, for the application and for monitors alike; asked anew for each login.

        After a refusal others lead to another try, the same ones to the server's error. A monitor asks
        an object of its own, in a thread of its own.
        """
        return await proceed(call)

    async def execute(self, call: Execute, proceed: Proceed[Execute, Any]) -> Any:
        """Round everything that is sent: statements, commit, rollback, COPY, fetches of server-side cursors."""
        return await proceed(call)

    async def recover(self, call: Recover, proceed: Proceed[Recover, Exception]) -> Exception:
        """A connection failed; gives the error that the application gets."""
        return await proceed(call)

    def detection(self) -> Detection | None:
        """How the host's monitor judges the calls of this connection; None: it does not. Asked once for each session."""
        return None

    def choose_host(self, hosts: tuple[Host, ...]) -> Host | None:
        """Which of *hosts*, all of them acceptable, to use; None: no opinion. Must not block."""
        return None

    def switched(self, old: Host | None, new: Host) -> None:
        """The connection went on to another host (or the same, on a new session). Must not block."""

    def close(self) -> None:
        """The connection was closed. Must not block."""


class MonitorContext(Protocol):
    """What a monitor knows of its host, and what its probes may await. Belongs to the thread of the host's monitor."""

    @property
    def host(self) -> Host:
        """The host to probe."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """The monitor's own parameters, with their defaults."""
        ...

    def now(self) -> float:
        """Seconds on ``time.monotonic()``."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def readable(self, fd: int) -> None:
        """Wait until the descriptor has something to read."""
        ...

    async def writable(self, fd: int) -> None:
        """Wait until the descriptor takes something, or its connect has ended."""
        ...

    async def blocking(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking code, on a daemon thread of its own."""
        ...

    async def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where the host is just now. Raises ``OSError``."""
        ...

    async def ask(self) -> Sign:
        """What comes of the next question to the host's server, on the session that its monitor has with it."""
        ...


class Monitor:
    """A way to find out whether a host lives: entry-point group ``aurora_actors.monitors``, chosen by ``monitors=``.

    One object for each host and process, made when a call has waited long enough that somebody wants to know.
    """

    name: ClassVar[str] = ""
    """The name of its entry point."""
    parameters: ClassVar[Mapping[str, Setting]] = {}
    """The monitor's own parameters; they are read and checked with the rest."""

    def __init__(self, context: MonitorContext) -> None:
        self.context = context

    async def probe(self) -> Sign:
        """Find out, once: a flow that awaits the operations of ``context`` and nothing else.

        It is cancelled one interval after it was sent, and counts as unanswered. ``ConnectionError`` and ``TimeoutError``
        mean ``Sign.SILENT``, any other ``OSError`` ``Sign.NOTHING``; what else it raises is reported by ``plugin_failed``.
        """
        raise NotImplementedError

    def close(self) -> None:
        """The host is not watched any more. Must not block."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """Who somebody is, by the word of an identity provider, as AWS STS takes it.

    ``kind``: ``saml`` (a response of SAML in base 64) or ``web_identity`` (a token of OpenID Connect).
    """

    kind: Literal["saml", "web_identity"]
    text: str = field(repr=False)


class IdentityProvider:
    """Where users sign in for AWS: entry-point group ``aurora_actors.identity_providers``, chosen by ``idp_name=``.

    Made for each sign-in, with the values of its own parameters and those of the plugin that asks.
    """

    name: ClassVar[str] = ""
    """The name of its entry point."""
    parameters: ClassVar[Mapping[str, Setting]] = {}
    """The provider's own parameters; they are read and checked with the rest."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def sign_in(self, user: str, password: str) -> Assertion:
        """Sign in. Blocks; runs on a worker. Raises errors of ``aurora_actors.errors``, with no secret in them."""
        raise NotImplementedError


def identity_provider(name: str) -> type[IdentityProvider]:
    """The class of that name. Raises ``ConfigurationError`` where there is none, ``PluginError`` for one that is broken."""
    from aurora_actors.flow.discovery import usable

    found: type[IdentityProvider] = usable("aurora_actors.identity_providers", name).value
    return found
