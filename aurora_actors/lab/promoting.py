"""Failover: the old writer goes, the reader that holds everything acknowledged is promoted, the others follow it."""

from __future__ import annotations

import time

import psycopg

from .cluster import Cluster, Host, Journal
from .rejoining import settle, start_rejoin
from .replication import adapt, catch_up, detach, follow, received, wait_following
from .values import How, LabError, OperationRecord

__all__ = ["await_candidates", "fail_over"]

COMMIT_PAUSE_SECONDS = 0.002
"""Between two tries of the lab's own commit: the resolution of every figure that starts at the first commit."""
PROMOTION_SECONDS = 60.0
LEAVE_SECONDS = 30.0


def await_candidates(cluster: Cluster, to: str | None) -> None:
    """Before a failover: wait for hosts that are on their way back, where only they can be promoted."""
    if to is not None:
        settle(cluster.host(to))
    elif cluster.writer.is_live and not cluster.live_readers():
        for host in cluster.hosts.values():
            settle(host)


def fail_over(
    cluster: Cluster, to: str | None, how: How, *, rejoin: bool, after_seconds: float
) -> OperationRecord:
    """Move the role of writer; see :meth:`PostgresLab.failover`."""
    if how not in {"crash", "planned"}:
        raise LabError(f"a failover is 'crash' or 'planned', not {how!r}")
    with cluster.operation("failover", cluster.writer.id) as journal:
        old = cluster.writer
        if to is not None and (cluster.host(to).role != "READER" or not cluster.host(to).is_live):
            raise LabError(f"{to} cannot be promoted: it is {cluster.host(to).role}, {cluster.host(to).state}")
        _check_promise(cluster)
        readers = cluster.live_readers()
        _retire(journal, old, how)
        cluster.pause(after_seconds)
        detach(cluster, readers)
        new = _choose(cluster, readers, to)
        _promote(cluster, journal, old, new, [host for host in readers if host is not new])
        if rejoin and not old.is_silent:
            start_rejoin(cluster, old, clone=how != "planned")
        return journal.record()


def _check_promise(cluster: Cluster) -> None:
    readers = {host.id for host in cluster.live_readers()}
    if not readers:
        raise LabError("no reader is alive, so none can be promoted; restart one, or the writer, first")
    if cluster.options.asynchronous:
        return
    if cluster.writer.is_live:
        adapt(cluster)
    if not cluster.holders:
        raise LabError("no reader holds everything that was acknowledged yet; wait_ready(), or restart the writer")
    missing = set(cluster.holders) - readers
    if missing:
        raise LabError(
            f"{', '.join(sorted(missing))} may alone hold something that was acknowledged, and is not alive; "
            "restart, thaw or heal it first, or restart the writer"
        )


def _retire(journal: Journal, old: Host, how: How) -> None:
    """End the old writer, or leave it in its silence: from here on it acknowledges nothing."""
    if old.is_silent:
        journal.note("abandoned", old.id)
    elif how == "planned" and old.is_live:
        old.server.query("CHECKPOINT")
        old.state = "stopped"
        journal.note("stop_requested", old.id)
        old.server.shut_down()
        journal.note("stopped", old.id)
    elif old.server.is_running:
        journal.note("killed", old.id)
        old.server.kill()
        old.state = "crashed"
    old.deposed = True
    old.seen = old.seen or time.time()


def _choose(cluster: Cluster, readers: list[Host], to: str | None) -> Host:
    """The reader that has most; one that was asked for by name first receives what it lacks."""
    reached = {host.id: received(host) for host in readers}
    most = max(readers, key=lambda host: reached[host.id])
    if to is None or reached[to] == reached[most.id]:
        return most if to is None else cluster.host(to)
    catch_up(cluster, cluster.host(to), most)
    return cluster.host(to)


def _promote(cluster: Cluster, journal: Journal, old: Host, new: Host, others: list[Host]) -> None:
    habit = cluster.options.habit
    new.server.upstream = None
    new.server.synchronous = () if cluster.options.asynchronous else tuple(host.id for host in others)
    new.server.write_settings()
    if habit == "restart":
        journal.note("restarting", new.id)
        new.state = "restarting"
        new.server.kill()
        cluster.pause(cluster.options.restart_seconds)
        # It must not be seen as a reader that comes back: it takes no session before it writes.
        new.server.start("-c", "hot_standby=off")
        new.server.wait_started("standby", "ready")
    else:
        new.server.reload()
    for host in others:
        follow(host, new)
    requested = journal.note("promotion_requested", new.id)
    new.server.promote()
    if habit == "drop":
        _drop_sessions(new, requested.at)
        journal.note("sessions_dropped", new.id)
    _wait_promoted(cluster, journal, new)
    old.role, new.role, new.state, new.seen, new.claim = "READER", "WRITER", "available", None, None
    cluster.holders = new.server.synchronous
    new.timeline = timeline_of(new)
    cluster.publish(stale_for=cluster.options.stale_topology_seconds)
    _wait_first_commit(cluster, journal, new)
    for host in others:
        wait_following(cluster, host)
        host.timeline = new.timeline


def _drop_sessions(new: Host, before: float) -> None:
    """End the sessions that were there when the promotion began; new ones may already be welcome."""
    age = time.monotonic() - before
    new.server.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' "
        "AND pid <> pg_backend_pid() AND backend_start <= clock_timestamp() - make_interval(secs => %s)",
        (age,),
    )


def _wait_promoted(cluster: Cluster, journal: Journal, new: Host) -> None:
    deadline = time.monotonic() + PROMOTION_SECONDS
    while True:
        try:
            if not new.server.query("SELECT pg_is_in_recovery()")[0][0]:
                break
        except psycopg.OperationalError:
            # 57P03 while it starts; a dead server is told apart here.
            if not new.server.is_running:
                raise LabError(f"{new.id} ended during its promotion: {new.server.log_tail()}") from None
        if time.monotonic() > deadline:
            raise LabError(f"{new.id} was not promoted within {PROMOTION_SECONDS:g} s: {new.server.log_tail()}")
        cluster.pause(COMMIT_PAUSE_SECONDS)
    journal.note("promoted", new.id)


def _wait_first_commit(cluster: Cluster, journal: Journal, new: Host) -> None:
    deadline = time.monotonic() + PROMOTION_SECONDS
    while True:
        try:
            new.server.query("INSERT INTO aurora_lab.commits DEFAULT VALUES")
            break
        except psycopg.OperationalError:
            if time.monotonic() > deadline or not new.server.is_running:
                raise
        cluster.pause(COMMIT_PAUSE_SECONDS)
    journal.note("first_commit", new.id)


def timeline_of(host: Host) -> int:
    """The timeline that a writer writes on."""
    name = host.server.query("SELECT pg_walfile_name(pg_current_wal_lsn())")[0][0]
    return int(name[:8], 16)
