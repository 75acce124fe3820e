"""All that the author of a driver or a dialect imports, besides ``aurora_actors.testing`` and its conformance suites."""

from __future__ import annotations

from aurora_actors.actors.asking import DeadlineExceeded
from aurora_actors.dialects.base import Dialect, Report, Rows
from aurora_actors.drivers import mysql_server
from aurora_actors.drivers.base import (
    Access,
    Driver,
    Failure,
    Place,
    ProbeError,
    ProbeSession,
    Probing,
    Resolver,
    Sockets,
    Waits,
    Wire,
)
from aurora_actors.drivers.lines import Line
from aurora_actors.flow.running import run_blocking
from aurora_actors.model import mysql_statements
from aurora_actors.model.topology import HostRow
from aurora_actors.proxies.proxy import Proxy
from aurora_actors.proxies.tie import Tie

__all__ = [
    "Access",
    "DeadlineExceeded",
    "Dialect",
    "Driver",
    "Failure",
    "HostRow",
    "Line",
    "Place",
    "ProbeError",
    "ProbeSession",
    "Probing",
    "Proxy",
    "Report",
    "Resolver",
    "Rows",
    "Sockets",
    "Tie",
    "Waits",
    "Wire",
    "mysql_server",
    "mysql_statements",
    "run_blocking",
]
