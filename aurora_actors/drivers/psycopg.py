"""psycopg 3 as a driver."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache, partial
from inspect import isawaitable, iscoroutinefunction
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import unquote

import psycopg
from psycopg import conninfo as conninfos
from psycopg import pq
from psycopg._connection_base import BaseConnection
from psycopg.connection import Connection
from psycopg.connection_async import AsyncConnection

from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import Access, Failure, Place, ProbeError, ProbeSession, Sockets, Wire
from aurora_actors.drivers.lines import Line
from aurora_actors.drivers.psycopg_ask import answer_to
from aurora_actors.drivers.psycopg_errors import both
from aurora_actors.drivers.psycopg_guard import guard_of, link_of, through_of
from aurora_actors.drivers.psycopg_link import Link
from aurora_actors.drivers.psycopg_probe import logged_in
from aurora_actors.drivers.psycopg_reading import failure_of
from aurora_actors.drivers.psycopg_tracking import replayed
from aurora_actors.errors import ConfigurationError
from aurora_actors.model.hosts import Role
from aurora_actors.settings import Settings

__all__ = ["PsycopgDriver"]

log = logging.getLogger("aurora_actors.drivers")

LEAST_CONNECT_SECONDS = 2
"""libpq and psycopg take a shorter ``connect_timeout`` for this one."""
DEFAULT_PORT = 5432

_KEYWORDS = frozenset({"autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory"})
# What else a server says to a login, in the language of Aurora: other credentials would change nothing.
_OTHER_REFUSALS = (
    "starting up|shutting down|recovery|terminating|too many|reserved for|does not exist|pg_hba.conf"
    "|not currently accepting|permission denied|unsupported frontend protocol|not permitted to log in"
)
_BLANKS = " \t\n\v\f\r"
"""What libpq's isspace() knows."""
_ROLES = {b"on": Role.READER, b"off": Role.WRITER}
_KEEPING_ALIVE = frozenset(
    {"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
)
_ROUTING = frozenset({"host", "hostaddr", "port", "service"})
_CHOOSING = frozenset({"target_session_attrs", "load_balance_hosts"})
"""How libpq chooses among the given hosts; it has no choice at a host that was chosen."""
# One `key = value` of a conninfo string, as libpq reads it. libpq itself refuses keys that are not its own.
_PAIR = r"(?sa)([^\s=]+)\s*=\s*('(?:[^'\\]|\\.)*+'|(?!')(?:[^\s\\]|\\.?+)*+)\s*"
# A URL up to its query, as libpq looks for it: a password ends at the first @, whatever else is in it.
_BEFORE_QUERY = r"postgres(?:ql)?://(?:[^@/]*@)?+[^?]*\?"


class PsycopgDriver:
    """Connections for threads and for asyncio."""

    name: ClassVar[str] = "psycopg"
    schemes: ClassVar[frozenset[str]] = frozenset({"postgresql", "postgres"})
    dialects: ClassVar[tuple[str, ...]] = ("aurora-pg", "rds-pg", "pg")
    errors: ClassVar[tuple[type[Exception], ...]] = (psycopg.Error, OSError)

    @property
    def keys(self) -> frozenset[str]:
        return _all_keys()

    def default_target(self, *, asynchronous: bool) -> Callable[..., Any]:
        # Not psycopg's own names for them, which others may have put their classes under, ours among them.
        return AsyncConnection.connect if asynchronous else Connection.connect

    def accepts(self, target: Callable[..., Any]) -> bool:
        owner = getattr(target, "__self__", None)
        return not isinstance(owner, type) or issubclass(owner, BaseConnection)

    def is_async(self, target: Callable[..., Any]) -> bool | None:
        owner = getattr(target, "__self__", None)
        if isinstance(owner, type):
            return issubclass(owner, AsyncConnection)
        return iscoroutinefunction(target) or None

    def parameters(self, conninfo: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
        merged: dict[str, Any] = {**_read(conninfo), **_given(keywords)}
        # The AWS wrapper's name for it.
        database = merged.pop("database", None)
        return merged if database is None else {"dbname": database, **merged}

    def seeds(self, parameters: Mapping[str, Any]) -> Sequence[tuple[str, int]]:
        given = {**_service(parameters), **{k: v for k, v in parameters.items() if v is not None}}
        if not ("port" in given and ("host" in given or "hostaddr" in given)):
            given = {**_defaults(), **given}
        hosts = str(given.get("host") or given.get("hostaddr") or "").split(",")
        ports = str(given.get("port") or DEFAULT_PORT).split(",")
        if len(ports) == 1:
            ports *= len(hosts)
        elif len(ports) != len(hosts):
            # In libpq's own words, also where a resolver leads past it.
            raise psycopg.OperationalError(f"could not match {len(ports)} port numbers to {len(hosts)} hosts")
        return [(host, int(port or DEFAULT_PORT)) for host, port in zip(hosts, ports, strict=True)]

    async def open(self, access: Access, place: Place | None, limit: float | None, *, guarded: bool) -> Wire:
        parameters = _at(access.parameters, place, limit)
        owner, function = getattr(access.target, "__self__", None), getattr(access.target, "__func__", None)
        connect = access.target
        # Those that only carry a session, too: the guard knows deadlines of less than libpq's two seconds.
        if isinstance(owner, type) and function is not None:
            connect = partial(function, guard_of(owner))
        made = connect("", **parameters)
        if isawaitable(made) is not access.asynchronous:
            if hasattr(made, "close"):
                made.close()
            raise ConfigurationError(
                "aurora_actors.connect() was given a connect that has to be awaited: give it to aurora_actors.aio.connect()"
                if not access.asynchronous
                else "aurora_actors.aio.connect() was given a connect that blocks: give it to aurora_actors.connect()"
            )
        conn = await made if access.asynchronous else made
        if not isinstance(conn, BaseConnection):
            raise ConfigurationError(f"the given connect made a {type(conn).__name__}, which is no connection of psycopg")
        if guarded and connect is access.target:
            conn.__class__ = guard_of(type(conn))
        return conn

    def reached(self, wire: Wire) -> tuple[str, str, int]:
        info = wire.info
        return info.host, info.hostaddr, info.port

    def keepalive(self, settings: Settings) -> dict[str, Any]:
        wanted = {
            "keepalives": None if settings.tcp_keepalive is None else int(settings.tcp_keepalive),
            "keepalives_idle": settings.tcp_keepalive_time,
            "keepalives_interval": settings.tcp_keepalive_interval,
            "keepalives_count": settings.tcp_keepalive_probes,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    def told_role(self, wire: Wire) -> Role | None:
        # PostgreSQL 14 and newer report it at every login; libpq's target_session_attrs rests on it.
        return _ROLES.get(wire.pgconn.parameter_status(b"in_hot_standby"))

    def session_id(self, wire: Wire) -> int | None:
        pid: int = wire.pgconn.backend_pid
        return pid or None

    def connect_timeout(self, parameters: Mapping[str, Any]) -> float | None:
        value = float(parameters.get("connect_timeout") or 0)
        return max(value, LEAST_CONNECT_SECONDS) if value > 0 else None

    async def query(self, wire: Wire, sql: str, sockets: Sockets) -> Rows:
        return _rows(await answer_to(wire.pgconn, sql, sockets))

    def failure(self, error: BaseException, wire: Wire) -> Failure:
        if wire is not None:
            return failure_of(error, wire)
        # A refused login has no SQLSTATE in psycopg; "FATAL" stands in the message only when the server wrote it.
        refused = "FATAL" in str(error) and not re.search("starting up|shutting down|recovery|terminating", str(error))
        return Failure("28000" if refused else getattr(error, "sqlstate", None), not refused)

    def is_refusal(self, error: BaseException) -> bool:
        # libpq keeps no SQLSTATE of a refused login; PAM is how Aurora asks IAM.
        text = str(error)
        return "FATAL" in text and ("authentication failed" in text or re.search(_OTHER_REFUSALS, text) is None)

    async def close(self, wire: Wire) -> None:
        closing = wire.close()
        if closing is not None:
            await closing

    def discard(self, wire: Wire) -> None:
        wire._closed = True
        wire.pgconn.finish()

    async def open_probe(self, access: Access, place: Place, sockets: Sockets) -> ProbeSession:
        parameters = {**access.parameters, **access.monitoring, "application_name": "aurora_actors-monitor"}
        parameters = _at({k: v for k, v in parameters.items() if k not in _KEYWORDS}, place, None)
        try:
            return await logged_in(conninfos.make_conninfo("", **parameters), sockets)
        except psycopg.Error as error:
            raise ProbeError(str(error)) from None

    def line(self, wire: Wire) -> Line | None:
        try:
            return Line(wire.pgconn.socket)
        except (OSError, psycopg.Error) as error:
            log.warning("no second descriptor of a connection can be had (%s): its calls are never ended for it", error)
            return None

    def keeps_alive(self, parameters: Mapping[str, Any]) -> bool:
        return not _KEEPING_ALIVE.isdisjoint((*_service(parameters), *parameters))

    def busy_since(self, wire: Wire) -> float:
        since: float = getattr(wire, "_aa_busy_since", 0.0)
        return since

    async def restore(self, old: Wire, new: Wire, sockets: Sockets) -> tuple[str, ...]:
        return await replayed(old, new, sockets)

    def attach(self, wire: Wire, proxy: Any) -> None:
        if not hasattr(wire, "_aa_link"):
            return
        wire._aa_link = Link(proxy, through_of(type(wire)))
        if proxy.recoverable and proxy.control is not None:
            wire._aa_cell = proxy.control.cell
            wire._aa_seen = None
        if proxy.executes:
            wire._aa_seen = None
        given = proxy.settings
        wire._aa_limited = given.deadline is not None or given.socket_timeout is not None or proxy.on_demand

    def swap(self, wire: Wire, new: Wire) -> None:
        link_of(wire).take(wire, new)

    def give_up(self, wire: Wire) -> None:
        link_of(wire).give_up(wire)

    def error(self, kind: type[Any]) -> type[Any]:
        return both(kind)


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """*parameters* without those of libpq's that are None: not given; ``prepare_threshold=None`` says something."""
    return {key: value for key, value in parameters.items() if value is not None or key in _KEYWORDS}


def _at(parameters: Mapping[str, Any], place: Place | None, timeout: float | None) -> dict[str, Any]:
    """The parameters for one place, with a login no longer than *timeout* (seconds)."""
    changed = _given(parameters)
    # A place without a name is where libpq goes by itself, or where a service file leads that only libpq finds.
    if place is not None and place.host:
        service = _service(parameters)
        left_out = _ROUTING if place.given else _ROUTING | _CHOOSING
        changed = {k: v for k, v in {**service, **changed}.items() if k not in left_out}
        many = "," in place.host
        changed["host"] = place.host if many else ",".join([place.host] * len(place.addresses))
        # Sockets are no addresses: libpq takes the host where the address is empty.
        changed["hostaddr"] = ",".join("" if address[:1] in ("", "/", "@") else address for address, _ in place.addresses)
        changed["port"] = ",".join(str(port) for _, port in place.addresses)
    if timeout is not None:
        own = float(changed.get("connect_timeout") or 0) or math.inf
        changed["connect_timeout"] = max(LEAST_CONNECT_SECONDS, math.ceil(min(own, timeout)))
    return changed


@lru_cache(maxsize=8)
def _read(conninfo: str) -> Mapping[str, Any]:
    """*conninfo* as libpq reads it, with what is in it for us. Programs connect with few of them, and again and again."""
    known, ours = _divided(conninfo, _libpq_keys())
    return MappingProxyType({**conninfos.conninfo_to_dict(known), **ours})


def _divided(conninfo: str, keys: frozenset[str]) -> tuple[str, dict[str, str]]:
    """*conninfo* without what libpq does not know, and that."""
    ours: dict[str, str] = {}
    kept: list[str] = []
    if conninfo.startswith(("postgresql://", "postgres://")):
        before = re.match(_BEFORE_QUERY, conninfo)
        for pair in conninfo[before.end() :].split("&") if before else ():
            key, equals, value = pair.partition("=")
            if not equals or (key := unquote(key)) in keys or key == "ssl":
                kept.append(pair)
            else:
                ours[key] = unquote(value, errors="strict")
        return (before[0] + "&".join(kept), ours) if before and ours else (conninfo, {})
    pairs = re.compile(_PAIR)
    end = len(conninfo) - len(conninfo.lstrip(_BLANKS))
    while match := pairs.match(conninfo, end):
        key, value = match[1], match[2]
        if key in keys:
            kept.append(f"{key}={value}")
        else:
            plain = value[1:-1] if value.startswith("'") else value
            ours[key] = re.sub(r"\\(.?)", r"\1", plain, flags=re.DOTALL)
        end = match.end()
    if end < len(conninfo) or not ours:
        return conninfo, {}
    return " ".join(kept), ours


@cache
def _libpq_keys() -> frozenset[str]:
    return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())


@cache
def _all_keys() -> frozenset[str]:
    return _libpq_keys() | _KEYWORDS | {"database"}


def _defaults() -> dict[str, str]:
    wanted = (b"host", b"hostaddr", b"port")
    return {o.keyword.decode(): o.val.decode() for o in pq.Conninfo.get_defaults() if o.val and o.keyword in wanted}


def _service(parameters: Mapping[str, Any]) -> dict[str, str]:
    """What the connection service file says, which libpq tells nobody before it connects.

    Nothing where we find no file, and where libpq has something to complain of.

    https://www.postgresql.org/docs/current/libpq-pgservice.html
    """
    name = parameters.get("service") or os.environ.get("PGSERVICE")
    if not name:
        return {}
    own = Path(os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf")
    for file in (own, Path(os.environ.get("PGSYSCONFDIR", "/etc/postgresql-common")) / "pg_service.conf"):
        try:
            text = file.read_text("utf-8", errors="surrogateescape")
        except OSError:
            continue
        found = _in_service_file(text, str(name))
        if found is not None:
            return found
    return {}


def _in_service_file(text: str, name: str) -> dict[str, str] | None:
    """What *text* says of the service, as libpq reads it: the first of its sections, and of its keys; None: it has none."""
    found: dict[str, str] | None = None
    for line in (each.strip(_BLANKS) for each in text.split("\n")):
        if line.startswith("["):
            if found is not None:
                break
            found = {} if line.startswith(f"[{name}]") else None
        elif found is not None and line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            if not equals or key not in _libpq_keys() or key == "service":
                return {}
            found.setdefault(key, value)
    return found


def _rows(result: Any) -> Rows:
    return [
        [None if (v := result.get_value(row, column)) is None else v.decode() for column in range(result.nfields)]
        for row in range(result.ntuples)
    ]
