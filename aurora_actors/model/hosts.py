"""A host: one DB instance of a cluster, and the part it plays."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from aurora_actors.model.values import dataclass

__all__ = ["Host", "Role"]


class Role(Enum):
    """The part a host plays in its cluster."""

    WRITER = "writer"
    READER = "reader"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Host:
    """One DB instance: its id, where it is reached, and its role as last seen."""

    id: str
    endpoint: str
    port: int
    role: Role = Role.UNKNOWN

    @property
    def is_writer(self) -> bool:
        return self.role is Role.WRITER

    @property
    def is_reader(self) -> bool:
        return self.role is Role.READER

    def playing(self, role: Role) -> Host:
        """The same host in *role*; the same object when nothing changes."""
        return self if role is self.role else replace(self, role=role)

    def is_same(self, other: Host | None) -> bool:
        """Whether *other* is this DB instance, whatever its role."""
        return other is not None and (self.id, self.endpoint, self.port) == (other.id, other.endpoint, other.port)

    def __str__(self) -> str:
        return f"{self.id} ({self.endpoint}:{self.port})" if self.id != self.endpoint else f"{self.id}:{self.port}"
