"""One run: the workers at work, the faults in turn, and the history of both."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from .colours import COLOURS
from .engines import ENGINES
from .faults import schedule, strike
from .history import End, History, Struck
from .workloads import CREATE, WORKLOADS, Worker

if TYPE_CHECKING:
    from .engines import Lab

__all__ = ["Plan", "Run", "run"]

BACK_SECONDS = 30.0
"""How long a connection may take to be back after a fault: a hundred times what it takes, and what ends a hang."""
CALM_SECONDS = 0.5
"""How long the workers are left alone between two faults."""
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. The same *seed* gives the same faults and the same writes; their interleaving is the machine's.

    ``seconds`` bounds a run with random faults; ``faults`` names them instead, and the run ends after the last.
    ``workers``: connections of each workload. ``parameters`` go to every connect. ``wrap`` stands between a worker and
    its connection: what a test of the checker does wrong there must be found.
    """

    engine: str = "postgres"
    colour: str = "sync"
    seed: int = 0
    seconds: float = 60.0
    faults: tuple[str, ...] = ()
    workers: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(WORKLOADS, 2))
    calm_seconds: float = CALM_SECONDS
    back_seconds: float = BACK_SECONDS
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    wrap: Callable[[Any], Any] = lambda conn: conn


def run(plan: Plan, lab: Lab, told: Callable[[Struck], object] = id) -> History:
    """Run *plan* on *lab*, whose names this process must resolve; *told* hears of each fault when all are back."""
    return Run(plan, lab).through(told)


class Run:
    """What the workers of one run share."""

    def __init__(self, plan: Plan, lab: Lab) -> None:
        self.plan, self.lab = plan, lab
        self.engine, self.colour = ENGINES[plan.engine], COLOURS[plan.colour]()
        self.workers: tuple[Worker, ...] = tuple(
            WORKLOADS[name](number, self) for name, count in plan.workers.items() for number in range(1, count + 1)
        )

    async def connect(self, *, autocommit: bool) -> Any:
        """A connection of a worker."""
        conn = await self.colour.connect(self.engine, self.lab, autocommit=autocommit, **self.plan.parameters)
        return self.plan.wrap(conn)

    def through(self, told: Callable[[Struck], object]) -> History:
        """From the tables to the history."""
        with self.engine.connect(self.lab) as conn:
            cursor = conn.cursor()
            for sql in CREATE:
                cursor.execute(sql)
            if self.plan.parameters.get("commit_outcome") and self.engine.markers is not None:
                for sql in self.engine.markers.install:
                    cursor.execute(sql)
            cursor.close()
        self.colour.start([worker.work for worker in self.workers])
        struck: list[Struck] = []
        try:
            self._served_since(monotonic())
            self._strike(struck, told)
        finally:
            self.colour.stop(self.plan.back_seconds)
        ended_at = monotonic()
        still = {worker.name: "it still waits" for worker in self.workers if not worker.ended}
        return History(
            self.plan.seed,
            tuple(worker.name for worker in self.workers),
            tuple(effect for worker in self.workers for effect in worker.effects),
            tuple(reading for worker in self.workers for reading in worker.readings),
            tuple(struck),
            self._end(),
            ended_at,
            self.plan.back_seconds,
            {**still, **{worker.name: worker.gave_up for worker in self.workers if worker.gave_up}},
            bool(self.plan.parameters.get("commit_outcome")),
        )

    def _strike(self, struck: list[Struck], told: Callable[[Struck], object]) -> None:
        until = monotonic() + self.plan.seconds
        for name, seconds in schedule(self.plan.seed, self.plan.faults):
            time.sleep(self.plan.calm_seconds)
            if not self.plan.faults and monotonic() > until:
                return
            fault, undo = strike(self.lab, name, seconds)
            struck.append(fault)
            self._served_since(fault.over_at)
            if undo is not None:
                undo()
            self.lab.wait_ready()
            told(fault)

    def _served_since(self, at: float) -> None:
        """Until every worker has ended a write begun after *at*, or the deadline: the checker judges."""
        until = monotonic() + self.plan.back_seconds
        while monotonic() < until and not all(worker.was_served_since(at) for worker in self.workers):
            time.sleep(LOOK_SECONDS)

    def _end(self) -> End:
        with self.engine.connect(self.lab) as conn:
            cursor = conn.cursor()

            def rows(sql: str) -> list[tuple[Any, ...]]:
                cursor.execute(sql)
                return list(cursor.fetchall())

            transfers = rows("SELECT id, source, target, amount FROM nemesis_transfers")
            lists: dict[str, str] = dict(rows("SELECT id, value FROM nemesis_lists"))
            times = Counter(row[0] for row in (*rows("SELECT id FROM nemesis_rows"), *transfers))
            counters = dict(rows("SELECT id, value FROM nemesis_counters"))
            balances = dict(rows("SELECT id, value FROM nemesis_accounts"))
            cursor.close()
        for text in lists.values():
            times.update(text.split())
        moved: Counter[str] = Counter()
        for _, source, target, amount in transfers:
            moved[source] -= amount
            moved[target] += amount
        return End(times, counters, lists, balances, moved)
