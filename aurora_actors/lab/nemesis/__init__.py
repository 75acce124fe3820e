"""Workloads that keep account of every write, faults that strike while they run, and a checker of what was recorded.

    with PostgresLab() as lab:
        history = run(Plan(seed=7, seconds=60), lab)
    assert not check(history)

``make nemesis MINUTES=5 SEED=7 ENGINE=mysql COLOUR=async`` is the same with a summary; docs/nemesis.md tells more.
Nothing heavy is imported before a name of this module is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checker import Violation, check
    from .history import Effect, History, Reading, Result, Seen, Struck
    from .running import Plan, run

__all__ = ["Effect", "History", "Plan", "Reading", "Result", "Seen", "Struck", "Violation", "check", "run"]

_HOMES = {"Plan": ".running", "Violation": ".checker", "check": ".checker", "run": ".running"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, ".history"), __name__), name)
