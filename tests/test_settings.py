"""The table of parameters, how values are read, what is refused with which words, and what logs may show."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aurora_actors.errors import ConfigurationError
from aurora_actors.model.endpoints import InstancePattern
from aurora_actors.settings import SETTINGS, Kind, Setting, Settings, Table, redacted, split

untimed = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# What psycopg's adapter declares, as far as these tests need it.
DRIVER_KEYS = {"host", "port", "user", "password", "dbname", "connect_timeout", "keepalives_interval", "row_factory"}
AVAILABLE = {name: row for name, row in SETTINGS.items() if row.available}
LACKING = {name: row for name, row in SETTINGS.items() if not row.available}

# The wrapper's own list (3.1.0), without user, password, database, connect_timeout; `a_: b c;` stands for a_b a_c.
WRAPPER_NAMES = """
    profile_name plugins auto_sort_wrapper_plugin_order socket_timeout tcp_keepalive transfer_session_state_on_switch
    reset_session_state_on_close rollback_on_switch topology_refresh_ms cluster_topology_high_refresh_rate_ms
    cluster_id cluster_instance_host_pattern global_cluster_instance_host_patterns wrapper_dialect
    wrapper_driver_dialect auxiliary_query_timeout_sec aws_profile monitor_disposal_time_ms enable_failover
    enable_connect_failover app_id active_home_failover_mode inactive_home_failover_mode
    reader_initial_connection_host_selector_strategy db_user default_host_availability_strategy
    reader_host_selector_strategy rp_identifier http_request_connect_timeout ssl_secure
    response_measurement_interval_ms enable_telemetry initial_connection_host_selector_strategy
    endpoint_substitution_role inactive_cluster_writer_endpoint_substitution_role verify_opened_connection_type
    verify_inactive_cluster_writer_endpoint_connection_type wait_for_initial_topology_ms
    monitoring_connection_priority wait_for_custom_endpoint_info wait_for_custom_endpoint_info_timeout_ms
    tcp_keepalive_: time interval probes; iam_: host default_port region expiration role_arn idp_arn token_expiration;
    secrets_manager_: secret_id secret_username_key secret_password_key region endpoint expiration;
    failure_detection_: enabled time_ms interval_ms count; failover_: mode timeout_sec
    cluster_topology_refresh_rate_sec writer_reconnect_interval_sec home_region reader_connect_timeout_sec
    reader_host_selector_strategy; telemetry_: failover_additional_top_trace submit_toplevel traces_backend
    metrics_backend; open_connection_retry_timeout_ms open_connection_retry_interval_ms
    custom_endpoint_info_refresh_rate_ms custom_endpoint_idle_monitor_expiration_ms
    host_availability_strategy_max_retries host_availability_strategy_initial_backoff_time round_robin_default_weight
    round_robin_host_weight_pairs weighted_random_default_weight weighted_random_host_weight_pairs idp_: endpoint port
    username password name; limitless_transaction_router_monitor_interval_ms
    limitless_transaction_router_monitor_disposal_time_ms limitless_: wait_for_transaction_router_info
    get_transaction_router_retry_interval_ms max_retries_ms get_transaction_router_max_retries; bg_: id
    connect_timeout_ms interval_baseline_ms interval_increased_ms interval_high_ms switchover_timeout_ms
    suspend_new_blue_connections; srw_: read_endpoint write_endpoint verify_new_connections
    verify_initial_connection_type connect_retry_timeout_ms connect_retry_interval_ms; gdb_: rw_home_region
    rw_restrict_writer_to_home_region rw_restrict_reader_to_home_region accessible_regions
    enable_global_write_forwarding monitoring_connection_priority;
"""


def ours(**parameters: object) -> Settings:
    return split(parameters, DRIVER_KEYS)[0]


def refusal(parameters: Mapping[str, object], table: Table | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        split(parameters, DRIVER_KEYS, table)
    return str(caught.value)


def test_every_parameter_of_the_aws_wrapper_is_known() -> None:
    names, head = set(), ""
    for word in WRAPPER_NAMES.split():
        names |= set() if word.endswith(":") else {head + word.removesuffix(";")}
        head = word[:-1] if word.endswith(":") else "" if word.endswith(";") else head
    aliases = {alias for row in SETTINGS.values() for alias in row.aliases}
    assert len(names) == 112
    assert names - aliases == SETTINGS.keys() - (ours := {name for name, row in SETTINGS.items() if row.is_ours})
    assert ours == {"commit_outcome", "deadline", "monitoring", "monitors", "on_connect", "resolve"}


def test_rows_are_complete_and_the_available_ones_are_attributes() -> None:
    assert all(row.kind in get_args(Kind) and row.meaning and row.used_by for row in SETTINGS.values())
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert {"given", "of_plugins", "prefixed_values", "secret"} | AVAILABLE.keys() == fields
    assert all(getattr(Settings(), name) == row.default for name, row in AVAILABLE.items())


@pytest.mark.parametrize("row", AVAILABLE.values(), ids=AVAILABLE)
def test_every_available_row_can_be_given(row: Setting) -> None:
    assert (row.unit == "ms") is row.name.endswith("_ms")
    assert bool(row.choices) is (row.kind == "choice")
    assert row.kind not in ("int", "float") or (math.isfinite(row.least) and math.isfinite(row.most))
    if row.default is not None:
        assert getattr(ours(**{row.name: row.default}), row.name) == row.default
    if row.example and row.kind != "callable":
        assert row.name in ours(**{row.name: row.example}).given


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        SETTINGS["plugins"] = SETTINGS["plugins"]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().failover_timeout_sec = 1.0  # type: ignore[misc]


DEFAULTS: dict[str, tuple[object, str]] = {
    "failover_timeout_sec": (60.0, "300"), "monitor_disposal_time_ms": (60_000, "600000"), "cluster_id": (None, "1"),
    "topology_refresh_ms": (30_000, "30000"), "cluster_topology_high_refresh_rate_ms": (100, "100"),
    "plugins": (None, "initial_connection,aurora_connection_tracker,failover_v2,host_monitoring_v2"),
}  # fmt: skip


def test_defaults() -> None:
    assert {name: (SETTINGS[name].default, SETTINGS[name].wrapper_default) for name in DEFAULTS} == DEFAULTS


def test_keys_are_divided() -> None:
    drivers = {"host": "db", "row_factory": object(), "unheard_of": "1", "password": "x"}
    settings, rest = split({**drivers, "failover_timeout_sec": 5}, DRIVER_KEYS)
    assert (settings.failover_timeout_sec, set(settings.given), rest) == (5.0, {"failover_timeout_sec"}, drivers)


def test_the_spelling_of_our_keys_does_not_matter_unless_it_is_the_driver_s() -> None:
    for key in ("TOPOLOGY_REFRESH_MS", "topology-refresh-ms", "Topology-Refresh_ms"):
        assert split({key: "7000"}, DRIVER_KEYS) == (ours(topology_refresh_ms=7000), {})
    assert split({"Cluster-Id": "a"}, {"Cluster-Id"}) == (Settings(), {"Cluster-Id": "a"})
    assert split({"cluster_id": "a"}, {"cluster_id"})[0].cluster_id == "a"


def test_several_names_of_one_parameter() -> None:
    settings = ours(reader_initial_connection_host_selector_strategy="round_robin", wrapper_plugins="a")
    assert (settings.initial_connection_host_selector_strategy, settings.plugins) == ("round_robin", ("a",))
    assert settings.given == {"initial_connection_host_selector_strategy", "plugins"}
    assert ours(**{"cluster_id": "a", "cluster-id": "a"}).cluster_id == "a"
    assert "cluster_id and cluster-id are one" in refusal({"cluster_id": "a", "cluster-id": "b"})
    assert "monitoring-user and monitoring_user are one" in refusal({"monitoring-user": "a", "monitoring_user": "b"})


@pytest.mark.parametrize(("key", "name"), [
    ("failover_timeout_secs", "failover_timeout_sec"), ("failover_timeout", "failover_timeout_sec"),
    ("failovermode", "failover_mode"), ("plugin", "plugins"), ("Wraper-Dialect", "wrapper_dialect"),
    ("cluster_instance_host_patern", "cluster_instance_host_pattern"), ("topology_refresh", "topology_refresh_ms"),
    ("iam_regoin", "iam_region"), ("enable_telemtry", "enable_telemetry"), ("wrapper_plugin", "plugins"),
    ("monitoring_connection_prioritys", "monitoring_connection_priority")
])  # fmt: skip
def test_misspelt_keys_are_named(key: str, name: str) -> None:
    assert refusal({key: "5"}) == f"unknown parameter {key}; did you mean {name}?"


@pytest.mark.parametrize(
    "key", ["conect_timeout", "username", "database", "sslmode", "keepalives", "keepalives_intervall", "", "passwd"]
)
def test_what_is_not_like_ours_goes_to_the_driver(key: str) -> None:
    assert split({key: "5"}, DRIVER_KEYS) == (Settings(), {key: "5"})


def test_what_is_no_key_and_what_is_no_value() -> None:
    assert "name of a parameter is text" in refusal({5: "x"})  # type: ignore[dict-item]
    settings, drivers = split({"plugins": None, "iam_region": None, "monitoring-user": None, "user": None}, DRIVER_KEYS)
    assert (settings, drivers) == (Settings(), {"user": None})


class Whole(int):
    """What numeric libraries hand out instead of a plain int."""


@pytest.mark.parametrize(("name", "given", "read"), [
    *(("failover_timeout_sec", value, 5.0) for value in (5, 5.0, "5", "5.0", " 5 ", "+5", "5.", "50e-1", Whole(5))),
    *(("failover_timeout_sec", value, 0.5) for value in (0.5, ".5", Fraction(1, 2))),
    *(("topology_refresh_ms", value, 5000) for value in (5000, "5000", "5000.0", 5000.0, "5e3", Whole(5000))),
    *(("enable_failover", value, False) for value in (False, 0, "0", "FALSE", " off ", "No")),
    *(("enable_failover", value, True) for value in (True, 1, "1", "true", "ON", "yes")),
    ("monitor_disposal_time_ms", 0, 0), ("auto_sort_wrapper_plugin_order", "false", False),
    ("auxiliary_query_timeout_sec", "5", 5.0), ("cluster_id", " orders ", "orders"),
    ("failover_mode", "strict_writer", "strict_writer"), ("failover_mode", "Strict-Reader", "strict_reader"),
    ("failover_mode", "READER-or_writer", "reader_or_writer"), ("wrapper_dialect", "AURORA_PG", "aurora-pg"),
    ("wrapper_dialect", "rds-pg", "rds-pg"), ("wrapper_dialect", "pg", "pg"),
    ("wrapper_driver_dialect", "psycopg", "psycopg"),
    ("wrapper_driver_dialect", "MySQL_Connector-Python", "mysql-connector-python"), ("wrapper_dialect", "mysql", "mysql"),
    ("endpoint_substitution_role", "Any", "any"),
    ("failover_reader_host_selector_strategy", "Round-Robin", "round_robin"),
    *(("plugins", value, ("a", "b")) for value in ("a,b", "a, b", " a ,, b , ", ["a", " b "], iter(["a,b"]))),
    *(("plugins", value, ()) for value in ("", " ", ",", ["", ","])),
    ("round_robin_host_weight_pairs", "db-1:3, DB-2:1", (("db-1", 3), ("db-2", 1))),
    ("round_robin_host_weight_pairs", "db:5432:3", (("db:5432", 3),)),
    ("weighted_random_host_weight_pairs", {"db-1": 3}, (("db-1", 3),)), ("round_robin_host_weight_pairs", "", ()),
    ("cluster_instance_host_pattern", "?.Db.example.com:5433", InstancePattern("?.db.example.com", 5433)),
    ("cluster_instance_host_pattern", InstancePattern("?.x"), InstancePattern("?.x")), ("resolve", redacted, redacted),
])  # fmt: skip
def test_values(name: str, given: object, read: object) -> None:
    value = getattr(ours(**{name: given}), name)
    assert value == read
    assert type(value) is type(read)


MS = "expected a whole number of milliseconds from 10 to 86400000, such as 30000"
SECONDS = "expected a number of seconds from 0.01 to 86400, such as 60"
BOOLEAN = "expected true or false (or on, off, yes, no, 1, 0)"
ELSEWHERE = "known to the AWS wrapper, not in this version of aurora_actors"
OTHER_DIALECTS = ("global-aurora-pg", "Global_Aurora-mysql")
BAD_VALUES: tuple[tuple[str, str, tuple[object, ...]], ...] = (
    ("topology_refresh_ms", MS, ("", "true", "100.5", "5_000", "5s", "\u0665\u0660", "9" * 5000, b"5000", [50])),
    ("topology_refresh_ms", f"topology_refresh_ms='soon': {MS}", ("soon",)),
    ("topology_refresh_ms", MS, (True, 100.5, -1, 9, 86_400_001, 10**400, 1j, int)),
    ("failover_timeout_sec", SECONDS, (math.nan, math.inf, "nan", "inf", "1e999", 10**400, 0, "-5", 0.009, False)),
    ("enable_failover", BOOLEAN, ("maybe", "", 2, -1, 1.0, [])),
    ("cluster_id", "expected text, such as orders", ("", " ", 1)),
    ("failover_mode", "did you mean strict_writer?", ("strict-writr", "StrictWriter")),
    ("failover_mode", "expected one of strict_writer, strict_reader, reader_or_writer", ("", 5, ["x"])),
    ("wrapper_dialect", "rds-mysql, mysql; did you mean aurora-pg?", ("aurora-pgs", "aurora_postgres")),
    ("wrapper_dialect", "expected one of aurora-pg, rds-pg", ("", 5)), ("wrapper_dialect", ELSEWHERE, OTHER_DIALECTS),
    ("wrapper_dialect", "leave wrapper_dialect away", ("unknown",)), ("wrapper_dialect", "entry point", ("custom",)),
    ("wrapper_driver_dialect", "leave this away", ("generic",)), ("wrapper_driver_dialect", "psycopg?", ("psycopg2",)),
    ("verify_opened_connection_type", "expected one of writer, reader, none", ("any",)),
    ("failover_reader_host_selector_strategy", "expected a name, such as random", ("the best", "", 5)),
    ("plugins", "expected names, comma separated, such as ", (5, ["a", 5], {"a": 1}, b"a")),
    ("round_robin_host_weight_pairs", "expected `host:weight` pairs", ("db-1", ":3", {1: 1})),
    ("round_robin_host_weight_pairs", "weight of db-1: expected a whole number from 1 to", ("db-1:0", {"db-1": "x"})),
    ("cluster_instance_host_pattern", "exactly one `?`", ("db.example.com", "?.?")),
    ("cluster_instance_host_pattern", "RDS Proxy", ("?.proxy-abc.eu-west-1.rds.amazonaws.com",)),
    ("cluster_instance_host_pattern", "expected text, such as ?.abc", (5, "")),
    ("resolve", "expected a callable, such as: def resolve(host, port)", ("my.module:resolve", 5)),
)  # fmt: skip


@pytest.mark.parametrize(("name", "words", "given"), [(*row[:2], value) for row in BAD_VALUES for value in row[2]])
def test_bad_values(name: str, words: str, given: object) -> None:
    text = refusal({name: given})
    assert words in text
    assert text.startswith(f"{name}=")
    assert len(text) < 300


@pytest.mark.parametrize(("parameters", "words"), [
    ({"topology_refresh_ms": 50, "cluster_topology_high_refresh_rate_ms": 100}, "is slower than"),
    ({"cluster_topology_high_refresh_rate_ms": 60_000}, "topology_refresh_ms=30000"),
    ({"open_connection_retry_timeout_ms": 500, "open_connection_retry_interval_ms": 501}, "is longer than"),
    ({"enable_failover": False, "enable_connect_failover": "true"}, "contradicts enable_failover=false"),
    ({"endpoint_substitution_role": "reader", "verify_opened_connection_type": "writer"}, "ask for one role"),
    ({"tcp_keepalive": False, "tcp_keepalive_time": 30}, "tcp_keepalive_time contradicts")
])  # fmt: skip
def test_contradictions(parameters: dict[str, object], words: str) -> None:
    assert words in refusal(parameters)


def test_a_default_gives_way() -> None:
    settings = ours(topology_refresh_ms=50, open_connection_retry_timeout_ms=0)
    assert (settings.cluster_topology_high_refresh_rate_ms, settings.open_connection_retry_interval_ms) == (50, 1)
    assert settings.given == {"topology_refresh_ms", "open_connection_retry_timeout_ms"}
    settings = ours(tcp_keepalive_time=30, endpoint_substitution_role="reader", verify_opened_connection_type="none")
    assert (settings.tcp_keepalive_time, settings.endpoint_substitution_role) == (30, "reader")


@pytest.mark.parametrize("name", LACKING)
def test_a_parameter_without_function_is_refused(name: str) -> None:
    text = refusal({name: True if LACKING[name].kind == "bool" else "5"})
    assert text.startswith(f"{name} is a parameter of ")
    assert "which plugins= does not name" in text or "this version of aurora_actors lacks its function" in text


def test_asking_for_nothing_is_no_error() -> None:
    nothing = {"bg_suspend_new_blue_connections": "no", "telemetry_traces_backend": "NONE", "profile_name": ""}
    for off in (False, "false", "OFF", 0):
        assert split({"enable_telemetry": off, **nothing}, DRIVER_KEYS) == (Settings(), {})


def test_prefixed_parameters_are_kept_for_the_monitors() -> None:
    given = {"connect_timeout": "3", "socket_timeout": "2.5", "Topology-Refresh_ms": "50"}
    given = {f"monitoring-{key}": given[key] for key in given} | {"topology-monitoring-user": "watcher"}
    settings, drivers = split({**given, "Topology_Monitoring_Connect_Timeout": 4}, DRIVER_KEYS)
    assert settings.prefixed("monitoring-") == {
        "connect_timeout": "3",
        "topology_refresh_ms": 50,
        "socket_timeout": 2.5,
    }
    assert settings.prefixed("topology-monitoring-") == {"user": "watcher", "connect_timeout": 4}
    assert (settings.topology_refresh_ms, settings.given, drivers) == (30_000, frozenset(), {})
    # A driver that cannot say what it takes gets everything.
    settings, drivers = split({"monitoring-conect_timeout": 3, "monitoring_other": 4, "sslmode": "x"}, ())
    assert settings.prefixed("monitoring-") == {"conect_timeout": 3}
    assert drivers == {"monitoring_other": 4, "sslmode": "x"}


@pytest.mark.parametrize(("key", "words"), [
    ("monitoring-conect_timeout", "unknown parameter monitoring-conect_timeout; did you mean monitoring-connect_time"),
    ("monitoring-", "unknown parameter monitoring-"), ("monitoring-iam_region", "monitoring-iam_region is a parameter"),
    ("topology-monitoring-topology_refresh_ms", "topology-monitoring-topology_refresh_ms='x': expected a whole"),
    ("frt-connect_timeout", "for the plugin fastest_response_strategy"), ("limitless-router-monitor-user", "limitless"),
    ("blue-green-monitoring-connect_timeout", "for the plugin bg"),
    ("failover_home_region", "of the AWS wrapper, for gdb_failover;")
])  # fmt: skip
def test_what_is_refused_says_why(key: str, words: str) -> None:
    assert words in refusal({key: "x"})


AUDIT = {
    "audit_key": Setting("audit_key", "text", default="none", secret=True),
    "audit-limit": Setting("audit-limit", "int"),
    "iam_region": Setting("iam_region", "text", default="eu-west-1"),
}


def test_parameters_of_plugins_and_one_that_the_core_knows_and_lacks() -> None:
    assert split({"iam_region": "us-east-1"}, (), Table(AUDIT))[0].of_plugins["iam_region"] == "us-east-1"
    settings, drivers = split({"audit_key": "s3cr3t", "Audit_Limit": "10"}, (), Table(AUDIT))
    assert settings.of_plugins == {"audit_key": "s3cr3t", "audit-limit": 10, "iam_region": "eu-west-1"}
    assert (set(settings.given), drivers) == ({"audit_key", "audit-limit"}, {})
    assert repr(settings) == "Settings(audit-limit=10, audit_key=***)"


def test_what_plugins_and_their_users_cannot_do() -> None:
    assert refusal({"audit_limit": "x"}, Table(AUDIT)) == "audit_limit='x': expected a whole number"
    assert refusal({"audit-limit": 10**400}, Table(AUDIT)).startswith("audit-limit=a number of many digits: ")
    assert refusal({"audit_key": 12345}, Table(AUDIT)) == "audit_key=***: expected text"
    assert refusal({"audit_limits": 1}, Table(AUDIT)).endswith("did you mean audit-limit?")
    with pytest.raises(ConfigurationError, match="failover_mode"):
        Table({"failover_mode": Setting("failover_mode", "text")})
    assert split({}, (), Table({"failover_mode": SETTINGS["failover_mode"]}))[0] == Settings()


def test_installed_dialects_are_choices_too() -> None:
    table = Table(extra_choices={"wrapper_dialect": ["aurora-mysql", "cockroach"]})
    assert split({"wrapper_dialect": "Aurora_MySQL"}, (), table)[0].wrapper_dialect == "aurora-mysql"
    assert "cockroach" in refusal({"wrapper_dialect": "x"}, table)


PASSWORD = "Hu5h!"
SECRET_NAMES = """password PASSWORD passwd pwd pass sslpassword idp_password monitoring-password db-password auth_token
    oauth_client_secret scram_client_key aws_secret_access_key password1 frt-password passphrase private_key"""


@pytest.mark.parametrize(("key", "value", "shown"), [
    ("host", "db.example.com", "'db.example.com'"), ("port", 5432, "5432"), ("autocommit", True, "True"),
    ("iam_token_expiration", 870, "870"), ("secrets_manager_secret_id", "orders", "'orders'"),
    ("passfile", "/home/app/.pgpass", "'/home/app/.pgpass'"), ("plugins", ["a", "b"], "['a', 'b']"),
    ("resolve", redacted, "<redacted>"), ("row_factory", object(), "<object>"), ("options", {"a": 1}, "<dict>"),
    ("cluster_instance_host_pattern", InstancePattern("?.x", 1), "?.x:1"), ("user", None, "None"),
    ("long", "x" * 200, f"'{'x' * 80}…'"), ("conninfo", "host=db user=app", "'host=db user=app'"),
    ("conninfo", "postgresql://app@db:5432/orders?sslmode=x", "'postgresql://app@db:5432/orders?sslmode=x'"),
    ("conninfo", "postgresql://[::1]:5432/orders", "'postgresql://[::1]:5432/orders'")
])  # fmt: skip
def test_what_is_shown(key: str, value: object, shown: str) -> None:
    assert redacted({key: value}) == {key: shown}


@pytest.mark.parametrize("text", [
    f"postgresql://app:{PASSWORD}@db/orders", f"postgresql://app:x@{PASSWORD}@db/x", f"postgresql://app:x/{PASSWORD}@db",
    f"postgresql://a b:{PASSWORD} x@db/orders", f"postgresql://app@db/orders?password={PASSWORD}",
    f"postgresql://db/o?sslmode=x&sslpassword={PASSWORD}&x=1", f"host=db password={PASSWORD} user=app",
    f"host=db password = '{PASSWORD} {PASSWORD}' user=app", f"host=db PASSWORD='it\\'s {PASSWORD}' user=app",
    f"host=db password=a\\ {PASSWORD} user=app", f"host=db password='{PASSWORD}", f"host=db password='a {PASSWORD}\\",
    f"host=db password=a&{PASSWORD}", f"host=db password=x://y:{PASSWORD}", f"host=db options=password={PASSWORD}"
])  # fmt: skip
def test_secrets_within_text(text: str) -> None:
    shown = redacted({"conninfo": text})["conninfo"]
    assert PASSWORD not in shown
    assert shown.count("db") == shown.count("***") == 1
    assert PASSWORD not in refusal({"cluster_instance_host_pattern": text})


@pytest.mark.parametrize("part", ["password='", "pwd", "pwd-", "pwd =", "://:", "?token", "\\"])
@pytest.mark.parametrize("head", ["", "p://", "p://x?", "password='"])
def test_redaction_of_long_text_ends(head: str, part: str) -> None:
    # In quadratic time each of these would take minutes.
    assert len(redacted({"x": head + part * 100_000})["x"]) < 400


def test_secret_names_and_the_repr_of_settings() -> None:
    assert set(redacted(dict.fromkeys(SECRET_NAMES.split(), PASSWORD)).values()) == {"***"}
    hidden = {"monitoring-password": 12345, "monitoring-user": "u"}
    assert repr(ours(failover_timeout_sec=5, plugins="a,b", resolve=redacted, **hidden)) == (
        "Settings(failover_timeout_sec=5.0, monitoring-password=***, monitoring-user=***, plugins=('a', 'b'),"
        " resolve=***)"
    )
    assert repr(Settings()) == "Settings()"


@untimed
@given(st.floats(0.01, 86_400.0), st.integers(100, 86_400_000))
def test_numbers_survive_their_text(seconds: float, milliseconds: int) -> None:
    settings = ours(failover_timeout_sec=repr(seconds), topology_refresh_ms=str(milliseconds))
    assert (settings.failover_timeout_sec, settings.topology_refresh_ms) == (seconds, milliseconds)


@untimed
@given(st.sampled_from(sorted(AVAILABLE)), st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none()))
def test_any_value_is_read_or_refused_in_one_sentence(name: str, value: object) -> None:
    try:
        text = f"{name} {ours(**{name: value})!r}"
    except ConfigurationError as error:
        text = str(error)
    assert text.startswith(name)


@untimed
@given(st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="'\\&#"), min_size=1))
def test_no_password_survives_redaction(password: str) -> None:
    texts = (f"host=h password={password} user=u", f"postgresql://u:{password}@h/d", f"passwd='{password}'")
    shown = ["'host=h password=*** user=u'", "'postgresql://u:***@h/d'", "'passwd=***'"]
    assert [redacted({"conninfo": text})["conninfo"] for text in texts] == shown
