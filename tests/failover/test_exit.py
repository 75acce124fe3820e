"""The process ends when its program does, whatever hangs in it and although nothing was closed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aurora_actors.lab import MysqlLab, PostgresLab

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

LOOP = """
import asyncio, aurora_actors.aio

def opened(**parameters):
    return aurora_actors.aio.connect(psycopg.AsyncConnection.connect, CONNINFO, **{"resolve": resolve, **parameters})

def in_loop(flow):
    in_background(lambda: asyncio.run(flow()))

"""
UNTIL_IT_SLEEPS = """
SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_catalog.pg_sleep(600)'"
with connect(autocommit=True) as looking:
    while looking.execute(SLEEPING).fetchone() == (0,):
        pass
hanging.set()
"""
HANGS = {
    "a resolver": "in_background(lambda: connect(resolve=hang))",
    "a receiver": "signals.connection_opened.connect(hang)\nother = connect()",
    "a password that is fetched": "in_background(lambda: connect(password=hang))",
    "on_connect": "in_background(lambda: connect(on_connect=hang))",
    "a statement": """
in_background(lambda: connect().execute("SELECT pg_catalog.pg_sleep(600)"))
""" + UNTIL_IT_SLEEPS,
    "a resolver, in an event loop": LOOP + "in_loop(lambda: opened(resolve=hang))",
    "a password that is fetched, in an event loop": LOOP + "in_loop(lambda: opened(password=hang))",
    "a statement, in an event loop": LOOP + """
async def sleep():
    await (await opened()).execute("SELECT pg_catalog.pg_sleep(600)")

in_loop(sleep)
""" + UNTIL_IT_SLEEPS,
    "a thread that never ceases to use its connection": """
def use():
    with connect(autocommit=True) as other:
        while True:
            other.execute("SELECT 1")
            hanging.set()

in_background(use)
""",
    "a thread that never ceases to connect": """
def use():
    while True:
        connect().close()
        hanging.set()

in_background(use)
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


def ends(script: str, said: str = "hanging\n") -> None:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=BOUND_SECONDS, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


@pytest.mark.parametrize("what", HANGS)
def test_a_process_ends_although_something_hangs(aurora_lab: PostgresLab, what: str) -> None:
    start = START.format(conninfo=aurora_lab.conninfo(), address=aurora_lab.address(aurora_lab.writer))
    ends(start + HANGS[what] + END)


AT_EXIT = """
import atexit

def use():
    print(conn.execute("SELECT 2").fetchone()[0])
    with connect() as other:
        print(other.execute("SELECT 3").fetchone()[0])

"""


@pytest.mark.parametrize("when", ["before ours", "after ours"])
def test_a_handler_at_the_exit_may_use_connections_and_open_others(aurora_lab: PostgresLab, when: str) -> None:
    """Handlers run in the opposite order of their registrations, ours that of the first connect."""
    first, opens, last = START.format(
        conninfo=aurora_lab.conninfo(), address=aurora_lab.address(aurora_lab.writer)
    ).partition("conn = connect()")
    register = "atexit.register(use)\n"
    after, before = (register, "") if when == "after ours" else ("", register)
    ends(first + AT_EXIT + after + opens + last + before, "2\n3\n")


MYSQL = """
import asyncio, socket, threading, warnings
import mysql.connector, mysql.connector.aio
import aurora_actors, aurora_actors.aio

CONNINFO, ADDRESS = {conninfo!r}, {address!r}
warnings.simplefilter("ignore", ResourceWarning)
hanging, never = threading.Event(), threading.Event()

def hang(*_):
    hanging.set()
    never.wait()

def resolve(host, port):
    return [ADDRESS]

def connect(**parameters):
    given = {{"resolve": resolve, "use_pure": True, "ssl_disabled": True, **parameters}}
    return aurora_actors.connect(mysql.connector.connect, CONNINFO, **given)

def opened(**parameters):
    given = {{"resolve": resolve, "ssl_disabled": True, **parameters}}
    return aurora_actors.aio.connect(mysql.connector.aio.connect, CONNINFO, **given)

def in_background(call):
    threading.Thread(target=call, daemon=True).start()

async def statement():
    await (await opened()).cmd_query("SELECT SLEEP(600)")

def asked(statement):
    cursor = conn.cursor()
    cursor.execute(statement)
    return cursor.fetchall()

conn = connect()
{hangs}
if {sleeps}:
    while asked("SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(600)'") == [(0,)]:
        pass
    hanging.set()
assert hanging.wait(30)
assert asked("SELECT 1") == [(1,)]
print("hanging")
"""
MYSQL_HANGS = {
    "a resolver": "in_background(lambda: connect(resolve=hang))",
    "a resolver, in an event loop": "in_background(lambda: asyncio.run(opened(resolve=hang)))",
    "a statement": "in_background(lambda: connect().cmd_query('SELECT SLEEP(600)'))",
    "a statement, in an event loop": "in_background(lambda: asyncio.run(statement()))",
    "a host that is silent": """
deaf = socket.create_server(("127.0.0.1", 0))
in_background(lambda: connect(resolve=lambda host, port: [deaf.getsockname()]))
accepted, _ = deaf.accept()
hanging.set()
""",
}


@pytest.mark.parametrize("what", MYSQL_HANGS)
def test_a_process_ends_although_something_hangs_on_mysql(aurora_mysql_lab: MysqlLab, what: str) -> None:
    address = aurora_mysql_lab.address(aurora_mysql_lab.writer)
    sleeps = "statement" in what
    ends(MYSQL.format(conninfo=aurora_mysql_lab.conninfo(), address=address, hangs=MYSQL_HANGS[what], sleeps=sleeps))


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


@pytest.mark.parametrize(("fault", "cure"), [("freeze", "thaw"), ("black_hole", "heal")])
def test_a_process_ends_although_its_host_is_silent(aurora_lab: PostgresLab, fault: str, cure: str) -> None:
    """A statement that is blocked, a monitor that gets no answer, a search that finds nobody."""
    script = START.format(conninfo=aurora_lab.conninfo(), address=aurora_lab.address(aurora_lab.writer)) + FROZEN
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            for host in aurora_lab.hosts:
                getattr(aurora_lab, fault)(host)
            done = process.communicate("\n", timeout=BOUND_SECONDS)
            assert (process.returncode, *done) == (0, "hanging\n", "")
        finally:
            process.kill()
            for host in aurora_lab.hosts:
                getattr(aurora_lab, cure)(host)
