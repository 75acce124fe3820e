"""A stage for flows: an io in both colours over a scripted cluster, with its own clock, that notes what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from aurora_actors import signals
from aurora_actors.actors.base import Actor, Ref, Request, Stop, tell
from aurora_actors.actors.clock import HandClock
from aurora_actors.actors.cluster import Cluster, Identity
from aurora_actors.actors.messages import FindHost, RefreshTopology
from aurora_actors.actors.naming import Naming
from aurora_actors.actors.reply import Reply
from aurora_actors.dialects.base import Rows
from aurora_actors.dialects.postgres import AuroraPostgres, Postgres
from aurora_actors.drivers.base import Access, Failure, Place, Wire
from aurora_actors.drivers.psycopg_errors import both
from aurora_actors.flow.running import Flow, run_blocking
from aurora_actors.model.endpoints import parse_instance_pattern
from aurora_actors.model.failover import Mode
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.selection import highest_weight
from aurora_actors.model.topology import ClusterTopology, Knowledge, Verdict
from aurora_actors.plugin import Plugin
from aurora_actors.proxies.proxy import Proxy
from aurora_actors.settings import Settings, split

__all__ = ["COLOURS", "PORT", "Refused", "Stage", "StageWire", "host", "stage"]

SECONDS = 10.0
PORT = 5432
ZONE = "xyz.us-east-1.rds.amazonaws.com"
START = 1000.0
COLOURS = ("thread", "task")


class Refused(psycopg.OperationalError):
    """The server answered a login with FATAL."""


class Silent(Actor):
    """Stands for every actor of the control plane: what a flow asks is answered by its io."""

    def handle(self, message: Any) -> None:
        pass


def host(name: str, role: Role = Role.UNKNOWN) -> Host:
    return Host(name, f"{name}.{ZONE}", PORT, role)


@dataclass(eq=False)
class StageWire:
    """A connection: the host behind it, and the name that it was reached by."""

    host: str
    name: str


class StageDriver:
    """A driver of connections that lead nowhere."""

    name = "psycopg"
    dialects = ("aurora-pg", "rds-pg", "pg")
    errors = (psycopg.Error, OSError)

    def __init__(self, story: list[str]) -> None:
        self._story = story

    def reached(self, wire: StageWire) -> tuple[str, str, int]:
        return wire.name, "127.0.0.1", PORT

    def told_role(self, wire: StageWire) -> Role | None:
        return None

    def session_id(self, wire: StageWire) -> int:
        return 7

    def connect_timeout(self, parameters: Mapping[str, Any]) -> float | None:
        return None

    def failure(self, error: BaseException, wire: Wire) -> Failure:
        if wire is not None:
            return Failure(getattr(error, "sqlstate", None), False)
        return Failure(None, not isinstance(error, Refused))

    def is_refusal(self, error: BaseException) -> bool:
        return isinstance(error, Refused)

    def swap(self, wire: StageWire, new: StageWire) -> None:
        self._story.append(f"swap {wire.host} {new.host}")
        wire.host, wire.name = new.host, new.name

    def give_up(self, wire: StageWire) -> None:
        self._story.append(f"give up {wire.host}")

    def error(self, kind: type[Any]) -> type[Any]:
        return both(kind)


@dataclass
class Stage:
    """The cluster as scripted, the io over it, and the story of what was done.

    ``roles``: of the hosts that answer. ``leads``: where endpoint names lead. ``fails``: what a connect to a host
    raises, one after another. ``answers``: what the actors answer, one after another. ``flavour``: the dialect that the
    servers speak.
    """

    colour: str
    roles: dict[str, Role] = field(default_factory=dict[str, Role])
    leads: dict[str, str] = field(default_factory=dict[str, str])
    fails: dict[str, list[BaseException]] = field(default_factory=dict[str, list[BaseException]])
    query_fails: list[BaseException] = field(default_factory=list[BaseException])
    restore_fails: list[BaseException] = field(default_factory=list[BaseException])
    answers: list[Any] = field(default_factory=list[Any])
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    flavour: str = "aurora-pg"
    story: list[str] = field(default_factory=list[str])
    at: float = START
    before: Callable[[str], None] | None = None
    """Called with each entry of the story, before it is done."""

    # The flow

    def run(self, flow: Flow[Any]) -> Any:
        return run_blocking(flow) if self.colour == "thread" else asyncio.run(flow)

    async def _done(self, entry: str) -> None:
        self.story.append(entry)
        if self.before is not None:
            self.before(entry)
        if self.colour == "task":
            await asyncio.sleep(0)

    # Io

    def now(self) -> float:
        self.at += 0.001
        return self.at

    def jitter(self, seconds: float) -> float:
        return seconds

    async def ask(self, ref: Ref, request: Request[Any], until: float) -> Any:
        match request:
            case FindHost(want):
                await self._done(f"find {want.mode.value}")
            case RefreshTopology():
                await self._done("refresh")
            case _:
                raise AssertionError(request)
        return _taken(self.answers)

    async def wait(self, future: Reply[Any], until: float) -> Any:
        await self._done("wait")
        return future.result(SECONDS)

    async def sleep(self, seconds: float) -> None:
        self.at += seconds
        await self._done(f"sleep {seconds:.3f}")

    async def blocking(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await self._done("blocking")
        return fn(*args, **kwargs)

    async def place(self, access: Access, host: Host | None, until: float | None) -> Place | None:
        return None if host is None else Place(host.endpoint, (("127.0.0.1", host.port),))

    async def canonical(self, access: Access, host: str) -> str:
        await self._done(f"canonical {host}")
        return self.aliases.get(host, host)

    async def connect(self, access: Access, place: Place | None, until: float | None, *, guarded: bool) -> StageWire:
        name = str(access.parameters["host"]) if place is None else place.host
        target = self.leads.get(name) or name.partition(".")[0]
        await self._done(f"connect {target}{'' if guarded else ' unguarded'}")
        if self.fails.get(target):
            raise self.fails[target].pop(0)
        if target not in self.roles:
            raise psycopg.OperationalError(f"{target} is down")
        return StageWire(target, name)

    async def query(self, wire: StageWire, sql: str, until: float) -> Rows:
        await self._done(f"{'detect' if sql == AuroraPostgres.detect_sql else 'ask'} {wire.host}")
        if self.query_fails:
            raise self.query_fails.pop(0)
        if sql == AuroraPostgres.detect_sql:
            return [["aurora_stat_utils", "t", "f"]] if self.flavour == "aurora-pg" else [[None, "f", "f"]]
        reads = "f" if self.roles[wire.host] is Role.WRITER else "t"
        if sql == Postgres.role_sql:
            return [[reads]]
        if self.flavour != "aurora-pg":
            if "aurora" in sql:
                raise psycopg.errors.UndefinedFunction("there is no aurora_replica_status")
            return [[None, reads, "0", None if reads == "t" else "00000001"]]
        members = [name for name in self.roles if name.startswith("db-")]
        return [[wire.host, reads, "0", name, "t" if self.roles[name] is Role.WRITER else "f", "5"] for name in members]

    async def restore(self, old: StageWire, new: StageWire, until: float) -> tuple[str, ...]:
        await self._done(f"restore {new.host}")
        if self.restore_fails:
            raise self.restore_fails.pop(0)
        return ()

    async def close(self, wire: StageWire) -> None:
        await self._done(f"close {wire.host}")

    def discard(self, wire: StageWire) -> None:
        self.story.append(f"discard {wire.host}")

    # Those who take part

    def proxy(
        self, endpoint: str, *, mode: Mode = Mode.STRICT_WRITER, plugins: tuple[type[Plugin], ...] = (), **given: Any
    ) -> Proxy:
        """A connection of an application, not yet open."""
        settings: Settings = split(given, ())[0]
        driver: Any = StageDriver(self.story)
        io: Any = self
        access = Access(driver, print, {"host": endpoint, "password": "secret"})
        return Proxy(io, access, settings, mode, plugins, (highest_weight, highest_weight))

    def cluster(self, writer: str = "db-1", *, verdict: Verdict | None = None, settled: bool = True) -> Cluster:
        """A cluster that is known already, with the hosts of the script."""
        names = [name for name in self.roles if name.startswith("db-")]
        members = tuple(host(name, Role.WRITER if name == writer else Role.READER) for name in sorted(names))
        topology = ClusterTopology("stage", members, 1)
        known = Knowledge(topology, verdict or Verdict(at=START - 10), None if settled else START)
        naming = Naming(AuroraPostgres(), parse_instance_pattern(f"?.{ZONE}"), PORT, members)
        return Cluster(
            "stage", Identity("pg", "", f"?.{ZONE}:{PORT}", frozenset({"database"})), naming, known,
            refresh=30.0, least=(0.0, 0.0), grace=60.0, timer=HandClock(START), idle=lambda _: None,
        )  # fmt: skip


def _taken(answers: list[Any]) -> Any:
    answer = answers.pop(0)
    if isinstance(answer, BaseException):
        raise answer
    return answer


@contextmanager
def stage(colour: str, monkeypatch: Any, **script: Any) -> Iterator[tuple[Stage, list[tuple[str, Any]]]]:
    """A stage, and the signals that are sent while it stands; its clusters start no actors but a silent one."""
    silent = Silent.start("silent", report=print)
    monkeypatch.setattr(Cluster, "_start", lambda self: silent)
    monkeypatch.setattr(Cluster, "_start_failover", lambda self, topology: silent)
    told: list[tuple[str, Any]] = []

    def noting(name: str) -> Callable[..., None]:
        return lambda cluster, event: told.append((name, event))

    receivers = {name: noting(name) for name in signals.namespace}
    for name, receiver in receivers.items():
        signals.namespace[name].connect(receiver)
    try:
        yield Stage(colour, **script), told
    finally:
        for name, receiver in receivers.items():
            signals.namespace[name].disconnect(receiver)
        tell(silent, Stop())
