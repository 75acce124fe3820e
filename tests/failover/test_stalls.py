"""A process that is stopped for a while (SIGSTOP, a frozen Lambda) and goes on: it trusts nothing that it knew before."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from aurora_actors.lab import PostgresLab
from tests.failover.applications import connect
from tests.lab.sessions import rows

CONNECTIONS = 20
STOPPED_SECONDS = 2.5
"""Longer than any load holds a monitor up: what is looked for is a process that was stopped."""
PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
import psycopg
import aurora_actors
from aurora_actors import signals
from aurora_actors.actors.system import system

ADDRESSES = {addresses!r}
down = []

@signals.host_down.connect
def note(cluster, *, event):
    down.append(event)

WHO = "SELECT aurora_db_instance_identifier(), pg_catalog.pg_is_in_recovery()"

def connect():
    return aurora_actors.connect(
        psycopg.Connection.connect, {conninfo!r}, autocommit=True, resolve=lambda host, port: [ADDRESSES[host]],
        failure_detection_time_ms=400, failure_detection_interval_ms=200, monitoring={monitoring!r},
    )

def ask(conn):
    try:
        return conn.execute(WHO).fetchone()
    except aurora_actors.FailoverSuccessError:
        return conn.execute(WHO).fetchone()

conns = [connect() for _ in range({count})]
print(ask(conns[0])[0], flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(len(conns)) as pool:
    found = set(pool.map(ask, conns))
print(*(f"{{name}}, a {{'reader' if reads else 'writer'}}" for name, reads in found), flush=True)
assert signals.settle(20)
while {monitoring!r} == "background" and not system.clusters[0].cell.woken > 0:
    pass  # the monitors find out, each in its turn
print(len(down), flush=True)
"""


INSERTS = """
def insert(number):
    try:
        conns[number].execute("INSERT INTO orders VALUES (%s)", (number,))
    except aurora_actors.FailoverError as error:
        return error.outcome.value
    return "no error"

for conn in conns[::2]:
    conn.autocommit = False
    conn.execute("SELECT 1")
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(len(conns)) as pool:
    told = list(pool.map(insert, range(len(conns))))
for conn in conns[::2]:
    conn.commit()
print(*told, sep=",", flush=True)
"""


def addresses(lab: PostgresLab) -> dict[str, tuple[str, int]]:
    """Where its names lead before anything happens."""
    names = map(lab.endpoint, ("writer", "reader", *lab.hosts))
    return {name: lab.resolve(name, 5432)[0] for name in names}


def test_what_is_sent_before_the_sleep_is_noticed_has_a_true_outcome(aurora_lab: PostgresLab) -> None:
    """Meanwhile the writer fell silent, with its sessions open, and another host writes. Half of the calls are in
    transactions, which have to stay where they are; whether a monitor has looked before the others is left to chance."""
    with connect(aurora_lab) as conn:
        conn.execute("CREATE TABLE orders (id int)")
    begin = PROGRAM.partition("print(ask(conns[0])")[0]
    given = {"addresses": addresses(aurora_lab), "conninfo": aurora_lab.conninfo(), "count": CONNECTIONS}
    script = begin.format(**given, monitoring="background") + INSERTS
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGSTOP)
            process.stdin.write("\n")
            process.stdin.flush()
            old = aurora_lab.writer
            aurora_lab.freeze(old)
            aurora_lab.failover()
            process.send_signal(signal.SIGCONT)
            told = process.stdout.readline().strip().split(",")
            aurora_lab.thaw(old)
        finally:
            process.kill()
    assert len(told) == CONNECTIONS
    assert set(told[::2]) == {"rolled back"}
    stored = {number for (number,) in rows(aurora_lab, "writer", "SELECT id FROM orders")}
    for number, outcome in enumerate(told):
        assert outcome == "unknown" or (number in stored) is (outcome == "no error"), (number, outcome)


@pytest.mark.parametrize("monitoring", ["background", "on_demand"])
@pytest.mark.parametrize("count", [1, CONNECTIONS])
def test_a_process_that_slept_through_a_failover(aurora_lab: PostgresLab, count: int, monitoring: str) -> None:
    given = {"addresses": addresses(aurora_lab), "conninfo": aurora_lab.conninfo(), "count": count}
    script = PROGRAM.format(**given, monitoring=monitoring)
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == aurora_lab.writer
            process.send_signal(signal.SIGSTOP)
            aurora_lab.failover(how="crash")
            aurora_lab.cluster.host(aurora_lab.writer).server.query("SELECT pg_catalog.pg_sleep(%s)", (STOPPED_SECONDS,))
            process.send_signal(signal.SIGCONT)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == f"{aurora_lab.writer}, a writer"
            assert process.stdout.readline().strip() == "0", "a host was blamed for the time that the process slept"
        finally:
            process.kill()
