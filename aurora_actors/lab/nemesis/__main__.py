"""``python -m aurora_actors.lab.nemesis nemesis | soak``: what ``make nemesis`` and ``make soak`` run."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from itertools import cycle, islice
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aurora_actors.actors.names import set_resolver
from aurora_actors.actors.system import system

from .checker import Violation, check
from .engines import ENGINES
from .faults import FAULTS
from .history import Effect, History, Reading, Struck
from .running import Plan, run
from .soak import Resources, measured, settled

if TYPE_CHECKING:
    from .engines import Lab

__all__ = ["app", "show"]

SHOWN = 5
"""Violations that are shown in full; the first one says most."""
NEAR_SECONDS = 2.0
"""A fault so long before an operation, or in the midst of it, may be its cause."""
SOAK_FAULTS = ("crash", "planned", "drop-sessions", "restart")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
EngineOption = Annotated[str, typer.Option(envvar="ENGINE", help=f"{', '.join(ENGINES)}.")]
ColourOption = Annotated[str, typer.Option(envvar="COLOUR", help="sync (threads) or async (asyncio).")]


@app.command()
def nemesis(
    minutes: Annotated[float, typer.Option(envvar="MINUTES", help="How long faults are made.")] = 5.0,
    seed: Annotated[int | None, typer.Option(envvar="SEED", help="The same seed, the same faults.")] = None,
    engine: EngineOption = "postgres",
    colour: ColourOption = "sync",
    faults: Annotated[str, typer.Option(help=f"These in turn, instead of random ones: {', '.join(FAULTS)}.")] = "",
) -> None:
    """Run all workloads under faults, and check what was recorded."""
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    names = tuple(name.strip() for name in faults.split(",") if name.strip())
    console = Console()
    console.print(f"SEED={chosen} ENGINE={engine} COLOUR={colour}", highlight=False)

    def told(struck: Struck) -> None:
        console.print(f"{struck.name} at {struck.host}, {struck.over_at - struck.at:.1f} s: all are back", highlight=False)

    plan = Plan(engine=engine, colour=colour, seed=chosen, seconds=60 * minutes, faults=names)
    history = _in_lab(plan, lambda lab: run(plan, lab, told))
    raise typer.Exit(show(console, history))


@app.command()
def soak(
    failovers: Annotated[int, typer.Option(envvar="FAILOVERS", min=2)] = 100,
    connections: Annotated[int, typer.Option(envvar="CONNECTIONS", min=1)] = 50,
    engine: EngineOption = "postgres",
    colour: ColourOption = "sync",
) -> None:
    """Let many connections live through many failovers, and count what is left of each."""
    console = Console()
    names = tuple(islice(cycle(SOAK_FAULTS), failovers))
    plan = Plan(engine=engine, colour=colour, faults=names, workers={"inserts": connections}, calm_seconds=0.2)
    taken: list[Resources] = []

    def work(lab: Lab) -> History:
        def look() -> Resources:
            return measured(lab, engine)

        taken.append(look())

        def told(_: Struck) -> None:
            taken.append(look())
            if len(taken) == 2:
                taken[1] = settled(look)
            elif len(taken) == 1 + failovers:
                taken[-1] = settled(look, taken[1])

        return run(plan, lab, told)

    history = _in_lab(plan, work)
    table = Table("", "threads", "descriptors", "RSS, MB", "server sessions")
    for name, one in zip(("before", "after the first", "at the end"), (taken[0], taken[1], taken[-1]), strict=True):
        table.add_row(name, *map(str, (one.threads, one.descriptors, one.resident, one.sessions)))
    status = show(console, history)
    console.print(table)
    first, last = taken[1], taken[-1]
    if last.threads > first.threads or last.descriptors > first.descriptors:
        console.print("threads or descriptors grew", style="bold red")
        status = 1
    raise typer.Exit(status)


def _in_lab(plan: Plan, work: Callable[[Lab], History]) -> History:
    with ENGINES[plan.engine].lab() as lab:
        before = set_resolver(lab.resolve)
        try:
            return work(lab)
        finally:
            set_resolver(before)
            system.stop()


def show(console: Console, history: History) -> int:
    """Print the summary and the evidence of what is wrong; the exit code."""
    violations = check(history)
    errors = [error for effect in history.effects for error in effect.seen]
    outcomes = Counter(f"{error.phase}: {error.outcome.value if error.outcome else 'no connection'}" for error in errors)
    twice = sum(history.end.times.get(effect.id, 0) > 1 for effect in history.effects)
    found = Counter(violation.rule for violation in violations)
    unknown = sum(error.in_doubt for error in errors)
    console.print(
        f"{len(history.effects)} writes, {len(history.readings)} reads, {len(history.struck)} faults; "
        f"lost {found['lost']}, duplicated {found['twice']}, unknown {unknown} (of which there twice: {twice}); "
        f"violations {len(violations)}",
        highlight=False,
    )
    console.print(", ".join(f"{name} {count}" for name, count in sorted(outcomes.items())), highlight=False)
    for violation in violations[:SHOWN]:
        console.print(Text.assemble((violation.rule, "bold red"), f": {violation.text}"), soft_wrap=True)
        for line in _evidence(violation, history):
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    return 1 if violations else 0


def _evidence(violation: Violation, history: History) -> list[str]:
    start = min((each.began for each in history.effects), default=0.0)
    lines: list[str] = []
    near: dict[Struck, None] = {}
    for record in violation.evidence[:SHOWN]:
        if isinstance(record, Struck):
            near[record] = None
            continue
        lines.append(f"{record.began - start:.3f} to {record.ended - start:.3f} s {_told(record)}")
        lines += (f"  {error.at - start:.3f} s in the {error.phase}: {error.text}; {error.ledger}" for error in record.seen)
        hits = (one for one in history.struck if one.at <= record.ended and record.began <= one.over_at + NEAR_SECONDS)
        near.update(dict.fromkeys(hits))
    lines += (f"{one.at - start:.3f} to {one.over_at - start:.3f} s {one.name} at {one.host}" for one in near)
    return lines


def _told(record: Effect | Reading) -> str:
    if isinstance(record, Effect):
        return f"{record.worker}: {record.id} in {record.key}: {record.result.value}"
    return f"{record.worker}: read {record.key}: {str(record.value)[-60:]}"


if __name__ == "__main__":
    app()
