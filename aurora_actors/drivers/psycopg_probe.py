"""The sessions of host monitors on PostgreSQL, straight on libpq.

psycopg's own connect never gives up in less than two seconds; a monitor has to know sooner. Everything here goes through
``psycopg.pq``, which is documented, and waits only where its caller's io does.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import psycopg
from psycopg import pq

from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import ProbeError, Sockets
from aurora_actors.drivers.psycopg_ask import answer_to

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

__all__ = ["PsycopgProbe", "logged_in"]

# In the message of each question, whose statements are one transaction: nothing of it outlives the answer, so that a pooler
# in between hands nothing of it to an application. The user's own settings (ALTER ROLE … SET) must not cut a held answer
# short, and a monitor must not be able to write.
_PREAMBLE = (
    "SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; "
)
LOCAL_ERRORS = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)
NETWORK_ERRORS = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)
_GRAVEYARD: list[PGconn] = []
"""Sockets inherited over a fork: kept referenced, since closing one would say goodbye in the parent's name."""


async def logged_in(conninfo: str, sockets: Sockets) -> PsycopgProbe:
    """A session of its own. Raises ``ProbeError``; cancelled, it leaves nothing open."""
    pgconn = pq.PGconn.connect_start(conninfo.encode())
    try:
        await _log_in(pgconn, sockets)
        pgconn.nonblocking = 1
    except BaseException:
        pgconn.finish()
        raise
    return PsycopgProbe(pgconn)


class PsycopgProbe:
    """One session; used by the thread of one host monitor."""

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self._pid = os.getpid()

    async def ask(self, sql: str, sockets: Sockets) -> Rows:
        """The rows of the last statement in *sql*. Raises ``ProbeError``."""
        try:
            result = await answer_to(self._pgconn, _PREAMBLE + sql, sockets)
        except psycopg.Error as error:
            code = error.sqlstate
            ended = self._pgconn.status == pq.ConnStatus.BAD or code is None or code.startswith("57P0")
            raise ProbeError(str(error).strip(), answered=not ended, sqlstate=code) from None
        return [
            [_text(result.get_value(row, column)) for column in range(result.nfields)]
            for row in range(result.ntuples)
        ]

    def close(self) -> None:
        if os.getpid() == self._pid:
            self._pgconn.finish()
        else:
            self.abandon()

    def abandon(self) -> None:
        _GRAVEYARD.append(self._pgconn)


async def _log_in(pgconn: PGconn, sockets: Sockets) -> None:
    if pgconn.status == pq.ConnStatus.BAD:
        # Nothing was sent; where the network did not say why, it was this machine (libpq may have no words for it).
        raise ProbeError(_message(pgconn), local=not _tells(pgconn, NETWORK_ERRORS))
    while True:
        state = pgconn.connect_poll()
        if state == pq.PollingStatus.OK:
            return
        if state == pq.PollingStatus.FAILED:
            code = _login_code(pgconn)
            raise ProbeError(_message(pgconn), answered=code is not None, sqlstate=code, local=_tells(pgconn, LOCAL_ERRORS))
        if state == pq.PollingStatus.WRITING:
            await sockets.writable(pgconn.socket)
        else:
            await sockets.readable(pgconn.socket)


def _login_code(pgconn: PGconn) -> str | None:
    # libpq keeps no SQLSTATE of a refused login; "FATAL" stands in the message only when the server wrote it.
    message = _message(pgconn)
    if "FATAL" not in message:
        return None
    starting = "starting up" in message or "shutting down" in message or "recovery" in message
    return "57P03" if starting else "28000"


def _tells(pgconn: PGconn, errors: tuple[int, ...]) -> bool:
    """Whether one of *errors* is the reason; libpq tells it by the system's own words only."""
    message = _message(pgconn)
    return any(os.strerror(number) in message for number in errors)


def _message(pgconn: PGconn) -> str:
    return pgconn.get_error_message().strip()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
