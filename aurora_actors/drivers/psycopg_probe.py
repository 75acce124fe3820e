"""The sessions of host monitors on PostgreSQL, straight on libpq.

psycopg's own connect never gives up in less than two seconds; a monitor has to know sooner. Everything here goes through
``psycopg.pq``, which is documented, and is bounded to the millisecond.
"""

from __future__ import annotations

import os
import selectors
from time import monotonic
from typing import TYPE_CHECKING

import psycopg
from psycopg import pq

from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import ProbeError
from aurora_actors.drivers.psycopg_ask import ask, wait_for

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

__all__ = ["PsycopgProbe"]

# One round trip with the first question. The user's own settings (ALTER ROLE … SET) must not cut a held answer short,
# and a monitor must not be able to write.
_PREAMBLE = (
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;"
    " SET default_transaction_read_only = on; "
)
_GRAVEYARD: list[PGconn] = []
"""Sockets inherited over a fork: kept referenced, since closing one would say goodbye in the parent's name."""


class PsycopgProbe:
    """One session; used by the thread of one host monitor."""

    def __init__(self, conninfo: str, timeout: float) -> None:
        self._deadline = monotonic() + timeout
        self._preamble = _PREAMBLE
        self._pid = os.getpid()
        self._pgconn = pq.PGconn.connect_start(conninfo.encode())
        try:
            self._log_in()
            self._pgconn.nonblocking = 1
        except BaseException:
            self._pgconn.finish()
            raise

    def ask(self, sql: str, timeout: float) -> Rows:
        """The rows of the last statement in *sql*. Raises ``ProbeError`` within *timeout* seconds."""
        try:
            result = ask(self._pgconn, self._preamble + sql, monotonic() + timeout)
        except psycopg.Error as error:
            code = error.sqlstate
            ended = self._pgconn.status == pq.ConnStatus.BAD or code is None or code.startswith("57P0")
            raise ProbeError(str(error).strip(), answered=not ended, sqlstate=code) from None
        self._preamble = ""
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

    def _log_in(self) -> None:
        if self._pgconn.status == pq.ConnStatus.BAD:
            raise ProbeError(self._message())
        while True:
            state = self._pgconn.connect_poll()
            if state == pq.PollingStatus.OK:
                return
            if state == pq.PollingStatus.FAILED:
                code = self._login_code()
                raise ProbeError(self._message(), answered=code is not None, sqlstate=code)
            writing = state == pq.PollingStatus.WRITING
            try:
                wait_for(self._pgconn, selectors.EVENT_WRITE if writing else selectors.EVENT_READ, self._deadline)
            except psycopg.OperationalError:
                raise ProbeError("no answer to the login in time") from None

    def _login_code(self) -> str | None:
        # libpq keeps no SQLSTATE of a refused login; "FATAL" stands in the message only when the server wrote it.
        message = self._message()
        if "FATAL" not in message:
            return None
        starting = "starting up" in message or "shutting down" in message or "recovery" in message
        return "57P03" if starting else "28000"

    def _message(self) -> str:
        return self._pgconn.get_error_message().strip()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
