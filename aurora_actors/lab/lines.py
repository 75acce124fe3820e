"""The line of one host to its clients, and what can be done to it short of a black hole.

Cut flows: ``nft`` drops the packets of the connections that exist now, by their two addresses and ports. Without it,
``socket-filter``: the processes that serve those connections are stopped and their sockets take no packet; should the
host end meanwhile, its kernel says so to the clients, unlike a router that forgot them.

Late packets: ``packet-queue`` holds what the host sends in a queue of the kernel's, for the time asked for. Without it,
``pauses``: all processes of the host are stopped for that time, again and again, so that an answer comes up to so late.

Lost packets need nft.
"""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from . import black_holes, packet_filter
from .engine import Server
from .packet_queue import PacketQueue
from .values import LabError, SlowKind

__all__ = ["Line", "cut", "delay", "end_pauses", "lose", "mend", "release", "slow_kind"]

RUN_SECONDS = 0.005
"""Between two pauses: long enough for a short statement."""
STOP_ATTEMPTS = 20
PROOF_SECONDS = 2.0
"""A host that goes on commits within some milliseconds, on a busy machine within some hundred."""
RETRY_SECONDS = 0.01


@dataclass(slots=True)
class Line:
    """What is done to a host's packets now."""

    is_cut: bool = False
    cut: frozenset[packet_filter.Flow] = frozenset()
    """Which connections are cut; none where there were none."""
    stopped: dict[packet_filter.Flow, psutil.Process] = field(default_factory=dict)
    """Whom a cut without a packet filter has stopped."""
    loss_percent: float = 0.0
    late_ms: float = 0.0
    queue: PacketQueue | None = None
    pauses: _Pauses | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is done to it."""
        return not self.is_cut and self.loss_percent == 0 and self.late_ms == 0


def slow_kind() -> SlowKind:
    """How :func:`delay` works here."""
    return "packet-queue" if packet_filter.feeder() != "none" else "pauses"


def cut(line: Line, directory: Path, server: Server) -> None:
    """Cut the connections of clients that there are now."""
    if black_holes.kind() == "none":
        raise LabError("flows can be cut on Linux alone; freeze() is what comes nearest here")
    line.is_cut = True
    if black_holes.kind() == "nft":
        flows = _connections(server) - line.cut
        packet_filter.add_flows(directory, server.place, flows)
        line.cut |= flows
        return
    fresh: dict[packet_filter.Flow, psutil.Process] = {}
    for address, port, pid in server.client_processes():
        if (address, port) not in line.stopped:
            with suppress(psutil.NoSuchProcess):
                fresh[address, port] = psutil.Process(pid)
    _stop(server, list(fresh.values()))
    line.stopped.update(fresh)
    line.cut |= frozenset(fresh)
    for process in fresh.values():
        black_holes.filter_process(process.pid, attach=True)


def _connections(server: Server) -> frozenset[packet_filter.Flow]:
    """All connections of the server over TCP: replication has none."""
    place = (server.place.address, server.place.port)
    return frozenset(
        (each.raddr.ip, each.raddr.port)
        for each in psutil.net_connections("tcp4")
        if each.laddr == place and each.raddr and each.status != psutil.CONN_TIME_WAIT
    )


def _stop(server: Server, processes: list[psutil.Process]) -> None:
    """Stop these processes at a moment when none of them holds what the rest of the server needs."""
    for _ in range(STOP_ATTEMPTS):
        _signal(processes, signal.SIGSTOP)
        if _goes_on(server):
            return
        _signal(processes, signal.SIGCONT)
        server.stopping.wait(RETRY_SECONDS)
    raise LabError(f"the sessions of {server.place.id} cannot be stopped without stopping the host; try again")


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _goes_on(server: Server) -> bool:
    """Whether a session of its own gets all the way: in, to a commit if the host writes, and out."""
    done = threading.Event()

    def prove() -> None:
        if server.proves_to_go_on():
            done.set()

    threading.Thread(target=prove, name=f"aurora-lab-proof-{server.place.id}", daemon=True).start()
    return done.wait(PROOF_SECONDS)


def mend(line: Line, directory: Path, server: Server) -> None:
    """Let the packets of cut connections through again."""
    if line.stopped:
        for process in line.stopped.values():
            with suppress(psutil.NoSuchProcess):
                if process.is_running():
                    black_holes.filter_process(process.pid, attach=False)
        _signal(list(line.stopped.values()), signal.SIGCONT)
    else:
        packet_filter.remove_flows(directory, server.place, line.cut)
    line.is_cut, line.cut, line.stopped = False, frozenset(), {}


def lose(line: Line, directory: Path, server: Server, percent: float) -> None:
    """Lose so many of the packets between the host and its clients."""
    if not packet_filter.is_possible():
        raise LabError("packets can be lost where the lab may filter them: with the program nft and CAP_NET_ADMIN (root)")
    packet_filter.set_loss(directory, server.place, percent)
    line.loss_percent = percent


def delay(line: Line, directory: Path, server: Server, milliseconds: float) -> None:
    """Let everything that the host says arrive so much later."""
    if milliseconds <= 0:
        _hasten(line, directory, server)
    elif line.queue is not None:
        line.queue.seconds = milliseconds / 1000
    elif line.pauses is not None:
        line.pauses.seconds = milliseconds / 1000
    elif slow_kind() == "packet-queue":
        queue = PacketQueue(milliseconds)
        try:
            packet_filter.feed_queue(directory, server.place, queue.number)
        except BaseException:
            queue.close()
            raise
        line.queue = queue
    else:
        line.pauses = _Pauses(server, milliseconds / 1000)
    line.late_ms = max(0.0, milliseconds)


def _hasten(line: Line, directory: Path, server: Server) -> None:
    if line.queue is not None:
        packet_filter.starve_queue(directory, server.place, line.queue.number)
        line.queue.close()
    if line.pauses is not None:
        line.pauses.end()
    line.queue = line.pauses = None


def release(line: Line, directory: Path, server: Server) -> None:
    """Undo everything that is done to the line."""
    mend(line, directory, server)
    delay(line, directory, server, 0.0)
    if line.loss_percent > 0:
        lose(line, directory, server, 0.0)


def end_pauses(line: Line, directory: Path, server: Server) -> None:
    """Before the host's processes are stopped for another reason: they must not be woken."""
    if line.pauses is not None:
        delay(line, directory, server, 0.0)


class _Pauses:
    """A thread that stops a host's processes for ``seconds``, lets them run for a moment, and so on, until ended."""

    def __init__(self, server: Server, seconds: float) -> None:
        self.seconds = seconds
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"aurora-lab-pauses-{server.place.id}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let the host run from now on."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set() and not self._server.stopping.is_set():
            self._server.freeze()
            self._ended.wait(self.seconds)
            self._server.thaw()
            self._ended.wait(RUN_SECONDS)
