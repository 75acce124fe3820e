"""What the lab tells about itself: frozen values, and its errors.

Times named ``at`` and ``*_at`` are seconds of :func:`time.monotonic`, which all processes of one boot share on Linux
and macOS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CA_FILE",
    "Commits",
    "Flavour",
    "Habit",
    "HostStatus",
    "How",
    "LabError",
    "LabEvent",
    "Login",
    "OperationRecord",
    "Replication",
    "Role",
    "ServerKind",
    "ServerUnavailable",
    "SlowKind",
    "State",
]

CA_FILE = "ca.pem"
"""In the lab's directory: the certificate of the authority that clients trust."""
Commits = Literal["hang", "refuse"]
Flavour = Literal["aurora", "multi-az", "plain"]
Habit = Literal["keep", "drop", "restart"]
How = Literal["crash", "planned"]
Replication = Literal["synchronous", "asynchronous", "none"]
Role = Literal["WRITER", "READER"]
ServerKind = Literal["mariadb", "mysql"]
SlowKind = Literal["packet-queue", "pauses"]
State = Literal[
    "starting", "available", "crashed", "frozen", "black-holed", "restarting", "rejoining", "resurrected", "stopped"
]  # fmt: skip


class LabError(RuntimeError):
    """The lab cannot do what was asked of it; the message says why and what can be done."""


class ServerUnavailable(LabError):
    """No server of the wanted kind can be had on this machine; the message names what to install."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who the application logs in as; ``token_user``: one who has no password but logs in with a token, if any."""

    user: str
    password: str
    database: str
    token_user: str = ""

    def __repr__(self) -> str:
        return f"Login(user={self.user!r}, database={self.database!r})"


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host as the lab knows it, without asking the host.

    ``replication`` says what a commit of the present writer waits for: ``synchronous`` (at least one reader holds it),
    ``none`` (no healthy reader is left, so only the writer holds it) or ``asynchronous`` (asked for at the start:
    a failover may lose acknowledged writes). ``cut_flows``: how many connections to it are cut; ``late_ms``: by how many
    milliseconds what it says is late; ``loss_percent``: how many of its packets are lost; ``claims_to_write``:
    whether a host that does not write tells that it does.
    """

    id: str
    role: Role
    address: str
    port: int
    state: State
    timeline: int
    replication: Replication = "synchronous"
    refuses_logins: bool = False
    cut_flows: int = 0
    late_ms: float = 0.0
    loss_percent: float = 0.0
    claims_to_write: bool = False


@dataclass(frozen=True, slots=True)
class LabEvent:
    """A fact and when it happened (``at``: :func:`time.monotonic` seconds)."""

    name: str
    host: str
    at: float


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """What one operation did, with the times of its facts, in the order in which they happened."""

    operation: str
    host: str
    started_at: float
    finished_at: float
    events: tuple[LabEvent, ...]

    @property
    def seconds(self) -> float:
        """How long the operation took."""
        return self.finished_at - self.started_at

    def at(self, name: str) -> float:
        """Return the time of the first fact of that name; :class:`KeyError` if there was none."""
        for event in self.events:
            if event.name == name:
                return event.at
        raise KeyError(name)

    def happened(self, name: str) -> bool:
        """Tell whether a fact of that name is part of the operation."""
        return any(event.name == name for event in self.events)

    @property
    def killed_at(self) -> float:
        """When the old writer's processes were sent SIGKILL."""
        return self.at("killed")

    @property
    def promoted_at(self) -> float:
        """When the promoted host was first seen to have left recovery."""
        return self.at("promoted")

    @property
    def first_commit_at(self) -> float:
        """When the lab's own session on the promoted host first committed (tried every 2 ms)."""
        return self.at("first_commit")
