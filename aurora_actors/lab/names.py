"""The lab's DNS: endpoint names of a cluster in RDS form, and a view of who is who that lags behind the truth. Pure."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from .addresses import POSTGRES_PORT

__all__ = ["DnsView", "Place", "Zone", "answer"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one host listens."""

    id: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class DnsView:
    """Who wrote and who read from ``at`` on (:func:`time.monotonic` seconds), and who was there: none means as ever."""

    at: float
    writer: str | None
    readers: tuple[str, ...]
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Zone:
    """A cluster's names: ``name`` and ``domain`` (zone id and region, as in ``xyz.us-east-1.rds.amazonaws.com``)."""

    name: str
    domain: str
    places: tuple[Place, ...]
    lag_seconds: float
    usual_port: int = POSTGRES_PORT
    """The engine's own; asked for, it leads to the port that a host has instead."""

    @property
    def writer_endpoint(self) -> str:
        """The cluster endpoint."""
        return f"{self.name}.cluster-{self.domain}"

    @property
    def reader_endpoint(self) -> str:
        """The reader endpoint."""
        return f"{self.name}.cluster-ro-{self.domain}"

    def instance_endpoint(self, host: str) -> str:
        """The endpoint of one host."""
        return f"{host}.{self.domain}"


def answer(
    zone: Zone, views: Sequence[DnsView], host: str, port: int, *, now: float, turn: int
) -> list[tuple[str, int]]:
    """Look a name up as it stands at *now*; *turn* picks among the readers.

    A name of the zone leads to the host's own port, whether that port or the engine's usual one is asked for. Addresses and
    ``localhost`` are handed back as they are. :class:`socket.gaierror` for every other name.
    """
    name = host.rstrip(".").lower()
    found = _host_of(zone, views, name, now, turn)
    if found is not None:
        ours = {place.port for place in zone.places}
        return [(found.address, found.port if port == zone.usual_port or port in ours else port)]
    if name == "localhost":
        return [("127.0.0.1", port)]
    try:
        return [(str(ipaddress.ip_address(name.strip("[]"))), port)]
    except ValueError:
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is no name of the lab's cluster") from None


def _host_of(zone: Zone, views: Sequence[DnsView], name: str, now: float, turn: int) -> Place | None:
    settled = [view for view in views if view.at <= now - zone.lag_seconds]
    view = settled[-1] if settled else views[0]
    places = {place.id.lower(): place for place in view.places or zone.places}
    for place in places.values():
        if name == zone.instance_endpoint(place.id).lower():
            return place
    chosen: str | None = None
    if name == zone.writer_endpoint.lower():
        chosen = view.writer
    elif name == zone.reader_endpoint.lower():
        chosen = view.readers[turn % len(view.readers)] if view.readers else view.writer
    return places[chosen.lower()] if chosen is not None else None
