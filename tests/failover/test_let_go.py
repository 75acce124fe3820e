"""An error that was handled lets go of what was on the stack: a pool gets back what its user only dropped."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aurora_actors import FailoverError
from aurora_actors.lab import MysqlLab, PostgresLab
from tests.failover.applications import connect, kill_own_session
from tests.failover.mysql_faces import Face, done, in_every_face
from tests.failover.mysql_faces import kill_own_session as kill_mysql_session


class Kept:
    """What an application holds on its stack, such as a pool's handle of the connection."""


@pytest.fixture(autouse=True)
def nothing_is_collected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("call", ["execute", "commit"])
def test_psycopg(aurora_lab: PostgresLab, call: str) -> None:
    def application(conn: Any) -> weakref.ref[Kept]:
        kept = Kept()
        with pytest.raises(FailoverError):
            conn.execute("SELECT 1") if call == "execute" else conn.commit()
        return weakref.ref(kept)

    with connect(aurora_lab, autocommit=False) as conn:
        conn.execute("SELECT 1")
        kill_own_session(aurora_lab, conn)
        assert application(conn)() is None


@pytest.mark.parametrize("call", ["execute", "rollback"])
@in_every_face
async def test_mysql(aurora_mysql_lab: MysqlLab, face: Face, call: str) -> None:
    async def application(ended: Callable[[], Any]) -> weakref.ref[Kept]:
        kept = Kept()
        with pytest.raises(FailoverError):
            await done(ended())
        return weakref.ref(kept)

    async with face.connection(aurora_mysql_lab) as conn:
        cursor = await done(conn.cursor())
        await kill_mysql_session(aurora_mysql_lab, conn)
        assert (await application((lambda: cursor.execute("SELECT 1")) if call == "execute" else conn.rollback))() is None
