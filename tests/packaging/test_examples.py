"""The distribution of docs/examples beside the wheel: a stranger's plugin, monitor, host selector and driver on the lab."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.distribution import ROOT, Installed
from tests.test_layers import OURS, PUBLIC, Module, imports

pytestmark = pytest.mark.packaging

SOURCES = sorted((ROOT / "docs" / "examples" / "src").rglob("*.py"))
QUICK = {"failure_detection_time_ms": 300, "failure_detection_interval_ms": 100, "failure_detection_count": 3}

# Prints what it was asked to find out as JSON, on a line of its own.
PROGRAM = """
import json, sys
import psycopg
import aurora_actors
from aurora_actors import signals
from aurora_actors.testing import recorded

NAMES = {names!r}

def connect(conninfo, **parameters):
    return aurora_actors.connect(
        psycopg.connect, conninfo, autocommit=True, resolve=lambda host, port: NAMES[host], **parameters)

def host_of(conn):
    return conn.execute("SELECT aurora_db_instance_identifier()").fetchone()[0]

"""

AUDIT = """
audited = signals.namespace.signal("statement_audited")
with recorded(audited) as events, connect({writer!r}, plugins="failover,audit", audit_actor="billing") as conn:
    conn.execute("CREATE TABLE acme_orders (id int PRIMARY KEY)")
    conn.execute("INSERT INTO acme_orders VALUES (%s)", (1,))
    try:
        conn.execute("INSERT INTO acme_orders VALUES (%s)", (1,))
    except psycopg.errors.UniqueViolation:
        pass
    assert conn.execute("SELECT id FROM acme_orders").fetchall() == [(1,)]
    print(json.dumps([[e.actor, e.statement, e.host.id, e.error] for e in events.so_far()]))
"""

HEALTH = """
parameters = dict(plugins="efm", monitors="http_health", http_health_port={port}, **{quick!r})
with recorded(signals.host_down) as down, recorded(signals.plugin_failed) as failed:
    with connect({writer!r}, **parameters) as conn:
        try:
            told = conn.execute("SELECT 'answered' FROM pg_catalog.pg_sleep({seconds})").fetchone()[0]
        except psycopg.OperationalError as error:
            told = type(error).__name__
            down.first()  # the verdict ends the call first and is told after
    reasons = [[event.host.id, event.reason] for event in down.so_far()[:1]]
    print(json.dumps([told, reasons, [event.error for event in failed.so_far()]]))
"""

ZONE = """
strategy = dict(initial_connection_host_selector_strategy="same_zone")
# Who comes first to an endpoint takes what its name leads to; the strategy is asked once the cluster is known by it.
with connect({writer!r}), connect({reader!r}, **strategy):
    hosts = set()
    for _ in range(8):
        with connect({reader!r}, **strategy) as conn:
            hosts.add(host_of(conn))
    print(json.dumps(sorted(hosts)))
"""


def told(installed: Installed, lab: Any, code: str, environment: dict[str, str] | None = None, **values: object) -> Any:
    """What a program of the environment found out."""
    endpoints = [lab.writer_endpoint, lab.reader_endpoint, *(lab.endpoint(host) for host in lab.hosts)]
    names = {name: lab.resolve(name, 5432) for name in endpoints}
    values |= {"names": names, "writer": lab.conninfo(), "reader": lab.conninfo("reader"), "quick": QUICK}
    setting = f"import os\nos.environ.update({environment or {}!r})\n"
    return json.loads(installed.python(setting + (PROGRAM + code).format(**values)))


class Agent(BaseHTTPRequestHandler):
    """Tells whether the server beside it lives: ``status`` 0 never answers. ``first`` is called before anything."""

    status = 200
    asked: list[tuple[str, str]]
    released: threading.Event
    first: tuple[Callable[[], object], ...]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"]))
        if len(self.asked) == 1:
            for call in self.first:
                call()
        if not self.status:
            self.released.wait()
            return
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base's
        """Nothing on the terminal of the tests."""


@contextmanager
def agent(
    lab: Any, status: int, *first: Callable[[], object]
) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """An agent at the writer's address; its port, and what it was asked."""
    asked: list[tuple[str, str]] = []
    released = threading.Event()
    own = {"status": status, "asked": asked, "released": released, "first": first}
    handler = type("Handler", (Agent,), own)
    address, _ = lab.address(lab.writer)
    with ThreadingHTTPServer((address, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            released.set()
            server.shutdown()
            thread.join()


def test_they_import_what_a_stranger_may() -> None:
    assert len(SOURCES) == 5
    modules = [Module(path.stem, path.read_text("utf-8")) for path in SOURCES]
    found = {item.module for module in modules for item in imports(module) if item.top == OURS}
    assert found <= PUBLIC
    assert f"{OURS}.plugin" in found


def test_they_are_installed_from_their_own_distribution(installed_with_examples: Installed) -> None:
    printed = installed_with_examples.python("import acme_aurora, aurora_actors; print(acme_aurora.__file__)")
    assert Path(printed).is_relative_to(installed_with_examples.prefix)


def test_the_command_lists_them(installed_with_examples: Installed) -> None:
    done = installed_with_examples.run(["aurora-actors", "plugins"])
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["audit", "plugin", "acme-aurora", "1.0", "loaded"] in rows
    assert ["http_health", "monitor", "acme-aurora", "1.0", "loaded"] in rows
    assert ["same_zone", "host", "selector", "acme-aurora", "1.0", "loaded"] in rows


def test_the_plugin_is_seen_at_work(installed_with_examples: Installed, aurora_lab: Any) -> None:
    writer = aurora_lab.writer
    assert told(installed_with_examples, aurora_lab, AUDIT) == [
        ["billing", "CREATE TABLE acme_orders (id int PRIMARY KEY)", writer, ""],
        ["billing", "INSERT INTO acme_orders VALUES (%s)", writer, ""],
        ["billing", "INSERT INTO acme_orders VALUES (%s)", writer, "UniqueViolation"],
    ]


@pytest.mark.parametrize("status", [503, 0], ids=["says dead", "hangs"])
def test_the_monitor_ends_a_call_to_a_host_that_it_holds_dead(
    installed_with_examples: Installed, aurora_lab: Any, status: int
) -> None:
    # The server falls silent once its agent is asked: its own word would count for more than its agent's.
    writer = aurora_lab.writer
    with agent(aurora_lab, status, lambda: aurora_lab.freeze(writer)) as (port, asked):
        result, reasons, failed = told(installed_with_examples, aurora_lab, HEALTH, port=port, seconds=3600)
    assert result == "OperationalError"
    assert failed == []
    ((host, reason),) = reasons
    assert host == writer
    assert "http_health" in reason
    assert set(asked) == {("/liveness", aurora_lab.endpoint(host))}


@pytest.mark.parametrize("status", [200, 404], ids=["says alive", "knows nothing"])
def test_the_monitor_leaves_a_call_to_a_healthy_host_alone(
    installed_with_examples: Installed, aurora_lab: Any, status: int
) -> None:
    with agent(aurora_lab, status) as (port, asked):
        result = told(installed_with_examples, aurora_lab, HEALTH, port=port, seconds=2)
    assert result == ["answered", [], []]
    assert asked


def test_the_selector_picks_the_reader_of_its_zone(installed_with_examples: Installed, aurora_lab: Any) -> None:
    one, other = aurora_lab.readers
    zones = f"{aurora_lab.writer}=eu-west-1a, {one}=eu-west-1b, {other}=eu-west-1a"
    for zone, expected in (("eu-west-1a", [other]), ("eu-west-1b", [one])):
        environment = {"ACME_ZONE": zone, "ACME_HOST_ZONES": zones}
        assert told(installed_with_examples, aurora_lab, ZONE, environment) == expected


def test_the_driver_passes_the_conformance_suite(installed_with_examples: Installed) -> None:
    """As its author runs it: pytest on the test file of the distribution, which is ten lines."""
    file = ROOT / "docs" / "examples" / "tests" / "test_pymysql_driver.py"
    done = installed_with_examples.run(["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(file)])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
