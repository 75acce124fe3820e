"""What a connection with ``commit_outcome`` writes with each COMMIT, and how the fate of one is told after a loss in it."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from aurora_actors.actors.asking import DeadlineExceeded
from aurora_actors.dialects.base import Rows
from aurora_actors.dialects.markers import LOOK_SECONDS, Markers
from aurora_actors.drivers.base import Wire
from aurora_actors.errors import ConfigurationError
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.outcome import Operation, Outcome, outcome_of, told_by

if TYPE_CHECKING:
    from aurora_actors.proxies.proxy import Proxy

__all__ = ["Marker", "checked", "told"]

log = logging.getLogger("aurora_actors.proxy")

SECOND = 1.0
PAUSE_SECONDS = 0.05
"""Between two looks at how old a server is, or whether it still has a session."""


class Marker:
    """Of one connection. ``sent`` is the token of the COMMIT that is under way; empty: there is none, or it has none."""

    def __init__(self, markers: Markers) -> None:
        self.markers = markers
        self.sent = ""
        self._count = 0
        self._warned = False
        self.renew()

    def renew(self) -> None:
        """The connection has another session of the server's."""
        # Never used again: that it was lost is the last that its row says.
        self.session = os.urandom(16).hex()
        self.sent = ""

    def committing(self) -> str:
        """What marks the next COMMIT."""
        self._count += 1
        self.sent = str(self._count)
        return self.markers.committing(self.session, self.sent)

    def refused(self, error: Exception) -> None:
        """The server did not take the token: this COMMIT goes without."""
        self.sent = ""
        if not self._warned:
            self._warned = True
            log.warning("a COMMIT goes unmarked, so that its outcome could not be told: %s", str(error).strip())


async def checked(proxy: Proxy, wire: Wire) -> None:
    """Have *proxy* mark its COMMITs, if that is wanted, and where they can be told of.

    Raises ``ConfigurationError`` where the table is missing or may not be used, and the driver's error for a loss.
    """
    markers: Markers | None = getattr(proxy.dialect, "markers", None)
    if not proxy.settings.commit_outcome or not proxy.recoverable:
        return
    if markers is None:
        code = proxy.dialect.code if proxy.dialect is not None else None
        raise ConfigurationError(f"commit_outcome=True is for PostgreSQL and MySQL, not for the dialect {code}")
    until = proxy.io.now() + proxy.settings.auxiliary_query_timeout_sec
    reason: Exception | None = None
    try:
        *_, last = [await proxy.io.query(wire, sql, until) for sql in markers.check]
        usable = markers.usable(last)
    except proxy.driver.errors as error:
        if _is_lost(proxy, wire, error):
            raise
        usable, reason = False, error
    if not usable:
        raise ConfigurationError(
            "commit_outcome=True needs the table aurora_actors.commits (on PostgreSQL in this database), and grants for its"
            " user: aurora-actors commit-outcome install URL --grant-to USER, as one who may create it, does both"
        ) from reason
    proxy.marker = Marker(markers)


async def told(proxy: Proxy, wire: Wire, operation: Operation, host: Host, until: float) -> Outcome:
    """What became of *operation*, by the word of the writer, *host*, that *wire* leads to; the session that was lost
    commits nothing from here on.

    Raises the driver's error, or ``DeadlineExceeded``, where *wire* is of no use any more.
    """
    outcome, marker = outcome_of(operation), proxy.marker
    if outcome is not Outcome.UNKNOWN or host.role is not Role.WRITER:
        return outcome
    stays = proxy.host is not None and proxy.host.id == host.id
    markers: Markers | None = getattr(proxy.dialect, "markers", None)
    try:
        if operation.gid and markers is not None and markers.prepared:
            return await _told_of_two_phase(proxy, wire, operation, markers, until, stays=stays)
        if marker is None or not operation.token:
            return outcome
        if stays:
            await _ended(proxy, wire, marker.markers, until)
        found = marker.markers.found(await _looked(proxy, wire, marker, until))
    except proxy.driver.errors as error:
        if _is_lost(proxy, wire, error):
            raise
        log.warning("what became of a COMMIT cannot be told: %s", str(error).strip())
        return outcome
    return told_by(operation.token, found)


async def _told_of_two_phase(
    proxy: Proxy, wire: Wire, operation: Operation, markers: Markers, until: float, *, stays: bool
) -> Outcome:
    """What became of the two-phase transaction of *operation*; *stays*: its server may still have the session."""
    if stays and not await _is_over(proxy, wire, markers, until):
        return Outcome.UNKNOWN
    gid = operation.gid.replace("\\", "\\\\").replace("'", "''")
    is_prepared = markers.usable(await proxy.io.query(wire, markers.prepared.format(gid=gid), until))
    return Outcome.PREPARED if is_prepared else operation.gone


async def _is_over(proxy: Proxy, wire: Wire, markers: Markers, until: float) -> bool:
    """Whether the server has nothing more of the session that was lost. It is not ended: its number may be another's."""
    if proxy.session is None or proxy.control is None or proxy.control.naming.pattern is None:
        return False
    last = min(until, proxy.io.now() + LOOK_SECONDS)
    while markers.usable(await proxy.io.query(wire, markers.alive.format(number=proxy.session), until)):
        if proxy.io.now() >= last:
            return False
        await proxy.io.sleep(PAUSE_SECONDS)
    return True


def _is_lost(proxy: Proxy, wire: Wire, error: Exception) -> bool:
    """Whether *wire* is of no use any more."""
    return isinstance(error, DeadlineExceeded) or proxy.driver.failure(error, wire).lost


async def _looked(proxy: Proxy, wire: Wire, marker: Marker, until: float) -> Rows:
    """Close the session of *marker*; the answer that has its last token."""

    async def ask(sql: str, **known: Any) -> Rows:
        return await proxy.io.query(wire, sql.format(session=marker.session, **known), until)

    markers = marker.markers
    before = [await ask(sql) for sql in markers.before]
    try:
        if markers.close:
            await ask(markers.close)
        return await ask(markers.look)
    finally:
        for sql in markers.after:
            await ask(sql, before=before[0][0])


async def _ended(proxy: Proxy, wire: Wire, markers: Markers, until: float) -> None:
    """End the session that was lost, where the server may still have it: that one alone, though numbers begin anew with
    each start of the server.
    """
    number = proxy.driver.session_id(proxy.wire)
    # Behind a proxy it is the proxy's number, and at the server somebody else's.
    if not markers.end or number is None or proxy.control is None or proxy.control.naming.pattern is None:
        return
    # A server tells its age in whole seconds: where it is older than the session by less, the next of them shows it.
    last = min(until, proxy.io.now() + SECOND)
    while True:
        ahead = float((await proxy.io.query(wire, markers.uptime, until))[0][1] or 0.0) - (proxy.io.now() - proxy.opened)
        if ahead > 0:
            break
        if ahead < -SECOND or proxy.io.now() > last:
            return
        await proxy.io.sleep(PAUSE_SECONDS)
    try:
        await proxy.io.query(wire, markers.end.format(number=number), until)
    except proxy.driver.errors as error:
        if _is_lost(proxy, wire, error):
            raise
        log.debug("the session %s need not be ended: %s", number, error)
