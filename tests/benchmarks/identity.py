"""What a plugin that supplies credentials adds to a connect while its token or secret is in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from time import process_time
from typing import Any
from unittest import mock

import psycopg

import aurora_actors
from aurora_actors.flow.io import BlockingIo
from aurora_actors.lab import PostgresLab
from tests.benchmarks.harness import Plan, Spread, Table, differences, rounds

__all__ = ["tables"]

REGION = "us-east-1"
SECRET = "bench/orders"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}
BASE, NOISE = "a password", "the same again"
MOST_MICROSECONDS = 20.0


def tables(plan: Plan) -> list[Table]:
    """Whole connects but for the driver's own login, which gives the same open connection each time."""
    try:
        import boto3
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        table = Table("Credentials", [])
        table.notes = [f"Not run: {error}."]
        return [table]
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, KEYS))
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        stack.callback(server.stop)
        host, port = server.get_host_and_port()
        cloud = f"http://{host}:{port}"
        client = boto3.client("secretsmanager", region_name=REGION, endpoint_url=cloud)
        client.create_secret(Name=SECRET, SecretString=json.dumps({"username": "john", "password": "pwd"}))
        lab = stack.enter_context(PostgresLab(hosts=1))
        secret: dict[str, Any] = {
            "plugins": "aws_secrets_manager", "secrets_manager_secret_id": SECRET, "secrets_manager_region": REGION,
            "secrets_manager_endpoint": cloud,
        }  # fmt: skip
        asked: dict[str, dict[str, Any]] = {
            BASE: {"plugins": ""},
            NOISE: {"plugins": ""},
            "a callable": {"plugins": "", "password": lambda: "pwd"},
            "iam": {"plugins": "iam", "iam_region": REGION, "sslmode": "require"},
            "aws_secrets_manager": secret,
        }
        return [_added(plan, lab, asked)]


def _added(plan: Plan, lab: PostgresLab, asked: dict[str, dict[str, Any]]) -> Table:
    calls, count = plan.count(1000, 200), plan.count(15, 5)
    address, port = lab.address(lab.writer)
    conninfo = lab.conninfo()
    with _no_logins(psycopg.connect(lab.conninfo(hostaddr=address, port=port))):
        ready = {name: _connects(conninfo, own, calls) for name, own in asked.items()}
        for connect in ready.values():
            connect()  # what is in memory from here on
        found = rounds(ready, count)
    table = Table("CPU of a connect, its login left out, µs", ["connect", "added"])
    spreads: dict[str, Spread | None] = {}
    for name in asked:
        spreads[name] = Spread.of(differences(found, name, BASE), scale=1e6 / calls, digits=1, shown="quartiles")
        whole = Spread.of(found[name], scale=1e6 / calls, digits=1, shown="quartiles")
        table.add(name, whole, None if name == BASE else spreads[name])
    table.notes = [
        f"Process CPU, medians of {count} rounds of {calls} connects in shuffled order (quartiles); added: within a round.",
        "The token is signed, the secret fetched, before the first round.",
    ]
    for name in ("iam", "aws_secrets_manager"):
        added = spreads[name]
        if added is not None:
            table.target(f"{name}: under {MOST_MICROSECONDS:g} µs added", added.median < MOST_MICROSECONDS)
    return table


@contextmanager
def _no_logins(conn: Any) -> Any:
    """Every login gives *conn*, and nothing is looked up."""

    async def place(self: Any, *_: Any) -> None:
        return None

    async def connect(self: Any, *_: Any, **__: Any) -> Any:
        return conn

    with mock.patch.object(BlockingIo, "place", place), mock.patch.object(BlockingIo, "connect", connect):
        yield
    conn.close()


def _connects(conninfo: str, own: dict[str, Any], calls: int) -> Callable[[], float]:
    def measure() -> float:
        began = process_time()
        for _ in range(calls):
            aurora_actors.connect(psycopg.connect, conninfo, **own)
        return process_time() - began

    return measure
