"""The first start of a cluster: one writer, and readers that follow it."""

from __future__ import annotations

import os
import shutil
import tempfile

from .cluster import Cluster

__all__ = ["MEMORY", "place_for_data", "start_hosts"]

MEMORY = "/dev/shm"  # noqa: S108 - directories in it are made by mkdtemp
HOST_BYTES = 512 * 1024 * 1024
"""What a host may take: its data, and up to 200 MB of WAL."""


def place_for_data(hosts: int) -> str:
    """Where data directories are made: in memory where there is room, as copying is ten times faster there."""
    try:
        if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > hosts * HOST_BYTES:
            return MEMORY
    except OSError:
        pass
    return tempfile.gettempdir()


def start_hosts(cluster: Cluster) -> None:
    """Start all servers on their copies of the template; returns when commits wait for readers."""
    writer, *readers = cluster.hosts.values()
    writer.role = "WRITER"
    for host in readers:
        host.server.upstream = writer.place
    for host in cluster.hosts.values():
        host.state = "starting"
        host.server.configure()
    for host in readers:
        host.server.become_standby()
    cluster.publish()
    for host in cluster.hosts.values():
        host.server.start()
    for host in cluster.hosts.values():
        host.server.wait_started()
        host.state = "available"
    for host in readers:
        cluster.engine.wait_following(cluster, host)
    cluster.engine.adapt(cluster)
    cluster.publish()
    cluster.remember_now("started", writer.id)
