"""What is left of failovers in one process: threads, descriptors, memory, and sessions on the servers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from .engines import Lab

__all__ = ["Resources", "measured", "settled"]

SETTLE_SECONDS = 15.0
"""How long what a failover needed may take to go; the actors' grace and the lab's own comings and goings are below it."""
LOOK_SECONDS = 0.1
MEGABYTE = 1 << 20
_SESSIONS = {
    "postgres": "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE user = '{}'",
}


@dataclass(frozen=True, slots=True)
class Resources:
    """What the process and the servers hold. ``resident``: megabytes; ``sessions``: the application's, on all hosts."""

    threads: int
    descriptors: int
    resident: int
    sessions: int


def measured(lab: Lab, engine: str) -> Resources:
    """What is held now."""
    process = psutil.Process(os.getpid())
    sql = _SESSIONS[engine].format(lab.login.user)
    sessions = sum(int(host.server.query(sql)[0][0]) for host in lab.cluster.hosts.values())
    memory = process.memory_info().rss // MEGABYTE
    return Resources(threading.active_count(), process.num_fds(), memory, sessions)


def settled(look: Callable[[], Resources], bound: Resources | None = None) -> Resources:
    """What is held once it is no more than *bound*, or without one does not change; or else at last."""
    until = monotonic() + SETTLE_SECONDS
    before, now = look(), look()
    while monotonic() < until:
        if bound is None and (before.threads, before.descriptors) == (now.threads, now.descriptors):
            break
        if bound is not None and now.threads <= bound.threads and now.descriptors <= bound.descriptors:
            break
        time.sleep(LOOK_SECONDS)
        before, now = now, look()
    return now
