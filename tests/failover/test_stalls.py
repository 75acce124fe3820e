"""A process that is stopped for a while (SIGSTOP, a frozen Lambda) and goes on: it trusts nothing that it knew before."""

from __future__ import annotations

import signal
import subprocess
import sys

from aurora_actors.lab import PostgresLab

PROGRAM = """
import sys
import psycopg
import aurora_actors
from aurora_actors import signals

ADDRESSES = {addresses!r}
down = []

@signals.host_down.connect
def note(cluster, *, event):
    down.append(event)

conn = aurora_actors.connect(
    psycopg.Connection.connect, {conninfo!r}, autocommit=True, resolve=lambda host, port: [ADDRESSES[host]],
    failure_detection_time_ms=400, failure_detection_interval_ms=200,
)
WHO = "SELECT aurora_db_instance_identifier()"
print(conn.execute(WHO).fetchone()[0], flush=True)
for line in sys.stdin:
    try:
        print(conn.execute(WHO).fetchone()[0], flush=True)
    except aurora_actors.FailoverSuccessError:
        print("moved to", conn.execute(WHO).fetchone()[0], flush=True)
    assert signals.settle(20)
    print(len(down), flush=True)
"""


def test_a_process_that_slept_through_a_failover(aurora_lab: PostgresLab) -> None:
    names = ("writer", "reader", *aurora_lab.hosts)
    addresses = {aurora_lab.endpoint(n): aurora_lab.resolve(aurora_lab.endpoint(n), 5432)[0] for n in names}
    program = PROGRAM.format(addresses=addresses, conninfo=aurora_lab.conninfo())
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == aurora_lab.writer
            process.send_signal(signal.SIGSTOP)
            aurora_lab.failover(how="crash")
            process.send_signal(signal.SIGCONT)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline().strip().removeprefix("moved to ") == aurora_lab.writer
            assert process.stdout.readline().strip() == "0", "a host was blamed for the time that the process slept"
        finally:
            process.kill()
