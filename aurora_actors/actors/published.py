"""What the topology actor publishes and everybody reads, by reference, with no lock and no message."""

from __future__ import annotations

from dataclasses import replace

from aurora_actors.model.outcome import Attempt
from aurora_actors.model.topology import ClusterTopology, ClusterView, Knowledge, Verdict
from aurora_actors.model.values import dataclass

__all__ = ["Published", "Standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Topology, what its writer rests on, and whether that writer may be handed out: read together."""

    topology: ClusterTopology
    verdict: Verdict
    settled: bool


class Published:
    """The cell of one cluster. Only its topology actor stores into it; each store is one assignment of a frozen value.

    ``view`` is compared by identity: it is a new object exactly when something in it changed.
    ``attempts``: the last failed probe of each host (``seconds`` on the clock of ``time.monotonic()``), for whoever has
    to say what was tried. ``woken``: when the process was last found to have slept.
    """

    __slots__ = ("attempts", "standing", "view", "woken")

    def __init__(self, known: Knowledge) -> None:
        self.view = ClusterView(known.topology)
        self.standing = Standing(known.topology, known.verdict, known.settled)
        self.attempts: tuple[Attempt, ...] = ()
        self.woken = float("-inf")

    def nobody_down(self) -> None:
        """Nobody probes any more: that a host was silent is no news for those who come later."""
        if self.view.down:
            self.view = replace(self.view, down=frozenset())

    def publish(self, known: Knowledge, down: frozenset[str]) -> None:
        """Store what is known now; called by the topology actor alone."""
        self.standing = Standing(known.topology, known.verdict, known.settled)
        view = self.view
        if known.topology is not view.topology or down != view.down or known.doubt != view.doubt:
            self.view = ClusterView(known.topology, down, known.doubt)
