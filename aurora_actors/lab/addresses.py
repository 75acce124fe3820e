"""Choose where the hosts listen: a loopback address each and one port, or one address and a port each."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection, Sequence
from contextlib import ExitStack

from .values import LabError

__all__ = ["MYSQL_PORT", "POSTGRES_PORT", "SHARED_ADDRESS", "choose_addresses", "choose_another", "choose_apart"]

POSTGRES_PORT = 5432
MYSQL_PORT = 3306
SHARED_ADDRESS = "127.0.0.1"
ATTEMPTS = 64
"""Of some 47,000 blocks; a second lab on the machine holds one of them."""


def choose_addresses(
    hosts: int, block: str | None, port: int | None, usual_port: int = POSTGRES_PORT
) -> tuple[tuple[str, int], ...]:
    """Return (address, port) for each host.

    Where the machine answers on all of 127.0.0.0/8 (Linux), each host gets its own address in one free block and all
    share a port: *usual_port* unless it is taken. Elsewhere (macOS) all share 127.0.0.1. *block* (``"127.20.30"``) and
    *port* fix the choice; :class:`LabError` if they are not free.
    """
    if not _can_bind([("127.64.0.1", 0)]):
        return _one_address(hosts, port)
    ports = (port,) if port is not None else (usual_port, _free_port())
    for attempt in range(1 if block else ATTEMPTS):
        prefix = block or f"127.{random.randint(65, 250)}.{random.randint(0, 255)}"
        candidate_port = ports[min(attempt, len(ports) - 1)] if not block else None
        for one in (candidate_port,) if candidate_port is not None else ports:
            places = tuple((f"{prefix}.{number}", one) for number in range(1, hosts + 1))
            if _can_bind(places):
                return places
    raise LabError(f"addresses {block or '127.x.y'}.1 to .{hosts} are not free on port {port or usual_port}")


def choose_another(taken: Collection[tuple[str, int]], spent: Collection[tuple[str, int]]) -> tuple[str, int]:
    """Return (address, port) for one more host beside those that have *taken* theirs.

    In the same block and at the same port where hosts have addresses of their own; one that nobody had before (*spent*)
    if there is such, so that no old name leads to a new host.
    """
    address, port = next(iter(taken))
    if address == SHARED_ADDRESS:
        return _one_address(1, None)[0]
    block = address.rpartition(".")[0]
    free = [place for number in range(1, 255) if (place := (f"{block}.{number}", port)) not in taken]
    for place in sorted(free, key=lambda place: place in spent):
        if _can_bind([place]):
            return place
    raise LabError(f"no address of {block} is free on port {port}")


def choose_apart(address: str, port: int) -> tuple[str, int]:
    """Return a second place for the host at *address*, at the same port where hosts have addresses of their own.

    It lies in a range that :func:`choose_addresses` does not take from.
    """
    if address == SHARED_ADDRESS:
        return _one_address(1, None)[0]
    for _ in range(ATTEMPTS):
        place = (f"127.{random.randint(33, 63)}.{random.randint(0, 255)}.{random.randint(1, 254)}", port)
        if _can_bind([place]):
            return place
    raise LabError(f"no second address for {address} is free on port {port}")


def _one_address(hosts: int, port: int | None) -> tuple[tuple[str, int], ...]:
    if port is not None:
        places = tuple((SHARED_ADDRESS, port + number) for number in range(hosts))
        if _can_bind(places):
            return places
        raise LabError(f"ports {port} to {port + hosts - 1} of 127.0.0.1 are not free")
    with ExitStack() as open_sockets:
        found = []
        for _ in range(hosts):
            listener = open_sockets.enter_context(socket.socket())
            listener.bind((SHARED_ADDRESS, 0))
            found.append((SHARED_ADDRESS, int(listener.getsockname()[1])))
        return tuple(found)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _can_bind(places: Sequence[tuple[str, int]]) -> bool:
    for place in places:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(place)
            except OSError:
                return False
    return True
