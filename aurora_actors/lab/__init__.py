"""A local cluster of real servers that behaves like Aurora, to see how an application survives a failover.

Needs the extra ``lab``. Nothing heavy is imported before a name of this module is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .mysql import MysqlLab
    from .postgres import PostgresLab
    from .state import resolver_from
    from .values import HostStatus, LabError, LabEvent, OperationRecord, ServerUnavailable

__all__ = [
    "HostStatus",
    "LabError",
    "LabEvent",
    "MysqlLab",
    "OperationRecord",
    "PostgresLab",
    "ServerUnavailable",
    "resolver_from",
]

_HOMES = {"MysqlLab": ".mysql", "PostgresLab": ".postgres", "resolver_from": ".state"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, ".values"), __name__), name)
