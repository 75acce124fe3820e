"""How a session of a host monitor logs in with MySQL Connector; ``mysql_server`` has what it is then asked by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mysql.connector.connection import MySQLConnection
from mysql.connector.constants import ClientFlag
from mysql.connector.errors import ConnectionTimeoutError, Error

from aurora_actors.drivers.base import Place, Probing
from aurora_actors.drivers.mysql_server import LOGIN_SECONDS, PREAMBLE, LoggedIn, MysqlProbe, refused, watching

__all__ = ["connected", "logged_in"]

_NOT_FOR_PROBES = frozenset(
    {"compress", "init_command", "autocommit", "converter_class", "raw", "buffered", "read_timeout", "write_timeout"}
    | {"client_flags"}
)


async def logged_in(parameters: Mapping[str, Any], place: Place, sockets: Probing) -> MysqlProbe:
    """A session of its own. Raises ``ProbeError``; cancelled, it leaves nothing open."""
    return await watching(partial(connected, parameters, place), sockets)


class _Connection(MySQLConnection):
    """Goes to an address under the host's own name, and says no more to the server than a monitor has to."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        super().__init__()

    def _get_connection(self) -> Any:
        made: Any = super()._get_connection()
        if not self._unix_socket:
            made.server_host, made.server_port = self._address
        return made

    def leave(self) -> None:
        """Close without a word. (The driver's own shutdown() leaves a socket open whose other end is gone.)"""
        if self._socket is not None:
            self._socket.close_connection()

    def _post_connection(self) -> None:
        # The driver has lifted its limit by now.
        self._read_timeout = int(LOGIN_SECONDS)
        self.cmd_query(PREAMBLE)


def connected(parameters: Mapping[str, Any], place: Place) -> LoggedIn:
    """Log in, which blocks. Raises ``ProbeError``."""
    known = {key: value for key, value in parameters.items() if key not in _NOT_FOR_PROBES}
    attributes = {**(known.pop("conn_attrs", None) or {}), "program_name": "aurora_actors-monitor"}
    limit = min(float(known.pop("connection_timeout", None) or LOGIN_SECONDS), LOGIN_SECONDS)
    *others, last = place.addresses
    for address in (*others, last):
        conn = _Connection(address)
        at = {"host": place.host, "port": address[1]} if not known.get("unix_socket") else {}
        try:
            conn.connect(**{**known, **at, "connection_timeout": limit, "conn_attrs": dict(attributes)})
        except Error as error:
            conn.leave()
            if address == last:
                # The driver gives a host that said nothing the number of a statement that took too long.
                number = None if isinstance(error, ConnectionTimeoutError) else error.errno
                raise refused(error, number, error.__cause__) from None
        else:
            under: Any = conn._socket
            has_attributes = bool(conn._client_flags & ClientFlag.CLIENT_QUERY_ATTRIBUTES)
            return LoggedIn(conn, under.sock, conn.leave, has_attributes)
    raise AssertionError("a place has an address")
