"""What the core asks of a dialect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Protocol

from aurora_actors.model.faults import Fault
from aurora_actors.model.hosts import Role
from aurora_actors.model.topology import HostRow
from aurora_actors.model.values import dataclass

__all__ = ["STALE_ROW_SECONDS", "Dialect", "Report", "Rows", "members_of", "own_claim"]

STALE_ROW_SECONDS = 300
"""An Aurora host that has not reported for this long is no member any more (the AWS wrapper's figure)."""

Rows = Sequence[Sequence[str | None]]
"""The rows of one result, every value as the server's text."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a host says of itself and its cluster.

    ``id`` is empty where the engine has no instance names. ``waited``: for how many seconds the server held the answer
    back. ``promotion``: see ``aurora_actors.model.topology.Observation``.
    """

    id: str
    role: Role
    rows: tuple[HostRow, ...] = ()
    promotion: float = 0.0
    waited: float = 0.0


class Dialect(Protocol):
    """One engine or flavour: entry-point group ``aurora_actors.dialects``.

    All SQL is schema-qualified, so that no search_path can redirect it, and runs in one round trip.
    """

    code: ClassVar[str]
    """The value of ``wrapper_dialect``."""
    names_hosts: ClassVar[bool]
    """Whether the engine knows its DB instances by name, so that instance endpoints can be derived."""
    report_sql: ClassVar[str]
    """Asks a host who it is, which role it plays and whom it knows."""
    role_sql: ClassVar[str]
    """Asks a host for its role alone, as cheaply as can be: every connection that is opened asks it."""
    faults: ClassVar[Mapping[str, Fault]]
    """What an error code (or the class it begins with) says about the connection."""
    detect_sql: ClassVar[str]
    """Asked once where nobody said which dialect of the engine a host speaks; valid on each of them."""

    @staticmethod
    def detected(rows: Rows) -> tuple[str, ...]:
        """The codes that the answer to ``detect_sql`` leaves, the first whose ``report_sql`` is answered being right."""
        ...

    def hold_sql(self, seconds: float) -> str:
        """Like ``report_sql``, but a reader answers when it was promoted, or after *seconds*."""
        ...

    def read_role(self, rows: Rows) -> Role:
        """The answer to ``role_sql``."""
        ...

    def read(self, rows: Rows) -> Report:
        """The answer to ``report_sql`` or ``hold_sql``. Raises ``ValueError`` when it is not one."""
        ...


def members_of(rows: Iterable[HostRow]) -> tuple[HostRow, ...]:
    """The hosts of an Aurora topology, each once, at most one of them a writer."""
    newest = {row.id: row for row in rows if row.id}
    # Two rows may both claim while a failover runs: the one that was updated last is the writer's.
    claims = sorted((row for row in newest.values() if row.is_writer), key=lambda row: row.updated)
    for former in claims[:-1]:
        newest[former.id] = HostRow(former.id, False, former.updated)
    return tuple(newest[host_id] for host_id in sorted(newest))


def own_claim(members: Iterable[HostRow], host_id: str) -> float:
    """When the host last listed itself as writer, which orders two claims; 0.0: it does not, or cannot tell."""
    return next((row.updated for row in members if row.id == host_id and row.is_writer), 0.0)
