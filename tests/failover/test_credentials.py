"""What connections and monitors log in with is found out anew for each login: a password may change under them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

import mysql.connector
import pytest
from psycopg_pool import ConnectionPool

import aurora_actors
from aurora_actors.errors import FailoverSuccessError
from aurora_actors.lab import MysqlLab, PostgresLab
from aurora_actors.psycopg import Connection
from tests.failover.applications import MONITOR
from tests.failover.colours import Colour
from tests.failover.mysql_faces import BOUND_SECONDS, Face, in_every_face, monitors_log_in_again, query

ROTATED = "rotated-words"
QUICK: dict[str, Any] = {"plugins": "failover,efm", "topology_refresh_ms": 200, "cluster_topology_high_refresh_rate_ms": 50}
"""Monitors that ask often, so that one whose session was ended logs in again soon."""


class Keeper:
    """Has the password of the moment, as a callable of either colour."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.asked = 0

    def blocking(self) -> str:
        self.asked += 1
        return self.password

    async def awaited(self) -> str:
        return self.blocking()

    def of(self, asynchronous: bool) -> Callable[[], Any]:
        return self.awaited if asynchronous else self.blocking


@pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "awaited"])
def test_postgres_sessions_and_monitors_survive_a_rotated_password(
    aurora_lab: PostgresLab, colour: Colour, awaited: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keeper = Keeper(aurora_lab.login.password)
    with colour.connect(aurora_lab, password=keeper.of(awaited), autocommit=True, **QUICK) as conn:
        conn.execute(f"ALTER ROLE CURRENT_USER PASSWORD '{ROTATED}'")
        try:
            keeper.password = ROTATED
            rotated = conn.execute("SELECT clock_timestamp()").fetchone()[0]
            monitors = f"FROM pg_stat_activity WHERE application_name = '{MONITOR}' AND usename IS NOT NULL"
            conn.execute(f"SELECT pg_terminate_backend(pid) {monitors}")
            until = monotonic() + BOUND_SECONDS
            while not conn.execute(f"SELECT 1 {monitors} AND backend_start > %s", [rotated]).fetchall():
                assert monotonic() < until, "no monitor logged in again"
            aurora_lab.failover()
            with pytest.raises(FailoverSuccessError):
                conn.execute("SELECT 1")
        finally:
            conn.execute(f"ALTER ROLE CURRENT_USER PASSWORD '{aurora_lab.login.password}'")
    assert keeper.asked >= 3
    assert ROTATED not in caplog.text


def test_a_pool_goes_on_with_the_password_of_the_moment(aurora_lab: PostgresLab) -> None:
    keeper = Keeper(aurora_lab.login.password)
    own: dict[str, Any] = {"password": keeper.blocking, "autocommit": True}
    pool: Any
    one: Any
    with ConnectionPool(
        aurora_lab.conninfo(), connection_class=Connection, kwargs=own, min_size=1, max_size=2, open=True
    ) as pool, pool.connection() as one:
        one.execute(f"ALTER ROLE CURRENT_USER PASSWORD '{ROTATED}'")
        keeper.password = ROTATED
        try:
            with pool.connection() as other:
                assert other.info.backend_pid != one.info.backend_pid
        finally:
            one.execute(f"ALTER ROLE CURRENT_USER PASSWORD '{aurora_lab.login.password}'")


async def rotate(conn: Any, password: str) -> None:
    """Change the own password, which MariaDB and MySQL let everybody do in a way of their own each."""
    ((version,),) = await query(conn, "SELECT VERSION()")
    hashed = "PASSWORD('{}')" if "MariaDB" in version else "'{}'"
    await query(conn, f"SET PASSWORD = {hashed.format(password)}")


@in_every_face
async def test_mysql_sessions_and_monitors_survive_a_rotated_password(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    keeper = Keeper(aurora_mysql_lab.login.password)
    async with face.connection(aurora_mysql_lab, password=keeper.of(face.is_async), **QUICK) as conn:
        await rotate(conn, ROTATED)
        try:
            keeper.password = ROTATED
            await monitors_log_in_again(conn)
            aurora_mysql_lab.failover()
            with pytest.raises(FailoverSuccessError):
                await query(conn, "SELECT 1")
        finally:
            await rotate(conn, aurora_mysql_lab.login.password)
    assert keeper.asked >= 3


def test_a_pool_of_the_connector_goes_on_with_the_password_of_the_moment(aurora_mysql_lab: MysqlLab) -> None:
    keeper = Keeper(aurora_mysql_lab.login.password)
    host, port = aurora_mysql_lab.address(aurora_mysql_lab.writer)
    own: dict[str, Any] = {"password": keeper.blocking, "use_pure": True, "pool_name": "rotating", "pool_size": 2}
    known = aurora_mysql_lab.parameters(host=host, port=port, **own)

    def connect() -> Any:
        return aurora_actors.connect(mysql.connector.connect, **known)

    one: Any
    with connect() as one:
        cursor = one.cursor()
        with connect() as other:
            ended = other.connection_id
        cursor.execute("SELECT VERSION()")
        hashed = "PASSWORD('{}')" if "MariaDB" in cursor.fetchone()[0] else "'{}'"
        cursor.execute(f"SET PASSWORD = {hashed.format(ROTATED)}")
        try:
            keeper.password = ROTATED
            cursor.execute(f"KILL {ended}")
            with connect() as other:
                assert other.connection_id != ended
                assert other.is_connected()
        finally:
            cursor.execute(f"SET PASSWORD = {hashed.format(aurora_mysql_lab.login.password)}")
