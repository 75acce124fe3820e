"""Keep the storage promise: every acknowledged commit is on a reader that can be promoted."""

from __future__ import annotations

from collections.abc import Collection

from .cluster import Cluster, Host
from .values import LabError
from .waiting import until

__all__ = ["FOLLOW_SECONDS", "adapt", "catch_up", "detach", "follow", "received", "wait_following"]

FOLLOW_SECONDS = 20.0
"""A reader connects within some ten milliseconds; one that has much to receive needs longer."""
PRIORITY_SECONDS = 10.0

STREAMING = (
    "SELECT application_name, sync_priority, flush_lsn >= {lsn} FROM pg_stat_replication WHERE state = 'streaming'"
)


def adapt(cluster: Cluster, leaving: Collection[str] = ()) -> None:
    """Let the writer's commits wait for one of the readers that follow it now, less those that are *leaving*.

    Before it returns, every remaining holder has all that was acknowledged through one that leaves, or that was
    acknowledged without any. Does nothing while the writer does not answer: it acknowledges nothing.
    """
    writer = cluster.writer
    if not writer.is_live or cluster.options.asynchronous:
        return
    streaming = {row[0] for row in writer.server.query(STREAMING.format(lsn="'0/0'"))}
    able = streaming - set(leaving)
    holders = tuple(host.id for host in cluster.live_readers() if host.id in able and not host.deposed)
    if holders == cluster.holders:
        return
    writer.server.synchronous = holders
    writer.server.write_settings()
    writer.server.reload()
    until(lambda: _counts(writer, holders), "the writer counts its readers anew", seconds=PRIORITY_SECONDS,
          stopping=cluster.stopping)  # fmt: skip
    if holders:
        # What was acknowledged under the earlier rule may be on a host that no longer counts, or on none.
        lsn = writer.server.query("SELECT pg_current_wal_flush_lsn()::text")[0][0]
        until(lambda: _hold(writer, holders, lsn), f"{', '.join(holders)} hold all that was acknowledged",
              seconds=FOLLOW_SECONDS, stopping=cluster.stopping)  # fmt: skip
    cluster.holders = holders


def _counts(writer: Host, holders: tuple[str, ...]) -> bool:
    rows = writer.server.query(STREAMING.format(lsn="'0/0'"))
    counted = {name for name, priority, _ in rows if priority > 0}
    return counted <= set(holders) and counted >= set(holders) & {name for name, _, _ in rows}


def _hold(writer: Host, holders: tuple[str, ...], lsn: str) -> bool:
    rows = writer.server.query(STREAMING.format(lsn=f"'{lsn}'::pg_lsn"))
    return {name for name, _, reached in rows if reached} >= set(holders)


def wait_following(cluster: Cluster, host: Host, seconds: float = FOLLOW_SECONDS) -> None:
    """Wait until a reader streams from the writer, on the writer's timeline.

    A reader that was elsewhere first streams to the end of the old timeline, and is nowhere for a moment then.
    """
    writer = cluster.writer

    def streams() -> bool:
        if not host.server.is_running:
            raise LabError(f"the server of {host.id} ended: {host.server.log_tail()}")
        if host.server.query("SELECT received_tli FROM pg_stat_wal_receiver") != [(writer.timeline,)]:
            return False
        rows = writer.server.query(STREAMING.format(lsn="'0/0'"))
        return any(name == host.id for name, _, _ in rows)

    until(streams, f"{host.id} follows {writer.id}", seconds=seconds, stopping=cluster.stopping)


def follow(host: Host, upstream: Host | None) -> None:
    """Make a reader receive from another host, or from none."""
    if host.server.upstream != (upstream.place if upstream else None):
        host.server.upstream = upstream.place if upstream else None
        host.server.write_settings()
        host.server.reload()


def detach(cluster: Cluster, hosts: list[Host]) -> None:
    """End the receiving of these readers, with everything received written; the sender may be dead or silent."""
    for host in hosts:
        follow(host, None)
    until(
        lambda: not any(host.server.query("SELECT 1 FROM pg_stat_wal_receiver") for host in hosts),
        "the readers have ended their receiving", seconds=FOLLOW_SECONDS, stopping=cluster.stopping,
    )  # fmt: skip


def received(host: Host) -> int:
    """How far the WAL of a detached reader reaches, in bytes."""
    row = host.server.query(
        "SELECT pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')::bigint"
    )[0]
    return int(row[0])


def catch_up(cluster: Cluster, behind: Host, ahead: Host) -> None:
    """Let one reader receive from another, both without a writer, until it has all that the other has."""
    goal = received(ahead)
    follow(behind, ahead)
    until(lambda: received(behind) >= goal, f"{behind.id} has all that {ahead.id} has", seconds=FOLLOW_SECONDS,
          stopping=cluster.stopping)  # fmt: skip
