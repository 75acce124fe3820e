"""What is done to the cluster: its writer is killed, frozen or cut off, and another host is promoted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING

from aurora_actors.cli.demo.application import BUCKET_SECONDS, Application
from aurora_actors.cli.demo.story import Kind, Loss, Story
from aurora_actors.lab import OperationRecord

if TYPE_CHECKING:
    from aurora_actors.lab.nemesis.engines import Lab

__all__ = ["BY_NAME", "USUAL", "Fault", "Stalled", "lose_writers"]

OUTAGE_SECONDS = 1.0
"""From the loss of a writer to the promotion of another; on Aurora it is some seconds more."""
RETURN_SECONDS = 30.0
"""How long the application may take to be back as a whole; a hundred times what it takes here."""
LOOK_SECONDS = 0.02


class Fault(Enum):
    """How a writer is lost."""

    KILL = "kill"
    FREEZE = "freeze"
    BLACK_HOLE = "black-hole"


USUAL = (Fault.KILL, Fault.KILL, Fault.FREEZE, Fault.BLACK_HOLE)
BY_NAME: Mapping[str, Fault] = {fault.value: fault for fault in Fault}
_SAID = {
    Fault.KILL: ("SIGKILL {}", "killed"),
    Fault.FREEZE: ("SIGSTOP {}: its sockets stay open, nobody answers", "frozen"),
    Fault.BLACK_HOLE: ("black hole: packets from and to {} vanish", "black-holed"),
}


class Stalled(Exception):
    """The application did not come back."""


def lose_writers(faults: tuple[Fault, ...], lab: Lab, application: Application, story: Story, calm_seconds: float) -> None:
    """One loss after the other, the application undisturbed for *calm_seconds* before and after each.

    ``Stalled`` when the application does not come back after one of them.
    """
    _calm(application, story, calm_seconds)
    for fault in faults:
        if fault is Fault.BLACK_HOLE and lab.black_hole_kind == "none":
            story.tell(Kind.PHASE, "black holes need Linux: left out")
            continue
        _end_silences(lab, story)
        lab.wait_ready()
        _lose(fault, lab, story)
        _await_return(application, story)
        _calm(application, story, calm_seconds)


def _lose(fault: Fault, lab: Lab, story: Story) -> None:
    old = lab.writer
    do: dict[Fault, Callable[[str], OperationRecord]] = {
        Fault.KILL: lab.crash,
        Fault.FREEZE: lab.freeze,
        Fault.BLACK_HOLE: lab.black_hole,
    }
    text, fact = _SAID[fault]
    story.tell(Kind.FAULT, text.format(old), old)
    at = do[fault](old).at(fact)
    promoted_at = lab.failover(after_seconds=OUTAGE_SECONDS).promoted_at
    story.losses.append(Loss(len(story.losses) + 1, fault.value, old, at, lab.writer, promoted_at))
    story.tell(Kind.PROMOTION, f"{lab.writer} is promoted", lab.writer, promoted_at)


def _await_return(application: Application, story: Story) -> None:
    """Until every connection has been served by the new writer: those at work first, then those in reserve."""
    promoted_at = story.losses[-1].promoted_at
    deadline = monotonic() + RETURN_SECONDS
    for clients in (application.at_work, application.in_reserve):
        if not clients:
            continue
        if clients is application.in_reserve:
            application.call_reserve()
        while not all(client.was_served_since(promoted_at) for client in clients):
            if monotonic() > deadline:
                raise Stalled(f"not every connection is back {RETURN_SECONDS:g} s after the promotion")
            time.sleep(LOOK_SECONDS)
        what = "at work" if clients is application.at_work else "in reserve"
        served = sum(not client.ended for client in clients)
        story.tell(Kind.PHASE, f"{served} of {len(clients)} connections {what} are served again")


def _calm(application: Application, story: Story, seconds: float) -> None:
    time.sleep(seconds)
    last = application.bucket(monotonic()) - 1
    first = max(0, last - max(1, round(seconds / BUCKET_SECONDS)) + 1)
    if last >= first:
        story.tell(Kind.PHASE, f"{application.rate(first, last):.0f} rows a second")


def _end_silences(lab: Lab, story: Story) -> None:
    """Let hosts that were silenced come back, as readers."""
    for host in lab.status():
        if host.state == "frozen":
            story.tell(Kind.PHASE, f"SIGCONT {host.id}: it comes back as a reader", host.id)
            lab.thaw(host.id)
        elif host.state == "black-holed":
            story.tell(Kind.PHASE, f"{host.id} is reached again: it comes back as a reader", host.id)
            lab.heal(host.id)
