"""``connect()``: from what the user gave to the connection that the application holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from aurora_actors.actors.watched import Kind
from aurora_actors.deadlines import limited, nearest
from aurora_actors.drivers.base import Access, Driver
from aurora_actors.errors import ConfigurationError, DeadlineExceededError, Outcome
from aurora_actors.flow import discovery
from aurora_actors.flow.interrupts import pass_interrupt
from aurora_actors.flow.io import BlockingIo, Io
from aurora_actors.flow.opening import Plan, opened
from aurora_actors.flow.recovering import set_up, tries_again
from aurora_actors.flow.running import run_blocking
from aurora_actors.model.deadlines import past
from aurora_actors.model.endpoints import EndpointKind, parse_endpoint
from aurora_actors.model.failover import Mode
from aurora_actors.model.selection import Strategy
from aurora_actors.plugin import Monitor, Plugin
from aurora_actors.proxies.context import own_parameters
from aurora_actors.proxies.credentials import credentials
from aurora_actors.proxies.marker import checked
from aurora_actors.proxies.proxy import Proxy
from aurora_actors.settings import SETTINGS, Settings, Table, split
from aurora_actors.settings_table import plain

__all__ = ["connect", "opening"]

_DEFAULT = Settings()
_BY_SCHEME = {"postgres": "psycopg", "postgresql": "psycopg", "mariadb": "mysql"}


def connect(target: Callable[..., Any] | str | None = None, conninfo: str = "", /, **parameters: Any) -> Any:
    """Open a connection that survives the loss of its host.

    *target* is the driver's connect (``psycopg.Connection.connect``) and *conninfo* what that driver takes, or *target*
    is a URL whose scheme picks the driver. *parameters* are the driver's and ours, over those in *conninfo*. The result is
    an object of the driver's own class. Runs in the caller's thread.

    Raises ``ConfigurationError`` or ``PluginError`` before anything starts, and the driver's own errors.
    """
    return run_blocking(opening(BlockingIo, target, conninfo, parameters))


async def opening(
    face: Callable[[Driver], Io], target: Callable[..., Any] | str | None, conninfo: str, parameters: dict[str, Any]
) -> Any:
    """The same as a flow, for the face that *face* makes."""
    asynchronous = face is not BlockingIo
    target, conninfo = _target(target, conninfo, parameters)
    driver, target = _driver(target, conninfo, asynchronous=asynchronous)
    merged = driver.parameters(conninfo, parameters)
    classes = discovery.plugin_classes(_names(merged, "plugins"))
    monitors = {name: discovery.monitor(name) for name in _names(merged, "monitors") or _DEFAULT.monitors}
    providers = tuple(str(value).strip().lower() for value in _spelt(merged, "idp_name").values() if value)
    codes = discovery.names("aurora_actors.dialects")
    settings, own = split(merged, driver.keys, _table(classes, tuple(monitors.values()), driver.keys, providers, codes))
    classes = discovery.ordered(classes, sort=settings.auto_sort_wrapper_plugin_order)
    try:
        seeds = tuple(driver.seeds(own))
    except (TypeError, ValueError) as error:
        kind: type[ConfigurationError] = driver.error(ConfigurationError)
        given = f"port={own['port']!r}" if own.get("port") is not None else "the port that was not given here"
        raise kind(f"{given}: expected a number ({error})") from error
    own = {**driver.keepalive(settings), **own}
    monitoring = _monitoring(settings, driver.keys)
    found_out = credentials((own, monitoring), classes, settings, asynchronous=asynchronous)
    access = Access(driver, target, own, monitoring, settings.resolve, asynchronous, found_out)
    selectors = (
        _selector(settings.initial_connection_host_selector_strategy),
        _selector(settings.failover_reader_host_selector_strategy),
    )
    kinds = tuple(
        Kind(name, monitor, distribution, own_parameters(settings, monitor.parameters))
        for name, (monitor, distribution) in monitors.items()
    )
    proxy = Proxy(face(driver), access, settings, _mode(settings, seeds[0][0]), classes, selectors, kinds)
    proxy.seeds = seeds
    asked = settings.given & {"plugins", "wrapper_dialect", "cluster_instance_host_pattern", "cluster_id"}
    plan = Plan(
        seeds,
        driver.dialects[-1],
        settings.cluster_id or "",
        asked=bool(asked),
        needs_cluster=any(plugin.needs_cluster for plugin in classes),
        dialect=settings.wrapper_dialect,
        pattern=settings.cluster_instance_host_pattern,
    )
    with limited(settings.deadline):
        wire = await proxy.demanded(_opened_in_time(proxy, plan))
    driver.attach(wire, proxy)
    return wire


@lru_cache
def _table(
    plugins: tuple[type[Plugin], ...],
    monitors: tuple[tuple[type[Monitor], str], ...],
    keys: frozenset[str],
    providers: tuple[str, ...],
    dialects: tuple[str, ...],
) -> Table:
    return Table(discovery.parameters(plugins, monitors, keys, providers), {"wrapper_dialect": dialects})


async def _made(proxy: Proxy, plan: Plan, until: float) -> Any:
    wire = await opened(proxy, plan)
    try:
        own = proxy.io.now() + proxy.settings.open_connection_retry_timeout_ms / 1000
        await checked(proxy, wire)
        await set_up(proxy, wire, min(own, until))
    except BaseException:
        proxy.closed()
        proxy.io.discard(wire)
        raise
    return wire


async def _opened_in_time(proxy: Proxy, plan: Plan) -> Any:
    began, until = proxy.io.now(), nearest()
    kind: type[DeadlineExceededError] = proxy.driver.error(DeadlineExceededError)
    if began >= until:
        raise kind(past("connect", began - until), outcome=Outcome.NOT_SENT)
    try:
        return await _made(proxy, plan, until)
    except tries_again(proxy) as error:
        pass_interrupt(error)
        seconds = proxy.io.now() - began
        if proxy.io.now() < until:
            raise
        host, port = plan.seeds[0]
        message = (
            f"the deadline came {seconds:.3f} s after the connect to {host}:{port} began, which had"
            f" {until - began:.3f} s left: {str(error).strip()}. Connect anew, with a later deadline if this one is short"
        )
        raise kind(message, outcome=Outcome.NOT_SENT, seconds=seconds) from error


def _target(
    target: Callable[..., Any] | str | None, conninfo: str, parameters: dict[str, Any]
) -> tuple[Callable[..., Any] | None, str]:
    target = parameters.pop("target", target)
    conninfo = parameters.pop("conninfo", conninfo)
    module = str(getattr(target, "__module__", "") or "")
    if module == "aurora_actors" or module.startswith("aurora_actors."):
        raise ConfigurationError(
            f"{module}.{getattr(target, '__qualname__', target)} is a connect of aurora_actors itself:"
            " call it directly, or give the driver's own, such as psycopg.Connection.connect"
        )
    if isinstance(target, str):
        if conninfo:
            raise ConfigurationError("connect() takes the driver's connect and a conninfo, or a URL alone")
        return None, target
    if not isinstance(cast("object", conninfo), str):
        raise ConfigurationError(f"the conninfo is text, not {type(conninfo).__name__}")
    if target is not None and not callable(target):
        raise ConfigurationError(f"the first argument is the driver's connect or a URL, not {type(target).__name__}")
    return target, conninfo


def _driver(
    target: Callable[..., Any] | None, conninfo: str, *, asynchronous: bool
) -> tuple[Driver, Callable[..., Any]]:
    if target is None:
        scheme = conninfo.partition("://")[0] if "://" in conninfo else ""
        if not scheme:
            raise ConfigurationError(
                "without the driver's connect as first argument a URL is needed, such as postgresql://user@host/dbname"
            )
        name = _BY_SCHEME.get(scheme, scheme)
        driver = _loaded(name, f"no driver for {scheme}:// is installed")
        return driver, driver.default_target(asynchronous=asynchronous)
    owner = getattr(target, "__self__", None)
    classes = owner.__mro__ if isinstance(owner, type) else (target,)
    roots = {str(getattr(each, "__module__", "") or "").partition(".")[0] for each in classes}
    names = discovery.names("aurora_actors.drivers")
    shown = getattr(target, "__qualname__", repr(target))
    for name in sorted(names, key=lambda name: name not in roots):
        if name not in roots and discovery.load("aurora_actors.drivers", name).value is None:
            continue  # not installed, and nobody asked for it
        driver = _loaded(name, f"driver {name} cannot be used")
        if not driver.accepts(target):
            continue
        if driver.is_async(target) not in (asynchronous, None):
            right = "aurora_actors.aio.connect()" if not asynchronous else "aurora_actors.connect()"
            raise ConfigurationError(f"{shown} is for {'threads' if asynchronous else 'asyncio'}: give it to {right}")
        return driver, target
    raise ConfigurationError(f"{shown!r} is no connect of a driver that is known: {', '.join(names)}")


def _loaded(name: str, complaint: str) -> Driver:
    record = discovery.load("aurora_actors.drivers", name)
    if record.value is None:
        raise ConfigurationError(f"{complaint}: {record.error}; pip install 'aurora-actors[{name}]'")
    driver: Driver = record.value()
    return driver


def _names(merged: dict[str, Any], parameter: str) -> list[str] | None:
    """The names in a list that has to be known before the other parameters are, however its own name is spelt."""
    spelt = _spelt(merged, parameter)
    if not spelt:
        return None
    settings, _ = split(spelt, ())
    return list(getattr(settings, parameter)) if parameter in settings.given else None


def _spelt(merged: dict[str, Any], parameter: str) -> dict[str, Any]:
    spellings = (parameter, *SETTINGS[parameter].aliases)
    return {key: value for key, value in merged.items() if plain(key) in spellings}


def _selector(name: str) -> Strategy:
    selector: Strategy = discovery.usable("aurora_actors.host_selectors", name).value
    return selector


def _mode(settings: Settings, host: str) -> Mode:
    if settings.failover_mode is not None:
        return Mode(settings.failover_mode)
    reader = parse_endpoint(host).kind is EndpointKind.READER
    return Mode.READER_OR_WRITER if reader else Mode.STRICT_WRITER


def _monitoring(settings: Settings, driver_keys: frozenset[str]) -> dict[str, Any]:
    given = {**settings.prefixed("monitoring-"), **settings.prefixed("topology-monitoring-")}
    # Probes have limits of their own; no driver knows a parameter of ours.
    return {name: value for name, value in given.items() if name not in SETTINGS or name in driver_keys}
