"""Control a lab from another process: one JSON object a line over a Unix socket in the lab's directory.

Asked ``{"do": "failover", "with": {"how": "planned"}}``, it answers ``{"done": {...}}`` or ``{"error": "..."}``.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from .values import LabError, OperationRecord

if TYPE_CHECKING:
    from .lab import Lab

__all__ = ["Control", "ask"]

ANSWER_SECONDS = 600.0
"""An operation may include a pause that its caller asked for."""

ORDERS = (
    "add_reader", "black_hole", "claim_nobody", "claim_writer", "crash", "cut_flow", "drop_packets", "drop_sessions",
    "failover", "freeze", "heal", "kill_session", "refuse_logins", "remove_reader", "rename", "reset", "restart",
    "resurrect", "slow", "thaw", "wait_ready",
)  # fmt: skip


class Control:
    """Serves orders for a lab of this process on threads of its own, until closed."""

    def __init__(self, lab: Lab, path: Path) -> None:
        self.lab = lab
        self.path = path
        self.down = threading.Event()
        """Set when somebody ordered the lab down."""
        self._server = _Server(str(path), _Handler)
        self._server.control = self
        path.chmod(0o600)
        self._thread = threading.Thread(target=self._server.serve_forever, name="aurora-lab-control", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.path.unlink(missing_ok=True)

    def obey(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Carry one order out; what goes wrong is part of the answer."""
        name, arguments = order.get("do"), order.get("with", {})
        if name == "down":
            self.down.set()
            return {"done": None}
        if name not in ORDERS:
            return {"error": f"{name!r} is none of {', '.join(ORDERS)}, down"}
        method: Callable[..., Any] = getattr(self.lab, name)
        try:
            result = method(**arguments)
        except (LabError, TypeError, ValueError) as error:
            return {"error": str(error)}
        return {"done": asdict(result) if isinstance(result, OperationRecord) else result}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    control: Control


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        control = cast("_Server", self.server).control
        for line in self.rfile:
            try:
                answer = control.obey(json.loads(line))
            except ValueError as error:
                answer = {"error": f"this is no JSON object: {error}"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


def ask(control: str | os.PathLike[str], do: str, **arguments: Any) -> Any:
    """Give one order to a lab and return what was done; :class:`LabError` if it could not be done or nobody answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(os.fspath(control))
            connection.sendall(json.dumps({"do": do, "with": arguments}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except OSError as error:
            raise LabError(f"the lab does not answer at {os.fspath(control)}: {error}") from None
    if not line:
        raise LabError("the lab went down before it answered")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise LabError(answer["error"])
    return answer["done"]
