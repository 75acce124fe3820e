"""What ends a statement at its server when its deadline comes: ``KILL``, on a session of ours with the same credentials.

Nobody but its owner touches the connection that waits. A wrong session must never be killed: a number alone says nothing
behind a proxy, which gives numbers of its own, behind what spreads connections over several servers, or after a restart,
with which numbers begin anew. Where the server cannot show that the session is ours, nothing is killed.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from time import monotonic
from typing import Any

from mysql.connector.errors import Error

from aurora_actors.actors.reply import Reply
from aurora_actors.deadlines import END_SECONDS
from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import Place
from aurora_actors.drivers.mysql_options import plain
from aurora_actors.drivers.mysql_probe import connected
from aurora_actors.drivers.mysql_session import Handle
from aurora_actors.flow.io import DeadlineExceeded, Io, on_worker
from aurora_actors.proxies.proxy import Proxy

__all__ = ["INTERRUPTED", "Killing"]

log = logging.getLogger("aurora_actors.drivers")

INTERRUPTED = frozenset({1317, 3024, 1969})
"""ER_QUERY_INTERRUPTED, ER_QUERY_TIMEOUT, and MariaDB's ER_STATEMENT_TIMEOUT: the server has undone the statement."""

# What is the user's own is seen, and may be killed, without a grant.
_SESSION = (
    "SELECT CONNECTION_ID(), HOST FROM information_schema.PROCESSLIST"
    " WHERE ID = {number} AND USER = SUBSTRING_INDEX(USER(), '@', 1) AND COMMAND <> 'Sleep'"
)
_UPTIME = "SHOW GLOBAL STATUS LIKE 'Uptime'"


class Killing:
    """Of one call on the session of *handle*. *alone*: the session may go on, since one statement is all that is killed."""

    def __init__(self, proxy: Proxy, handle: Handle, *, alone: bool) -> None:
        self._access, self._dialect, self._host, self._opened = proxy.access, proxy.dialect, proxy.host, proxy.opened
        self._handle = handle
        self._what = "QUERY" if alone else "CONNECTION"
        self._reply: Reply[bool] | None = None
        # Settled once: by whoever sends the KILL, or by the end of the call, after which none may be sent.
        self._turn: Reply[None] = Reply()

    def begin(self) -> bool:
        """Any thread, which does not wait. False: this process can start no more threads."""
        try:
            _, self._reply = on_worker(self._kill)
        except RuntimeError:
            return False
        return True

    def is_sent(self) -> bool:
        """The call has come back: whether the KILL is on its way. If not, none is sent from here on."""
        return not self._turn.cancel()

    async def done(self, io: Io, until: float) -> bool:
        """Whether the server has said by *until* that it has killed what ran: then it kills nothing that comes."""
        try:
            return self._reply is not None and await io.wait(self._reply, until)
        except DeadlineExceeded:
            return False

    def _kill(self) -> bool:
        access, host, handle = replace(self._access, monitoring={}), self._host, self._handle
        try:
            if host is None or handle.peer is None:
                return False
            if access.credentials is not None:
                found = access.credentials(access, host, None, monotonic() + END_SECONDS)
                access = replace(access, parameters=found)
            conn = connected(plain(access.parameters), Place(host.endpoint, (handle.peer,))).conn
        except Exception as error:  # noqa: BLE001 - of plugins, whose words may be anything
            log.debug("the statement of session %s was not killed: %s", handle.number, type(error).__name__)
            return False
        try:
            if not self._is_ours(conn):
                log.debug("the statement of session %s was not killed: it was not seen at %s", handle.number, host)
                return False
            if not self._turn.set_result(None):
                return False
            conn.cmd_query(f"KILL {self._what} {handle.number}")
        except (Error, OSError, ValueError) as error:
            log.debug("the statement of session %s was not killed: %s", handle.number, error)
            return False
        else:
            return True
        finally:
            with suppress(Error, OSError):
                conn.cmd_quit()
            conn.leave()

    def _is_ours(self, conn: Any) -> bool:
        """Whether the server that *conn* has reached shows the session there, busy."""
        handle, host, dialect = self._handle, self._host, self._dialect
        shown = _rows(conn, _SESSION.format(number=handle.number))
        # A proxy has given the number of *conn* as it gave the other.
        if not shown or shown[0][0] != str(conn.connection_id):
            return False
        if handle.own is not None and shown[0][1] in _spelt(*handle.own):
            return True
        # Something stands between. A host that has a name says who it is, and for how long it has been.
        if dialect is None or host is None or not dialect.names_hosts:
            return False
        if dialect.read(_rows(conn, dialect.report_sql)).id != host.id:
            return False
        return float(_rows(conn, _UPTIME)[0][1] or 0.0) > monotonic() - self._opened


def _rows(conn: Any, sql: str) -> Rows:
    """The rows of one statement, as text. Raises the driver's error."""
    conn.cmd_query(sql)
    rows, _ = conn.get_rows(raw=True)
    return [[None if value is None else bytes(value).decode() for value in row] for row in rows]


def _spelt(address: str, port: int) -> tuple[str, ...]:
    """How a server may write a client's end of a connection."""
    return (f"{address}:{port}", *([f"localhost:{port}"] if ip_address(address).is_loopback else []))
