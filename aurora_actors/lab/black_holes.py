"""Make a host's packets vanish: with a packet filter where the process may, else at the host's own sockets.

``nft``: the lab's packet filter drops everything from and to the host's address, both ways. Needs Linux, CAP_NET_ADMIN,
the program ``nft`` and one address per host.

``socket-filter``: every socket of the host's processes gets a filter that takes no packet, the listening one included,
so that SYNs, data and probes vanish unanswered; the processes are stopped first, so that nothing is sent either. Needs
Linux and the right to trace the servers, which the user that started them has. Unlike with ``nft``, the host does not
run on inside its hole.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from . import packet_filter
from .addresses import SHARED_ADDRESS
from .engine import Server
from .values import LabError

__all__ = ["bury", "dig", "filter_process", "kind", "lift"]

EXIT_SECONDS = 2.0
SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27
BPF_RETURN_CONSTANT = 0x06
PIDFD_GETFD = 438
"""The number of the system call on all Linux platforms."""


def kind() -> str:
    """``nft``, ``socket-filter`` or ``none``."""
    if not sys.platform.startswith("linux"):
        return "none"
    return "nft" if packet_filter.is_possible() else "socket-filter"


def dig(directory: Path, server: Server) -> None:
    """Let all packets of the server vanish."""
    if _by_packet_filter(server):
        packet_filter.change(directory, f"add element TABLE holes {{ {server.place.address} }}")
    elif kind() == "none":
        raise LabError("black holes need Linux; freeze() is what comes nearest here")
    else:
        server.freeze()
        try:
            _filter_sockets(server, attach=True)
        except BaseException:
            lift(directory, server)
            server.thaw()
            raise


def lift(directory: Path, server: Server) -> None:
    """Let packets through again; does nothing where none vanish."""
    if _by_packet_filter(server):
        packet_filter.change(directory, f"delete element TABLE holes {{ {server.place.address} }}")
    elif kind() != "none" and server.is_running:
        _filter_sockets(server, attach=False)


def _by_packet_filter(server: Server) -> bool:
    # Where hosts share an address a packet filter would hit the clients and the other hosts, too.
    return kind() == "nft" and server.place.address != SHARED_ADDRESS


def bury(directory: Path, server: Server) -> None:
    """Kill the server in its hole, and fill the hole.

    Under a packet filter it dies first. A socket that outlives its process keeps its own filter, and clients would wait
    for ever; there the filters go first, while the processes are still stopped, so that no statement is run.
    """
    if _by_packet_filter(server):
        server.kill()
        lift(directory, server)
    else:
        lift(directory, server)
        server.kill()


def _filter_sockets(server: Server, *, attach: bool) -> None:
    if server.process is None:
        return
    postmaster = psutil.Process(server.process.pid)
    for process in [postmaster, *postmaster.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            filter_process(process.pid, attach=attach)


def filter_process(pid: int, *, attach: bool) -> None:
    """Let no packet in at any socket of a process, or let them in again; does nothing for a process that is gone."""
    if sys.platform != "linux":
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for name in _descriptors(pid, handle):
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                    _filter_descriptor(handle, int(name), attach=attach)
    finally:
        os.close(handle)


def _descriptors(pid: int, handle: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError as error:
        # A process on its way out has no descriptors left, and lets nobody look; its handle tells when it is gone.
        if select.select([handle], [], [], EXIT_SECONDS)[0]:
            return []
        raise LabError(f"the lab may not look into process {pid} of its server: {error}") from None


def _filter_descriptor(handle: int, number: int, *, attach: bool) -> None:
    copy = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, handle, number, 0)
    if copy < 0:
        code = ctypes.get_errno()
        raise LabError(f"the lab may not reach its servers' sockets: {os.strerror(code)}")
    with socket.socket(fileno=copy) as duplicate:
        if duplicate.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        if not attach:
            with suppress(OSError):
                duplicate.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            return
        # One instruction: keep 0 bytes of the packet, that is, drop it.
        instruction = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RETURN_CONSTANT, 0, 0, 0))
        program = struct.pack("HP", 1, ctypes.addressof(instruction))
        duplicate.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
