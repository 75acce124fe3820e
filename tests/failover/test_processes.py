"""What a process must not feel of us: forks, imports, and calls that leave nothing behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from aurora_actors import FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.flow.io import LOGINS_AT_ONCE
from aurora_actors.lab import PostgresLab
from tests.failover.applications import connect, connections, where

CALLS = 2000
QUICK: Any = {"failure_detection_time_ms": 200, "failure_detection_interval_ms": 100}


def in_a_child(work: Any) -> str:
    """What *work* gives, or raises, in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, f"{work()}".encode())
        except BaseException as error:  # noqa: BLE001 - the parent is told
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    os.waitpid(child, 0)
    return text


def test_a_child_connects_and_survives_a_failover_of_its_own(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, **QUICK) as conn:
        where(conn)

        def work() -> str:
            with connect(aurora_lab, **QUICK) as own:
                own.execute("SELECT pg_catalog.pg_sleep(0.5)")  # long enough for its monitor to look
                assert [t.name for t in threading.enumerate() if t.name.startswith("aurora_actors-host")]
                return where(own)

        assert in_a_child(work) == aurora_lab.writer
        assert where(conn) == aurora_lab.writer
        aurora_lab.failover(how="crash")
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")


def test_a_child_never_ends_the_calls_of_its_parent(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, **QUICK) as conn:
        line = conn._aa_link.proxy._line
        assert in_a_child(line.sever) == "False"
        assert where(conn) == aurora_lab.writer


def test_calls_leave_nothing_behind(aurora_lab: PostgresLab) -> None:
    """Nothing is registered or queued per call, however many there are."""
    with connect(aurora_lab, **QUICK) as conn:
        cursor = conn.cursor()

        def objects() -> int:
            for _ in range(CALLS):
                cursor.execute("SELECT 1")
            gc.collect()
            return len(gc.get_objects())

        objects()
        before = objects()
        assert objects() - before < CALLS / 20
        assert len(system.clusters[0]._sessions.at(aurora_lab.writer)) == 1


def test_no_more_than_a_few_log_in_at_the_same_time(aurora_lab: PostgresLab, monkeypatch: pytest.MonkeyPatch) -> None:
    from aurora_actors.drivers.psycopg import PsycopgDriver

    opened, at_once, most = PsycopgDriver.open, [0], [0]

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        try:
            return await opened(self, *args, **kwargs)
        finally:
            at_once[0] -= 1

    with connections(aurora_lab, 30) as conns:
        monkeypatch.setattr(PsycopgDriver, "open", counted)
        aurora_lab.failover(how="crash")
        threads = [threading.Thread(target=_use, args=(conn,)) for conn in conns]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {where(conn) for conn in conns} == {aurora_lab.writer}
    assert 1 <= most[0] <= LOGINS_AT_ONCE


def _use(conn: Any) -> None:
    try:
        conn.execute("SELECT 1")
    except FailoverSuccessError:
        return


def test_asyncio_is_an_attribute_of_the_package_and_loaded_when_used() -> None:
    script = "import sys, aurora_actors\nassert 'asyncio' not in sys.modules\nprint(aurora_actors.aio.connect.__name__)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "connect"


def test_an_import_starts_no_thread_and_loads_no_driver() -> None:
    script = (
        "import sys, threading, aurora_actors, aurora_actors.signals, aurora_actors.errors, aurora_actors.plugin\n"
        "print(threading.active_count(), sorted({'psycopg', 'mysql', 'boto3', 'asyncio'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "1 []"
