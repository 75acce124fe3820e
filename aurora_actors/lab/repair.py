"""Bring a lab back to how it started."""

from __future__ import annotations

import time
from dataclasses import replace

from . import faults, network
from .cluster import Cluster
from .values import Login

__all__ = ["empty", "heal_hosts"]


def heal_hosts(cluster: Cluster) -> None:
    """Bring every host back, the writer first: readers can only follow one that is there. Nobody tells lies then."""
    with cluster.lock:
        cluster.nobody_writes = False
        for host in cluster.hosts.values():
            host.claim = None
        cluster.publish()
    for host in sorted(cluster.hosts.values(), key=lambda host: host.role != "WRITER"):
        if not host.line.is_sound:
            network.heal(cluster, host.id)
        if host.state == "frozen":
            faults.thaw(cluster, host.id)
        elif host.state == "black-holed":
            faults.heal(cluster, host.id)
        elif host.state in {"crashed", "stopped", "restarting", "resurrected"}:
            faults.restart(cluster, host.id, 0.0)


def empty(cluster: Cluster, login: Login) -> None:
    """Drop all that applications made: their databases, other roles, and what the lab told of earlier events."""
    with cluster.lock:
        cluster.engine.empty(cluster, login)
        cluster.events = ()
        cluster.views = (replace(cluster.views[-1], at=time.monotonic() - cluster.zone.lag_seconds),)
        cluster.changed()
