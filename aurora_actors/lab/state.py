"""The file in which a running lab tells other processes where it is and where its names lead."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .names import DnsView, Place, Zone, answer
from .values import HostStatus, LabError

if TYPE_CHECKING:
    from .lab import Lab

__all__ = ["LabState", "StateFile", "read_state", "resolver_from", "runtime_directory", "state_path"]


@dataclass(frozen=True, slots=True)
class LabState:
    """What the file holds."""

    pid: int
    control: str
    directory: str
    zone: Zone
    views: tuple[DnsView, ...]
    hosts: tuple[HostStatus, ...]
    conninfo: str
    """The application's, with its password: the file is its owner's alone."""

    def __repr__(self) -> str:
        return f"LabState(pid={self.pid}, directory={self.directory!r})"


def runtime_directory() -> Path:
    """The directory of state files, private to the user: in ``$XDG_RUNTIME_DIR``, else the temporary directory."""
    parent = os.environ.get("XDG_RUNTIME_DIR")
    shared = Path(tempfile.gettempdir()) / f"aurora-actors-{os.getuid()}"
    directory = Path(parent) / "aurora-actors" if parent else shared
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise LabError(f"{directory} belongs to another user; set XDG_RUNTIME_DIR")
    return directory


def state_path(name: str) -> Path:
    """Where the lab of that name leaves its state."""
    return runtime_directory() / f"lab-{name}.json"


def read_state(path: str | os.PathLike[str]) -> LabState:
    """Read the state of a running lab; :class:`LabError` if there is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LabError(f"no lab has left its state in {os.fspath(path)}") from None
    found: dict[str, Any] = json.loads(text)
    zone = found["zone"]
    return LabState(
        found["pid"],
        found["control"],
        found["directory"],
        Zone(zone["name"], zone["domain"], _places(zone["places"]), zone["lag_seconds"], zone["usual_port"]),
        tuple(
            DnsView(view["at"], view["writer"], tuple(view["readers"]), _places(view["places"])) for view in found["views"]
        ),
        tuple(HostStatus(**host) for host in found["hosts"]),
        found["conninfo"],
    )


def _places(found: list[dict[str, Any]]) -> tuple[Place, ...]:
    return tuple(Place(**place) for place in found)


def resolver_from(path: str | os.PathLike[str]) -> Callable[[str, int], list[tuple[str, int]]]:
    """Return a resolver for a lab in another process, for ``aurora_actors.set_resolver``.

    *path* is the lab's state file (``aurora-actors lab env`` prints it). It is read at each look-up that follows a
    change of the file. The resolver raises :class:`socket.gaierror` for names of others, and :class:`LabError` once
    the lab is down.
    """
    lock = threading.Lock()
    turns = itertools.count()
    known: tuple[int, LabState] | None = None

    def resolve(host: str, port: int) -> list[tuple[str, int]]:
        nonlocal known
        with lock:
            stamp = _stamp(path)
            if known is None or known[0] != stamp:
                known = (stamp, read_state(path))
            state = known[1]
        return answer(state.zone, state.views, host, port, now=time.monotonic(), turn=next(turns))

    return resolve


def _stamp(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        raise LabError(f"no lab has left its state in {os.fspath(path)}") from None


class StateFile:
    """Keeps the file up to date with a lab of this process; a context manager that removes it in the end."""

    def __init__(self, lab: Lab, path: Path, control: Path) -> None:
        self.lab = lab
        self.path = path
        self.control = control
        self._lock = threading.Lock()
        self._open = True

    def __enter__(self) -> StateFile:
        self.lab.on_change(self.write)
        self.write()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open = False
            self.path.unlink(missing_ok=True)

    def write(self) -> None:
        """Write the file anew, in one step."""
        with self._lock, contextlib.suppress(LabError):
            if not self._open:
                return
            lab = self.lab
            state = LabState(
                os.getpid(),
                str(self.control),
                str(lab.directory),
                lab.zone,
                tuple(lab.dns_views),
                lab.status(),
                lab.conninfo(),
            )
            fresh = self.path.with_suffix(".new")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(state), file)
            fresh.replace(self.path)
