"""What can be done to one host: crash, restart, silence, refused logins, killed sessions."""

from __future__ import annotations

import contextlib
import time

from . import black_holes, lines
from .cluster import Cluster, Host, Journal
from .rejoining import COPY_AFTER_SECONDS, operation_on, rejoin_now, rejoin_or_copy
from .values import LabError, OperationRecord, State

__all__ = [
    "black_hole",
    "black_hole_kind",
    "bring_up",
    "crash",
    "freeze",
    "heal",
    "kill",
    "kill_session",
    "leave",
    "lift_all",
    "refuse_logins",
    "restart",
    "thaw",
]


def crash(cluster: Cluster, host_id: str) -> OperationRecord:
    """See :meth:`Lab.crash`."""
    with operation_on(cluster, "crash", host_id) as journal:
        _crash(cluster, journal, cluster.host(host_id))
        return journal.record()


def _crash(cluster: Cluster, journal: Journal, host: Host) -> None:
    if not host.server.is_running:
        return
    if host.role == "READER":
        leave(cluster, host)
    journal.note("killed", host.id)
    kill(cluster, host)
    host.state = "crashed"
    host.seen = host.seen or time.time()
    cluster.publish()


def kill(cluster: Cluster, host: Host) -> None:
    """SIGKILL a host, in its hole if it is in one."""
    if host.state == "black-holed":
        black_holes.bury(cluster.directory, host.server)
    else:
        host.server.kill()


def leave(cluster: Cluster, host: Host) -> None:
    """Let no commit wait for a reader that is about to be silent or dead."""
    writer = cluster.writer
    if host.is_live and writer.is_live:
        cluster.engine.leave(cluster, host)


def restart(cluster: Cluster, host_id: str, down_seconds: float) -> OperationRecord:
    """See :meth:`Lab.restart`."""
    host = cluster.host(host_id)
    with operation_on(cluster, "restart", host_id) as journal:
        _crash(cluster, journal, host)
        cluster.pause(down_seconds)
        bring_up(cluster, journal, host)
        return journal.record()


def bring_up(cluster: Cluster, journal: Journal, host: Host) -> None:
    """Start a stopped host: a writer as the writer, a deposed writer and a reader as a reader."""
    if host.deposed:
        rejoin_now(cluster, host, clone=True)
    elif host.role == "READER":
        rejoin_or_copy(cluster, host)
    else:
        host.server.start()
        host.server.wait_started()
        host.state, host.seen = "available", None
        readers = cluster.live_readers()
        for reader in readers:
            cluster.engine.wait_following(cluster, reader)
        cluster.engine.adapt(cluster)
        cluster.publish()
    journal.note("started", host.id)


def freeze(cluster: Cluster, host_id: str) -> OperationRecord:
    """See :meth:`Lab.freeze`."""
    with operation_on(cluster, "freeze", host_id) as journal:
        host = _about_to_be_silent(cluster, host_id, "freeze")
        host.server.end_session()
        host.server.freeze()
        _silence(cluster, journal, host, "frozen")
        return journal.record()


def thaw(cluster: Cluster, host_id: str) -> OperationRecord:
    """See :meth:`Lab.thaw`."""
    with operation_on(cluster, "thaw", host_id) as journal:
        host = cluster.host(host_id)
        if host.state != "frozen":
            raise LabError(f"{host.id} is not frozen but {host.state}")
        _end_silence(cluster, journal, host, "thawed")
        return journal.record()


def black_hole(cluster: Cluster, host_id: str) -> OperationRecord:
    """See :meth:`Lab.black_hole`."""
    with operation_on(cluster, "black_hole", host_id) as journal:
        host = _about_to_be_silent(cluster, host_id, "black_hole")
        host.server.end_session()
        black_holes.dig(cluster.directory, host.server)
        _silence(cluster, journal, host, "black-holed")
        return journal.record()


def heal(cluster: Cluster, host_id: str) -> OperationRecord:
    """See :meth:`Lab.heal`."""
    with operation_on(cluster, "heal", host_id) as journal:
        host = cluster.host(host_id)
        if host.state != "black-holed":
            raise LabError(f"{host.id} is not black-holed but {host.state}")
        _end_silence(cluster, journal, host, "healed")
        return journal.record()


def black_hole_kind() -> str:
    """How packets are dropped on this machine."""
    return black_holes.kind()


def _about_to_be_silent(cluster: Cluster, host_id: str, operation: str) -> Host:
    host = cluster.host(host_id)
    if not host.is_live:
        raise LabError(f"{operation}: {host.id} is {host.state}")
    lines.end_pauses(host.line, cluster.directory, host.server)
    if host.role == "READER":
        leave(cluster, host)
    return host


def _silence(cluster: Cluster, journal: Journal, host: Host, state: State) -> None:
    host.state, host.seen = state, time.time()
    journal.note(state, host.id)
    cluster.publish()


def _end_silence(cluster: Cluster, journal: Journal, host: Host, fact: str) -> None:
    if host.deposed:
        # It must not send one more packet as a writer: it dies in its silence and comes back as a reader.
        journal.note("killed", host.id)
        kill(cluster, host)
        host.state = "crashed"
        rejoin_now(cluster, host, clone=True)
    else:
        if host.state == "black-holed":
            black_holes.lift(cluster.directory, host.server)
        if host.line.stopped:
            # Their sessions are about to be woken with all others.
            lines.mend(host.line, cluster.directory, host.server)
        host.server.thaw()
        host.state, host.seen = "available", None
        _resume(cluster, host)
    journal.note(fact, host.id)


def _resume(cluster: Cluster, host: Host) -> None:
    writer = cluster.writer
    if host.role == "READER" and writer.is_live:
        # Where promotions passed it by, it may have received what no other did.
        stayed = host.server.upstream == writer.place and host.timeline == writer.timeline
        if not stayed or not _follows(cluster, host):
            host.server.kill()
            rejoin_now(cluster, host, clone=True)
            return
    elif host is writer:
        for reader in cluster.live_readers():
            cluster.engine.wait_following(cluster, reader)
    cluster.engine.adapt(cluster)
    cluster.publish()


def _follows(cluster: Cluster, host: Host) -> bool:
    try:
        cluster.engine.wait_following(cluster, host, COPY_AFTER_SECONDS)
    except LabError:
        return False
    return True


def refuse_logins(cluster: Cluster, host_id: str, on: bool) -> None:
    """See :meth:`Lab.refuse_logins`."""
    cluster.host(host_id).server.refuse_logins(on)
    cluster.remember_now("logins_refused" if on else "logins_accepted", host_id)
    cluster.changed()


def kill_session(cluster: Cluster, host_id: str, pid: int) -> bool:
    """See :meth:`Lab.kill_session`."""
    host = cluster.host(host_id)
    if not host.is_live:
        raise LabError(f"kill_session: {host.id} is {host.state}")
    killed = host.server.kill_session(pid)
    if killed:
        cluster.remember_now("session_killed", host_id)
    return killed


def lift_all(cluster: Cluster) -> None:
    """Remove every packet filter, queue and pause; nobody is to hear of it any more."""
    for host in cluster.hosts.values():
        if host.state == "black-holed":
            black_holes.bury(cluster.directory, host.server)
        with contextlib.suppress(LabError):
            # The packet filter goes with the directory in any case.
            lines.release(host.line, cluster.directory, host.server)
