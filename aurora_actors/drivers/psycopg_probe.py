"""The sessions of host monitors on PostgreSQL, straight on libpq.

psycopg's own connect never gives up in less than two seconds; a monitor has to know sooner. Everything here goes through
``psycopg.pq``, which is documented, and is bounded to the millisecond.
"""

from __future__ import annotations

import os
import selectors
from time import monotonic
from typing import TYPE_CHECKING

from psycopg import pq

from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import ProbeError

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

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
        self._deadline = monotonic() + timeout
        try:
            self._pgconn.send_query((self._preamble + sql).encode())
            self._flush()
            result = self._last_result()
        except pq.PQerror as error:
            raise ProbeError(str(error)) from None
        except Exception as error:
            if isinstance(error, ProbeError):
                raise
            raise ProbeError(f"{type(error).__name__}: {error}") from error
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
            self._wait(selectors.EVENT_WRITE if writing else selectors.EVENT_READ, "no answer to the login")

    def _login_code(self) -> str | None:
        # libpq keeps no SQLSTATE of a refused login; "FATAL" stands in the message only when the server wrote it.
        message = self._message()
        if "FATAL" not in message:
            return None
        starting = "starting up" in message or "shutting down" in message or "recovery" in message
        return "57P03" if starting else "28000"

    def _flush(self) -> None:
        while self._pgconn.flush():
            self._wait(selectors.EVENT_WRITE, "the question could not be sent")

    def _last_result(self) -> PGresult:
        last: PGresult | None = None
        while True:
            while self._pgconn.is_busy():
                self._wait(selectors.EVENT_READ, "no answer")
                self._pgconn.consume_input()
            result = self._pgconn.get_result()
            if result is None:
                break
            if result.status == pq.ExecStatus.FATAL_ERROR:
                self._refused(result)
            last = result
        if last is None:
            raise ProbeError("the connection was closed by the host")
        return last

    def _refused(self, result: PGresult) -> None:
        code = result.error_field(pq.DiagnosticField.SQLSTATE)
        message = (result.error_message or b"").decode(errors="replace").strip()
        ended = self._pgconn.status == pq.ConnStatus.BAD or code is None or code.startswith(b"57P0")
        while not ended and self._pgconn.get_result() is not None:
            pass
        raise ProbeError(message, answered=not ended, sqlstate=code.decode() if code else None)

    def _wait(self, event: int, complaint: str) -> None:
        remaining = self._deadline - monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._pgconn.socket, event)
            if remaining <= 0 or not selector.select(remaining):
                raise ProbeError(f"{complaint} in time")

    def _message(self) -> str:
        return self._pgconn.get_error_message().strip()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
