"""How the hosts of a cluster are named and reached."""

from __future__ import annotations

from collections.abc import Iterable

from aurora_actors.dialects.base import Dialect, Report
from aurora_actors.model.endpoints import InstancePattern
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.topology import HostRow, Observation
from aurora_actors.model.values import dataclass

__all__ = ["Naming"]


@dataclass(frozen=True, slots=True)
class Naming:
    """Turns what a host says into hosts with endpoints.

    ``pattern`` is None where instance endpoints cannot be derived (an RDS Proxy, a bastion, an IP address): then the
    given ``endpoints`` stand for the hosts, and names are not guessed.
    """

    dialect: Dialect
    pattern: InstancePattern | None
    port: int
    endpoints: tuple[Host, ...]

    def host(self, host_id: str, role: Role = Role.UNKNOWN) -> Host | None:
        """The host of that id, if its endpoint can be derived."""
        if self.pattern is None or not host_id or not self.dialect.names_hosts:
            return None
        return Host(host_id, self.pattern.endpoint_of(host_id), self.pattern.port or self.port, role)

    def members(self, rows: Iterable[HostRow]) -> tuple[Host, ...]:
        """The hosts of *rows*; none where endpoints cannot be derived."""
        found = (self.host(row.id, Role.WRITER if row.is_writer else Role.READER) for row in rows)
        return tuple(host for host in found if host is not None)

    def observation(self, report: Report, asked_as: Host, session: float, asked: float) -> Observation:
        """What *report*, given by the host reached as *asked_as*, tells."""
        host = self.host(report.id, report.role) or asked_as.playing(report.role)
        return Observation(
            host, report.role, report.rows if self.pattern else (), session, asked + report.waited, report.promotion
        )
