"""Operations on a running lab that go beyond the life and death of one host: its packets, its members, its claims."""

from __future__ import annotations

from . import claims, dropping, lines, members, network, resurrecting
from .cluster import Cluster
from .values import Commits, OperationRecord, SlowKind

__all__ = ["Operations"]


class Operations:
    """Part of :class:`Lab`."""

    @property
    def cluster(self) -> Cluster:
        """The lab's inner state; :class:`LabError` when it is not running."""
        raise NotImplementedError

    def resource_id(self, host: str) -> str:
        """The id by which the functions of the flavour ``multi-az`` know a host, such as ``db-ABCDEF…``."""
        return self.cluster.host(host).server.resource_id

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

        As :meth:`Lab.thaw` for a deposed writer. What a cut connection had sent arrives now.
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

    # Sessions

    def drop_sessions(self, *, refuse_seconds: float = 0.0) -> OperationRecord:
        """End all sessions of applications on all hosts with 57P01; every host stays up.

        With *refuse_seconds* new logins are refused (28000) from before the first session ends until so long after the
        last; returns when they are accepted again.
        """
        return dropping.drop_sessions(self.cluster, refuse_seconds)

    # Claims

    def claim_writer(self, host: str, on: bool = True, *, updated_seconds_ago: float | None = 0.0) -> OperationRecord:
        """Let a reader's topology name the reader itself as the writer, beside the real one; its role stays what it is.

        *updated_seconds_ago* is the age of its own report (negative: of the future); the real writer's is of this moment.
        None: as without the claim, which is no time at all under ``own_report_time=False``. A promotion ends it.
        """
        return claims.claim_writer(self.cluster, host, on, updated_seconds_ago)

    def claim_nobody(self, on: bool = True) -> OperationRecord:
        """Let no host's topology name a writer, as happens in the midst of a failover."""
        return claims.claim_nobody(self.cluster, on)

    def resurrect(
        self,
        host: str,
        seconds: float | None = None,
        *,
        commits: Commits = "hang",
        updated_seconds_ago: float | None = None,
    ) -> OperationRecord:
        """Let a former writer that is down or silent come back as it was: two hosts are out of recovery then.

        It has the data, the timeline and the topology it had, and takes sessions, but acknowledges nothing: commits
        ``hang`` for want of a reader, or writes are ``refuse``d (25006). (PostgreSQL lets a client that cancels such a
        commit go on, with a warning.) Its own report is of the time of its death, or so many seconds old as
        *updated_seconds_ago* says. After *seconds* it is killed and comes back as a reader; without, at :meth:`restart`
        or :meth:`reset`.
        """
        return resurrecting.resurrect(self.cluster, host, seconds, commits, updated_seconds_ago)
