"""What MySQL Connector's errors and statements tell about a call."""

from __future__ import annotations

from inspect import signature
from typing import Any

from mysql.connector.errors import ConnectionTimeoutError, ReadTimeoutError, WriteTimeoutError

from aurora_actors.drivers.base import Failure
from aurora_actors.drivers.mysql_server import numbered
from aurora_actors.model.mysql_statements import leaves_nothing

__all__ = [
    "COMMITS",
    "HARMLESS",
    "NAMES",
    "SENDS_NOTHING",
    "STARTS",
    "STATEMENTS",
    "failure_of",
    "harmless",
    "keywords_as_known",
    "out_of_step",
    "text_of",
]

_GONE = ("MySQL Connection not available", "Connection to MySQL is not available", "MySQL Connection not available.")

# Methods before which the session may be exchanged: they ask for something new. The others read on, or name a
# statement that was prepared on the session.
STARTS = frozenset(
    {"execute", "executemany", "callproc", "cursor", "commit", "rollback", "ping", "start_transaction", "info_query"}
    | {"cmd_query", "cmd_query_iter", "cmd_init_db", "cmd_change_user", "cmd_stmt_prepare", "cmd_ping", "cmd_statistics"}
    | {"cmd_refresh", "cmd_process_kill", "cmd_reset_connection", "reset_session", "set_charset_collation"}
    | {"set_character_set_name", "autocommit", "database", "time_zone", "sql_mode", "read_only"}
    | {f"{verb}_{what}" for verb in ("get", "set") for what in ("autocommit", "database", "time_zone", "sql_mode")}
    | {"set_read_only"}
)
# Those whose first argument is a statement.
STATEMENTS = frozenset({"execute", "executemany", "executemulti", "cmd_query", "cmd_query_iter", "info_query"})
COMMITS = frozenset({"commit", "set_autocommit"})
# A ping, a setting, or rows that belong to a statement which has been answered: nothing that could take effect.
SENDS_NOTHING = STARTS - STATEMENTS - COMMITS - {"callproc", "cmd_refresh", "cmd_process_kill", "start_transaction"}
NAMES = {"cmd_query": "execute", "cmd_query_iter": "execute", "get_rows": "fetch", "next_result": "nextset"}

_OF_ROWS = ("self", "count", "binary", "columns", "raw", "prep_stmt", "kwargs")

MOST_TEXTS = 4096
"""How many harmless statements are remembered; a program that makes up a new text for each gains nothing from more."""
HARMLESS: set[str] = set()
"""Statements known to leave nothing in their session. Only changed by single operations, so that no thread needs a lock."""


def failure_of(error: BaseException) -> Failure:
    """What *error* says by its number: classes differ between the variants, and SQLSTATEs tell nothing here."""
    if isinstance(error, ReadTimeoutError | WriteTimeoutError):
        # The application's own limit, whatever it leaves behind; with a number it is the kernel that gave the path up
        # (ETIMEDOUT), which the driver does not tell apart.
        return Failure(None, getattr(error.__cause__, "errno", None) is not None)
    if isinstance(error, OSError | ConnectionTimeoutError):
        # The latter: a host that said nothing to a login, which the driver gives the number of a statement that took long.
        return Failure(None, True)
    number = getattr(error, "errno", None)
    message = str(getattr(error, "msg", "") or "")
    if not isinstance(number, int) or number < 0:
        if message.startswith(_GONE):
            return Failure(None, True)
        # The driver's own wrapping, of which it says what is in it.
        return failure_of(error.__cause__) if error.__cause__ is not None else Failure(None, False)
    return numbered(number, message)


def out_of_step(error: BaseException) -> bool:
    """Whether a call that *error* cut off may have left an answer behind, which the next one would take for its own."""
    return not isinstance(error, Exception) or isinstance(error, ReadTimeoutError | WriteTimeoutError)


def text_of(name: str, args: tuple[Any, ...]) -> str:
    """The statement that the call of *name* sends; empty: there is none."""
    if name == "callproc":
        return f"CALL {args[0] if args else ''}()"
    if name not in STATEMENTS or not args:
        return ""
    query = args[0]
    return bytes(query).decode(errors="replace") if isinstance(query, bytes | bytearray) else str(query)


def harmless(text: str) -> bool:
    """Whether *text* leaves nothing in its session; each text is read once."""
    if text in HARMLESS:
        return True
    if not leaves_nothing(text):
        return False
    if len(HARMLESS) >= MOST_TEXTS:
        HARMLESS.clear()
    HARMLESS.add(text)
    return True


def keywords_as_known(get_rows: Any) -> bool:
    """Whether a method that reads rows takes what it does in the releases known, so that it can be given that one by one: a
    dictionary of keywords for each row would cost as much as all else of its guard."""
    return tuple(signature(get_rows).parameters) == _OF_ROWS
