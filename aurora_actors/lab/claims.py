"""What hosts tell that is not so: a reader that takes itself for the writer, a cluster in which nobody writes."""

from __future__ import annotations

from .cluster import Claim, Cluster, Journal
from .values import LabError, OperationRecord

__all__ = ["claim_nobody", "claim_writer"]


def claim_writer(cluster: Cluster, host_id: str, on: bool, updated_seconds_ago: float | None) -> OperationRecord:
    """See :meth:`Lab.claim_writer`."""
    with cluster.operation("claim_writer", host_id) as journal:
        host = cluster.host(host_id)
        _check(journal)
        if on and host.role == "WRITER":
            raise LabError(f"{host.id} writes; what it claims is true")
        host.claim = Claim(updated_seconds_ago) if on else None
        cluster.publish()
        journal.note("writer_claimed" if on else "claim_withdrawn", host.id)
        return journal.record()


def claim_nobody(cluster: Cluster, on: bool) -> OperationRecord:
    """See :meth:`Lab.claim_nobody`."""
    with cluster.operation("claim_nobody", cluster.writer.id) as journal:
        _check(journal)
        cluster.nobody_writes = on
        cluster.publish()
        journal.note("writer_hidden" if on else "writer_shown", cluster.writer.id)
        return journal.record()


def _check(journal: Journal) -> None:
    flavour = journal.cluster.options.flavour
    if flavour not in journal.cluster.engine.telling:
        raise LabError(f"{journal.operation}: hosts of the flavour {flavour!r} tell no topology that names a writer")
