"""Probe a host by opening a TCP connection to its port: needs no login, and costs the server nothing."""

from __future__ import annotations

import errno
import os
import socket

from aurora_actors.plugin import Monitor, Sign

__all__ = ["TcpMonitor"]


class TcpMonitor(Monitor):
    """Finds a machine that drops packets, on a new connection each time.

    That packets are accepted says nothing of the server: a frozen one is found by ``sql``.
    """

    name = "tcp"

    async def probe(self) -> Sign:
        """One connection to the first address, closed as soon as it stands."""
        address, port = (await self.context.addresses())[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            code = sock.connect_ex((address, port))
            if code == errno.EINPROGRESS:
                await self.context.writable(sock.fileno())
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        return Sign.REACHED
