"""Whether a host still lives, and which calls in flight to it are to be ended: the decisions of a host's monitor.

Only silence or a broken socket is evidence of death (law 14). A kind of probe is silent from the moment at which the
first unanswered one was sent. Whatever the server itself says, and any byte that a connection to the host received,
ends the silence of every kind; that a machine accepts packets ends only the silence of the kind that found it out.
A monitor that ran late has seen nothing: it begins to count anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import Enum

from aurora_actors.model.values import dataclass

__all__ = ["Call", "Detection", "Health", "Look", "Sign", "answered", "asked", "idle_pause", "looked", "path_is_dead"]

NEVER = float("-inf")
SOONEST_SECONDS = 0.05
"""The shortest pause between two looks at calls that are not yet probed for: half of what a verdict may be late."""
ROUNDING_SECONDS = 0.001
"""A clock tells when something is due a little early or late; a look is not repeated for that."""
DOWN_SHARE = 0.1
"""The pause between two rounds at a host that is down and that nobody waits for, as a share of the time it was down."""
DOWN_LEAST_SECONDS, DOWN_MOST_SECONDS = 1.0, 10.0
"""The bounds of that pause."""
RESENT = 2
"""How often in a row something has to be sent again before its path is held dead: one lost packet is no dead path."""
LATE_SHARE = 0.5
"""A look that comes later than this share of the interval says that this process was held up, not the host."""


class Sign(Enum):
    """What one probe brought."""

    SPOKE = "spoke"
    """The database server itself answered, if only to refuse: it lives."""
    REACHED = "reached"
    """The machine accepted packets, which says nothing of the server."""
    SILENT = "silent"
    """No answer in time, or a broken socket."""
    NOTHING = "nothing"
    """Nothing can be concluded: a name that is not found, no descriptors left, an error of the probe's own."""


@dataclass(frozen=True, slots=True)
class Detection:
    """How the calls of one connection are judged; durations in seconds.

    A call may wait ``time`` before its host can be held dead; probes are ``interval`` apart, the first one interval before
    ``time`` is over; ``count`` of them in a row have to go unanswered. ``kinds`` are the monitors that count.
    """

    time: float
    interval: float
    count: int
    kinds: tuple[str, ...]

    @property
    def first(self) -> float:
        """How long after the start of a call the first probe is sent."""
        return max(0.0, self.time - self.interval)

    @property
    def silence(self) -> float:
        """How long a kind of probe has to be silent."""
        return self.count * self.interval


@dataclass(frozen=True, slots=True)
class Call:
    """A call in flight: who makes it, since when it waits, and whether another host has taken over what it waits for."""

    key: int
    since: float
    detection: Detection
    deposed: bool = False

    @property
    def missed(self) -> int:
        """How many probes in a row have to go unanswered. Where another host writes by its own word, one is enough: the
        former writer will acknowledge nothing again, whether it is dead or only cut off."""
        return 1 if self.deposed else self.detection.count

    @property
    def due(self) -> float:
        """The soonest that its host can be held dead."""
        return self.since if self.deposed else self.since + self.detection.time


@dataclass(frozen=True, slots=True)
class Health:
    """What a monitor knows of its host.

    ``silent``: since when each kind of probe goes unanswered. ``round_at``: when the last round was sent. ``down_since``:
    when the verdict fell; None: the host is not held dead. ``kinds``: the monitors that the last round was for.
    """

    silent: tuple[tuple[str, float], ...] = ()
    round_at: float = NEVER
    down_since: float | None = None
    kinds: tuple[str, ...] = ()

    @property
    def down(self) -> bool:
        return self.down_since is not None

    def since(self, kind: str) -> float | None:
        """Since when probes of that kind go unanswered; None: they do not."""
        return next((at for name, at in self.silent if name == kind), None)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look decides: the kinds to probe now, the calls to end, and when to look again.

    ``suspect``: the first probe has gone unanswered, so that it is worth asking others. ``interval``: between rounds of
    probes, in seconds; 0.0 while there are none.
    """

    health: Health
    probes: tuple[str, ...] = ()
    interval: float = 0.0
    dead: tuple[int, ...] = ()
    suspect: bool = False
    next_at: float = 0.0


def asked(health: Health, kind: str, at: float) -> Health:
    """A probe of *kind* was sent at that time; an earlier one that is still unanswered counts on."""
    if health.since(kind) is not None:
        return health
    return replace(health, silent=(*health.silent, (kind, at)))


def answered(health: Health, kind: str, sign: Sign) -> Health:
    """A probe of *kind* came to its end."""
    if sign is Sign.SILENT:
        return health
    if sign is Sign.SPOKE:
        return replace(health, silent=(), down_since=None)
    return replace(health, silent=tuple((name, at) for name, at in health.silent if name != kind))


def looked(health: Health, calls: Iterable[Call], now: float, *, due: float, heard: float, idle: float) -> Look:
    """Judge the calls that are in flight at *now*.

    *due* is when this look should have been made, *heard* when a byte was last received from the host by anybody, *idle*
    the pause between looks while there is nothing to probe.
    """
    calls = tuple(calls)
    probed = [call for call in calls if now >= call.since + call.detection.first - ROUNDING_SECONDS]
    interval = min((call.detection.interval for call in probed), default=idle)
    if now - due > max(SOONEST_SECONDS, LATE_SHARE * interval):
        health = replace(health, silent=())
    health = replace(health, silent=tuple((kind, at) for kind, at in health.silent if at > heard))
    dead = tuple(call.key for call in calls if _is_dead(health, call, now))
    if dead and not health.down:
        health = replace(health, down_since=now)
    elif heard > health.round_at:
        health = replace(health, down_since=None)
    if health.down_since is not None and not probed:
        interval = min(max(DOWN_LEAST_SECONDS, DOWN_SHARE * (now - health.down_since)), DOWN_MOST_SECONDS)
    probes: tuple[str, ...] = ()
    if (probed or health.down) and now >= health.round_at + interval - ROUNDING_SECONDS:
        probes = tuple(dict.fromkeys(kind for call in probed for kind in call.detection.kinds)) or health.kinds
        health = replace(health, round_at=now, kinds=probes)
    suspect = any(_silence(health, call, now) >= call.detection.interval - ROUNDING_SECONDS for call in probed)
    next_at = _next(health, calls, probed, dead, now, interval, idle)
    return Look(health, probes, interval if probed or health.down else 0.0, dead, suspect, next_at)


def path_is_dead(call: Call, now: float, *, resent: int, acknowledged: float) -> bool:
    """Whether the path of one call has died although its host lives: what it sent goes unacknowledged.

    *resent*: how often in a row the kernel has sent it again, *acknowledged*: when the other side's kernel last
    acknowledged anything. A window that is full is acknowledged all the same, so that a COPY which the server is slow to
    read is not taken for lost; and what a process that was held up has only just sent has not been sent again.
    """
    detection = call.detection
    waited = now - call.since >= detection.first + detection.silence
    return resent >= RESENT and waited and now - acknowledged >= detection.silence


def _is_dead(health: Health, call: Call, now: float) -> bool:
    enough = call.missed * call.detection.interval - ROUNDING_SECONDS
    return now >= call.due - ROUNDING_SECONDS and _silence(health, call, now) >= enough


def _silence(health: Health, call: Call, now: float) -> float:
    """For how long the most silent kind of probe that counts for *call* has gone unanswered."""
    return max((now - at for kind, at in health.silent if kind in call.detection.kinds), default=0.0)


def _next(
    health: Health,
    calls: tuple[Call, ...],
    probed: list[Call],
    dead: tuple[int, ...],
    now: float,
    interval: float,
    idle: float,
) -> float:
    times = [now + idle]
    if probed or health.down:
        times.append(health.round_at + interval)
    for call in calls:
        if call.key in dead:
            continue
        if call not in probed:
            times.append(call.since + call.detection.first)
            continue
        # A probe that is sent right after this look is silent from now on.
        since = [health.since(kind) or now for kind in call.detection.kinds]
        missed = min(since, default=now) + call.detection.interval
        verdict = max(call.due, min(since, default=now) + call.missed * call.detection.interval)
        times.extend(at for at in (missed, verdict) if at > now)
    return max(min(times), now + ROUNDING_SECONDS)


def idle_pause(detection: Detection) -> float:
    """The pause between two looks while nobody waits long: short enough to find a call before its first probe is due."""
    return max(SOONEST_SECONDS, min(detection.interval, detection.first))
