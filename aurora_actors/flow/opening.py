"""The first connection: opened, introduced to its cluster, and verified to be in the role that its endpoint promises."""

from __future__ import annotations

import logging
from dataclasses import replace

from aurora_actors import errors
from aurora_actors.actors.asking import DeadlineExceeded
from aurora_actors.actors.cluster import Cluster, Identity
from aurora_actors.actors.naming import Naming
from aurora_actors.actors.system import Seed, system
from aurora_actors.deadlines import nearest
from aurora_actors.dialects.base import Dialect, Report
from aurora_actors.drivers.base import Wire
from aurora_actors.flow.discovery import usable
from aurora_actors.flow.recovering import WrongRole, find, opened_in_role, pause, topology_awaited, tries_again
from aurora_actors.model.endpoints import Endpoint, EndpointKind, InstancePattern, parse_endpoint, parse_instance_pattern
from aurora_actors.model.failover import Mode, Want
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.topology import ClusterTopology, Knowledge, Observation, observed
from aurora_actors.model.values import dataclass
from aurora_actors.proxies.proxy import Proxy
from aurora_actors.settings import Settings

__all__ = ["Plan", "opened"]

log = logging.getLogger("aurora_actors.connect")

_warned: set[Seed] = set()


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``connect()`` found out before anything started.

    ``engine``: the code of the driver's plain dialect. ``asked``: plugins, dialect or pattern were named, so that a host
    which does not look like RDS is worth a question.
    ``wanted``: the role that the first connection has to have; None: any.
    """

    seeds: tuple[tuple[str, int], ...]
    engine: str
    cluster_id: str
    asked: bool
    needs_cluster: bool
    dialect: str | None
    pattern: InstancePattern | None

    @property
    def seed(self) -> Seed:
        return (self.engine, self.cluster_id, *self.seeds[0])


async def opened(proxy: Proxy, plan: Plan) -> Wire:
    """The connection for the application, its proxy placed. Raises the driver's own error where there is no connection."""
    io = proxy.io
    endpoint = parse_endpoint(plan.seeds[0][0])
    if plan.needs_cluster and endpoint.kind is EndpointKind.OTHER and endpoint.host and endpoint.host != "localhost":
        endpoint = parse_endpoint(await io.canonical(proxy.access, endpoint.host))
    if not plan.needs_cluster or not (plan.asked or endpoint.is_rds):
        at = io.now()
        wire = await proxy.open(None, None, initial=True)
        name, _, port = proxy.driver.reached(wire)
        proxy.placed(wire, Host(name, name, port), at, None, None)
        return wire
    wanted = _wanted(proxy, endpoint)
    known = system.find(plan.seed)
    if known is not None and known.cell.standing.settled and wanted is not None:
        wire = await _at_known(proxy, known, wanted)
        if wire is not None:
            return wire
    return await _at_endpoint(proxy, plan, endpoint, wanted, known)


def _wanted(proxy: Proxy, endpoint: Endpoint) -> Role | None:
    given = proxy.settings.verify_opened_connection_type or proxy.settings.endpoint_substitution_role
    if given is not None:
        return {"writer": Role.WRITER, "reader": Role.READER}.get(given)
    return {EndpointKind.WRITER: Role.WRITER, EndpointKind.READER: Role.READER}.get(endpoint.kind)


async def _at_known(proxy: Proxy, control: Cluster, wanted: Role, here: Host | None = None) -> Wire | None:
    """Straight to a host in that role, past a DNS that may lag; None: the endpoint has to be tried, or *here* it is."""
    view = control.cell.view
    writer = view.topology.writer
    hosts = (writer,) if wanted is Role.WRITER and writer is not None else view.topology.readers
    hosts = tuple(host for host in hosts if host.id not in view.down)
    until = min(proxy.io.now() + proxy.settings.open_connection_retry_timeout_ms / 1000, nearest())
    while hosts and proxy.io.now() < until:
        opened = proxy.io.now()
        chosen = proxy.choose(hosts, initial=True)
        if chosen.is_same(here):
            return None
        try:
            wire, host = await opened_in_role(proxy, control, chosen, until, initial=True)
        except tries_again(proxy) as error:
            log.debug("%s of cluster %s cannot be had: %s", chosen, control.name, error)
        else:
            if host.role is wanted:
                proxy.placed(wire, host, opened, control.naming.dialect, control)
                return wire
            proxy.io.discard(wire)
        hosts = tuple(other for other in hosts if other is not chosen)
    return None


async def _at_endpoint(
    proxy: Proxy, plan: Plan, endpoint: Endpoint, wanted: Role | None, known: Cluster | None
) -> Wire:
    io = proxy.io
    at = io.now()
    try:
        wire = await proxy.open(None, None, initial=True)
    except proxy.driver.errors as error:
        lost = proxy.driver.failure(error, None).lost
        if known is None or not lost or not proxy.settings.enable_connect_failover:
            raise
        return await _in_role(proxy, known, at, proxy.settings.failover_timeout_sec, error)
    try:
        return await _introduced(proxy, plan, endpoint, wanted, wire, at)
    except BaseException:
        if proxy.control is None:
            io.discard(wire)
        raise


async def _introduced(
    proxy: Proxy, plan: Plan, endpoint: Endpoint, wanted: Role | None, wire: Wire, at: float
) -> Wire:
    name, address, port = proxy.driver.reached(wire)
    reached = Host(name, name, port)
    asked = proxy.io.now()
    try:
        dialect, report = await _asked(proxy, plan, endpoint, wire)
    except DeadlineExceeded as error:
        # Our question is still under way on this connection: the application gets one that was asked nothing.
        proxy.io.discard(wire)
        log.warning("%s:%s does not tell which cluster it belongs to: %s", name, port, error)
        at = proxy.io.now()
        wire = await proxy.open(None, None, initial=True)
        name, _, port = proxy.driver.reached(wire)
        proxy.placed(wire, Host(name, name, port), at, None, None)
        return wire
    except proxy.driver.errors as error:
        if plan.dialect is not None:
            raise errors.ConfigurationError(
                f"wrapper_dialect={plan.dialect} does not fit {name}:{port}: {str(error).strip()}"
            ) from error
        if isinstance(error, TimeoutError):
            # An answer may still come: the application must not find it in place of its own.
            proxy.io.discard(wire)
            wire = await proxy.open(None, None, initial=True)
        # Never worse than the driver alone: the connection works, we only do not know its cluster.
        log.warning("%s:%s does not tell which cluster it belongs to: %s", name, port, str(error).strip())
        proxy.placed(wire, reached, at, None, None)
        return wire
    if not dialect.names_hosts and not plan.asked and dialect.code == proxy.driver.dialects[-1]:
        proxy.placed(wire, reached, at, None, None)
        return wire
    naming = _naming(plan, endpoint, dialect, port)
    seen = naming.observation(report, _as_given(naming, reached), at, asked)
    members = naming.members(report.rows) or naming.endpoints
    identity = _identity(plan, endpoint, naming, members, (address, port))
    control = system.join(plan.seed, identity, lambda: _cluster(proxy, plan, endpoint, identity, naming, seen, members))
    _warn_once(plan, endpoint, naming)
    # Held until the connection holds its own: host monitors log in the way that it does.
    lease = control.lease(proxy.access, on_demand=proxy.on_demand)
    try:
        known = control.cell.view.topology
        news = known.host(seen.host.id) is None or (seen.role is Role.WRITER and not seen.host.is_same(known.writer))
        if news or not control.cell.standing.settled:
            control.learn(seen, members if naming.pattern is not None else ())
            await topology_awaited(proxy, control)
        if wanted is None or report.role is wanted:
            if wanted is Role.READER and "initial_connection_host_selector_strategy" in proxy.settings.given:
                # Where DNS led is one reader; which one it is to be is asked for.
                better = await _at_known(proxy, control, wanted, here=seen.host)
                if better is not None:
                    proxy.io.discard(wire)
                    return better
            proxy.placed(wire, seen.host, at, dialect, control)
            return wire
        return await _elsewhere(proxy, control, seen.host, wanted, wire, at)
    finally:
        lease.release()


async def _elsewhere(proxy: Proxy, control: Cluster, host: Host, wanted: Role, wire: Wire, at: float) -> Wire:
    """The endpoint led to a host in the other role."""
    if wanted is Role.READER:
        # On a reader where there is one: else the writer serves.
        better = await _at_known(proxy, control, wanted)
        if better is not None:
            proxy.io.discard(wire)
            return better
        proxy.placed(wire, host, at, control.naming.dialect, control)
        return wire
    limit = proxy.settings.open_connection_retry_timeout_ms / 1000
    right = await _in_role(proxy, control, at, limit, None)
    proxy.io.discard(wire)
    return right


async def _in_role(proxy: Proxy, control: Cluster, at: float, limit: float, error: Exception | None) -> Wire:
    """Search for the host that the connection should be on; *limit* in seconds."""
    io = proxy.io
    until = min(io.now() + limit, nearest())
    want = Want(Mode.STRICT_WRITER if error is None else proxy.mode, None, 0.0, at)
    tries = 0
    while True:
        try:
            host = proxy.choose(await find(proxy, control, want, until), initial=True)
            opened = io.now()
            wire, host = await opened_in_role(proxy, control, host, until, initial=True)
            if want.mode.accepts(host):
                proxy.placed(wire, host, opened, control.naming.dialect, control)
                return wire
            io.discard(wire)
            raise WrongRole(f"{host} says that it is a {host.role.value}")
        except tries_again(proxy) as cause:
            tries += 1
            if io.now() >= until:
                if error is not None:
                    raise error from cause
                kind = proxy.driver.error(errors.FailoverFailedError)
                raise kind(
                    f"the endpoint led to a reader and no writer of cluster {control.name} was found within {limit:.1f} s"
                    f" (open_connection_retry_timeout_ms): {cause}",
                    outcome=errors.Outcome.NOT_SENT,
                    attempts=control.cell.attempts,
                ) from cause
            await io.sleep(max(0.0, min(io.jitter(_pause(proxy.settings, tries)), until - io.now())))
            want = replace(want, since=io.now())


def _pause(settings: Settings, tries: int) -> float:
    given = "open_connection_retry_interval_ms" in settings.given
    return settings.open_connection_retry_interval_ms / 1000 if given else pause(tries)


async def _asked(proxy: Proxy, plan: Plan, endpoint: Endpoint, wire: Wire) -> tuple[Dialect, Report]:
    """The dialect and the host's report: one round trip at a cluster endpoint, two where the engine has to be found out."""
    io, driver, until = proxy.io, proxy.driver, proxy.io.now() + proxy.settings.auxiliary_query_timeout_sec
    if plan.dialect is not None:
        return await _reported(proxy, wire, (plan.dialect,), until)
    if endpoint.is_cluster:
        try:
            return await _reported(proxy, wire, driver.dialects[:1], until)
        except driver.errors as error:
            if isinstance(error, DeadlineExceeded) or driver.failure(error, wire).lost:
                raise
    plain = _dialect(driver.dialects[-1])
    return await _reported(proxy, wire, plain.detected(await io.query(wire, plain.detect_sql, until)), until)


async def _reported(proxy: Proxy, wire: Wire, codes: tuple[str, ...], until: float) -> tuple[Dialect, Report]:
    """The first of the dialects *codes* that the host speaks, and its report. Raises the driver's error if none."""
    *others, last = (_dialect(code) for code in codes)
    for dialect in others:
        try:
            return dialect, dialect.read(await proxy.io.query(wire, dialect.report_sql, until))
        except ValueError as error:
            log.debug("%s is not what the host speaks: %s", dialect.code, error)
        except proxy.driver.errors as error:
            if isinstance(error, DeadlineExceeded) or proxy.driver.failure(error, wire).lost:
                raise
    return last, last.read(await proxy.io.query(wire, last.report_sql, until))


def _dialect(code: str) -> Dialect:
    dialect: Dialect = usable("aurora_actors.dialects", code).value()
    return dialect


def _naming(plan: Plan, endpoint: Endpoint, dialect: Dialect, port: int) -> Naming:
    pattern = plan.pattern
    if pattern is None and endpoint.instance_pattern is not None and dialect.names_hosts:
        pattern = parse_instance_pattern(endpoint.instance_pattern)
    several = len({host for host, _ in plan.seeds}) < len(plan.seeds)
    given = tuple(Host(f"{host}:{number}" if several else host, host, number) for host, number in plan.seeds)
    return Naming(dialect, pattern if dialect.names_hosts else None, port, given)


def _as_given(naming: Naming, reached: Host) -> Host:
    same = (h for h in naming.endpoints if (h.endpoint, h.port) == (reached.endpoint, reached.port))
    return next(same, naming.endpoints[0])


def _identity(
    plan: Plan, endpoint: Endpoint, naming: Naming, members: tuple[Host, ...], address: tuple[str, int]
) -> Identity:
    if naming.pattern is None:
        return Identity(plan.engine, plan.cluster_id, "", addresses=frozenset({address}))
    labels = frozenset({endpoint.name}) if endpoint.cluster_endpoint else frozenset[str]()
    ids = frozenset(host.id for host in members)
    # The given port: behind a resolver that reached may be another for each host.
    zone = str(naming.pattern if naming.pattern.port else replace(naming.pattern, port=plan.seeds[0][1]))
    return Identity(plan.engine, plan.cluster_id, zone, labels=labels, members=ids)


def _cluster(
    proxy: Proxy,
    plan: Plan,
    endpoint: Endpoint,
    identity: Identity,
    naming: Naming,
    seen: Observation,
    members: tuple[Host, ...],
) -> Cluster:
    name = plan.cluster_id or endpoint.cluster_endpoint or f"{seen.host.endpoint}:{seen.host.port}"
    known = observed(Knowledge(ClusterTopology(name)), seen, members)
    settings = proxy.settings
    return Cluster(
        name,
        identity,
        naming,
        known,
        refresh=settings.topology_refresh_ms / 1000,
        least=_least(settings),
        grace=settings.monitor_disposal_time_ms / 1000,
        timer=system.clock,
        idle=system.forget,
    )


def _least(settings: Settings) -> tuple[float, float]:
    """The shortest interval between two looks at one host in a search, as far as the user gave one."""
    given = settings.given
    every = settings.failover_cluster_topology_refresh_rate_sec or 0.0
    if "cluster_topology_high_refresh_rate_ms" in given:
        every = max(every, settings.cluster_topology_high_refresh_rate_ms / 1000)
    return every, max(every, settings.failover_writer_reconnect_interval_sec or 0.0)


def _warn_once(plan: Plan, endpoint: Endpoint, naming: Naming) -> None:
    guessing = naming.dialect.names_hosts and naming.pattern is None
    if guessing and plan.seed not in _warned:
        _warned.add(plan.seed)
        log.warning(
            "the hosts behind %s have names that cannot be derived from it: recovery goes through it until it says"
            " writer; give cluster_instance_host_pattern, such as '?.abc.eu-west-1.rds.amazonaws.com', to reach them",
            endpoint.host,
        )
