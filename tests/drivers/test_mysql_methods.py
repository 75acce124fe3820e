"""The driver's own source, read for calls that may use the network and are not watched: the alarm for its next release."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mysql.connector
import pytest
from mysql.connector import aio, connection, cursor
from mysql.connector.aio import cursor as aio_cursor

from aurora_actors.drivers import mysql_classes as classes
from aurora_actors.drivers import mysql_guard as guard

# What of the session's own C object and of the sockets goes over the network.
C_CALLS = frozenset(
    {"query", "ping", "commit", "rollback", "autocommit", "select_db", "next_result", "consume_result", "free_result"}
    | {"fetch_row", "stmt_prepare", "change_user", "reset_connection", "refresh", "shutdown", "stat", "set_character_set"}
    | {"stmt_execute", "stmt_close", "stmt_reset"}
)
SOCKET_CALLS = frozenset({"send", "recv", "read", "write"})
# Those that are called within others only, that come and go with the connection, or are generators, which the calls in
# them are not.
ELSEWHERE = frozenset(
    {"_send_cmd", "_send_data", "_handle_result", "_handle_binary_result", "_handle_load_data_infile", "_do_handshake"}
    | {"_do_auth", "_open_connection", "_execute_query", "_post_connection", "connect", "close", "reconnect", "ping"}
    | {"cursor", "cmd_query_iter", "__init__", "get_row", "handle_unread_result", "disconnect", "shutdown", "config"}
    | {"is_connected"}
    # On C it is called after the last row, and before each statement, which is watched itself.
    | {"free_result"}
    | {"__enter__", "__exit__", "__aenter__", "__aexit__"}
)


def methods(cls: type[Any]) -> Iterator[tuple[str, ast.AST]]:
    """From the files themselves: decorators of the driver's hide what they decorate."""
    for each in cls.__mro__:
        if not each.__module__.startswith("mysql.connector"):
            continue
        tree = ast.parse(Path(inspect.getfile(each)).read_text("utf-8"))
        body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == each.__name__)
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, node


def calls(tree: ast.AST) -> set[str]:
    """Names of what is called on `self`, and with a dot before it on the session under it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value
        # The socket, handed on to be read.
        if any(isinstance(each, ast.Attribute) and each.attr == "_socket" for each in node.args):
            found.add(".read")
        if isinstance(owner, ast.Name):
            # Of C, prepared statements are objects of their own.
            found.add(node.func.attr if owner.id == "self" else "." + node.func.attr)
        elif isinstance(owner, ast.Attribute) and owner.attr in ("_cmysql", "_socket", "_authenticator"):
            found.add("." + node.func.attr)
        elif isinstance(owner, ast.Attribute) and owner.attr == "_connection":
            found.add(node.func.attr)
    return found


def networked(cls: type[Any]) -> set[str]:
    """The methods of *cls* that use the network, themselves or through another one."""
    used: dict[str, set[str]] = {}
    for name, tree in methods(cls):
        used.setdefault(name, set()).update(calls(tree))
    direct = {"." + call for call in C_CALLS | SOCKET_CALLS} | {".authenticate"}
    found = {name for name, called in used.items() if called & direct}
    while True:
        more = {name for name, called in used.items() if called & found} - found
        if not more:
            return found
        found |= more


CLASSES = [connection.MySQLConnection, aio.connection.MySQLConnection]
if mysql.connector.HAVE_CEXT:
    CLASSES.append(mysql.connector.CMySQLConnection)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__module__)
def test_every_method_of_a_connection_that_uses_the_network_is_watched(cls: type[Any]) -> None:
    found = networked(cls)
    assert {"cmd_query", "commit", "get_rows", "is_connected"} <= found
    watched = {*guard._CONNECTION_CALLS, *guard.QUIET, *guard.PROPERTIES, *ELSEWHERE}
    assert found - watched == set()


@pytest.mark.parametrize("cls", [cursor.MySQLCursor, cursor.MySQLCursorPrepared, aio_cursor.MySQLCursor])
def test_every_method_of_a_cursor_that_reads_the_socket_is_watched(cls: type[Any]) -> None:
    """Cursors leave the network to their connection; the exceptions are these."""
    direct = {
        name
        for name, tree in methods(cls)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "_socket"
    }
    assert direct <= set(classes.CURSOR_CALLS)


def test_the_names_that_an_exchange_rests_on_are_there() -> None:
    for cls in CLASSES:
        assert guard._fits(cls)
        assert guard.guard_of(cls).__name__ == cls.__name__


def test_a_driver_without_them_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Stranger:
        def __init__(self) -> None:
            self._host = ""

    assert guard.guard_of(Stranger) is Stranger
    assert "lost connections are not recovered" in caplog.text
