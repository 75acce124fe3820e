"""Which of several acceptable hosts to use: the strategies by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from aurora_actors.model.hosts import Host

__all__ = ["STRATEGIES", "Strategy", "Weights", "highest_weight", "random_host", "round_robin", "weighted_random"]

Weights: TypeAlias = Mapping[str, int]
"""Host id or endpoint (lower case) to weight; hosts that are not in it weigh the default under the key ``""``."""
Strategy: TypeAlias = Callable[[Sequence[Host], Weights, int, float], Host]
"""``strategy(hosts, weights, turn, chance)``: *hosts* is not empty, *turn* counts the choices made for this cluster,
*chance* is a random number from 0 up to 1."""


def random_host(hosts: Sequence[Host], weights: Weights, turn: int, chance: float) -> Host:
    """Any of them, all equally likely."""
    del weights, turn
    return hosts[min(int(chance * len(hosts)), len(hosts) - 1)]


def round_robin(hosts: Sequence[Host], weights: Weights, turn: int, chance: float) -> Host:
    """One after the other by id, each as many times in a row as it weighs."""
    del chance
    turns = [host for host in sorted(hosts, key=lambda host: host.id) for _ in range(_weight(host, weights))]
    return turns[turn % len(turns)]


def weighted_random(hosts: Sequence[Host], weights: Weights, turn: int, chance: float) -> Host:
    """Any of them, as likely as it weighs."""
    del turn
    left = chance * sum(_weight(host, weights) for host in hosts)
    for host in hosts:
        left -= _weight(host, weights)
        if left < 0:
            return host
    return hosts[-1]


def highest_weight(hosts: Sequence[Host], weights: Weights, turn: int, chance: float) -> Host:
    """The heaviest; of several, the first by id."""
    del turn, chance
    return min(hosts, key=lambda host: (-_weight(host, weights), host.id))


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "random": random_host,
        "round_robin": round_robin,
        "weighted_random": weighted_random,
        "highest_weight": highest_weight,
    }
)


def _weight(host: Host, weights: Weights) -> int:
    named = weights.get(host.id.lower()) or weights.get(host.endpoint.lower())
    return named or weights.get("", 1)
