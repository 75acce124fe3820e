"""Whether a history keeps what the package promises. Pure: values in, violations out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from .history import Effect, History, Reading, Result, Struck

__all__ = ["RULES", "Violation", "check"]


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept: by which rule, in a sentence, and what was recorded of it."""

    rule: str
    text: str
    evidence: tuple[Effect | Reading | Struck, ...] = ()


Rule: TypeAlias = Callable[[History], Iterator[Violation]]


def check(history: History) -> tuple[Violation, ...]:
    """Every violation, the rules in order; empty: all promises were kept."""
    return tuple(chain.from_iterable(rule(history) for rule in RULES))


def _once(history: History) -> Iterator[Violation]:
    """No acknowledged write is lost; nothing happens twice unless its outcome was unknown."""
    for effect in history.effects:
        if effect.kind == "count":
            continue
        times = history.end.times.get(effect.id, 0)
        if times < effect.least:
            yield Violation("lost", f"{effect.kind} {effect.id} is {effect.result.value}, and not there", (effect,))
        elif times > effect.most:
            text = f"{effect.kind} {effect.id} is there {times} times, and may be {effect.most} times"
            yield Violation("twice" if effect.most else "undone", text, (effect,))


def _counters(history: History) -> Iterator[Violation]:
    """A counter holds what was acknowledged, and no more beside it than what is unknown."""
    effects: dict[str, list[Effect]] = defaultdict(list)
    for effect in history.effects:
        if effect.kind == "count":
            effects[effect.key].append(effect)
    for key, value in history.end.counters.items():
        least = sum(effect.least for effect in effects[key])
        most = sum(effect.most for effect in effects[key])
        if not least <= value <= most:
            rule = "lost" if value < least else "twice"
            text = f"counter {key} is {value}, and must be {least} to {most}"
            yield Violation(rule, text, _disturbed(history, effects[key]))


def _whole(history: History) -> Iterator[Violation]:
    """A transfer happens as a whole or not at all."""
    for account, balance in history.end.balances.items():
        moved = history.end.moved.get(account, 0)
        if balance != moved:
            concerned = [each for each in history.effects if each.kind == "transfer" and account in each.key.split()]
            text = f"account {account} holds {balance}; by the transfers that are there it must be {moved}"
            yield Violation("torn", text, _disturbed(history, concerned))


def _disturbed(history: History, effects: list[Effect]) -> tuple[Effect, ...]:
    """Those that gave an error or were under way during a fault: a driver that is wrong may have hidden its error."""
    return tuple(
        effect
        for effect in effects
        if effect.seen or any(one.at <= effect.ended and effect.began <= one.over_at for one in history.struck)
    )


def _forward(history: History) -> Iterator[Violation]:
    """A read sees all that was acknowledged, or read by anybody, before it began."""
    read: dict[str, Reading] = {}
    written: dict[str, list[Effect]] = defaultdict(list)
    floors: dict[int, tuple[Reading | None, int]] = {}
    moments: list[tuple[float, int, int, Effect | Reading]] = []
    records: tuple[Effect | Reading, ...] = (*history.effects, *history.readings)
    for number, record in enumerate(records):
        # At the same moment what begins comes first: it need not see what ends then.
        if isinstance(record, Reading):
            moments.append((record.began, 0, number, record))
        if isinstance(record, Reading) or record.result.is_there:
            moments.append((record.ended, 1, number, record))
    for _, ends, number, record in sorted(moments, key=lambda moment: moment[:3]):
        if isinstance(record, Effect):
            written[record.key].append(record)
        elif not ends:
            floors[number] = read.get(record.key), len(written[record.key])
        else:
            before, acknowledged = floors[number]
            yield from _seen_by(record, before, written[record.key][:acknowledged])
            best = read.get(record.key)
            if best is None or _length(record.value) >= _length(best.value):
                read[record.key] = record


def _seen_by(reading: Reading, before: Reading | None, written: list[Effect]) -> Iterator[Violation]:
    if before is not None and not _continues(reading.value, before.value):
        yield Violation("backwards", f"a read of {reading.key} does not continue one that ended before", (before, reading))
    if isinstance(reading.value, int):
        if reading.value < len(written):
            text = f"a read of {reading.key} gave {reading.value} after {len(written)} were acknowledged"
            yield Violation("backwards", text, (*written[-1:], reading))
        return
    present = set(reading.value.split())
    for effect in written:
        if effect.id not in present:
            text = f"a read of {reading.key} lacks {effect.id}, acknowledged before"
            yield Violation("backwards", text, (effect, reading))


def _length(value: int | str) -> int:
    return value if isinstance(value, int) else len(value)


def _continues(value: int | str, before: int | str) -> bool:
    if isinstance(value, str) and isinstance(before, str):
        return value.startswith(before)
    return _length(value) >= _length(before)


def _final_lists(history: History) -> Iterator[Violation]:
    """Every list that was read is the beginning of what it is in the end."""
    for reading in history.readings:
        if isinstance(reading.value, str) and not history.end.lists.get(reading.key, "").startswith(reading.value):
            text = f"what was read of {reading.key} is not how it begins in the end"
            yield Violation("backwards", text, (reading,))


def _back(history: History) -> Iterator[Violation]:
    """After each fault every connection is back within its deadline."""
    served: dict[str, list[float]] = defaultdict(list)
    for effect in history.effects:
        if effect.result is not Result.ABSENT:
            served[effect.worker].append(effect.ended)
    ends = (*(struck.at for struck in history.struck), history.ended_at)
    for struck, end in zip(history.struck, ends[1:], strict=True):
        until = struck.over_at + history.back_seconds
        for worker in history.workers if end >= until else ():
            if not any(struck.over_at <= at <= until for at in served[worker]):
                yield Violation("late", f"{worker} was not back {history.back_seconds:g} s after a fault", (struck,))


def _at_work(history: History) -> Iterator[Violation]:
    """No connection gives an error that tells its application nothing to go on with."""
    for worker, reason in history.gave_up.items():
        yield Violation("gave up", f"{worker}: {reason}")


def _commits(history: History) -> Iterator[Violation]:
    """With ``commit_outcome`` no COMMIT stays unknown, as the same connection was back and could have looked."""
    for effect in history.effects if history.commit_outcome else ():
        if any(error.phase == "commit" and error.in_doubt and error.ledger for error in effect.seen):
            yield Violation("undecided", f"what became of {effect.id} was not told", (effect,))


RULES: tuple[Rule, ...] = (_once, _counters, _whole, _forward, _final_lists, _back, _at_work, _commits)
"""What is promised, in the order in which it is told."""
