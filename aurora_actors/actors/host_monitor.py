"""Watches one host: asks it who it is, probes it while calls wait for it, ends those calls when it is dead.

One thread for all of it. It waits for many things at once through its inbox (``polling``), so that it never waits for one;
what they mean is decided by ``model.health`` and by the topology actor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from aurora_actors.actors.base import Actor, ActorCrashed, Ref, tell
from aurora_actors.actors.clock import Timer, suspended
from aurora_actors.actors.health_probes import HealthProbes
from aurora_actors.actors.host_session import HostSession
from aurora_actors.actors.messages import (
    Depose,
    HostObserved,
    HostSilent,
    HostSpoke,
    HostSuspected,
    HostUnreachable,
    LookAtCalls,
    ProbeHost,
    ProcessSlept,
    Rest,
    SessionEnded,
    WatchCalls,
)
from aurora_actors.actors.naming import Naming
from aurora_actors.actors.polling import FlowsEnded, Poller, Task
from aurora_actors.actors.watched import Watched
from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import Access, ProbeError
from aurora_actors.model import health
from aurora_actors.model.health import Call, Health, Sign
from aurora_actors.model.hosts import Host
from aurora_actors.model.search import Probe

__all__ = ["HostMonitor"]

OPEN_SECONDS = 3.0
"""How long a login may take. A host that drops packets is tried again after that."""
ANSWER_SECONDS = 3.0
"""How long a host may take over a question, on top of what it holds the answer back."""
PING_SQL = "SELECT 1"
SLEPT_SECONDS = 2.0
"""A look that comes so late was not delayed by load: the process was stopped, or its machine suspended."""
HOLD_SHARE = 0.5
"""The longest that an answer is held back while calls are probed for, as a share of the interval between probes."""
LEFT_SECONDS = 1.0
"""How long an idle session may be found ended before anybody is asked: whoever was about to use it finds out sooner."""


class HostMonitor(Actor):
    """One for each host and process.

    ``watched`` gives the guarded sessions with the host, ``accesses`` the ways to log in to it, the best one last. ``off``
    has the kinds of monitor that turned out to hold it up; it is kept for the monitor that may follow.
    """

    def __init__(
        self,
        name: str,
        *,
        report: Callable[[ActorCrashed], object],
        cluster: str,
        host: Host,
        naming: Naming,
        accesses: Callable[[], tuple[Access, ...]],
        watched: Callable[[], list[Watched]],
        topology: Ref,
        timer: Timer,
        off: set[str] | None = None,
        suspended: Callable[[], float] = suspended,
    ) -> None:
        super().__init__(name, report=report)
        self._suspended = suspended
        self._away = suspended()
        self._cluster = cluster
        self._host = host
        self._naming = naming
        self._accesses = accesses
        self._watched = watched
        self._topology = topology
        self._timer = timer
        self._off = off if off is not None else set()
        self._poller = cast("Poller", self.actor_inbox)
        self._turn = 0
        self._deposed = False
        self._due = float("inf")

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Poller()

    def begin(self) -> None:
        self._session = HostSession(self._host, self._accesses, self._poller)
        self._health = Health()
        self._interval = 0.0
        self._suspected = False
        self._asking: Task[tuple[float, Rows]] | None = None
        self._probe: Probe | None = None
        self._pinged = False
        self._reports = False
        self._resting = False
        self._had_session = False
        self._left_since = float("inf")
        self._probes = HealthProbes(self._cluster, self._host, self._poller, self._ping, self._off)
        self._look_at(self._timer.now())

    def end(self) -> None:
        self._poller.cancel_all()
        self._probes.close()
        self._session.drop()

    def on_stop(self) -> None:
        super().on_stop()
        self._poller.close()

    def handle(self, message: object) -> None:
        match message:
            case FlowsEnded(error):
                if error is not None:
                    raise error
                self._take()
            case LookAtCalls(turn, due):
                if turn == self._turn:
                    self._poller.advance()
                    self._take()
                    self._look(due)
            case ProbeHost(probe):
                self._ask_for(probe)
            case WatchCalls():
                self._look(self._timer.now())
            case Depose(deposed):
                self._deposed = deposed
                self._look(self._timer.now())
            case Rest():
                self._resting = True
                self._ask()
            case _:
                super().handle(message)

    # What the topology actor wants to know.

    def _ask_for(self, probe: Probe) -> None:
        if self._asking is not None and self._session.opened <= probe.fresh_after:
            # Whatever it still brings was asked on a session that is too old.
            self._poller.cancel(self._asking)
            self._asking = None
        if self._session.opened <= probe.fresh_after:
            self._session.drop()
        self._probe = probe
        self._resting = False
        self._ask()

    def _ask(self) -> None:
        """Ask what is wanted most; one question at a time. At rest the session is given back when there is none left."""
        if self._asking is not None:
            return
        probe, dialect = self._probe, self._naming.dialect
        if probe is not None:
            hold = min(probe.hold, HOLD_SHARE * self._interval) if self._interval and probe.hold else probe.hold
            self._probe = probe = Probe(probe.host, probe.delay, probe.fresh_after, hold)
            sql, seconds = dialect.hold_sql(hold) if hold else dialect.report_sql, hold
        elif self._pinged:
            sql, seconds = PING_SQL, 0.0
        else:
            if self._resting:
                self._session.drop()
            return
        self._had_session = self._session.is_open
        self._reports = probe is not None
        limit = ANSWER_SECONDS if self._session.is_open else OPEN_SECONDS
        self._asking = self._poller.start(sql, self._session.ask(sql), self._timer.now() + limit + seconds)

    def _ping(self) -> None:
        """Somebody wants to know whether the host answers at all: whatever it is asked next tells."""
        self._pinged = True
        self._resting = False
        self._ask()

    def _take(self) -> None:
        """What has come to its end."""
        for task in self._poller.ended():
            if task is self._asking:
                self._asking = None
                self._asked(task)
                self._ask()
            else:
                self._sign(*self._probes.ended(task))

    def _asked(self, task: Task[tuple[float, Rows]]) -> None:
        probe = self._probe if self._reports else None
        if self._reports:
            self._probe = None
        error: Exception | None = task.error
        if error is None and task.result is not None:
            asked, rows = task.result
            try:
                if probe is not None:
                    self._tell(probe, asked, rows)
            except ValueError as nonsense:
                error = nonsense
        if error is not None and not isinstance(error, ProbeError | ValueError):
            if probe is not None:
                # A crash; but a host of which no word comes is never asked again.
                why = f"{type(error).__name__}: {error}"
                tell(self._topology, HostUnreachable(probe, self._timer.now(), why, had_session=self._had_session))
            raise error
        sign = _sign_of(error)
        self._pinged = False
        self._probes.heard(sign)
        if sign is Sign.SPOKE:
            self._sign("", sign)
        if probe is not None and error is not None:
            answered = isinstance(error, ProbeError) and error.answered
            lost = self._had_session and not answered
            message = HostUnreachable(probe, self._timer.now(), str(error), had_session=lost, answered=answered)
            tell(self._topology, message)

    def _tell(self, probe: Probe, asked: float, rows: Rows) -> None:
        report = self._naming.dialect.read(rows)
        seen = self._naming.observation(report, probe.host, self._session.opened, asked)
        tell(self._topology, HostObserved(seen, self._naming.members(report.rows), probe))

    # Whether the host lives.

    def _sign(self, kind: str, sign: Sign) -> None:
        was_down = self._health.down
        self._health = health.answered(self._health, kind, sign)
        if was_down and not self._health.down:
            tell(self._topology, HostSpoke(self._host, self._timer.now()))

    def _look(self, due: float) -> None:
        now = self._timer.now()
        # What brings a look forward must not hide that the one before it is late.
        due, self._due = min(due, self._due), float("inf")
        away, self._away = self._away, self._suspended()
        if max(now - due, self._away - away) > SLEPT_SECONDS:
            # Whatever was seen, or not answered, before that says nothing any more.
            self._health = Health()
            self._suspected = False
            tell(self._topology, ProcessSlept(self._host))
        sessions = self._watched()
        # There may be thousands, nearly all of them at rest.
        waiting = [session for session in sessions if session.busy()]
        calls = [(session, call) for session in waiting if (call := session.call(deposed=self._deposed)) is not None]
        _end_dead_paths(calls, now)
        was_down = self._health.down
        heard = _heard(sessions) if self._health.silent or was_down else health.NEVER
        idle = min((session.idle for session in sessions), default=float("inf"))
        look = health.looked(self._health, (call for _, call in calls), now, due=due, heard=heard, idle=idle)
        self._health, self._interval = look.health, look.interval
        for session, call in calls:
            if call.key in look.dead and session.line is not None:
                session.line.sever()
        if look.dead and not was_down:
            tell(self._topology, HostSilent(self._host, self._reason(now), now))
        elif was_down and not self._health.down:
            tell(self._topology, HostSpoke(self._host, now))
        if look.suspect and not self._suspected and not look.dead:
            tell(self._topology, HostSuspected(self._host))
        self._suspected = look.suspect
        self._look_for_ended(sessions, now)
        self._start_probes(look.probes, sessions, now)
        if sessions or self._health.down:
            self._look_at(look.next_at)

    def _look_for_ended(self, sessions: list[Watched], now: float) -> None:
        """A host that ends sessions which nobody uses may write no more. Of many sessions, one is looked at."""
        first = next((session for session in sessions if not session.ended), None)
        if first is None or not _has_ended(first):
            self._left_since = float("inf")
            return
        self._left_since = min(self._left_since, now)
        if now - self._left_since >= LEFT_SECONDS:
            for session in sessions:
                session.ended = session.ended or _has_ended(session)
            tell(self._topology, SessionEnded(self._host))

    def _start_probes(self, kinds: tuple[str, ...], sessions: list[Watched], now: float) -> None:
        for kind in kinds:
            if self._probes.start(kind, sessions, self._interval):
                self._health = health.asked(self._health, kind, now)

    def _reason(self, now: float) -> str:
        silent = ", ".join(f"{kind} for {now - at:.1f} s" for kind, at in self._health.silent)
        return f"no answer to probes: {silent}"

    def _look_at(self, due: float) -> None:
        self._turn += 1
        self._due = due
        self._timer.tell_at(due, self.actor_ref, LookAtCalls(self._turn, due))


def _has_ended(session: Watched) -> bool:
    return session.line is not None and session.line.has_ended()


def _end_dead_paths(calls: list[tuple[Watched, Call]], now: float) -> None:
    """End calls whose path died while the host lives."""
    for session, call in calls:
        line = session.line
        if line is None or now - call.since < call.detection.time:
            continue
        path = line.path()
        if path is not None and health.path_is_dead(call, now, resent=path.resent, acknowledged=path.acknowledged):
            line.sever()


def _heard(sessions: list[Watched]) -> float:
    """When any of the connections to the host last received a byte, as far as the kernel tells."""
    paths = (session.line.path() for session in sessions if session.line is not None)
    return max((path.heard for path in paths if path is not None), default=health.NEVER)


def _sign_of(error: Exception | None) -> Sign:
    if error is None or (isinstance(error, ProbeError) and error.sqlstate is not None):
        return Sign.SPOKE
    if isinstance(error, ProbeError) and error.local:
        return Sign.NOTHING
    return Sign.SILENT if isinstance(error, ProbeError) else Sign.SPOKE
