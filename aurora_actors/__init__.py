"""Connections to Amazon Aurora and RDS that survive: failover, topology and signals over the community drivers.

    conn = aurora_actors.connect("postgresql://app@orders.cluster-abc.eu-west-1.rds.amazonaws.com/orders")

Importing this package starts nothing and loads no driver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aurora_actors.errors import (
    AwsWrapperError,
    ConfigurationError,
    DatabaseError,
    DataError,
    DeadlineExceededError,
    Error,
    FailoverError,
    FailoverFailedError,
    FailoverSuccessError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    Outcome,
    PluginError,
    ProgrammingError,
    TransactionResolutionUnknownError,
    Warning,  # noqa: A004 - the name is PEP 249's
)
from aurora_actors.model.hosts import Host, Role

if TYPE_CHECKING:
    from aurora_actors import aio as aio
    from aurora_actors import signals as signals
    from aurora_actors.actors.names import set_resolver as set_resolver
    from aurora_actors.actors.system import release_resources as release_resources
    from aurora_actors.connecting import connect as connect
    from aurora_actors.deadlines import deadline as deadline
    from aurora_actors.plugin import Authenticate as Authenticate
    from aurora_actors.plugin import Connect as Connect
    from aurora_actors.plugin import Detection as Detection
    from aurora_actors.plugin import Execute as Execute
    from aurora_actors.plugin import Flow as Flow
    from aurora_actors.plugin import Monitor as Monitor
    from aurora_actors.plugin import MonitorContext as MonitorContext
    from aurora_actors.plugin import Plugin as Plugin
    from aurora_actors.plugin import PluginContext as PluginContext
    from aurora_actors.plugin import Proceed as Proceed
    from aurora_actors.plugin import Recover as Recover
    from aurora_actors.plugin import Sign as Sign
    from aurora_actors.transactions import run_transaction as run_transaction

__all__ = [
    "Authenticate",
    "AwsWrapperConnection",
    "AwsWrapperError",
    "ConfigurationError",
    "Connect",
    "DataError",
    "DatabaseError",
    "DeadlineExceededError",
    "Detection",
    "Error",
    "Execute",
    "FailoverError",
    "FailoverFailedError",
    "FailoverSuccessError",
    "Flow",
    "Host",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "Monitor",
    "MonitorContext",
    "NotSupportedError",
    "OperationalError",
    "Outcome",
    "Plugin",
    "PluginContext",
    "PluginError",
    "Proceed",
    "ProgrammingError",
    "Recover",
    "Role",
    "Sign",
    "TransactionResolutionUnknownError",
    "Warning",
    "aio",
    "apilevel",
    "connect",
    "deadline",
    "paramstyle",
    "release_resources",
    "run_transaction",
    "set_resolver",
    "signals",
    "threadsafety",
]

apilevel = "2.0"
threadsafety = 2
paramstyle = "pyformat"

_OF_PLUGINS = (
    *("Authenticate", "Connect", "Detection", "Execute", "Flow", "Monitor", "MonitorContext", "Plugin", "PluginContext"),
    *("Proceed", "Recover", "Sign"),
)
_LAZY = {
    "connect": "aurora_actors.connecting",
    "deadline": "aurora_actors.deadlines",
    "release_resources": "aurora_actors.actors.system",
    "run_transaction": "aurora_actors.transactions",
    "set_resolver": "aurora_actors.actors.names",
    **dict.fromkeys(
        _OF_PLUGINS, "aurora_actors.plugin"
    ),
}


class AwsWrapperConnection:
    """The AWS wrapper's name for what ``connect()`` does: an application leaves it by changing one import."""

    @staticmethod
    def connect(target: Any = None, conninfo: str = "", /, **parameters: Any) -> Any:
        """See ``aurora_actors.connect``."""
        from aurora_actors.connecting import connect

        return connect(target, conninfo, **parameters)


def __getattr__(name: str) -> Any:
    if name in ("aio", "signals"):
        return import_module(f"aurora_actors.{name}")
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
