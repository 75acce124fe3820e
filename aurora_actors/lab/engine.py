"""What the lab needs of an engine: the seam between its operations and PostgreSQL, MySQL, MariaDB."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .names import Place
from .values import Commits, Flavour, How, Login

if TYPE_CHECKING:
    from .cluster import Cluster, Host, Journal

__all__ = ["Engine", "Server"]


class Server(Protocol):
    """One server: its files, its processes, and the lab's own session on it."""

    place: Place
    """Where its clients find it."""
    directory: Path
    process: subprocess.Popen[bytes] | None
    upstream: Place | None
    """The host it receives from; none for a writer."""
    synchronous: tuple[str, ...]
    """Readers of which one must hold a commit of this host before it is acknowledged."""
    refuses_logins: bool
    stopping: threading.Event

    @property
    def data(self) -> Path: ...
    @property
    def resource_id(self) -> str: ...
    @property
    def is_running(self) -> bool: ...
    def configure(self) -> None: ...
    def write_settings(self) -> None: ...
    def refuse_logins(self, on: bool) -> None: ...
    def wait_refusal(self) -> None: ...
    def write_topology(self, rows: Sequence[dict[str, Any]]) -> None: ...
    def sibling(self, place: Place) -> Server: ...
    def move(self, place: Place) -> None: ...
    def remove_data(self) -> None: ...
    def become_standby(self) -> None: ...
    def start(self, *options: str) -> None: ...
    def wait_started(self) -> None: ...
    def kill(self) -> None: ...
    def collect(self) -> None: ...
    def shut_down(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def reload(self) -> None: ...
    def end_session(self) -> None: ...
    def kill_session(self, number: int) -> bool: ...
    def end_sessions(self) -> list[int]: ...
    def has_sessions(self, numbers: Sequence[int]) -> bool: ...
    def client_processes(self) -> list[tuple[str, int, int]]: ...
    def proves_to_go_on(self) -> bool: ...
    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...
    def log_tail(self) -> str: ...


class Engine(Protocol):
    """How one engine replicates and promotes."""

    errors: tuple[type[Exception], ...]
    """What a server's refusal or death raises from :meth:`Server.query`."""

    telling: tuple[Flavour, ...]
    """Flavours whose hosts tell in SQL who writes."""
    handover: How
    """The quicker way to move the role of writer where nobody looks."""

    def adapt(self, cluster: Cluster, leaving: Collection[str] = ()) -> None:
        """Let the writer's commits wait for one of the readers that follow it now, less those that are *leaving*.

        Before it returns, every remaining holder has all that was acknowledged through one that leaves, or that was
        acknowledged without any. Does nothing while the writer does not answer: it acknowledges nothing.
        """

    def leave(self, cluster: Cluster, host: Host) -> None:
        """Let no commit wait for a live reader that is about to be silent or dead."""

    def wait_following(self, cluster: Cluster, host: Host, seconds: float | None = None) -> None:
        """Wait until a reader receives from the writer; :class:`LabError` after *seconds*."""

    def copy(self, cluster: Cluster, host: Host, writer: Host) -> None:
        """Make a stopped host's data anew from the writer's, which is running. Called without the cluster's lock."""

    def quiesce(self, cluster: Cluster, writer: Host) -> None:
        """Prepare a live writer for being stopped in order."""

    def detach(self, cluster: Cluster, hosts: list[Host]) -> None:
        """End the receiving of these readers, with everything received written; the sender may be dead or silent."""

    def received(self, host: Host) -> int:
        """How much a detached reader has received; the one that returns most has all that the others have."""
        ...

    def catch_up(self, cluster: Cluster, behind: Host, ahead: Host) -> None:
        """Let one reader receive from another, both without a writer, until it has all that the other has."""

    def promote(self, cluster: Cluster, journal: Journal, new: Host, others: list[Host]) -> int:
        """Make a detached reader the writer, which *others* follow, with the lab's habit; return its new timeline.

        Returns when the host takes writes, though none may have been acknowledged yet.
        """
        ...

    def has_strayed(self, new: Host, timeline: int, received: int) -> bool:
        """Whether a reader that had *received* so much before cannot follow the promoted host with the data it has."""
        ...

    def commit(self, host: Host) -> None:
        """Commit something on a writer, in the lab's own session."""

    def is_former_writer(self, host: Host) -> bool:
        """Whether a deposed host still has the data of the writer it was."""
        ...

    def resurrect(self, host: Host, commits: Commits) -> None:
        """Start a former writer as it was, with commits that hang or writes that are refused."""

    def empty(self, cluster: Cluster, login: Login) -> None:
        """Drop all that applications made, and end their sessions; returns when the readers know it, too."""
