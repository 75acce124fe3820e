"""The process ends when its program does, whatever hangs in it and although nothing was closed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aurora_actors.lab import PostgresLab

BOUND_SECONDS = 60
"""What hangs here does so for ever: only a failing test waits for this."""

START = """
import os, socket, sys, threading
import psycopg
import aurora_actors
from aurora_actors import signals

CONNINFO, ADDRESS = {conninfo!r}, {address!r}
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
