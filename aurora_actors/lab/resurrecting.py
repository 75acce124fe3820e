"""Split brain: a former writer comes back for a while with the data and the role it had."""

from __future__ import annotations

import threading

from . import faults
from .cluster import Claim, Cluster, Host
from .rejoining import operation_on, start_rejoin
from .values import Commits, LabError, OperationRecord

__all__ = ["resurrect"]
def resurrect(
    cluster: Cluster, host_id: str, seconds: float | None, commits: Commits, updated_seconds_ago: float | None
) -> OperationRecord:
    """See :meth:`Lab.resurrect`."""
    if commits not in {"hang", "refuse"}:
        raise LabError(f"commits 'hang' or are 'refuse'd, not {commits!r}")
    with operation_on(cluster, "resurrect", host_id) as journal:
        host = cluster.host(host_id)
        if not host.deposed or host.state == "resurrected" or not cluster.engine.is_former_writer(host):
            raise LabError(
                f"{host.id} is no former writer that kept its data, but {host.role}, {host.state}; "
                "failover(rejoin=False) leaves one, and so does a failover while the writer is frozen"
            )
        if host.server.is_running:
            # Its old sessions must not hear of commits that readers acknowledged before they turned away.
            journal.note("killed", host.id)
            faults.kill(cluster, host)
        cluster.engine.resurrect(host, commits)
        host.server.wait_started()
        host.state = "resurrected"
        host.claim = Claim(updated_seconds_ago) if updated_seconds_ago is not None else None
        cluster.publish()
        journal.note("resurrected", host.id)
        if seconds is not None:
            threading.Thread(
                target=_end_later, args=(cluster, host, seconds), name=f"aurora-lab-ghost-{host.id}", daemon=True
            ).start()
        return journal.record()


def _end_later(cluster: Cluster, host: Host, seconds: float) -> None:
    process = host.server.process
    if cluster.stopping.wait(seconds):
        return
    with cluster.lock:
        if host.state == "resurrected" and host.server.process is process:
            cluster.remember_now("killed", host.id)
            host.server.kill()
            host.claim = None
            start_rejoin(cluster, host, clone=True)
            cluster.publish()
