"""Every parameter of the AWS wrapper and of this package, one row each. `settings` reads values with these rows.

Names and units are the AWS wrapper's (3.1.0); `wrapper_default` is what it does, `default` what this package does.
A row that is not `available` is known, so that giving it is an error that says so and not silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from aurora_actors.model.values import dataclass

__all__ = ["SETTINGS", "SPELLINGS", "Kind", "Resolver", "Setting", "plain", "spellings"]

Kind = Literal["bool", "int", "float", "text", "name", "choice", "list", "weights", "pattern", "callable"]
"""How a value is read. `name` is text in which case, `-` and `_` do not matter; `weights` is `host:weight,…`."""

NO_BOUND = float("inf")
PREFIXES = ("topology-monitoring-", "monitoring-")
LACKING_PREFIXES = {
    "frt-": "fastest_response_strategy",
    "blue-green-monitoring-": "bg",
    "limitless-router-monitor-": "limitless",
}
Resolver = Callable[[str, int], Sequence[tuple[str, int]]]
_DAY_MS = 86_400_000.0
_DAY_SECONDS = 86_400.0
# A limit or pause below the time of one round trip in one network cannot be kept and was meant in another unit.
_SHORTEST_SECONDS = 0.01
_FASTEST_POLL_MS = 10.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One parameter: its type, unit, defaults, bounds, who reads it, and whether its value may be shown.

    `least` and `most` are inclusive. `default` is the value as `Settings` holds it. `refused` pairs values that the
    AWS wrapper or its documentation knows with the reason why they are refused here. A plugin declares its own with this
    class.
    """

    name: str
    kind: Kind = "text"
    _: KW_ONLY
    default: object = None
    wrapper_default: str | None = None
    unit: str = ""
    meaning: str = ""
    used_by: tuple[str, ...] = ()
    least: float = -NO_BOUND
    most: float = NO_BOUND
    choices: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    example: str = ""
    secret: bool = False
    available: bool = True

    @property
    def is_ours(self) -> bool:
        """Whether the AWS wrapper does not have it."""
        return self.wrapper_default is None


_DIALECTS = ("aurora-pg", "rds-pg", "pg", "aurora-mysql", "rds-mysql", "mysql")
_LACKING_DIALECTS = ("global-aurora-pg", "global-aurora-mysql")
_REFUSED_DIALECTS = (
    *((code, "known to the AWS wrapper, not in this version of aurora_actors") for code in _LACKING_DIALECTS),
    ("unknown", "leave wrapper_dialect away and the dialect is detected"),
    ("custom", "a dialect of your own is an entry point of the group aurora_actors.dialects; give its name"),
)
_REFUSED_DRIVERS = (("generic", "the driver is found from the connect callable; leave this away"),)


def _ms(name: str, default: int | None, theirs: str, by: str, meaning: str, *, least: float = 0) -> Setting:
    return Setting(
        name, "int", default=default, wrapper_default=theirs, unit="ms", meaning=meaning, used_by=(by,),
        least=least, most=_DAY_MS, example=theirs,
    )  # fmt: skip


def _seconds(name: str, default: float | None, theirs: str, by: str, meaning: str) -> Setting:
    return Setting(
        name, "float", default=default, wrapper_default=theirs, unit="s", meaning=meaning, used_by=(by,),
        least=_SHORTEST_SECONDS, most=_DAY_SECONDS, example=theirs if default is None else f"{default:g}",
    )  # fmt: skip


def _flag(name: str, default: bool | None, theirs: str, by: str, meaning: str) -> Setting:
    return Setting(name, "bool", default=default, wrapper_default=theirs, meaning=meaning, used_by=(by,))


def _absent(by: str, *rows: tuple[str, Kind, str, str]) -> tuple[Setting, ...]:
    """Rows of what this version lacks: name, kind, the wrapper's default, meaning."""
    return tuple(
        Setting(name, kind, wrapper_default=theirs, meaning=meaning, used_by=(by,), available=False,
                secret=name.endswith("password"))
        for name, kind, theirs, meaning in rows
    )  # fmt: skip


_CORE = (
    Setting(
        "plugins", "list", used_by=("core",), aliases=("wrapper_plugins",), example="failover,initial_connection",
        wrapper_default="initial_connection,aurora_connection_tracker,failover_v2,host_monitoring_v2",
        meaning="plugin codes, comma separated; not given means the defaults, empty means none",
    ),
    _flag("auto_sort_wrapper_plugin_order", True, "true", "core", "order plugins by what they declare"),
    _flag("transfer_session_state_on_switch", True, "true", "session", "replay the session on the new connection"),
    _flag("rollback_on_switch", True, "true", "session",
          "an old connection is closed at a switch, so its transaction ends in a rollback with either value"),
    Setting("commit_outcome", "bool", default=False, used_by=("core",),
            meaning="mark each COMMIT in a table, so that its outcome is told when its connection is lost", example="true"),
    Setting(
        "wrapper_dialect", "choice", wrapper_default="", used_by=("core",), choices=_DIALECTS,
        refused=_REFUSED_DIALECTS, meaning="the database dialect, to skip its detection", example="aurora-pg",
    ),
    Setting(
        "wrapper_driver_dialect", "choice", wrapper_default="", used_by=("core",),
        choices=("psycopg", "mysql-connector-python"), refused=_REFUSED_DRIVERS, example="psycopg",
        meaning="the driver, to skip its detection",
    ),
    _seconds("auxiliary_query_timeout_sec", 5.0, "5", "core", "limit of each statement of this package's own"),
    _seconds("socket_timeout", None, "", "core",
             "limit of each call that waits for the network; a failover that it meets is not bounded by it"),
    Setting("deadline", "float", unit="s", used_by=("core",), least=_SHORTEST_SECONDS, most=_DAY_SECONDS, example="30",
            meaning="limit of the connect and of each call, failover and all, as within `aurora_actors.deadline()`"),
    Setting("resolve", "callable", used_by=("core",), example="def resolve(host, port): return [(address, port)]",
            meaning="looks names up for this connection: host and port to a sequence of (address, port); may block"),
    Setting("on_connect", "callable", used_by=("session",), example="def on_connect(conn): conn.execute(...)",
            meaning="sets each new connection of the driver's up, at first and after every switch; may be a coroutine"),
    _flag("tcp_keepalive", None, "", "driver", "TCP keepalive; psycopg: keepalives"),
    Setting("tcp_keepalive_time", "int", wrapper_default="", unit="s", used_by=("driver",), least=0, most=_DAY_SECONDS,
            meaning="idle time before the first keepalive; psycopg: keepalives_idle", example="30"),
    Setting("tcp_keepalive_interval", "int", wrapper_default="", unit="s", used_by=("driver",), least=0,
            most=_DAY_SECONDS, meaning="time between keepalives; psycopg: keepalives_interval", example="10"),
    Setting("tcp_keepalive_probes", "int", wrapper_default="", used_by=("driver",), least=0, most=1000,
            meaning="lost keepalives before the connection is dropped; psycopg: keepalives_count", example="3"),
)  # fmt: skip

_TOPOLOGY = (
    _ms("topology_refresh_ms", 30_000, "30000", "topology", "how often the topology is read in quiet times",
        least=_FASTEST_POLL_MS),
    _ms("cluster_topology_high_refresh_rate_ms", 100, "100", "topology",
        "how often it is read while a writer is searched and shortly after", least=_FASTEST_POLL_MS),
    Setting("cluster_id", "text", wrapper_default="1", used_by=("topology",), example="orders",
            meaning="keeps apart what would be taken for one cluster; never joins two"),
    Setting("cluster_instance_host_pattern", "pattern", wrapper_default="", used_by=("topology",),
            example="?.abc.eu-west-1.rds.amazonaws.com", meaning="how instances are named: `?` is the id"),
    Setting("monitoring", "choice", default="auto", used_by=("topology", "efm"), example="on_demand",
            choices=("auto", "background", "on_demand"),
            meaning="on_demand: no thread outlives the call that needed it; auto: that in AWS Lambda, else background"),
    _ms("monitor_disposal_time_ms", 60_000, "600000", "topology",
        "how long monitors stay after the last connection to their cluster was closed"),
)  # fmt: skip

_FAILOVER = (
    _flag("enable_failover", True, "true", "failover", "whether a lost connection is replaced"),
    Setting(
        "failover_mode", "choice", wrapper_default="", used_by=("failover",), example="strict_writer",
        choices=("strict_writer", "strict_reader", "reader_or_writer"),
        meaning="which hosts will do; not given: reader_or_writer for reader endpoints, else strict_writer",
    ),
    _seconds("failover_timeout_sec", 60.0, "300", "failover", "limit of one failover, all its tries included"),
    _seconds("failover_cluster_topology_refresh_rate_sec", None, "2", "failover",
             "pause between topology readings in a failover; not given: cluster_topology_high_refresh_rate_ms"),
    _seconds("failover_writer_reconnect_interval_sec", None, "2", "failover",
             "pause between tries to reach the lost writer again; not given: the pace of all other probes"),
    _seconds("failover_reader_connect_timeout_sec", None, "30", "failover",
             "limit of one try to connect to a reader; not given: that of every other try"),
    Setting("failover_reader_host_selector_strategy", "name", default="random", wrapper_default="random",
            used_by=("failover",), meaning="which reader is tried first", example="random"),
    _flag("enable_connect_failover", False, "false", "failover", "fail over as well when the first connect fails"),
)  # fmt: skip

_INITIAL_CONNECTION = (
    Setting(
        "initial_connection_host_selector_strategy", "name", default="random", wrapper_default="random",
        used_by=("initial_connection",), aliases=("reader_initial_connection_host_selector_strategy",),
        meaning="which reader a reader endpoint leads to", example="random",
    ),
    Setting("endpoint_substitution_role", "choice", wrapper_default="", used_by=("initial_connection",),
            choices=("writer", "reader", "any", "none"), example="writer",
            meaning="which kind of instance the first connection goes to instead of the given endpoint"),
    Setting("verify_opened_connection_type", "choice", wrapper_default="", used_by=("initial_connection",),
            choices=("writer", "reader", "none"), meaning="role that the first connection must have", example="writer"),
    _ms("wait_for_initial_topology_ms", 0, "0", "initial_connection", "first connect: longest wait for the writer's word"),
    _ms("open_connection_retry_timeout_ms", 30_000, "30000", "initial_connection",
        "limit of the search for a host of the right role at the first connect"),
    _ms("open_connection_retry_interval_ms", 1_000, "1000", "initial_connection",
        "pause after a wrong role; not given: at most this, and shorter at first", least=1),
)  # fmt: skip

_HOST_SELECTORS = tuple(
    row
    for strategy in ("round_robin", "weighted_random")
    for row in (
        Setting(f"{strategy}_default_weight", "int", default=1, wrapper_default="1", used_by=("host_selectors",),
                least=1, most=1_000_000, meaning="weight of hosts not named", example="1"),
        Setting(f"{strategy}_host_weight_pairs", "weights", default=(), wrapper_default="",
                used_by=("host_selectors",), meaning="`host:weight` pairs, comma separated", example="db-1:3,db-2:1"),
    )
)  # fmt: skip

_HOST_MONITORING = (
    _flag("failure_detection_enabled", True, "true", "efm", "whether hosts are probed while a call waits"),
    _ms("failure_detection_time_ms", 2_000, "30000", "efm",
        "how long a call may wait before its host can be held dead; probes begin one interval before that"),
    _ms("failure_detection_interval_ms", 1_000, "5000", "efm", "time between probes", least=_FASTEST_POLL_MS),
    Setting("failure_detection_count", "int", default=3, wrapper_default="3", used_by=("efm",), least=1, most=1000,
            meaning="unanswered probes in a row before a host counts as dead", example="3"),
    Setting("monitors", "list", default=("sql", "tcp"), used_by=("efm",), example="sql,tcp",
            meaning="how a host's health is probed: names of the entry-point group aurora_actors.monitors"),
)  # fmt: skip

_LACKING = (
    *_absent(
        "core",
        ("profile_name", "text", "", "a named set of plugins"),
        ("reset_session_state_on_close", "bool", "true", "restore the state before an old connection closes"),
        ("default_host_availability_strategy", "text", "", "back-off of hosts that were down"),
        ("host_availability_strategy_max_retries", "int", "5", "tries of that back-off"),
        ("host_availability_strategy_initial_backoff_time", "int", "30", "first pause of that back-off, in seconds"),
        ("monitoring_connection_priority", "list", "strict-writer", "which instance the topology is read from"),
    ),
    *_absent(
        "global databases",
        ("global_cluster_instance_host_patterns", "list", "", "`region:pattern[:port]` for each region"),
        ("gdb_accessible_regions", "list", "", "regions whose hosts are used"),
        ("gdb_monitoring_connection_priority", "list", "strict-writer-primary", "as without gdb_, by region"),
        ("inactive_cluster_writer_endpoint_substitution_role", "choice", "writer", "for an endpoint in another region"),
        ("verify_inactive_cluster_writer_endpoint_connection_type", "choice", "writer", "role check there"),
    ),
    *_absent(
        "gdb_failover",
        ("failover_home_region", "text", "", "the region that is home"),
        ("active_home_failover_mode", "choice", "by endpoint", "mode while the writer is at home"),
        ("inactive_home_failover_mode", "choice", "by endpoint", "mode while it is not"),
    ),
    *_absent(
        "gdb_rw",
        ("gdb_rw_home_region", "text", "", "the region that is home"),
        ("gdb_rw_restrict_writer_to_home_region", "bool", "true", "refuse writers elsewhere"),
        ("gdb_rw_restrict_reader_to_home_region", "bool", "true", "refuse readers elsewhere"),
        ("gdb_enable_global_write_forwarding", "bool", "false", "stay on a reader instead of failing"),
    ),
    *_absent("read_write_splitting", ("reader_host_selector_strategy", "name", "random", "which reader is chosen")),
    *_absent(
        "srw",
        ("srw_read_endpoint", "text", "", "endpoint for reading"),
        ("srw_write_endpoint", "text", "", "endpoint for writing"),
        ("srw_verify_new_connections", "bool", "true", "check the role after connecting"),
        ("srw_verify_initial_connection_type", "choice", "", "role of the first connection"),
        ("srw_connect_retry_timeout_ms", "int", "60000", "limit of the retries"),
        ("srw_connect_retry_interval_ms", "int", "1000", "pause between them"),
    ),
    *_absent(
        "custom_endpoint",
        ("custom_endpoint_info_refresh_rate_ms", "int", "30000", "how often members are asked for"),
        ("custom_endpoint_idle_monitor_expiration_ms", "int", "900000", "life of an idle monitor"),
        ("wait_for_custom_endpoint_info", "bool", "true", "block until members are known"),
        ("wait_for_custom_endpoint_info_timeout_ms", "int", "5000", "how long"),
    ),
    *_absent("fastest_response_strategy", ("response_measurement_interval_ms", "int", "30000", "time between pings")),
    *_absent(
        "iam",
        ("aws_profile", "text", "", "profile of the AWS credentials"),
        ("iam_host", "text", "", "host that a token is signed for"),
        ("iam_default_port", "int", "", "port that a token is signed for"),
        ("iam_region", "text", "", "region that a token is signed for"),
        ("iam_expiration", "int", "900", "life of a token, in seconds"),
    ),
    *(
        Setting(name, "text", wrapper_default=theirs, meaning=meaning, used_by=("aws_secrets_manager",),
                available=False, aliases=aliases)
        for name, theirs, meaning, aliases in (
            ("secrets_manager_secret_id", "", "name or ARN of the secret", ()),
            ("secrets_manager_secret_username_key", "username", "its user", ("secrets_manager_secret_username",)),
            ("secrets_manager_secret_password_key", "password", "its password", ("secrets_manager_secret_password",)),
            ("secrets_manager_region", "us-east-1", "its region", ()),
            ("secrets_manager_endpoint", "", "where it is asked for", ()),
            ("secrets_manager_expiration", "31536000", "how long it is kept, in seconds", ()),
        )
    ),
    *_absent(
        "federated_auth or okta",
        ("idp_endpoint", "text", "", "identity provider"),
        ("idp_port", "int", "443", "its port"), ("idp_name", "text", "adfs", "its kind"),
        ("idp_username", "text", "", "user there"), ("idp_password", "text", "", "password there"),
        ("rp_identifier", "text", "urn:amazon:webservices", "relying party"),
        ("app_id", "text", "", "Okta application"),
        ("iam_role_arn", "text", "", "role to take"), ("iam_idp_arn", "text", "", "identity provider in AWS"),
        ("iam_token_expiration", "int", "870", "life of a token, in seconds"),
        ("http_request_connect_timeout", "int", "60", "limit of a request, in seconds"),
        ("ssl_secure", "bool", "true", "verify certificates"),
        ("db_user", "text", "", "database user"),
    ),
    *_absent(
        "limitless",
        ("limitless_transaction_router_monitor_interval_ms", "int", "7500", "how often routers are asked for"),
        ("limitless_transaction_router_monitor_disposal_time_ms", "int", "600000", "how long they are kept"),
        ("limitless_wait_for_transaction_router_info", "bool", "true", "block until routers are known"),
        ("limitless_get_transaction_router_retry_interval_ms", "float", "300", "pause between tries"),
        ("limitless_get_transaction_router_max_retries", "int", "5", "number of tries"),
        ("limitless_max_retries_ms", "int", "7500", "number of connect tries"),
    ),
    *_absent(
        "bg",
        ("bg_id", "text", "1", "the blue/green deployment"),
        ("bg_connect_timeout_ms", "int", "30000", "limit of suspended connects and statements"),
        ("bg_interval_baseline_ms", "int", "60000", "status poll in quiet times"),
        ("bg_interval_increased_ms", "int", "1000", "status poll before a switchover"),
        ("bg_interval_high_ms", "int", "100", "status poll in a switchover"),
        ("bg_switchover_timeout_ms", "int", "180000", "limit of a switchover"),
        ("bg_suspend_new_blue_connections", "bool", "false", "hold back connects during a switchover"),
    ),
    *_absent(
        "telemetry",
        ("enable_telemetry", "bool", "false", "traces and metrics"),
        ("telemetry_traces_backend", "choice", "", "`OTLP`, `XRAY` or `NONE`"),
        ("telemetry_metrics_backend", "choice", "", "`OTLP` or `NONE`"),
        ("telemetry_failover_additional_top_trace", "bool", "false", "one more top-level trace for each failover"),
    ),
    Setting("telemetry_submit_toplevel", "bool", wrapper_default="false", used_by=("telemetry",), available=False,
            aliases=("telemetry_submit_top_level",), meaning="traces of their own for each call"),
)  # fmt: skip

_ROWS = (*_CORE, *_TOPOLOGY, *_FAILOVER, *_INITIAL_CONNECTION, *_HOST_SELECTORS, *_HOST_MONITORING, *_LACKING)
SETTINGS: Mapping[str, Setting] = MappingProxyType({row.name: row for row in _ROWS})


@lru_cache(1024)  # names are few, and each is looked at several times in every connect
def plain(key: str) -> str:
    """A name without regard to case, `-` and `_`."""
    return key.strip().lower().replace("-", "_")


def spellings(rows: Iterable[Setting]) -> dict[str, Setting]:
    """The rows by each of their names."""
    return {plain(name): row for row in rows for name in (*row.aliases, row.name)}


SPELLINGS: Mapping[str, Setting] = MappingProxyType(spellings(SETTINGS.values()))
