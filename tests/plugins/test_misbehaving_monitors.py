"""Monitors that fail: healthy calls go on, the other monitors still find a dead host, and one event says whose it was."""

from __future__ import annotations

import socket
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest

import aurora_actors
from aurora_actors import signals
from aurora_actors.actors.system import system
from aurora_actors.errors import PluginError
from aurora_actors.lab import PostgresLab
from aurora_actors.plugin import Host, Monitor, Sign
from aurora_actors.testing import Recording, probed, recorded
from tests.plugins.conftest import MONITORS, Install

QUICK = {"failure_detection_time_ms": 300, "failure_detection_interval_ms": 100, "failure_detection_count": 3}
FACT_SECONDS = 30.0
FOREVER = "SELECT pg_catalog.pg_sleep(3600)"
HEAD = """
import asyncio
import time
from aurora_actors.plugin import Monitor, Sign

class Bad(Monitor):
    name = "{module}"
    async def probe(self):
        return Sign.NOTHING
"""
HERE = Host("orders-1", "127.0.0.1", 1)


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    system.stop(5.0)
    yield
    system.stop(5.0)


def installed(install: Install, methods: str) -> str:
    return install(MONITORS, HEAD + textwrap.indent(textwrap.dedent(methods), "    "), {"{module}": "Bad"})


def connect(lab: PostgresLab, monitors: str, endpoint: str = "writer", **parameters: Any) -> Any:
    given = {"plugins": "efm", "monitors": monitors, "autocommit": True, **QUICK, **parameters}
    return aurora_actors.connect(psycopg.connect, lab.conninfo(endpoint), **given)


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("def __init__(self, context): raise KeyError('no url')", "being made: KeyError: 'no url'"),
        ("async def probe(self): raise KeyError('status')", "probing: KeyError: 'status'"),
        ("async def probe(self): raise SystemExit(3)", "probing: RuntimeError: it raised SystemExit(3)"),
        ("async def probe(self): raise asyncio.CancelledError", "probing: RuntimeError: it raised CancelledError()"),
        ("async def probe(self): return True", "probing: TypeError: probe() gave bool, which is no Sign"),
        ("async def probe(self): pass", "probing: TypeError: probe() gave NoneType, which is no Sign"),
        ("async def probe(self): await asyncio.sleep(0)", "awaited something that is neither a flow nor the io"),
        ("async def probe(self): await self.context.readable(self)", "is no descriptor"),
        ("async def probe(self): await self.context.sleep('long')", "probing: TypeError"),
        ("async def probe(self): time.sleep(0.3)", "and is off from now on"),
        ("async def probe(self): await self.context.blocking(time.strptime, 'x', '%Y')", "probing: ValueError"),
        ("def close(self): raise KeyError('close')", "closing: KeyError: 'close'"),
    ],
)
def test_one_that_fails_blames_nobody_and_hides_nobody(
    install: Install, aurora_lab: PostgresLab, failures: Recording[signals.PluginFailed], methods: str, said: str
) -> None:
    name = installed(install, methods)
    with recorded(signals.host_down) as down, recorded(signals.actor_crashed) as crashed:
        with connect(aurora_lab, f"sql,{name}") as conn, ThreadPoolExecutor(1) as pool:
            assert conn.execute("SELECT 'done' FROM pg_catalog.pg_sleep(1.5)").fetchone() == ("done",)
            assert down.so_far() == ()
            call = pool.submit(conn.execute, FOREVER)
            aurora_lab.freeze(aurora_lab.writer)
            with pytest.raises(psycopg.OperationalError) as caught:
                call.result(FACT_SECONDS)
            assert type(caught.value) is psycopg.OperationalError
            assert down.first()[0].host.id == aurora_lab.writer
        system.stop(5.0)
        assert crashed.so_far() == ()
    (failure,) = failures.first()
    assert failures.so_far() == (failure,)
    assert (failure.plugin, failure.distribution) == (name, "acme-extras 1.2")
    assert said in failure.error


def test_one_that_fails_alone_leaves_the_driver_s_own_behaviour(
    install: Install, aurora_lab: PostgresLab, failures: Recording[signals.PluginFailed]
) -> None:
    name = installed(install, "async def probe(self): raise KeyError('status')")
    with recorded(signals.host_down) as down, connect(aurora_lab, name) as conn, ThreadPoolExecutor(1) as pool:
        call = pool.submit(conn.execute, "SELECT 'done' FROM pg_catalog.pg_sleep(0.1)")
        aurora_lab.freeze(aurora_lab.writer)
        failures.first()
        aurora_lab.thaw(aurora_lab.writer)
        assert call.result(FACT_SECONDS).fetchone() == ("done",)
        assert down.so_far() == ()


def test_one_that_does_not_load_is_an_error_of_connect(install: Install) -> None:
    name = install(MONITORS, "import there_is_no_such_module", {"{module}": "Bad"})
    with pytest.raises(PluginError, match=f"^monitor '{name}' of acme-extras 1.2 cannot be used: ModuleNotFoundError"):
        aurora_actors.connect(psycopg.connect, "host=127.0.0.1 port=1", monitors=name)


STUCK = """
from {test} import RELEASE
from aurora_actors.plugin import Monitor, Sign

class Bad(Monitor):
    name = "{module}"
    def __init__(self, context):
        {made}
    async def probe(self):
        {probe}
        return Sign.SPOKE
"""
RELEASE = threading.Event()


@pytest.mark.parametrize(("made", "probe"), [("pass", "RELEASE.wait()"), ("RELEASE.wait()", "pass")])
def test_one_that_never_comes_back_is_left_behind(
    install: Install, aurora_lab: PostgresLab, failures: Recording[signals.PluginFailed], made: str, probe: str
) -> None:
    RELEASE.clear()
    source = STUCK.replace("{test}", __name__).replace("{made}", made).replace("{probe}", probe)
    name = install(MONITORS, source, {"{module}": "Bad"})
    try:
        with (
            recorded(signals.host_down) as down,
            connect(aurora_lab, f"sql,{name}", topology_refresh_ms=500) as conn,
            ThreadPoolExecutor(1) as pool,
        ):
            call = pool.submit(conn.execute, FOREVER)
            (failure,) = failures.first()
            assert (failure.plugin, failure.distribution) == (name, "acme-extras 1.2")
            assert "does not let go of its host's monitor and is off from now on" in failure.error
            assert down.so_far() == ()
            aurora_lab.freeze(aurora_lab.writer)
            with pytest.raises(psycopg.OperationalError):
                call.result(FACT_SECONDS)
            assert down.first()[0].host.id == aurora_lab.writer
    finally:
        RELEASE.set()
    assert failures.so_far() == (failure,)


def test_one_that_never_comes_back_does_not_hide_the_next_writer(install: Install, aurora_lab: PostgresLab) -> None:
    RELEASE.clear()
    source = STUCK.replace("{test}", __name__).replace("{made}", "pass").replace("{probe}", "RELEASE.wait()")
    name = install(MONITORS, source, {"{module}": "Bad"})
    one, _ = aurora_lab.readers
    try:
        with (
            recorded(signals.plugin_failed) as failures,
            connect(aurora_lab, "sql", "writer", plugins="failover", topology_refresh_ms=500) as conn,
            connect(aurora_lab, name, one) as stuck,
            ThreadPoolExecutor(1) as pool,
        ):
            call = pool.submit(stuck.execute, "SELECT pg_catalog.pg_sleep(1.5)")
            failures.first()
            assert call.result(FACT_SECONDS) is not None
            aurora_lab.failover(how="crash", to=one)
            with suppress(aurora_actors.FailoverSuccessError):
                conn.execute("SELECT 1")  # told, or moved before it was sent
            assert conn.execute("SELECT aurora_db_instance_identifier()").fetchone() == (one,)
    finally:
        RELEASE.set()


class Deaf(Monitor):
    """Goes on after its deadline, again and again."""

    name = "deaf"
    waits = 0

    async def probe(self) -> Sign:
        while True:
            type(self).waits += 1
            try:
                await self.context.sleep(3600)
            except TimeoutError:
                continue


def test_one_that_does_not_end_when_it_is_told_is_ended() -> None:
    assert probed(Deaf, HERE, seconds=0.05) is Sign.SILENT
    assert Deaf.waits == 2


class Stubborn(Monitor):
    """Waits in its clean-up, which it must not."""

    name = "stubborn"

    async def probe(self) -> Sign:
        try:
            await self.context.sleep(3600)
        finally:
            await self.context.sleep(3600)
        return Sign.SPOKE


def test_one_that_waits_while_it_is_ended_is_ended_all_the_same() -> None:
    assert probed(Stubborn, HERE, seconds=0.05) is Sign.SILENT


class Hanging(Monitor):
    """Its blocking code never returns before the test is over."""

    name = "hanging"
    end = threading.Event()
    started = threading.Semaphore(0)

    async def probe(self) -> Sign:
        return await self.context.blocking(self.hang)

    def hang(self) -> Sign:
        self.started.release()
        self.end.wait(FACT_SECONDS)
        return Sign.SPOKE


def test_blocking_code_that_never_returns_takes_no_thread_more_at_every_probe(
    install: Install, aurora_lab: PostgresLab
) -> None:
    name = install(MONITORS, f"from {__name__} import Hanging as Bad\n", {"{module}": "Bad"})
    with recorded(signals.host_down) as down, connect(aurora_lab, name) as conn, ThreadPoolExecutor(1) as pool:
        call = pool.submit(conn.execute, FOREVER)
        aurora_lab.freeze(aurora_lab.writer)
        down.first()
        with pytest.raises(psycopg.OperationalError):
            call.result(FACT_SECONDS)
        held = sum(1 for _ in iter(lambda: Hanging.started.acquire(blocking=False), False))
        Hanging.end.set()
    assert held == 2


class Untidy(Monitor):
    """Leaves its socket to the garbage collector, still registered nowhere."""

    name = "untidy"

    async def probe(self) -> Sign:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.send(b"x")
            await self.context.readable(ours.fileno())
        ours.close()
        await self.context.sleep(0)
        return Sign.REACHED


def test_a_descriptor_may_be_closed_between_two_waits() -> None:
    assert probed(Untidy, HERE) is Sign.REACHED
