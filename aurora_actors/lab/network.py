"""What can be done to the packets between one host and its clients; replication does not pass there."""

from __future__ import annotations

from . import faults, lines
from .cluster import Cluster, Host
from .rejoining import operation_on
from .values import LabError, OperationRecord

__all__ = ["cut_flow", "drop_packets", "heal", "lift", "slow"]

MOST_LATE_MS = 60_000.0
"""More than a minute is silence: :func:`faults.freeze` and :func:`faults.black_hole` make it."""


def cut_flow(cluster: Cluster, host_id: str) -> OperationRecord:
    """See :meth:`Lab.cut_flow`."""
    with operation_on(cluster, "cut_flow", host_id) as journal:
        host = _live(cluster, host_id, "cut_flow")
        lines.cut(host.line, cluster.directory, host.server)
        journal.note("flow_cut", host.id)
        return journal.record()


def slow(cluster: Cluster, host_id: str, milliseconds: float) -> OperationRecord:
    """See :meth:`Lab.slow`."""
    if not 0 <= milliseconds <= MOST_LATE_MS:
        raise LabError(f"slow: 0 to {MOST_LATE_MS:g} milliseconds, not {milliseconds:g}")
    with operation_on(cluster, "slow", host_id) as journal:
        host = _live(cluster, host_id, "slow") if milliseconds else cluster.host(host_id)
        lines.delay(host.line, cluster.directory, host.server, milliseconds)
        journal.note("slowed" if milliseconds else "sped", host.id)
        return journal.record()


def drop_packets(cluster: Cluster, host_id: str, percent: float) -> OperationRecord:
    """See :meth:`Lab.drop_packets`."""
    if not 0 <= percent <= 100:
        raise LabError(f"drop_packets: 0 to 100 percent, not {percent:g}")
    with operation_on(cluster, "drop_packets", host_id) as journal:
        host = _live(cluster, host_id, "drop_packets") if percent else cluster.host(host_id)
        if percent or host.line.loss_percent:
            lines.lose(host.line, cluster.directory, host.server, percent)
        journal.note("lossy" if percent else "lossless", host.id)
        return journal.record()


def heal(cluster: Cluster, host_id: str) -> OperationRecord:
    """See :meth:`Lab.heal`."""
    host = cluster.host(host_id)
    with operation_on(cluster, "heal", host_id) as journal:
        if host.line.is_sound:
            return faults.heal(cluster, host_id)
        if host.state == "black-holed":
            # What was cut must not flow again before a deposed writer is dead.
            journal.events.extend(faults.heal(cluster, host_id).events)
        lift(cluster, host)
        if not journal.events:
            journal.note("healed", host.id)
        return journal.record()


def lift(cluster: Cluster, host: Host) -> None:
    """Let all packets of the host through at once."""
    lines.release(host.line, cluster.directory, host.server)


def _live(cluster: Cluster, host_id: str, operation: str) -> Host:
    host = cluster.host(host_id)
    if not host.is_live:
        raise LabError(f"{operation}: {host.id} is {host.state}")
    return host
