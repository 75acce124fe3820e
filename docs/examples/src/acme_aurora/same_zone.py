"""Prefer readers in the availability zone of this machine: traffic between zones takes longer and costs money.

    export ACME_ZONE=eu-west-1a
    export ACME_HOST_ZONES=orders-1=eu-west-1a,orders-2=eu-west-1b,orders-3=eu-west-1a

    conn = aurora_actors.connect(reader_url, failover_reader_host_selector_strategy="same_zone",
                                 initial_connection_host_selector_strategy="same_zone")

A cluster does not tell the zones of its hosts; whoever deploys the application knows them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from aurora_actors.plugin import Host

__all__ = ["same_zone"]


def same_zone(hosts: Sequence[Host], weights: Mapping[str, int], turn: int, chance: float) -> Host:
    """One host of this zone, or of all where this zone has none; each as likely as it weighs.

    *hosts* is never empty. *turn* counts the choices that this process made, for strategies that go round. *chance* is a
    random number from 0 up to 1: with it a choice can be tested, which one of its own would not let happen.
    """
    del turn
    here = os.environ.get("ACME_ZONE", "")
    zones = _zones(os.environ.get("ACME_HOST_ZONES", ""))
    near = [host for host in hosts if here and zones.get(host.id) == here] or list(hosts)
    left = chance * sum(_weight(host, weights) for host in near)
    for host in near:
        left -= _weight(host, weights)
        if left < 0:
            return host
    return near[-1]


def _weight(host: Host, weights: Mapping[str, int]) -> int:
    """As the user gave it by id or endpoint, in lower case; under ``""`` is what all others weigh."""
    return weights.get(host.id.lower()) or weights.get(host.endpoint.lower()) or weights.get("", 1)


def _zones(text: str) -> dict[str, str]:
    """Host id to zone."""
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {host.strip(): zone.strip() for host, _, zone in pairs}
