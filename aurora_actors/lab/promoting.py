"""Failover: the old writer goes, the reader that holds everything acknowledged is promoted, the others follow it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from .cluster import Cluster, Host, Journal
from .rejoining import settle, start_rejoin
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
    """Move the role of writer; see :meth:`Lab.failover`."""
    if how not in {"crash", "planned"}:
        raise LabError(f"a failover is 'crash' or 'planned', not {how!r}")
    with cluster.operation("failover", cluster.writer.id) as journal:
        old = cluster.writer
        if to is not None and (cluster.host(to).role != "READER" or not cluster.host(to).is_live):
            raise LabError(f"{to} cannot be promoted: it is {cluster.host(to).role}, {cluster.host(to).state}")
        _check_promise(cluster)
        readers = cluster.live_readers()
        _retire(cluster, journal, old, how)
        cluster.pause(after_seconds)
        cluster.engine.detach(cluster, readers)
        reached = {host.id: cluster.engine.received(host) for host in readers}
        new = _choose(cluster, readers, to, reached)
        _promote(cluster, journal, old, new, {id_: got for id_, got in reached.items() if id_ != new.id})
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
        cluster.engine.adapt(cluster)
    if not cluster.holders:
        raise LabError("no reader holds everything that was acknowledged yet; wait_ready(), or restart the writer")
    missing = set(cluster.holders) - readers
    if missing:
        raise LabError(
            f"{', '.join(sorted(missing))} may alone hold something that was acknowledged, and is not alive; "
            "restart, thaw or heal it first, or restart the writer"
        )


def _retire(cluster: Cluster, journal: Journal, old: Host, how: How) -> None:
    """End the old writer, or leave it in its silence: from here on it acknowledges nothing."""
    if old.is_silent:
        journal.note("abandoned", old.id)
    elif how == "planned" and old.is_live:
        cluster.engine.quiesce(cluster, old)
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


def _choose(cluster: Cluster, readers: list[Host], to: str | None, reached: Mapping[str, int]) -> Host:
    """The reader that has most; one that was asked for by name first receives what it lacks."""
    most = max(readers, key=lambda host: reached[host.id])
    if to is None or reached[to] == reached[most.id]:
        return most if to is None else cluster.host(to)
    cluster.engine.catch_up(cluster, cluster.host(to), most)
    return cluster.host(to)


def _promote(cluster: Cluster, journal: Journal, old: Host, new: Host, others: Mapping[str, int]) -> None:
    """*others*: the other readers, and how much they had received."""
    readers = [cluster.host(id_) for id_ in others]
    timeline = cluster.engine.promote(cluster, journal, new, readers)
    strays = [host for host in readers if cluster.engine.has_strayed(new, timeline, others[host.id])]
    if strays:
        new.server.synchronous = tuple(name for name in new.server.synchronous if cluster.host(name) not in strays)
        new.server.write_settings()
        new.server.reload()
    old.role, new.role, new.state, new.seen, new.claim = "READER", "WRITER", "available", None, None
    cluster.holders = new.server.synchronous
    new.timeline = timeline
    cluster.publish(stale_for=cluster.options.stale_topology_seconds)
    _wait_first_commit(cluster, journal, new)
    for host in readers:
        if host in strays:
            journal.note("strayed", host.id)
            host.server.kill()
            start_rejoin(cluster, host, clone=True)
        else:
            cluster.engine.wait_following(cluster, host)
            host.timeline = new.timeline


def _wait_first_commit(cluster: Cluster, journal: Journal, new: Host) -> None:
    deadline = time.monotonic() + PROMOTION_SECONDS
    while True:
        try:
            cluster.engine.commit(new)
            break
        except cluster.engine.errors:
            if time.monotonic() > deadline or not new.server.is_running:
                raise
        cluster.pause(COMMIT_PAUSE_SECONDS)
    journal.note("first_commit", new.id)
