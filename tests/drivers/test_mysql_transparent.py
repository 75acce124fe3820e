"""What an application finds on a connection of ours as it would on MySQL Connector's, and the errors that it gets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from typing import Any

import mysql.connector
import pytest

import aurora_actors
from aurora_actors import ConfigurationError, FailoverSuccessError
from aurora_actors.lab import MysqlLab
from tests.failover.mysql_faces import Face, done, in_every_face, kill_own_session, query, where


@pytest.mark.aurora_mysql_lab(hosts=2, flavour="multi-az")
@in_every_face
async def test_nothing_has_begun_on_a_new_connection(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    """Which cluster it is of is asked on it; without autocommit that would begin a transaction, and its snapshot."""
    async with (
        face.connection(aurora_mysql_lab, autocommit=False) as conn,
        face.connection(aurora_mysql_lab, plugins="") as other,
    ):
        await query(other, "CREATE TABLE t (id int)")
        assert not conn.in_transaction
        assert await query(conn, "SELECT * FROM t") == []
        await done(conn.rollback())
        await done(conn.start_transaction())
        await done(conn.rollback())
        assert aurora_mysql_lab.kill_session(aurora_mysql_lab.writer, conn.connection_id)
        with pytest.raises(aurora_actors.FailoverError):
            await query(conn, "SELECT 1")
        await query(other, "CREATE TABLE u (id int)")
        assert not conn.in_transaction
        await done(conn.start_transaction())


@in_every_face
async def test_rows_of_prepared_statements_are_converted(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    """Our questions read raw bytes, which the C extension would go on with."""
    async with face.connection(aurora_mysql_lab) as conn:
        text = "SELECT CAST('12.5' AS DECIMAL(3, 1)), 'x', NULL, %s"
        first = await query(conn, text, (7,), prepared=True)
        again = await query(conn, text, (7,), prepared=True)
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverSuccessError):
            await done(conn.ping())
        assert first == again == await query(conn, text, (7,), prepared=True)
        assert face.name != "c" or conn._cmysql.raw() is False
        assert [type(value).__name__ for value in first[0]] == ["Decimal", "str", "NoneType", "int"]


@in_every_face
async def test_a_connection_says_that_it_is_of_the_driver_s_class(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        assert conn.__class__ is face.driver_class
        assert isinstance(conn, face.driver_class)
        assert issubclass(type(conn), face.driver_class)


def test_a_port_that_is_none_is_the_driver_s_error_too() -> None:
    with pytest.raises(mysql.connector.InterfaceError, match="port='many'") as caught:
        aurora_actors.connect(mysql.connector.connect, host="127.0.0.1", port="many", user="x")
    assert isinstance(caught.value, ConfigurationError)


TWICE = "INSERT INTO t VALUES (1), (1)"
ERRORS: dict[str, Callable[[Any, Any], Any]] = {
    "syntax": lambda conn, cursor: cursor.execute("SELEC 1"),
    "duplicate": lambda conn, cursor: cursor.execute(TWICE),
    "many": lambda conn, cursor: cursor.executemany("INSERT INTO t VALUES (%s)", [(1,), (1,)]),
    "row by row": lambda conn, cursor: cursor.executemany("UPDATE nowhere SET a = %s", [(1,), (1,)]),
    "signal": lambda conn, cursor: cursor.callproc("signals"),
    "no procedure": lambda conn, cursor: cursor.callproc("nowhere"),
    "parameters": lambda conn, cursor: cursor.execute("SELECT %s, %s", (1,)),
    "no result": lambda conn, cursor: cursor.fetchall(),
    "cmd_query": lambda conn, cursor: conn.cmd_query("SELECT * FROM nowhere"),
    "cmd_init_db": lambda conn, cursor: conn.cmd_init_db("nowhere"),
    "cmd_change_user": lambda conn, cursor: conn.cmd_change_user("nobody", "wrong"),
    "nothing prepared": lambda conn, cursor: conn.cmd_stmt_prepare(b"SELECT FROM"),
    "a number of ours": lambda conn, cursor: cursor.execute("SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1290"),
    "no such process": lambda conn, cursor: cursor.execute("KILL 999999999"),
}


def noting(base: type[Any], names: Iterable[str], raised: list[BaseException]) -> type[Any]:
    """The application's own class, derived from the driver's: notes what the driver's methods raise."""

    def noted(method: Any) -> Any:
        @functools.wraps(method)
        def plain(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except BaseException as error:
                raised.append(error)
                raise

        @functools.wraps(method)
        async def awaiting(*args: Any, **kwargs: Any) -> Any:
            try:
                return await method(*args, **kwargs)
            except BaseException as error:
                raised.append(error)
                raise

        return awaiting if iscoroutinefunction(method) else plain

    return type(base.__name__, (base,), {name: noted(getattr(base, name)) for name in names if hasattr(base, name)})


@pytest.mark.parametrize("name", ERRORS)
@in_every_face
async def test_an_error_that_is_no_loss_is_the_driver_s_own_object(
    aurora_mysql_lab: MysqlLab, face: Face, name: str
) -> None:
    raised: list[BaseException] = []
    methods = ("cmd_query", "cmd_init_db", "cmd_change_user", "cmd_stmt_prepare", "get_rows")
    kind = noting(face.driver_class, methods, raised)
    async with face.connection(aurora_mysql_lab, plugins="") as raw, face.of(kind, aurora_mysql_lab) as conn:
        await query(raw, "CREATE TABLE t (id int NOT NULL PRIMARY KEY)")
        await query(raw, "CREATE PROCEDURE signals() SIGNAL SQLSTATE '45001' SET MESSAGE_TEXT = 'own', MYSQL_ERRNO = 30001")
        found = []
        for each in (raw, conn):
            base = type(await done(each.cursor())).__mro__[1]
            own = noting(base, ("execute", "executemany", "callproc", "fetchall"), raised)
            cursor = await done(each.cursor(cursor_class=own))
            with pytest.raises(mysql.connector.Error) as caught:
                await done(ERRORS[name](each, cursor))
            error = caught.value
            assert not isinstance(error, aurora_actors.Error)
            assert not hasattr(error, "__notes__")
            found.append((type(error), error.errno, error.sqlstate, error.msg, error.args, type(error.__cause__)))
        assert error is raised[-1]
        assert found[0] == found[1]
        assert await where(conn) == aurora_mysql_lab.writer
