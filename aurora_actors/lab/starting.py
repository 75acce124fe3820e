"""The first start of a cluster: one writer, and readers that follow it."""

from __future__ import annotations

from .cluster import Cluster
from .replication import adapt, wait_following

__all__ = ["start_hosts"]


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
        wait_following(cluster, host)
    adapt(cluster)
    cluster.publish()
    cluster.remember_now("started", writer.id)
