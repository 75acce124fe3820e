"""The lab's packet filter: one nft table, made when a fault first needs it, gone with the lab's directory.

Needs Linux, CAP_NET_ADMIN and the program ``nft``. Packets within the machine pass the input hook in both directions,
so one chain sees them all. A drop on output would be an error to the sender instead of silence.

Handing packets to a queue is a matter of its own: not every kernel lets nft do so, and ``iptables`` serves, too.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from .names import Place
from .reaping import PACKET_FILTER_MARK
from .values import LabError

__all__ = ["Flow", "add_flows", "change", "feed_queue", "feeder", "is_possible", "remove_flows", "set_loss", "starve_queue"]

NFT_SECONDS = 10.0
LOSS_STEPS = 10_000
"""Loss is told in percent, with two digits after the point."""

MAKING = (
    "add table TABLE",
    "add set TABLE holes { type ipv4_addr; }",
    "add set TABLE flows { type ipv4_addr . inet_service . ipv4_addr . inet_service; }",
    "add map TABLE lossy { type ipv4_addr . inet_service : verdict; }",
    "add map TABLE late { type ipv4_addr . inet_service : verdict; }",
    "add chain TABLE input { type filter hook input priority -300; }",
    "add rule TABLE input ip saddr @holes drop",
    "add rule TABLE input ip daddr @holes drop",
    "add rule TABLE input ip saddr . tcp sport . ip daddr . tcp dport @flows drop",
    "add rule TABLE input ip daddr . tcp dport . ip saddr . tcp sport @flows drop",
    "add rule TABLE input ip daddr . tcp dport vmap @lossy",
    "add rule TABLE input ip saddr . tcp sport vmap @lossy",
    "add rule TABLE input ip saddr . tcp sport vmap @late",
)
"""The lab's table: hosts whose packets vanish, connections whose packets do, and chains of single hosts."""

Flow = tuple[str, int]
"""A connection of a host, by the address and port of its client."""


@functools.cache
def is_possible() -> bool:
    """Whether this process may filter packets."""
    if not sys.platform.startswith("linux"):
        return False
    probe = f"inet aurora_lab_probe_{os.getpid()}"
    return _nft(f"add table {probe}") is None and _nft(f"delete table {probe}") is None


def change(directory: Path, *commands: str) -> None:
    """Change the table of the lab in *directory* in one step; ``TABLE`` in a command stands for it.

    :class:`LabError` if the kernel does not take it; then nothing has changed.
    """
    table = f"inet {directory.name.replace('-', '_')}"
    mark = directory / PACKET_FILTER_MARK
    making = () if mark.exists() else MAKING
    if making:
        mark.write_text("\n".join([str(shutil.which("nft")), "delete", "table", *table.split()]), encoding="utf-8")
    wrong = _nft(*(command.replace("TABLE", table) for command in (*making, *commands)))
    if wrong is not None:
        if making:
            mark.unlink()
        raise LabError(f"nft could not change the lab's packet filter: {wrong}")


def add_flows(directory: Path, place: Place, flows: frozenset[Flow]) -> None:
    """Drop the packets of these connections of a host, both ways."""
    if flows:
        change(directory, f"add element TABLE flows {_elements(place, flows)}")


def remove_flows(directory: Path, place: Place, flows: frozenset[Flow]) -> None:
    """Let the packets of these connections through again."""
    if flows:
        change(directory, f"delete element TABLE flows {_elements(place, flows)}")


def _elements(place: Place, flows: frozenset[Flow]) -> str:
    each = (f"{place.address} . {place.port} . {address} . {port}" for address, port in sorted(flows))
    return "{ " + ", ".join(each) + " }"


def set_loss(directory: Path, place: Place, percent: float) -> None:
    """Drop so many packets from and to a host, at random."""
    steps = round(percent * LOSS_STEPS / 100)
    chance = f"numgen random mod {LOSS_STEPS} < {steps} drop" if steps < LOSS_STEPS else "drop"
    _set_chain(directory, place, "lossy", [chance] if steps > 0 else [])


def feed_queue(directory: Path, place: Place, queue: int) -> None:
    """Hand all packets from a host to a packet queue; should the lab die, they go on undelayed."""
    if feeder() == "nft":
        _set_chain(directory, place, "late", [f"queue num {queue} bypass"])
        return
    rule = _iptables_rule(place, queue)
    mark = _queue_mark(directory, place)
    mark.write_text("\n".join(_iptables("-D", rule)), encoding="utf-8")
    if not _succeeds(_iptables("-I", rule)):
        mark.unlink()
        raise LabError(f"iptables could not queue the packets of {place.id}")


def starve_queue(directory: Path, place: Place, queue: int) -> None:
    """Hand no more packets to the queue."""
    if feeder() == "nft":
        _set_chain(directory, place, "late", [])
    else:
        _succeeds(_iptables("-D", _iptables_rule(place, queue)))
        _queue_mark(directory, place).unlink(missing_ok=True)


@functools.cache
def feeder() -> Literal["nft", "iptables", "none"]:
    """What can hand packets to a queue here."""
    if not is_possible():
        return "none"
    probe = f"inet aurora_lab_probe_{os.getpid()}"
    wrong = _nft(f"add table {probe}", f"add chain {probe} late", f"add rule {probe} late queue num 0 bypass")
    if wrong is None:
        _nft(f"delete table {probe}")
        return "nft"
    place = Place("probe", "127.0.0.0", os.getpid() % 65_535 + 1)
    rule = _iptables_rule(place, 0)
    if _succeeds(_iptables("-I", rule)) and _succeeds(_iptables("-D", rule)):
        return "iptables"
    return "none"


def _set_chain(directory: Path, place: Place, name: str, rules: list[str]) -> None:
    chain = f"{name}_{place.address}_{place.port}".replace(".", "_")
    commands = [f"add chain TABLE {chain}", f"flush chain TABLE {chain}"]
    commands += [f"add rule TABLE {chain} {rule}" for rule in rules]
    commands.append(f"add element TABLE {name} {{ {place.address} . {place.port} : jump {chain} }}")
    change(directory, *commands)


def _queue_mark(directory: Path, place: Place) -> Path:
    return directory / f"{PACKET_FILTER_MARK}-{place.address}-{place.port}"


def _iptables_rule(place: Place, queue: int) -> list[str]:
    return ["-s", place.address, "-p", "tcp", "--sport", str(place.port), "-j", "NFQUEUE",
            "--queue-num", str(queue), "--queue-bypass"]  # fmt: skip


def _iptables(what: str, rule: list[str]) -> list[str]:
    return [shutil.which("iptables") or "iptables", "-w", "-t", "raw", what, "PREROUTING", *rule]


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=NFT_SECONDS, check=False).returncode == 0
    except OSError:
        return False


def _nft(*commands: str) -> str | None:
    """Carry commands out, all or none; returns what is wrong with them."""
    program = shutil.which("nft")
    if program is None:
        return "the program nft is not there"
    answer = subprocess.run(
        [program, "-f", "-"],
        input="\n".join(commands), text=True, capture_output=True, timeout=NFT_SECONDS, check=False,
    )  # fmt: skip
    return None if answer.returncode == 0 else answer.stderr.strip()
