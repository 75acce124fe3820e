"""The process ends when its program does, whatever hangs in it and although nothing was closed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aurora_actors.lab import PostgresLab

BOUND_SECONDS = 60
"""What hangs here does so for ever: only a failing test waits for this."""

START = """
import os, socket, sys, threading, warnings
import psycopg
import aurora_actors
from aurora_actors import signals

CONNINFO, ADDRESS = {conninfo!r}, {address!r}
warnings.simplefilter("ignore", ResourceWarning)
hanging, never, forever = threading.Event(), threading.Event(), threading.Event()

def resolve(host, port):
    return [ADDRESS]

def hang(*_, **__):
    hanging.set()
    never.wait()

def connect(*args, **parameters):
    return aurora_actors.connect(psycopg.Connection.connect, *(args or (CONNINFO,)), **{{"resolve": resolve, **parameters}})

def in_background(call):
    threading.Thread(target=call, daemon=True).start()

conn = connect()
"""
END = """
assert hanging.wait(30)
assert conn.execute("SELECT 1").fetchone() == (1,)
assert not never.is_set()
print("hanging")
"""

HANGS = {
    "a resolver": "in_background(lambda: connect(resolve=hang))",
    "a receiver": "signals.connection_opened.connect(hang)\nother = connect()",
    "a password that is fetched": "in_background(lambda: connect(password=hang))",
    "on_connect": "in_background(lambda: connect(on_connect=hang))",
    "a statement": """
SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_catalog.pg_sleep(600)'"
in_background(lambda: connect().execute("SELECT pg_catalog.pg_sleep(600)"))
with connect(autocommit=True) as looking:
    while looking.execute(SLEEPING).fetchone() == (0,):
        pass
hanging.set()
""",
    "an event loop that was left with open connections": """
import asyncio, aurora_actors.aio

async def leave():
    global left
    left = await aurora_actors.aio.connect(psycopg.AsyncConnection.connect, CONNINFO, resolve=resolve)
    await left.execute("SELECT 1")

asyncio.run(leave())
hanging.set()
""",
    "a host that is silent": """
deaf = socket.create_server(("127.0.0.1", 0))
in_background(lambda: connect(resolve=lambda host, port: [deaf.getsockname()]))
accepted, _ = deaf.accept()
hanging.set()
""",
}


@pytest.mark.parametrize("what", HANGS)
def test_a_process_ends_although_something_hangs(aurora_lab: PostgresLab, what: str) -> None:
    start = START.format(conninfo=aurora_lab.conninfo(), address=aurora_lab.address(aurora_lab.writer))
    script = start + HANGS[what] + END
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=BOUND_SECONDS, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "hanging\n", "")


FROZEN = """
pace = dict(failure_detection_time_ms=200, failure_detection_interval_ms=100, failure_detection_count=999)
quick = connect(autocommit=True, **pace)
print("open", flush=True)
sys.stdin.readline()
in_background(lambda: quick.execute("SELECT 1"))
from aurora_actors.actors.system import system
while not system.clusters[0].cell.view.doubt:  # the first probe went unanswered
    pass
print("hanging", flush=True)
"""


def test_a_process_ends_although_its_host_is_frozen(aurora_lab: PostgresLab) -> None:
    """A statement that is blocked, a monitor that gets no answer, a search that finds nobody."""
    script = START.format(conninfo=aurora_lab.conninfo(), address=aurora_lab.address(aurora_lab.writer)) + FROZEN
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            for host in aurora_lab.hosts:
                aurora_lab.freeze(host)
            done = process.communicate("\n", timeout=BOUND_SECONDS)
            assert (process.returncode, *done) == (0, "hanging\n", "")
        finally:
            process.kill()
            for host in aurora_lab.hosts:
                aurora_lab.thaw(host)
