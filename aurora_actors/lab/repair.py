"""Bring a lab back to how it started."""

from __future__ import annotations

import time
from dataclasses import replace

from psycopg import sql

from . import faults, network
from .cluster import Cluster, Host
from .template import REPLICATOR, Login
from .waiting import until

__all__ = ["empty", "heal_hosts"]

EMPTY_SECONDS = 30.0


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
        server = cluster.writer.server
        user, database = sql.Identifier(login.user), sql.Identifier(login.database)
        for name in server.query("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"):
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name[0]))
            server.query(drop.as_string(None))
        if login.database != "postgres":
            create = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template1").format(database, user)
            server.query(create.as_string(None))
        _end_other_sessions(cluster)
        lsn = server.query("SELECT pg_current_wal_lsn()::text")[0][0]
        until(
            lambda: all(_replayed(host, lsn) for host in cluster.live_readers()),
            "the readers know the empty database", seconds=EMPTY_SECONDS, stopping=cluster.stopping,
        )  # fmt: skip
        cluster.events = ()
        cluster.views = (replace(cluster.views[-1], at=time.monotonic() - cluster.zone.lag_seconds),)
        cluster.changed()


def _replayed(host: Host, lsn: str) -> bool:
    return bool(host.server.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (lsn,))[0][0])


def _end_other_sessions(cluster: Cluster) -> None:
    for host in cluster.hosts.values():
        host.server.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND pid <> pg_backend_pid() AND usename <> %s",
            (REPLICATOR,),
        )
