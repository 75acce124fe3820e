"""What the core asks of a driver: entry-point group ``aurora_actors.drivers``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, ParamSpec, Protocol, TypeAlias, TypeVar

from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.lines import Line
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.values import dataclass
from aurora_actors.settings import Settings

__all__ = [
    "Access",
    "Credentials",
    "Driver",
    "Failure",
    "Place",
    "ProbeError",
    "ProbeSession",
    "Probing",
    "Resolver",
    "Sockets",
    "Waits",
    "Wire",
]

P = ParamSpec("P")
R = TypeVar("R")

Resolver: TypeAlias = Callable[[str, int], Sequence[tuple[str, int]]]
"""``resolve(host, port)``: the addresses and ports that a name stands for. May block; raises ``OSError``."""

Wire = Any
"""A driver's connection: opaque to everybody but its driver."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect: the name that TLS and logs use, and the addresses that it stands for just now.

    ``given``: the parameters lead there, so that what they ask of a host counts; otherwise the host was chosen.
    """

    host: str
    addresses: tuple[tuple[str, int], ...]
    given: bool = False


class Credentials(Protocol):
    """What the sessions of monitors log in with, in the application's name. Equal ones find out the same."""

    def __call__(self, access: Access, host: Host, refused: Mapping[str, Any] | None, until: float) -> Mapping[str, Any]:
        """The parameters for *host*; *refused*: not these. Blocks, about until *until*; any thread; may raise anything."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """How connections like this one are opened: the driver's connect and its parameters, secrets among them.

    ``monitoring`` overrides parameters for the sessions of host monitors (``topology-monitoring-`` and
    ``monitoring-`` prefixes). ``credentials`` finds out what a monitor logs in with; None: the parameters
    say it. ``resolve``: the connection's own resolver, if it was given one. ``asynchronous``:
    connections for asyncio are expected of ``target``.
    """

    driver: Driver = field(repr=False)
    target: Callable[..., Any] = field(repr=False)
    parameters: Mapping[str, Any] = field(repr=False)
    monitoring: Mapping[str, Any] = field(repr=False, default_factory=dict[str, Any])
    resolve: Resolver | None = field(repr=False, default=None)
    asynchronous: bool = False
    credentials: Credentials | None = field(repr=False, default=None)

    def with_parameters(self, parameters: Mapping[str, Any]) -> Access:
        """The same with other parameters of the driver's."""
        resolve, asynchronous, credentials = self.resolve, self.asynchronous, self.credentials
        return Access(self.driver, self.target, parameters, self.monitoring, resolve, asynchronous, credentials)

    def is_like(self, other: Access) -> bool:
        """Whether both log in the same way."""
        return self.parameters == other.parameters and self.credentials == other.credentials


@dataclass(frozen=True, slots=True)
class Failure:
    """What a driver says of an error: its SQLSTATE, and whether it found the connection broken."""

    sqlstate: str | None
    lost: bool


class ProbeError(Exception):
    """A probe failed.

    ``answered``: the host itself refused, on a session that goes on; ``sqlstate``: it said so with that code. ``local``:
    this machine could not even try (no descriptors, no such name), which says nothing of the host.
    """

    def __init__(
        self, message: str, *, answered: bool = False, sqlstate: str | None = None, local: bool = False
    ) -> None:
        super().__init__(message)
        self.answered = answered
        self.sqlstate = sqlstate
        self.local = local


class Sockets(Protocol):
    """The part of an io that waits for sockets."""

    async def readable(self, fd: int) -> None: ...

    async def writable(self, fd: int) -> None: ...


class Waits(Sockets, Protocol):
    """The same with one deadline for all waits, for drivers that have to wait in a way of their own."""

    @property
    def until(self) -> float:
        """On the clock of ``time.monotonic()``."""
        ...


class Probing(Sockets, Protocol):
    """What the sessions of monitors are opened with."""

    async def blocking(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking code on a thread of its own; whoever stops waiting leaves it behind."""
        ...


class ProbeSession(Protocol):
    """A session of a host monitor's own. Used by one thread."""

    async def ask(self, sql: str, sockets: Sockets) -> Rows:
        """The rows of the last statement in *sql*. Raises ``ProbeError``; cancelled, the session is of no more use."""
        ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """In a forked child: never close the socket, which is the parent's too."""
        ...


class Driver(Protocol):
    """One community driver.

    Its flows block the thread where the target connects blocking, and really await where it gives connections for asyncio.
    """

    name: ClassVar[str]
    schemes: ClassVar[frozenset[str]]
    dialects: ClassVar[tuple[str, ...]]
    """Codes of the dialects that it may meet: the one of cluster endpoints first, the plain engine's last."""
    errors: ClassVar[tuple[type[Exception], ...]]
    """The base classes of what its calls raise."""

    @property
    def keys(self) -> frozenset[str]:
        """The parameters that are the driver's own."""
        ...

    def default_target(self, *, asynchronous: bool) -> Callable[..., Any]:
        """The connect of the driver's own, where the user gave none."""
        ...

    def accepts(self, target: Callable[..., Any]) -> bool: ...

    def is_async(self, target: Callable[..., Any]) -> bool | None:
        """Whether *target* gives connections for asyncio; None: only calling it tells."""
        ...

    def parameters(self, conninfo: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Conninfo and keywords merged as the driver means them, ours among them. Raises the driver's error."""
        ...

    def seeds(self, parameters: Mapping[str, Any]) -> Sequence[tuple[str, int]]:
        """The hosts and ports that *parameters* lead to, environment and service files included."""
        ...

    async def open(self, access: Access, place: Place | None, limit: float | None, *, guarded: bool) -> Wire:
        """Connect: to *place*, or wherever the parameters lead, within *limit* seconds.

        *guarded*: an object that the application may hold; otherwise one that only carries a session. Raises the driver's
        error, and ``ConfigurationError`` when the target gives connections of the other colour.
        """
        ...

    def reached(self, wire: Wire) -> tuple[str, str, int]:
        """Host name, address and port that *wire* is connected to."""
        ...

    def told_role(self, wire: Wire) -> Role | None:
        """The role that the server gave itself when *wire* logged in; None: it does not tell, and has to be asked."""
        ...

    def session_id(self, wire: Wire) -> int | None:
        """The server's name for the session."""
        ...

    def keepalive(self, settings: Settings) -> dict[str, Any]:
        """The driver's parameters for the ``tcp_keepalive`` settings that were given."""
        ...

    def connect_timeout(self, parameters: Mapping[str, Any]) -> float | None:
        """The user's limit for a login, in seconds; None: not given."""
        ...

    async def query(self, wire: Wire, sql: str, sockets: Waits) -> Rows:
        """Run *sql* outside any transaction of the application's; the rows as text.

        Raises the driver's error, and what *sockets* raise when there is no answer in time.
        """
        ...

    def failure(self, error: BaseException, wire: Wire) -> Failure: ...

    def is_refusal(self, error: BaseException) -> bool:
        """Whether *error* of a login, or what a monitor was told, says that the server does not take these credentials."""
        ...

    async def close(self, wire: Wire) -> None: ...

    def discard(self, wire: Wire) -> None:
        """Drop the connection without waiting for anybody."""
        ...

    async def open_probe(self, access: Access, place: Place, sockets: Probing) -> ProbeSession:
        """A session for a host monitor: named ``aurora_actors-monitor``, read-only, with limits of its own.

        Raises ``ProbeError``; cancelled, it leaves nothing open.
        """
        ...

    def line(self, wire: Wire) -> Line | None:
        """A duplicate of the socket of *wire*; None where there is none to be had."""
        ...

    def keeps_alive(self, parameters: Mapping[str, Any]) -> bool:
        """Whether the user said how the kernel is to look after idle paths, so that we leave it alone."""
        ...

    def busy_since(self, wire: Wire) -> float:
        """Since when a call on *wire* waits for its host (``time.monotonic()``); 0.0: none does. Any thread."""
        ...

    async def restore(self, old: Wire, new: Wire, sockets: Waits) -> tuple[str, ...]:
        """Give *new* the session of *old*, as far as the driver can see it."""
        ...

    def attach(self, wire: Wire, proxy: Any) -> None:
        """From here on *wire*'s guard reports to *proxy*."""
        ...

    def swap(self, wire: Wire, new: Wire) -> None:
        """Put *new* under *wire*, now or when the block that is open has been left."""
        ...

    def give_up(self, wire: Wire) -> None:
        """*wire* is lost for good."""
        ...

    def error(self, kind: type[Any]) -> type[Any]:
        """The class that is both *kind* (of ``aurora_actors.errors``) and the driver's own."""
        ...


