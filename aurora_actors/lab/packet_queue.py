"""Hold packets for a while: a queue of the kernel's packet filter (NFQUEUE), emptied late by a thread.

The kernel hands over the numbers of packets, not the packets, and keeps them until it is told to let them go on. When
the queue is closed or its process dies, what waits is dropped by the kernel and TCP sends it again; the rules that feed
a queue say ``bypass``, so that nothing waits for a queue that is not there.

Messages: linux/netfilter/nfnetlink_queue.h.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator

from .values import LabError

__all__ = ["PacketQueue"]

NETLINK_NETFILTER = 12
QUEUE_SUBSYSTEM = 3 << 8
PACKET, CONFIG, VERDICT_BATCH = QUEUE_SUBSYSTEM | 0, QUEUE_SUBSYSTEM | 2, QUEUE_SUBSYSTEM | 3
NLMSG_ERROR = 2
REQUEST, ACKNOWLEDGE = 1, 4
CONFIG_COMMAND, CONFIG_PARAMETERS, CONFIG_LENGTH, CONFIG_MASK, CONFIG_FLAGS = 1, 2, 3, 4, 5
BIND, UNBIND = 1, 2
COPY_NOTHING_BUT_NUMBERS = 1
FAIL_OPEN, WHOLE_SEGMENTS = 1, 4
"""Flags: a full queue lets packets through; large segments stay in one piece."""
PACKET_HEADER, VERDICT_HEADER = 1, 2
ACCEPT = 1
LONGEST = 65_536
BUFFER_BYTES = 8 * 1024 * 1024
READ_BYTES = 65_536
ATTEMPTS = 32
"""Of 64,000 numbers; other labs and programs of the machine hold a few."""


class PacketQueue:
    """A queue of the kernel's, and the thread that lets each packet go on after ``milliseconds``.

    :class:`LabError` where this process may have none (CAP_NET_ADMIN, and a kernel with NFQUEUE).
    """

    def __init__(self, milliseconds: float) -> None:
        self.seconds = milliseconds / 1000
        """May be changed at any time; the order of packets stays."""
        self._socket = _netlink()
        self.number = self._bind()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=f"aurora-lab-queue-{self.number}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let everything go on and end. To be called when no rule feeds the queue any more."""
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        self._thread.join()
        with contextlib.suppress(OSError):
            self._socket.send(_config(self.number, CONFIG_COMMAND, struct.pack(">BxH", UNBIND, 0)))
        for end in (self._socket, self._wake, self._woken):
            end.close()

    def _bind(self) -> int:
        for _ in range(ATTEMPTS):
            number = random.randint(1024, 65_535)
            if self._ask(number, CONFIG_COMMAND, struct.pack(">BxH", BIND, 0)):
                for kind, value in (
                    (CONFIG_PARAMETERS, struct.pack(">IB", 0, COPY_NOTHING_BUT_NUMBERS)),
                    (CONFIG_LENGTH, struct.pack(">I", LONGEST)),
                ):
                    self._ask(number, kind, value)
                flags = struct.pack(">I", FAIL_OPEN | WHOLE_SEGMENTS)
                self._send(_config(number, CONFIG_FLAGS, flags, (CONFIG_MASK, flags)))
                return number
        self._socket.close()
        raise LabError("the kernel gives this process no packet queue")

    def _ask(self, number: int, kind: int, value: bytes) -> bool:
        return self._send(_config(number, kind, value)) == 0

    def _send(self, message: bytes) -> int:
        """Send a request and return the error number that the kernel answers with, 0 for none."""
        self._socket.send(message)
        for kind, body in _messages(self._socket.recv(READ_BYTES)):
            if kind == NLMSG_ERROR:
                return -int(struct.unpack_from("=i", body)[0])
        return errno.EPROTO

    def _run(self) -> None:
        waiting: deque[tuple[float, int]] = deque()
        while True:
            pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            ready, _, _ = select.select([self._socket, self._woken], [], [], pause)
            if self._woken in ready:
                break
            if self._socket in ready:
                due = time.monotonic() + self.seconds
                waiting.extend((due, number) for number in self._arrived())
            last = None
            while waiting and waiting[0][0] <= time.monotonic():
                last = waiting.popleft()[1]
            if last is not None:
                self._accept_to(last)
        if waiting:
            self._accept_to(waiting[-1][1])

    def _arrived(self) -> Iterator[int]:
        try:
            data = self._socket.recv(READ_BYTES)
        except OSError:
            # The kernel ran out of room for its messages: those packets are lost, as packets may be.
            return
        for kind, body in _messages(data):
            for name, value in _attributes(body) if kind == PACKET else ():
                if name == PACKET_HEADER:
                    yield struct.unpack_from(">I", value)[0]

    def _accept_to(self, number: int) -> None:
        """Let a packet go on, and all before it."""
        verdict = _attribute(VERDICT_HEADER, struct.pack(">II", ACCEPT, number))
        with contextlib.suppress(OSError):
            self._socket.send(_message(VERDICT_BATCH, REQUEST, self.number, verdict))


def _netlink() -> socket.socket:
    if sys.platform != "linux":
        raise LabError("packet queues need Linux")
    try:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    except OSError as error:
        raise LabError(f"the kernel has no packet queues: {os.strerror(error.errno or 0)}") from None
    netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    return netlink


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def _message(kind: int, flags: int, number: int, attributes: bytes) -> bytes:
    header = struct.pack(">BBH", 0, 0, number)
    return struct.pack("=IHHII", 16 + len(header) + len(attributes), kind, flags, 0, 0) + header + attributes


def _config(number: int, kind: int, value: bytes, *more: tuple[int, bytes]) -> bytes:
    attributes = b"".join(_attribute(*each) for each in ((kind, value), *more))
    return _message(CONFIG, REQUEST | ACKNOWLEDGE, number, attributes)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        yield kind, data[at + 16 : at + length]
        at += max(16, length + -length % 4)


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 4
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        yield kind & 0x3FFF, body[at + 4 : at + length]
        at += max(4, length + -length % 4)
