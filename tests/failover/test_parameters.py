"""Every parameter that this version claims to have: somebody reads it, and a test shows its effect."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.drivers.psycopg import PsycopgDriver
from aurora_actors.flow.opening import _least
from aurora_actors.lab import PostgresLab
from aurora_actors.settings import SETTINGS, split
from tests.failover.applications import Noted, connect, kill_own_session, where

ROOT = Path(aurora_actors.__file__).parent
NOBODY_HAS_TO = {
    "rollback_on_switch": "an old connection is closed at a switch: its transaction is rolled back with either value",
    "wrapper_driver_dialect": "there is one driver, and the value is checked against its name",
}
"""Parameters that are accepted for the sake of configurations that carry over, and why nothing acts upon them."""


def sources() -> dict[str, str]:
    files = [*ROOT.rglob("*.py"), *(ROOT.parent / "plugins").glob("*.py")]
    return {str(file): file.read_text(encoding="utf-8") for file in files if not file.name.startswith("settings")}


@pytest.mark.parametrize("name", [name for name, row in SETTINGS.items() if row.available])
def test_somebody_reads_it(name: str) -> None:
    reading = re.compile(rf"(?:settings|given)\.{name}\b|[\"']{name}[\"']|\b{name}=")
    read = any(reading.search(text) for text in sources().values())
    assert read is (name not in NOBODY_HAS_TO)


# Effects that no other test shows


def proxy_of(conn: Any) -> Any:
    return conn._aa_link.proxy


def test_plugins_can_be_left_in_the_order_given(aurora_lab: PostgresLab) -> None:
    given = ["failover", "initial_connection"]
    orders: list[list[str]] = []
    for sort in (True, False):
        with connect(aurora_lab, plugins=given, auto_sort_wrapper_plugin_order=sort) as conn:
            orders.append([plugin.name for plugin in proxy_of(conn).plugins])
    assert orders == [given[::-1], given]


@pytest.mark.parametrize(("transfer", "zone"), [(True, "Asia/Tokyo"), (False, "UTC")])
def test_the_session_is_restored_or_not(aurora_lab: PostgresLab, transfer: bool, zone: str) -> None:
    with connect(aurora_lab, transfer_session_state_on_switch=transfer) as conn:
        conn.execute("SET TIME ZONE 'Asia/Tokyo'")
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert conn.execute("SHOW timezone").fetchone() == (zone,)


@pytest.mark.parametrize("rollback", [True, False])
def test_a_transaction_is_rolled_back_at_a_switch_either_way(aurora_lab: PostgresLab, rollback: bool) -> None:
    with connect(aurora_lab, rollback_on_switch=rollback, autocommit=False) as conn:
        conn.execute("CREATE TABLE t (id int)")
        conn.commit()
        conn.execute("INSERT INTO t VALUES (1)")
        kill_own_session(aurora_lab, conn)
        with pytest.raises(aurora_actors.TransactionResolutionUnknownError):
            conn.execute("SELECT 1")
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_statements_of_our_own_have_a_limit(aurora_lab: PostgresLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that accepts the login and does not answer our question: the application gets a connection of the driver's."""
    query = PsycopgDriver.query

    async def frozen(self: Any, wire: Any, sql: str, sockets: Any) -> Any:
        return await query(self, wire, f"SELECT pg_sleep(3600); {sql}", sockets)

    monkeypatch.setattr(PsycopgDriver, "query", frozen)
    with connect(aurora_lab, auxiliary_query_timeout_sec=0.1) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
        assert system.clusters == ()


def test_the_topology_is_read_as_often_as_given(aurora_lab: PostgresLab, signals_noted: Noted) -> None:
    """A promotion that no connection notices is found by the next regular look; the default is half a minute."""
    with connect(aurora_lab, aurora_lab.readers[1], topology_refresh_ms=50, wait_for_initial_topology_ms=20_000):
        aurora_lab.failover(aurora_lab.readers[0], how="planned")
        signals_noted.wait_for("writer_changed")
        assert signals_noted.of("writer_changed")[-1].new.writer.id == aurora_lab.writer


@pytest.mark.parametrize(
    ("given", "least"),
    [
        ({}, (0.0, 0.0)),
        ({"cluster_topology_high_refresh_rate_ms": 250}, (0.25, 0.25)),
        ({"failover_cluster_topology_refresh_rate_sec": 0.5}, (0.5, 0.5)),
        ({"failover_writer_reconnect_interval_sec": 2}, (0.0, 2.0)),
        ({"failover_cluster_topology_refresh_rate_sec": 3, "failover_writer_reconnect_interval_sec": 2}, (3.0, 3.0)),
    ],
)
def test_the_pace_of_a_search_can_be_slowed(given: dict[str, object], least: tuple[float, float]) -> None:
    assert _least(split(given, ())[0]) == least


def test_the_limit_of_a_try_at_a_reader(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, "reader", failover_reader_connect_timeout_sec=0.7, connect_timeout=3) as conn:
        proxy = proxy_of(conn)
        now = proxy.io.now()
        assert proxy.login_limit(now + 60) - now == pytest.approx(0.7, abs=0.2)
        assert proxy.login_limit(now + 0.1) == now + 0.1
    with connect(aurora_lab, failover_reader_connect_timeout_sec=0.7, connect_timeout=3) as conn:
        proxy = proxy_of(conn)
        now = proxy.io.now()
        assert proxy.login_limit(now + 60) - now == pytest.approx(3.0, abs=0.2)


@pytest.mark.aurora_lab(hosts=4)
@pytest.mark.parametrize("favourite", [1, 2, 3])
def test_the_reader_that_is_tried_first(aurora_lab: PostgresLab, favourite: int) -> None:
    """By weight, of those that answer; the writer serves until then, so that both sessions are known to be elsewhere."""
    best = aurora_lab.hosts[favourite]
    given = {
        "failover_mode": "strict_reader",
        "failover_reader_host_selector_strategy": "highest_weight",
        "weighted_random_host_weight_pairs": f"{best}:10",
    }
    with connect(aurora_lab, **given) as conn:
        seen: list[tuple[str, ...]] = []
        proxy = proxy_of(conn)
        chosen = proxy._selectors[1]

        def noting(hosts: Any, *rest: Any) -> Any:
            seen.append(tuple(host.id for host in hosts))
            return chosen(hosts, *rest)

        proxy._selectors = (proxy._selectors[0], noting)

        def lose() -> None:
            kill_own_session(aurora_lab, conn)
            conn.execute("SELECT 1")

        # A strict reader leaves the writer by itself once it is known who writes; with a lock it does not do so silently.
        conn.execute("SELECT pg_advisory_lock(1)")
        with pytest.raises(FailoverSuccessError):
            lose()
        assert where(conn) == (best if best in seen[-1] else min(seen[-1]))


def test_default_weights(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, round_robin_default_weight=3, weighted_random_default_weight=2) as conn:
        assert proxy_of(conn)._weights[""] == 3


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"tcp_keepalive": False}, {socket.SO_KEEPALIVE: 0}),
        (
            {"tcp_keepalive": True, "tcp_keepalive_time": 31, "tcp_keepalive_interval": 7, "tcp_keepalive_probes": 4},
            {socket.SO_KEEPALIVE: 1, "TCP_KEEPIDLE": 31, "TCP_KEEPINTVL": 7, "TCP_KEEPCNT": 4},
        ),
    ],
)
def test_keepalive_reaches_the_socket(
    aurora_lab: PostgresLab, given: dict[str, Any], options: dict[int | str, int]
) -> None:
    with connect(aurora_lab, **given) as conn, socket.socket(fileno=conn.fileno()) as line:
        try:
            for option, value in options.items():
                if isinstance(option, int):
                    assert line.getsockopt(socket.SOL_SOCKET, option) == value
                elif hasattr(socket, option):
                    assert line.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) == value
        finally:
            line.detach()
