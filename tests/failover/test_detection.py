"""Calls that wait for a dead host are ended, and no others (law 14, clause by clause), on real servers."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

import psutil
import psycopg
import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError, signals
from aurora_actors.actors.clock import settle_actors
from aurora_actors.actors.system import system
from aurora_actors.drivers.base import Place
from aurora_actors.flow.io import BlockingIo, Sockets
from aurora_actors.flow.running import run_blocking
from aurora_actors.lab import PostgresLab
from tests.failover.colours import ONE_COLOUR, Colour, Connect

QUICK = {"failure_detection_time_ms": 400, "failure_detection_interval_ms": 200, "failure_detection_count": 3}
FACT_SECONDS = 30.0
FOREVER = "SELECT pg_catalog.pg_sleep(3600)"


class Heard:
    """What a signal said, and waiting for it."""

    def __init__(self, signal_: Any) -> None:
        self.events: list[Any] = []
        self._came = threading.Condition()
        signal_.connect(self._note)

    def _note(self, _: object, event: Any) -> None:
        with self._came:
            self.events.append(event)
            self._came.notify_all()

    def first(self) -> Any:
        with self._came:
            assert self._came.wait_for(lambda: self.events, FACT_SECONDS), "the signal was not sent"
            return self.events[0]


@pytest.fixture
def connect(colour: Colour) -> Connect:
    def connect(lab: PostgresLab, endpoint: str = "writer", **parameters: Any) -> Any:
        given = {"plugins": "efm", "autocommit": True, **QUICK, **parameters}
        return colour.connect(lab, endpoint, **given)

    return connect


@pytest.mark.parametrize("fault", ["black_hole", "freeze"])
@pytest.mark.parametrize("monitors", ["sql", "sql,tcp"])
def test_a_call_that_waits_for_a_dead_host_is_ended_with_the_driver_s_own_error(
    aurora_lab: PostgresLab, fault: str, monitors: str, connect: Connect
) -> None:
    down = Heard(signals.host_down)
    with connect(aurora_lab, monitors=monitors) as conn, ThreadPoolExecutor(1) as pool:
        call = pool.submit(conn.execute, FOREVER)
        getattr(aurora_lab, fault)(aurora_lab.writer)
        with pytest.raises(psycopg.OperationalError) as caught:
            call.result(FACT_SECONDS)
        assert type(caught.value) is psycopg.OperationalError
        assert down.first().host.id == aurora_lab.writer
        assert conn.closed


@ONE_COLOUR
def test_a_black_hole_is_found_by_tcp_alone_and_a_frozen_server_is_not(aurora_lab: PostgresLab, connect: Connect) -> None:
    down = Heard(signals.host_down)
    with connect(aurora_lab, monitors="tcp") as conn, ThreadPoolExecutor(1) as pool:
        call = pool.submit(conn.execute, "SELECT pg_catalog.pg_sleep(2)")
        aurora_lab.freeze(aurora_lab.writer)
        done = threading.Event()
        call.add_done_callback(lambda _: done.set())
        assert not done.wait(3.0)  # well beyond the 0.8 s of a verdict
        aurora_lab.thaw(aurora_lab.writer)
        assert call.result(FACT_SECONDS) is not None
        assert down.events == []
        call = pool.submit(conn.execute, FOREVER)
        aurora_lab.black_hole(aurora_lab.writer)
        with pytest.raises(psycopg.OperationalError):
            call.result(FACT_SECONDS)


def test_a_call_in_flight_goes_on_elsewhere_when_its_writer_falls_silent(aurora_lab: PostgresLab, connect: Connect) -> None:
    with connect(aurora_lab, plugins="failover,efm") as conn, ThreadPoolExecutor(1) as pool:
        call = pool.submit(conn.execute, FOREVER)
        aurora_lab.black_hole(aurora_lab.writer)
        aurora_lab.failover()
        with pytest.raises(FailoverSuccessError) as caught:
            call.result(FACT_SECONDS)
        assert caught.value.host is not None
        assert caught.value.host.id == aurora_lab.writer
        assert conn.execute("SELECT aurora_db_instance_identifier()").fetchone() == (aurora_lab.writer,)


def test_a_call_on_the_new_writer_is_not_ended_for_the_old_one(aurora_lab: PostgresLab, connect: Connect) -> None:
    """The old writer stays silent while a long call runs on the new one."""
    with connect(aurora_lab, plugins="failover,efm") as conn, ThreadPoolExecutor(1) as pool:
        call = pool.submit(conn.execute, FOREVER)
        aurora_lab.black_hole(aurora_lab.writer)
        aurora_lab.failover()
        with pytest.raises(FailoverSuccessError):
            call.result(FACT_SECONDS)
        assert conn.execute("SELECT 'long' FROM pg_catalog.pg_sleep(3)").fetchone() == ("long",)


def test_only_calls_on_the_dead_host_are_ended(aurora_lab: PostgresLab, connect: Connect) -> None:
    with connect(aurora_lab) as dead, connect(aurora_lab, "database-2") as alive, ThreadPoolExecutor(2) as pool:
        ended, lasting = pool.submit(dead.execute, FOREVER), pool.submit(alive.execute, "SELECT pg_catalog.pg_sleep(3)")
        aurora_lab.black_hole(aurora_lab.writer)
        with pytest.raises(psycopg.OperationalError):
            ended.result(FACT_SECONDS)
        assert lasting.result(FACT_SECONDS) is not None


@ONE_COLOUR
def test_each_connection_is_judged_by_its_own_settings(aurora_lab: PostgresLab, connect: Connect) -> None:
    patient: Any = {"failure_detection_time_ms": 3_600_000, "failure_detection_interval_ms": 500}
    with connect(aurora_lab) as one, connect(aurora_lab, **patient) as other, ThreadPoolExecutor(2) as pool:
        ended, lasting = pool.submit(one.execute, FOREVER), pool.submit(other.execute, "SELECT pg_catalog.pg_sleep(1)")
        aurora_lab.freeze(aurora_lab.writer)
        with pytest.raises(psycopg.OperationalError):
            ended.result(FACT_SECONDS)
        assert not lasting.done()
        aurora_lab.thaw(aurora_lab.writer)
        assert lasting.result(FACT_SECONDS) is not None


def test_a_healthy_call_ten_times_longer_than_the_detection_time_is_left_alone(
    aurora_lab: PostgresLab, connect: Connect
) -> None:
    down = Heard(signals.host_down)
    with connect(aurora_lab) as conn:
        assert conn.execute("SELECT 'done' FROM pg_catalog.pg_sleep(4)").fetchone() == ("done",)
    assert down.events == []


@ONE_COLOUR
def test_refused_logins_say_nothing_of_a_host(aurora_lab: PostgresLab, connect: Connect) -> None:
    down = Heard(signals.host_down)
    with connect(aurora_lab) as conn:
        aurora_lab.refuse_logins(aurora_lab.writer)
        assert conn.execute("SELECT 'done' FROM pg_catalog.pg_sleep(3)").fetchone() == ("done",)
    assert down.events == []


@ONE_COLOUR
def test_a_name_that_is_not_found_says_nothing_of_a_host(aurora_lab: PostgresLab, connect: Connect) -> None:
    down = Heard(signals.host_down)
    known = True

    def resolve(host: str, port: int) -> Any:
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return aurora_lab.resolve(host, port)

    with connect(aurora_lab, "database-1", resolve=resolve) as conn:
        known = False
        assert conn.execute("SELECT 'done' FROM pg_catalog.pg_sleep(3)").fetchone() == ("done",)
    assert down.events == []


@ONE_COLOUR
def test_a_process_without_descriptors_blames_nobody(aurora_lab: PostgresLab, connect: Connect) -> None:
    resource = pytest.importorskip("resource")
    down = Heard(signals.host_down)
    with connect(aurora_lab) as conn, ThreadPoolExecutor(1) as pool, ExitStack() as held:
        call = pool.submit(conn.execute, "SELECT 'done' FROM pg_catalog.pg_sleep(3)")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds(), limits[1]))
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        with suppress(OSError):  # until there is none left
            while True:
                held.enter_context(socket.socket())
        assert call.result(FACT_SECONDS).fetchone() == ("done",)
    assert down.events == []


def test_a_process_that_was_stopped_for_a_while_blames_nobody(aurora_lab: PostgresLab) -> None:
    """A monitor that itself ran late has seen nothing."""
    address, port = aurora_lab.address(aurora_lab.writer)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            conn = aurora_actors.connect(
                psycopg.connect,
                aurora_lab.conninfo("database-1"),
                resolve=lambda *_: [(address, port)],
                autocommit=True,
                plugins="efm",
                **QUICK,
            )
            os.write(writing, b"connected\n")
            row = conn.execute("SELECT 'done' FROM pg_catalog.pg_sleep(4)").fetchone()
            os.write(writing, f"{row}\n".encode())
        except BaseException as error:  # noqa: BLE001 - the parent is told
            os.write(writing, f"{error!r}\n".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        assert lines.readline() == "connected\n"
        for _ in range(3):
            os.kill(child, signal.SIGSTOP)
            threading.Event().wait(1.0)  # longer than a verdict takes
            os.kill(child, signal.SIGCONT)
        assert lines.readline() == "('done',)\n"
    os.waitpid(child, 0)


def test_bytes_that_arrive_keep_a_host_alive(aurora_lab: PostgresLab, connect: Connect) -> None:
    """Its sessions stream, though nobody can log in and no probe is answered."""
    down = Heard(signals.host_down)
    with connect(aurora_lab, monitors="sql") as conn:
        aurora_lab.refuse_logins(aurora_lab.writer)
        rows = conn.cursor().stream("SELECT n, pg_catalog.pg_sleep(0.05) FROM generate_series(1, 60) AS n")
        assert sum(1 for _ in rows) == 60
    assert down.events == []


def test_a_host_that_answers_again_is_up(aurora_lab: PostgresLab, connect: Connect) -> None:
    down, up = Heard(signals.host_down), Heard(signals.host_up)
    with connect(aurora_lab) as conn, connect(aurora_lab), ThreadPoolExecutor(1) as pool:
        call = pool.submit(conn.execute, FOREVER)
        writer = aurora_lab.writer
        aurora_lab.freeze(writer)
        with pytest.raises(psycopg.OperationalError):
            call.result(FACT_SECONDS)
        assert down.first().host.id == writer
        aurora_lab.thaw(writer)
        assert up.first().host.id == writer
        assert system.clusters[0].cell.view.down == frozenset()


def test_detection_can_be_turned_off(aurora_lab: PostgresLab, connect: Connect) -> None:
    with connect(aurora_lab, failure_detection_enabled=False) as conn, ThreadPoolExecutor(1) as pool:
        call = pool.submit(conn.execute, "SELECT 'done' FROM pg_catalog.pg_sleep(0.1)")
        aurora_lab.freeze(aurora_lab.writer)
        done = threading.Event()
        call.add_done_callback(lambda _: done.set())
        assert not done.wait(2.0)
        aurora_lab.thaw(aurora_lab.writer)
        assert call.result(FACT_SECONDS).fetchone() == ("done",)
        assert not [t for t in threading.enumerate() if t.name.startswith("aurora_actors-host")]


@pytest.mark.aurora_lab(flavour="plain")
def test_a_named_efm_watches_a_host_of_no_cluster(aurora_lab: PostgresLab, connect: Connect) -> None:
    address, port = aurora_lab.address(aurora_lab.writer)
    with connect(aurora_lab, host=address, port=port) as conn, ThreadPoolExecutor(1) as pool:
        call = pool.submit(conn.execute, FOREVER)
        aurora_lab.black_hole(aurora_lab.writer)
        with pytest.raises(psycopg.OperationalError):
            call.result(FACT_SECONDS)


@pytest.mark.aurora_lab(flavour="plain")
def test_the_default_watches_nothing_of_a_plain_database(aurora_lab: PostgresLab) -> None:
    address, port = aurora_lab.address(aurora_lab.writer)
    conninfo = aurora_lab.conninfo("writer", host=address, port=port)
    with aurora_actors.connect(psycopg.connect, conninfo, autocommit=True) as conn:
        conn.execute("SELECT 1")
        assert not [t for t in threading.enumerate() if t.name.startswith("aurora_actors-host")]


def monitors_of(conn: Any, while_running: Any) -> list[Any]:
    """The sessions of monitors that the host has, as soon as it has one."""
    look = (
        "SELECT datname, usename FROM pg_catalog.pg_stat_activity"
        " WHERE application_name = 'aurora_actors-monitor' AND usename IS NOT NULL"
    )
    found: list[Any] = []
    while not found and not while_running.done():
        found = conn.execute(look).fetchall()
    return found


@ONE_COLOUR
def test_the_monitor_has_one_named_session_that_obeys_its_prefix(aurora_lab: PostgresLab, connect: Connect) -> None:
    with (
        connect(aurora_lab, **{"monitoring-dbname": "postgres"}) as conn,
        connect(aurora_lab, plugins="") as other,
        ThreadPoolExecutor(1) as pool,
    ):
        slow = pool.submit(conn.execute, "SELECT pg_catalog.pg_sleep(2)")
        assert monitors_of(other, slow) == [("postgres", "john")]
        assert slow.result(FACT_SECONDS) is not None


@ONE_COLOUR
def test_the_monitor_s_session_cannot_write_and_has_limits_of_its_own(aurora_lab: PostgresLab, connect: Connect) -> None:
    with connect(aurora_lab, options="-c statement_timeout=123") as conn:
        access = conn._aa_link.proxy.access
        ((address, port),) = aurora_lab.resolve(aurora_lab.writer_endpoint, 5432)
        place = Place(address, ((address, port),))
        sockets = Sockets(BlockingIo(access.driver), monotonic() + FACT_SECONDS)
        session = run_blocking(access.driver.open_probe(access, place, sockets))
        for name, value in (("transaction_read_only", "on"), ("statement_timeout", "0")):
            assert run_blocking(session.ask(f"SHOW {name}", sockets)) == [[value]]
        session.close()


@ONE_COLOUR
def test_a_stale_password_of_one_connection_harms_no_monitor(aurora_lab: PostgresLab, connect: Connect) -> None:
    """Where the settings of one connection are refused, the monitor tries those of another."""

    def rotate(conn: Any, password: str) -> None:
        conn.execute(f"ALTER ROLE john PASSWORD '{password}'")

    with ExitStack() as held, ThreadPoolExecutor(1) as pool:
        admin = held.enter_context(connect(aurora_lab, plugins=""))
        held.callback(rotate, admin, "pwd")
        rotate(admin, "new")
        held.enter_context(connect(aurora_lab, password="new"))
        rotate(admin, "pwd")
        stale = held.enter_context(connect(aurora_lab, password="pwd"))
        rotate(admin, "new")
        slow = pool.submit(stale.execute, "SELECT pg_catalog.pg_sleep(3)")
        assert monitors_of(admin, slow) == [("db", "john")]
        assert slow.result(FACT_SECONDS) is not None


def test_connections_that_come_and_go_leave_no_descriptor(aurora_lab: PostgresLab, connect: Connect) -> None:
    process = psutil.Process()
    with connect(aurora_lab):
        settle_actors((system.clusters[0].topology,), FACT_SECONDS)
        gc.collect()
        before = process.num_fds()
        for _ in range(10):
            with connect(aurora_lab) as conn:
                conn.execute("SELECT 1")
        gc.collect()
        assert process.num_fds() <= before


@ONE_COLOUR
def test_a_monitor_that_was_killed_starts_afresh(aurora_lab: PostgresLab, connect: Connect) -> None:
    crashed = Heard(signals.actor_crashed)
    with connect(aurora_lab) as conn, ThreadPoolExecutor(1) as pool:
        cluster = system.clusters[0]
        settle_actors((cluster.topology,), FACT_SECONDS)
        (monitor,) = cluster._monitors
        monitor.tell("nonsense")
        assert "host database-1" in crashed.first().name
        call = pool.submit(conn.execute, FOREVER)
        aurora_lab.freeze(aurora_lab.writer)
        with pytest.raises(psycopg.OperationalError):
            call.result(FACT_SECONDS)


def test_a_call_at_a_silent_writer_does_not_wait_for_the_verdict_once_another_writes(
    aurora_lab: PostgresLab, connect: Connect
) -> None:
    """One unanswered probe is enough then: here the verdict alone would take hours."""
    patient: Any = {"plugins": "failover,efm", "failure_detection_count": 1000, "failure_detection_interval_ms": 300}
    with connect(aurora_lab, **patient) as conn, ThreadPoolExecutor(1) as pool:
        call = pool.submit(conn.execute, FOREVER)
        aurora_lab.freeze(aurora_lab.writer)
        aurora_lab.failover()
        with pytest.raises(FailoverSuccessError) as caught:
            call.result(FACT_SECONDS)
        assert caught.value.host is not None
        assert caught.value.host.id == aurora_lab.writer
