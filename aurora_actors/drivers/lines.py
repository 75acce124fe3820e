"""A second descriptor of a connection's socket: by it a monitor ends a blocked call, and asks the kernel about the path.

A remembered descriptor number would be reused as soon as its owner closes it, and the monitor would shut a stranger's
socket. The duplicate names the same socket for as long as it is open, whatever the driver does with its own.
"""

from __future__ import annotations

import os
import pathlib
import select
import socket
import struct
import sys
import threading
import weakref
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from aurora_actors.actors.forking import on_fork
from aurora_actors.model.health import Detection

__all__ = ["Line", "Path"]

# struct tcp_info of linux/tcp.h: eight bytes of state, then unsigned 32-bit fields; fixed since Linux 2.6.
_TCP_INFO = 11
_RETRANSMITS, _LAST_DATA_RECEIVED, _LAST_ACK_RECEIVED = 2, 8 + 4 * 11, 8 + 4 * 12
_TCP_INFO_BYTES = _LAST_ACK_RECEIVED + 4
# The kernel's bounds (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT of linux/tcp.h); macOS has wider ones.
_MOST_SECONDS, _MOST_PROBES = 32_767, 127
_HUNG_UP: int = getattr(select, "POLLRDHUP", 0)  # Linux


class Path(NamedTuple):
    """What the kernel knows of a path: how often in a row it has sent again what nobody acknowledged, and when bytes and
    acknowledgements last came."""

    resent: int
    heard: float
    acknowledged: float


class Line:
    """One duplicate, closed with its connection. Any thread; in a forked child nothing is shut."""

    __slots__ = ("__weakref__", "_lock", "_pid", "_socket")

    def __init__(self, descriptor: int) -> None:
        """Duplicate *descriptor*. Raises ``OSError`` when there are no descriptors left."""
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._socket: socket.socket | None = None
        self._socket = socket.socket(fileno=os.dup(descriptor))
        _lines.add(self)

    def __del__(self) -> None:
        # The connection was dropped without close(): the driver warns of it, once is enough.
        self.close()

    def close(self) -> None:
        """Forget the socket. The connection itself is not touched."""
        with self._lock:
            duplicate, self._socket = self._socket, None
        if duplicate is not None:
            duplicate.close()

    def sever(self) -> bool:
        """Shut the socket down, so that whoever waits for it goes on with an error; False if it was closed before."""
        with self._lock:
            if self._socket is None or os.getpid() != self._pid:
                return False
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return False  # the other side was sooner
            return True

    def inherited(self) -> tuple[int, int] | None:
        """In a forked child: what identifies the socket, which is the parent's; None: it was closed."""
        self._lock = threading.Lock()  # whoever held it does not exist here
        return _identity(self._socket.fileno()) if self._socket is not None else None

    def keep_alive(self, detection: Detection) -> None:
        """Have the kernel ask whether the path still stands, where nobody has asked it to: it is the only one that can find
        out while an answer is awaited and nothing is on its way."""
        with self._lock:
            if self._socket is None or self._socket.family == getattr(socket, "AF_UNIX", None):
                return
            idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
            if idle is None or not hasattr(socket, "TCP_KEEPINTVL"):
                return
            options = (
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
                (socket.IPPROTO_TCP, idle, min(max(1, round(detection.time)), _MOST_SECONDS)),
                (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, min(max(1, round(detection.interval)), _MOST_SECONDS)),
                (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, min(detection.count, _MOST_PROBES)),
            )
            for level, option, value in options:
                self._socket.setsockopt(level, option, value)

    def path(self) -> Path | None:
        """The kernel's view of the path; None where it does not tell (not Linux, not TCP, closed)."""
        if sys.platform != "linux":
            return None
        with self._lock:
            if self._socket is None:
                return None
            try:
                info = self._socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _TCP_INFO_BYTES)
            except OSError:
                return None
        if len(info) < _TCP_INFO_BYTES:
            return None
        heard, acknowledged = (struct.unpack_from("I", info, at)[0] for at in (_LAST_DATA_RECEIVED, _LAST_ACK_RECEIVED))
        now = monotonic()
        return Path(info[_RETRANSMITS], now - heard / 1000, now - acknowledged / 1000)

    def has_ended(self) -> bool:
        """Whether the other side has said goodbye, or the socket is broken; does not wait and takes nothing."""
        with self._lock:
            if self._socket is None:
                return False
            if _HUNG_UP:
                # Sees the end behind what may still have to be read: a last message, an alert of TLS.
                waiting = select.poll()
                waiting.register(self._socket, _HUNG_UP)
                return bool(waiting.poll(0))
            try:
                return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return False
            except OSError:
                return True


_lines: weakref.WeakSet[Line] = weakref.WeakSet()


def _part() -> None:
    """In a forked child: put a socket whose other side is gone in place of each one that the parent's connections use.

    Whatever closes such a connection then, its driver, a garbage collection or the end of the process, says goodbye to
    nobody; what is called on it fails; and a server notices the end of the parent, though its children live on.
    """
    theirs = {line.inherited() for line in _lines} - {None}
    if not theirs:
        return
    nobody, other = socket.socketpair()
    other.close()
    with nobody:
        # Of macOS, too. Drivers keep their descriptors where they like, so that all of the process are looked at.
        for descriptor in [int(path.name) for path in pathlib.Path("/dev/fd").iterdir()]:
            if _identity(descriptor) in theirs:
                os.dup2(nobody.fileno(), descriptor, inheritable=False)


def _identity(descriptor: int) -> tuple[int, int] | None:
    with suppress(OSError):
        status = os.fstat(descriptor)
        return status.st_dev, status.st_ino
    return None


on_fork(_part)
