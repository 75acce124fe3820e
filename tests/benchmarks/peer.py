"""The AWS Advanced Python Wrapper: an environment of its own, the lab's names, and how its documentation has it set up."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg

from aurora_actors.lab.cache import locked
from aurora_actors.lab.lab import Lab
from tests.benchmarks import clients
from tests.benchmarks.harness import Table
from tests.benchmarks.servers import Servers
from tests.drivers import c_extension

__all__ = ["CONNECTOR", "SETTINGS", "VERSION", "connector", "installed", "named", "order"]

VERSION = "3.1.0"
CONNECTOR = "mysql-connector-python==9.7.0"
SETTINGS: dict[str, Any] = {"connect_timeout": 3, "monitoring-connect_timeout": 3}
"""Beside its default plugins (initial_connection, aurora_connection_tracker, failover_v2, host_monitoring_v2): the timeouts
that its documentation of failure monitoring asks for. Without them its probes wait for the kernel's SYN retries."""
FOLLOWS_SECONDS = 0.005
"""How often the peer's table of names follows the lab's."""


def installed(make: Callable[[], list[Table]]) -> list[Table]:
    """The tables that *make* makes, or one that says that the peer cannot be had."""
    try:
        clients.INTERPRETERS["peer"] = str(environment())
    except subprocess.CalledProcessError as error:
        table = Table("Beside the AWS Advanced Python Wrapper", [])
        table.notes = [f"Not run: aws-advanced-python-wrapper {VERSION} cannot be installed ({error})."]
        return [table]
    return make()


def connector() -> str:
    """The interpreter with ours and MySQL Connector 9.7; or this one."""
    try:
        return str(c_extension.interpreter())
    except subprocess.CalledProcessError:
        return sys.executable


def environment() -> Path:
    """The interpreter of an environment with the peer, the psycopg that we have, and a connector whose C part loads."""
    with locked(f"aws-advanced-python-wrapper-{VERSION}-psycopg-{psycopg.__version__}-{CONNECTOR}") as entry:
        python = entry / "bin" / "python"
        if not (entry / "complete").exists():
            venv.create(entry, with_pip=True, clear=True)
            wanted = [f"aws-advanced-python-wrapper=={VERSION}", f"psycopg[binary]=={psycopg.__version__}", CONNECTOR]
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--quiet", *wanted], check=True)
            (entry / "complete").touch()
        return python


@contextmanager
def named(lab: Lab) -> Iterator[Path]:
    """A file with the place of each name, kept as the lab's resolver answers."""
    path = lab.directory / "places.json"
    names = (lab.endpoint(), lab.reader_endpoint, *map(lab.endpoint, lab.hosts))
    _, port = lab.address(lab.writer)
    stop = Event()

    def follow() -> None:
        last: dict[str, tuple[str, int]] = {}
        while not stop.is_set():
            found = {name: lab.resolve(name, port)[0] for name in names}
            if found != last:
                fresh = path.with_suffix(".new")
                fresh.write_text(json.dumps(found), "utf-8")
                fresh.replace(path)
                last = found
            stop.wait(FOLLOWS_SECONDS)

    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        stop.set()
        thread.join()


def order(servers: Servers, subject: str, places: Path, **more: Any) -> dict[str, Any]:
    """An order for a subject with the login of its name."""
    made = servers.order(subject, f"bench_{subject}", **more)
    if subject != "peer":
        return made
    return {**made, "places": str(places), "parameters": {**SETTINGS, **more.get("parameters", {})}}
