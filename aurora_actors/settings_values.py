"""The values of all parameters of one connection, as `settings.split()` read them by the rows of `settings_table`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any, Literal

from aurora_actors.model.endpoints import InstancePattern
from aurora_actors.model.values import dataclass
from aurora_actors.settings_table import SETTINGS, Resolver

__all__ = ["Settings"]

Role = Literal["writer", "reader", "none"]
_DEFAULTS: Mapping[str, Any] = {name: row.default for name, row in SETTINGS.items()}


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """The validated parameters of one connection, one attribute for each available row of the table.

    `given` names those the user gave. `Settings()` holds the defaults. Durations have the unit that the name ends with:
    `_sec` seconds as float, `_ms` milliseconds as int. None means: not given, and no default that fits all.
    """

    plugins: tuple[str, ...] | None = _DEFAULTS["plugins"]
    auto_sort_wrapper_plugin_order: bool = _DEFAULTS["auto_sort_wrapper_plugin_order"]
    transfer_session_state_on_switch: bool = _DEFAULTS["transfer_session_state_on_switch"]
    rollback_on_switch: bool = _DEFAULTS["rollback_on_switch"]
    commit_outcome: bool = _DEFAULTS["commit_outcome"]
    wrapper_dialect: str | None = _DEFAULTS["wrapper_dialect"]
    wrapper_driver_dialect: str | None = _DEFAULTS["wrapper_driver_dialect"]
    auxiliary_query_timeout_sec: float = _DEFAULTS["auxiliary_query_timeout_sec"]
    socket_timeout: float | None = _DEFAULTS["socket_timeout"]
    deadline: float | None = _DEFAULTS["deadline"]
    resolve: Resolver | None = _DEFAULTS["resolve"]
    on_connect: Callable[[Any], Any] | None = _DEFAULTS["on_connect"]
    tcp_keepalive: bool | None = _DEFAULTS["tcp_keepalive"]
    tcp_keepalive_time: int | None = _DEFAULTS["tcp_keepalive_time"]
    tcp_keepalive_interval: int | None = _DEFAULTS["tcp_keepalive_interval"]
    tcp_keepalive_probes: int | None = _DEFAULTS["tcp_keepalive_probes"]
    topology_refresh_ms: int = _DEFAULTS["topology_refresh_ms"]
    cluster_topology_high_refresh_rate_ms: int = _DEFAULTS["cluster_topology_high_refresh_rate_ms"]
    cluster_id: str | None = _DEFAULTS["cluster_id"]
    cluster_instance_host_pattern: InstancePattern | None = _DEFAULTS["cluster_instance_host_pattern"]
    monitor_disposal_time_ms: int = _DEFAULTS["monitor_disposal_time_ms"]
    enable_failover: bool = _DEFAULTS["enable_failover"]
    failover_mode: Literal["strict_writer", "strict_reader", "reader_or_writer"] | None = _DEFAULTS["failover_mode"]
    failover_timeout_sec: float = _DEFAULTS["failover_timeout_sec"]
    failover_cluster_topology_refresh_rate_sec: float | None = _DEFAULTS["failover_cluster_topology_refresh_rate_sec"]
    failover_writer_reconnect_interval_sec: float | None = _DEFAULTS["failover_writer_reconnect_interval_sec"]
    failover_reader_connect_timeout_sec: float | None = _DEFAULTS["failover_reader_connect_timeout_sec"]
    failover_reader_host_selector_strategy: str = _DEFAULTS["failover_reader_host_selector_strategy"]
    enable_connect_failover: bool = _DEFAULTS["enable_connect_failover"]
    initial_connection_host_selector_strategy: str = _DEFAULTS["initial_connection_host_selector_strategy"]
    endpoint_substitution_role: Role | Literal["any"] | None = _DEFAULTS["endpoint_substitution_role"]
    verify_opened_connection_type: Role | None = _DEFAULTS["verify_opened_connection_type"]
    wait_for_initial_topology_ms: int = _DEFAULTS["wait_for_initial_topology_ms"]
    open_connection_retry_timeout_ms: int = _DEFAULTS["open_connection_retry_timeout_ms"]
    open_connection_retry_interval_ms: int = _DEFAULTS["open_connection_retry_interval_ms"]
    round_robin_default_weight: int = _DEFAULTS["round_robin_default_weight"]
    round_robin_host_weight_pairs: tuple[tuple[str, int], ...] = _DEFAULTS["round_robin_host_weight_pairs"]
    weighted_random_default_weight: int = _DEFAULTS["weighted_random_default_weight"]
    weighted_random_host_weight_pairs: tuple[tuple[str, int], ...] = _DEFAULTS["weighted_random_host_weight_pairs"]
    failure_detection_enabled: bool = _DEFAULTS["failure_detection_enabled"]
    failure_detection_time_ms: int = _DEFAULTS["failure_detection_time_ms"]
    failure_detection_interval_ms: int = _DEFAULTS["failure_detection_interval_ms"]
    failure_detection_count: int = _DEFAULTS["failure_detection_count"]
    monitoring: str = _DEFAULTS["monitoring"]
    monitors: tuple[str, ...] = _DEFAULTS["monitors"]

    given: frozenset[str] = frozenset()
    of_plugins: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """The parameters that plugins declared, by name, those not given with their default."""
    prefixed_values: tuple[tuple[str, str, object], ...] = ()
    """Prefix, name without it, value."""
    secret: frozenset[str] = frozenset()
    """Names whose values are not shown."""

    def prefixed(self, prefix: str) -> Mapping[str, object]:
        """What was given with `prefix` ("monitoring-", "topology-monitoring-"), by the name without it."""
        return MappingProxyType({name: value for head, name, value in self.prefixed_values if head == prefix})

    def __repr__(self) -> str:
        shown = {name: getattr(self, name, None) for name in self.given}
        shown |= {name: self.of_plugins[name] for name in self.given & self.of_plugins.keys()}
        # What is meant for the driver of a monitor may be a password under any name.
        hidden = {head + name for head, name, _ in self.prefixed_values} | (self.given & self.secret)
        shown |= {name: "***" for name, value in shown.items() if callable(value)} | dict.fromkeys(hidden, "***")
        texts = (f"{name}={shown[name]}" for name in sorted(shown))
        return f"Settings({', '.join(texts)})"
