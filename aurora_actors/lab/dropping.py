"""All hosts end the sessions of applications at once, and may refuse new ones for a moment; every host stays up."""

from __future__ import annotations

from collections.abc import Sequence

from .cluster import Cluster, Host, Journal
from .values import OperationRecord
from .waiting import until

__all__ = ["drop_sessions"]

END_SECONDS = 20.0
"""A session ends within milliseconds, unless it is in the middle of what cannot be interrupted."""


def drop_sessions(cluster: Cluster, refuse_seconds: float) -> OperationRecord:
    """See :meth:`Lab.drop_sessions`."""
    with cluster.operation("drop_sessions", cluster.writer.id) as journal:
        hosts = [host for host in cluster.hosts.values() if host.is_live]
        refusing = [host for host in hosts if refuse_seconds > 0 and not host.server.refuses_logins]
        try:
            _refuse(cluster, journal, refusing, True)
            ended = {host.id: _end_sessions(host) for host in hosts}
            for host in hosts:
                _wait_ended(cluster, host, ended[host.id])
                journal.note("sessions_dropped", host.id)
            cluster.pause(refuse_seconds)
        finally:
            if not cluster.stopping.is_set():
                _refuse(cluster, journal, refusing, False)
        return journal.record()


def _refuse(cluster: Cluster, journal: Journal, hosts: Sequence[Host], on: bool) -> None:
    for host in hosts:
        host.server.refuse_logins(on)
    cluster.changed()
    for host in hosts:
        host.server.wait_refusal()
        journal.note("logins_refused" if on else "logins_accepted", host.id)


def _end_sessions(host: Host) -> list[int]:
    """End all sessions of applications, and return the numbers of those that can hear of it."""
    stopped = {process.pid for process in host.line.stopped.values()}
    return [number for number in host.server.end_sessions() if number not in stopped]


def _wait_ended(cluster: Cluster, host: Host, numbers: Sequence[int]) -> None:
    until(lambda: not host.server.has_sessions(numbers), f"the sessions of {host.id} have ended",
          seconds=END_SECONDS, stopping=cluster.stopping)  # fmt: skip
