"""Asks one host, and waits for its answer so that nobody who decides has to."""

from __future__ import annotations

from collections.abc import Callable

from aurora_actors.actors.base import Actor, ActorCrashed, Ref, tell
from aurora_actors.actors.clock import Timer
from aurora_actors.actors.messages import HostObserved, HostUnreachable, ProbeHost, Rest
from aurora_actors.actors.names import names
from aurora_actors.actors.naming import Naming
from aurora_actors.dialects.base import Report
from aurora_actors.drivers.base import Access, ProbeError, ProbeSession
from aurora_actors.model.hosts import Host
from aurora_actors.model.search import Probe

__all__ = ["HostMonitor"]

OPEN_SECONDS = 3.0
"""How long a login may take. A host that drops packets costs only this monitor's thread."""
ANSWER_SECONDS = 3.0
"""How long a host may take over the question who it is, on top of what it holds the answer back."""


class HostMonitor(Actor):
    """One for each host and process. Owns its session with the host; the only thing here that blocks on a server."""

    def __init__(
        self,
        name: str,
        *,
        report: Callable[[ActorCrashed], object],
        host: Host,
        naming: Naming,
        accesses: Callable[[], tuple[Access, ...]],
        topology: Ref,
        timer: Timer,
    ) -> None:
        super().__init__(name, report=report)
        self._host = host
        self._naming = naming
        self._accesses = accesses
        self._topology = topology
        self._timer = timer
        self._session: ProbeSession | None = None
        self._opened = 0.0
        self._refused = 0

    def end(self) -> None:
        self._drop()

    def handle(self, message: object) -> None:
        match message:
            case ProbeHost(probe):
                self._probe(probe)
            case Rest():
                self._drop()
            case _:
                super().handle(message)

    def _probe(self, probe: Probe) -> None:
        if self._session is not None and self._opened <= probe.fresh_after:
            self._drop()
        had_session = self._session is not None
        try:
            asked, report = self._ask(probe)
        except ProbeError as error:
            if not error.answered or self._session is None:
                self._drop()
            self._missed(probe, error, had_session)
        except (OSError, ValueError) as error:
            self._drop()
            self._missed(probe, ProbeError(str(error)), had_session)
        else:
            seen = self._naming.observation(report, probe.host, self._opened, asked)
            tell(self._topology, HostObserved(seen, self._naming.members(report.rows), probe))

    def _missed(self, probe: Probe, error: ProbeError, had_session: bool) -> None:
        lost = had_session and not error.answered
        tell(
            self._topology,
            HostUnreachable(probe, self._timer.now(), str(error), had_session=lost, answered=error.answered),
        )

    def _ask(self, probe: Probe) -> tuple[float, Report]:
        session = self._session or self._log_in()
        dialect = self._naming.dialect
        asked = self._timer.now()
        sql = dialect.hold_sql(probe.hold) if probe.hold else dialect.report_sql
        return asked, dialect.read(session.ask(sql, ANSWER_SECONDS + probe.hold))

    def _log_in(self) -> ProbeSession:
        accesses = self._accesses()
        if not accesses:
            raise ProbeError("no connection is left whose settings could be used")
        # The settings of one connection may have gone stale (a rotated password): then another's are tried.
        access = accesses[-1 - self._refused % len(accesses)]
        place = names.look_up(access.resolve, self._host.endpoint, self._host.port)
        opened = self._timer.now()
        try:
            self._session = access.driver.open_probe(access, place, OPEN_SECONDS)
        except ProbeError as error:
            if error.answered:
                self._refused += 1
            raise
        self._opened = opened
        return self._session

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
