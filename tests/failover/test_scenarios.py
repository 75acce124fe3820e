"""Situations that break other wrappers, one after another, on real servers."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import psycopg
import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.failover.applications import (
    MONITOR,
    Noted,
    connect,
    connect_plain,
    connections,
    kill_own_session,
    server_log,
    where,
)
from tests.lab.sessions import eventually

SECRET = "zq7!vX pass'word"


def executing(pool: ThreadPoolExecutor, conn: Any) -> Future[Any]:
    """A statement under way in another thread; its error is its result."""

    def run() -> Any:
        with pytest.raises(psycopg.OperationalError) as caught:
            conn.execute("SELECT pg_sleep(60)")
        return caught.value

    return pool.submit(run)


def tried() -> dict[str, str]:
    """What the last failed probe of each host said."""
    (cluster,) = system.clusters
    return {attempt.host.partition(" ")[0]: attempt.error for attempt in cluster.cell.attempts}


def end_questions(lab: PostgresLab, host: str) -> bool:
    """End the sessions on which a host is asked; whether there were any."""
    server = lab.cluster.host(host).server
    sessions = server.query("SELECT pid FROM pg_stat_activity WHERE application_name = %s", (MONITOR,))
    return sum(lab.kill_session(host, pid) for (pid,) in sessions) > 0


def test_sessions_that_die_while_hosts_are_asked(aurora_lab: PostgresLab, signals_noted: Noted) -> None:
    """Hosts accept questions and drop them, again and again, as in a promotion; then one of them becomes the writer."""
    readers = aurora_lab.readers
    with connect(aurora_lab) as conn, ThreadPoolExecutor(1) as pool:
        lost = executing(pool, conn)
        aurora_lab.crash(aurora_lab.writer)
        signals_noted.wait_for("failover_started")
        for reader in readers * 3:
            eventually(partial(end_questions, aurora_lab, reader))
        aurora_lab.failover(how="crash")
        assert isinstance(lost.result(60), FailoverSuccessError)
        assert where(conn) == aurora_lab.writer
        assert aurora_lab.writer in readers
    assert len(signals_noted.of("failover_started")) == 1


def test_logins_refused_while_a_writer_is_searched_for(aurora_lab: PostgresLab, signals_noted: Noted) -> None:
    """A refused login ends no search: whoever is asked again later answers."""
    readers = aurora_lab.readers
    with connect(aurora_lab) as conn, ThreadPoolExecutor(1) as pool:
        for reader in readers:
            aurora_lab.refuse_logins(reader)
        lost = executing(pool, conn)
        aurora_lab.crash(aurora_lab.writer)
        eventually(lambda: all("reject" in tried().get(reader, "") for reader in readers))
        aurora_lab.failover(how="crash", rejoin=False)
        assert not lost.done()
        for reader in readers:
            aurora_lab.refuse_logins(reader, on=False)
        assert isinstance(lost.result(60), FailoverSuccessError)
        assert where(conn) == aurora_lab.writer
    assert len(signals_noted.of("failover_started")) == 1


@pytest.mark.parametrize("endpoint", ["writer", "reader"])
def test_when_everybody_refuses_the_attempts_are_few(aurora_lab: PostgresLab, endpoint: str) -> None:
    """Bounded and jittered for any number of connections: twenty of them here, for two seconds."""
    seconds = 2
    with connections(aurora_lab, 20, endpoint, failover_timeout_sec=seconds) as conns, server_log(aurora_lab) as log:
        for host in aurora_lab.hosts:
            aurora_lab.refuse_logins(host)
        sessions = [(where(conn), conn.info.backend_pid) for conn in conns]
        for host, pid in sessions:
            aurora_lab.kill_session(host, pid)

        def lose(conn: Any) -> int:
            with pytest.raises(aurora_actors.FailoverFailedError) as caught:
                conn.execute("SELECT 1")
            return len(caught.value.attempts)

        with ThreadPoolExecutor(len(conns)) as pool:
            assert min(pool.map(lose, conns)) > 0
        hosts = len(aurora_lab.hosts)
        for host in aurora_lab.hosts:
            aurora_lab.refuse_logins(host, on=False)
        # The lab's own look-ups come over sockets of their own and are not counted.
        received = sum(log.attempts(host) - log.text(host).count("host=[local]") for host in aurora_lab.hosts)
        assert received <= 25 * seconds + 2 * hosts + 25


def test_all_instances_were_replaced_while_nobody_looked(aurora_lab: PostgresLab) -> None:
    """The old names lead nowhere; the cluster endpoint leads to the new ones."""
    with connect(aurora_lab) as conn, ThreadPoolExecutor(1) as pool:
        lost = executing(pool, conn)
        before = aurora_lab.hosts
        for number, host in enumerate((*aurora_lab.readers, aurora_lab.writer)):
            aurora_lab.rename(host, f"other-{number}")
        assert isinstance(lost.result(60), FailoverSuccessError)
        assert where(conn) == aurora_lab.writer not in before
        (cluster,) = system.clusters
        assert {host.id for host in cluster.cell.view.topology.hosts} == set(aurora_lab.hosts)


def test_a_plain_database_with_default_settings_gives_its_own_error(aurora_lab: PostgresLab) -> None:
    with connect_plain(aurora_lab, aurora_lab.writer) as conn:
        aurora_lab.crash(aurora_lab.writer)
        with pytest.raises(psycopg.OperationalError) as caught:
            conn.execute("SELECT 1")
        assert not isinstance(caught.value, aurora_actors.FailoverError)
        assert type(caught.value).__module__.startswith("psycopg")
        assert conn.closed


@pytest.mark.parametrize(
    "parameters",
    [
        {"plugins": "failover, initial_connection ,stale_dns", "failover_timeout_sec": "20"},
        {"plugins": ["failover", "aurora_connection_tracker"], "enable_failover": "True"},
        {"PLUGINS": "failover_v2", "Failover-Mode": "Strict-Writer"},
        {"wrapper_plugins": "failover2", "failover_mode": "STRICT_WRITER", "wrapper-dialect": "AURORA-PG"},
        {"enable_failover": "on", "topology_refresh_ms": "1000", "cluster-topology-high-refresh-rate-ms": "50"},
        {"auto_sort_wrapper_plugin_order": "false", "plugins": "failover , initial_connection"},
        {"auxiliary_query_timeout_sec": "5", "tcp_keepalive": "yes", "tcp_keepalive_time": "30"},
    ],
    ids=",".join,
)
@pytest.mark.parametrize("form", ["keywords", "conninfo"])
def test_values_as_people_spell_them(aurora_lab: PostgresLab, parameters: dict[str, Any], form: str) -> None:
    if form == "conninfo":
        texts = {key: value for key, value in parameters.items() if isinstance(value, str)}
        text = " ".join(f"{key}='{value}'" for key, value in texts.items())
        conn = aurora_actors.connect(psycopg.connect, f"{aurora_lab.conninfo()} {text}", autocommit=True)
    else:
        conn = connect(aurora_lab, **parameters)
    with conn:
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert where(conn) == aurora_lab.writer


def test_text_that_means_no_is_no(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, enable_failover="false") as conn:
        kill_own_session(aurora_lab, conn)
        with pytest.raises(psycopg.errors.AdminShutdown):
            conn.execute("SELECT 1")


def test_the_process_ends_while_a_probe_hangs(aurora_lab: PostgresLab) -> None:
    """A monitor that waits for a host that never answers does not delay the exit: its limit is an hour here."""
    addresses = {aurora_lab.endpoint(host): aurora_lab.address(host) for host in aurora_lab.hosts}
    addresses[aurora_lab.writer_endpoint] = aurora_lab.address(aurora_lab.writer)
    script = (
        "import sys, threading, aurora_actors, psycopg\n"
        "from aurora_actors.actors import host_monitor\n"
        "host_monitor.OPEN_SECONDS = host_monitor.ANSWER_SECONDS = 3600.0\n"
        f"places = {addresses!r}\n"
        f"conn = aurora_actors.connect(psycopg.connect, {aurora_lab.conninfo()!r}, autocommit=True,"
        " resolve=lambda host, port: [places[host]])\n"
        "print('open', flush=True)\n"
        "sys.stdin.readline()\n"
        "started = threading.Event()\n"
        "@aurora_actors.signals.failover_started.connect\n"
        "def note(cluster, *, event): started.set()\n"
        "threading.Thread(target=conn.execute, args=('SELECT 1',), daemon=True).start()\n"
        "assert started.wait(30)\n"
        "print('ends', flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        for reader in aurora_lab.readers:
            aurora_lab.freeze(reader)
        aurora_lab.crash(aurora_lab.writer)
        output, complaints = child.communicate("go on\n", timeout=60)
    assert output == "ends\n", complaints
    assert child.returncode == 0, complaints


@pytest.mark.aurora_lab(password=SECRET, hosts=2)
def test_nothing_secret_is_told(
    aurora_lab: PostgresLab, caplog: pytest.LogCaptureFixture, signals_noted: Noted
) -> None:
    """Not in logs at any level, nor in what can be printed, signalled or raised; in a failover and in failed connects."""
    caplog.set_level(logging.DEBUG)
    told: list[object] = []
    given: dict[str, Any] = {"monitoring-password": SECRET, "topology-monitoring-connect_timeout": 2}
    with connect(aurora_lab, wait_for_initial_topology_ms=1000, **given) as conn:
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError) as caught:
            conn.execute("SELECT 1")
        aurora_lab.failover()
        with suppress(FailoverSuccessError):  # idle and clean, it may go over in silence
            conn.execute("SELECT 1")
        proxy = conn._aa_link.proxy
        told += [caught.value, caught.value.__cause__, conn, proxy, proxy.access, proxy.settings, system.clusters]
        told += [proxy.control, *proxy.control.accesses, *(plugin.context for plugin in proxy.plugins)]
    for wrong in (SECRET[::-1], SECRET + "x"):
        with pytest.raises(psycopg.OperationalError) as refused:
            connect(aurora_lab, password=wrong)
        told.append(refused.value)
    with pytest.raises(aurora_actors.ConfigurationError) as misspelt:
        connect(aurora_lab, failover_timeot_sec=SECRET)
    told += [misspelt.value, *(event for _, _, event in signals_noted._events)]
    told += [thread.name for thread in threading.enumerate()]
    texts = [caplog.text, *map(str, told), *map(repr, told)]
    assert [text for text in texts if SECRET in text or SECRET[::-1] in text] == []
