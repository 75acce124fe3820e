"""Bring a host back as a reader that follows the present writer, in the background."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import threading
from collections.abc import Iterator

from .cluster import Cluster, Host, Journal
from .values import LabError

__all__ = ["operation_on", "rejoin_now", "rejoin_or_copy", "settle", "start_rejoin"]

log = logging.getLogger("aurora_actors.lab")

ATTEMPTS = 20
RETRY_SECONDS = 0.25
"""A copy fails when its source is killed meanwhile; the next try takes the writer of that moment."""
SETTLE_SECONDS = 60.0
COPY_AFTER_SECONDS = 5.0
"""A reader that does not follow by then may miss WAL that the writer no longer keeps; a copy helps in any case."""


def start_rejoin(cluster: Cluster, host: Host, *, clone: bool) -> None:
    """Start the host as a reader on a thread of its own; *clone* where its data may have gone another way."""
    host.state = "rejoining"
    thread = threading.Thread(
        target=_rejoin, args=(cluster, host, clone), name=f"aurora-lab-rejoin-{host.id}", daemon=True
    )
    host.rejoin = thread
    thread.start()


def settle(host: Host) -> None:
    """Wait until a host that is on its way back is back. Not to be called while holding the cluster's lock."""
    thread = host.rejoin
    if thread is not None and thread is not threading.current_thread():
        thread.join(SETTLE_SECONDS)
        if thread.is_alive():
            raise LabError(f"{host.id} did not come back within {SETTLE_SECONDS:g} s")


@contextlib.contextmanager
def operation_on(cluster: Cluster, name: str, host_id: str) -> Iterator[Journal]:
    """Do an operation on a host that is not on its way back; waits for one that is, without holding the lock."""
    while True:
        host = cluster.host(host_id)
        settle(host)
        with cluster.operation(name, host_id) as journal:
            if host.state != "rejoining" and cluster.hosts.get(host_id) is host:
                yield journal
                return


def _rejoin(cluster: Cluster, host: Host, clone: bool) -> None:
    expected: tuple[type[Exception], ...] = (LabError, OSError, subprocess.SubprocessError, *cluster.engine.errors)
    for attempt in range(ATTEMPTS):
        try:
            rejoin_now(cluster, host, clone=clone or attempt > 0)
        except expected as error:
            if cluster.stopping.is_set():
                return
            log.debug("%s: attempt %d to come back failed: %s", host.id, attempt + 1, error)
            host.server.kill()
            if cluster.stopping.wait(RETRY_SECONDS):
                return
        else:
            return
    with cluster.lock:
        host.state = "crashed"
        cluster.publish()
    log.warning("%s did not come back after %d attempts; restart(%r) tries again", host.id, ATTEMPTS, host.id)


def rejoin_or_copy(cluster: Cluster, host: Host) -> None:
    """Make a host a reader again with the data it has, or with a copy of the writer's where that does not do."""
    try:
        rejoin_now(cluster, host, clone=False)
    except LabError as error:
        if cluster.stopping.is_set() or not cluster.writer.is_live:
            raise
        log.debug("%s starts from a copy: %s", host.id, error)
        host.server.kill()
        rejoin_now(cluster, host, clone=True)


def rejoin_now(cluster: Cluster, host: Host, *, clone: bool) -> None:
    """Make the host a reader of the present writer. The copying runs outside the cluster's lock."""
    with cluster.lock:
        writer = cluster.writer
        if not writer.is_live:
            raise LabError(f"{host.id} cannot come back while the writer {writer.id} is {writer.state}")
        host.server.upstream = writer.place
        host.server.synchronous = ()
    if clone:
        cluster.engine.copy(cluster, host, writer)
    else:
        host.server.write_settings()
        host.server.become_standby()
    with cluster.lock:
        if cluster.writer is not writer or not writer.is_live:
            raise LabError(f"the writer changed while {host.id} was copied")
        host.deposed = False
        host.seen = host.claim = None
        if not host.server.is_running:
            host.server.start()
        host.server.wait_started()
        cluster.engine.wait_following(cluster, host, None if clone else COPY_AFTER_SECONDS)
        cluster.remember_now("rejoined", host.id)
        host.state = "available"
        host.timeline = writer.timeline
        cluster.engine.adapt(cluster)
        if host.id not in cluster.holders and not cluster.options.asynchronous:
            raise LabError(f"{host.id} ceased to follow {writer.id} at once")
        cluster.publish()
