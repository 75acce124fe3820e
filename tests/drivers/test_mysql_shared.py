"""Two threads or tasks at once on one connection of MySQL Connector, which its connections are not made for."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import mysql.connector
import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.lab import MysqlLab
from tests.failover.mysql_faces import BOUND_SECONDS, FACES, Face, begun, done, in_every_face, kill_own_session, query

OF_THREADS = [each for each in FACES if each.id != "aio"]
ROUNDS = 300
LOCK = "SELECT GET_LOCK('taken', 60)"


@in_every_face
async def test_a_second_thread_or_task_is_told_and_the_first_is_not_disturbed(
    aurora_mysql_lab: MysqlLab, face: Face
) -> None:
    async with face.connection(aurora_mysql_lab) as other, face.connection(aurora_mysql_lab) as conn:
        await query(other, LOCK)
        cursor = await done(conn.cursor())
        spare = await done(conn.cursor())
        call = begun(face, lambda: cursor.execute(LOCK))
        waiting = f"SELECT 1 FROM information_schema.processlist WHERE id = {conn.connection_id} AND state = 'User lock'"
        while not await query(other, waiting):
            assert not call.ended, "the first call did not wait"
        refused: list[Callable[[], Any]] = [
            lambda: spare.execute("SELECT 2"), conn.commit, conn.ping, conn.is_connected, conn.reconnect,
            lambda: conn.cmd_query("SELECT 3"), conn.get_rows, lambda: spare.callproc("p"), conn.reset_session,
        ]  # fmt: skip
        for each in refused:
            with pytest.raises(mysql.connector.ProgrammingError, match="one at a time") as caught:
                await done(each())
            assert isinstance(caught.value, aurora_actors.Error)
        await query(other, "SELECT RELEASE_LOCK('taken')")
        assert await call.end() is None
        assert await done(cursor.fetchall()) == [(1,)]
        assert await query(conn, "SELECT 4") == [(4,)]


@pytest.mark.parametrize("face", OF_THREADS)
def test_a_connection_may_be_handed_on_between_calls(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    """By a pool, or by whoever iterates in one thread over what another asked for."""

    async def opened() -> Any:
        return await face.connect(aurora_mysql_lab)

    with asyncio.run(opened()) as conn:
        cursor = conn.cursor()
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as another:
            for number in range(20):
                one.submit(cursor.execute, f"SELECT {number} UNION ALL SELECT 2").result()
                assert another.submit(cursor.fetchone).result() == (number,)
                assert one.submit(cursor.fetchall).result() == [(2,)]
            asyncio.run(kill_own_session(aurora_mysql_lab, conn))
            with pytest.raises(FailoverSuccessError):
                another.submit(cursor.execute, "SELECT 1").result()
            one.submit(cursor.execute, "SELECT 1").result()
            assert another.submit(cursor.fetchall).result() == [(1,)]


@contextmanager
def threads_taking_turns_all_the_time() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


@pytest.mark.parametrize("face", OF_THREADS)
def test_threads_that_race_get_their_own_answer_or_the_error(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async def opened() -> Any:
        return await face.connect(aurora_mysql_lab)

    wrong: list[object] = []
    answered: list[int] = []
    start = threading.Barrier(4)

    def race(conn: Any, number: int) -> None:
        start.wait(BOUND_SECONDS)
        for _ in range(ROUNDS):
            try:
                answer = conn.info_query(f"SELECT {number}")
            except mysql.connector.ProgrammingError as error:
                if "one at a time" not in str(error):
                    wrong.append(error)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is wrong
                wrong.append(error)
            else:
                answered.append(number)
                if answer != (number,):
                    wrong.append(answer)

    with asyncio.run(opened()) as conn, threads_taking_turns_all_the_time():
        threads = [threading.Thread(target=race, args=(conn, number), daemon=True) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND_SECONDS)
        assert wrong == []
        assert answered
        assert conn.info_query("SELECT 9") == (9,)
