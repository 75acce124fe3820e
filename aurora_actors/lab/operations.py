"""Operations on a running lab that go beyond the life and death of one host: its packets, its members, its claims."""

from __future__ import annotations

from . import lines, members, network
from .cluster import Cluster
from .values import OperationRecord, SlowKind

__all__ = ["Operations"]


class Operations:
    """Part of :class:`PostgresLab`."""

    @property
    def cluster(self) -> Cluster:
        """The lab's inner state; :class:`LabError` when it is not running."""
        raise NotImplementedError

    # Packets

    @property
    def slow_kind(self) -> SlowKind:
        """How :meth:`slow` works here: ``packet-queue`` or ``pauses`` (docs/lab.md tells the difference)."""
        return lines.slow_kind()

    def cut_flow(self, host: str) -> OperationRecord:
        """Drop the packets of all connections of clients that the host has now; new ones work.

        As when a router on the way forgot them: neither side is told. Called again, it cuts those opened since.
        """
        return network.cut_flow(self.cluster, host)

    def slow(self, host: str, milliseconds: float) -> OperationRecord:
        """Let everything that the host says to clients arrive so much later, on all connections; 0 ends it."""
        return network.slow(self.cluster, host, milliseconds)

    def drop_packets(self, host: str, percent: float) -> OperationRecord:
        """Lose so many of the packets between the host and its clients, at random; 0 ends it.

        :class:`LabError` where the process may not filter packets (nft and CAP_NET_ADMIN).
        """
        return network.drop_packets(self.cluster, host, percent)

    def heal(self, host: str) -> OperationRecord:
        """Let all packets of the host through again: end black hole, cut flows, lateness and loss.

        As :meth:`PostgresLab.thaw` for a deposed writer. What a cut connection had sent arrives now.
        """
        return network.heal(self.cluster, host)

    # Members

    def add_reader(self, id: str | None = None) -> OperationRecord:  # noqa: A002 - RDS calls it so
        """Add a reader; it is in topology, names and status when this returns. The record's ``host`` is its id.

        Without an *id* it is the cluster's name and the next number that no host ever had.
        """
        return members.add_reader(self.cluster, id)

    def remove_reader(self, host: str) -> OperationRecord:
        """Delete a reader: its sessions get 57P01, its name leads nowhere."""
        return members.remove_reader(self.cluster, host)

    def rename(self, host: str, new_id: str) -> OperationRecord:
        """Give a host another id: it is restarted, and its old name leads nowhere (USER_RenameInstance, RDS user guide)."""
        return members.rename(self.cluster, host, new_id)
