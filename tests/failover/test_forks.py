"""Connections carried over a fork: the parent's stay as they are, the child's copies are told from it and harmless."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import mysql.connector.aio
import psycopg
import pytest

from aurora_actors import FailoverError, Outcome, aio
from aurora_actors.actors.system import system
from aurora_actors.lab import MysqlLab, PostgresLab
from tests.failover.applications import connect, where
from tests.failover.mysql_faces import FACES, Face, query
from tests.failover.test_processes import in_a_child

Ending = Callable[[list[Any]], object]


def closes(held: list[Any]) -> str:
    held.pop().close()
    return "closed"


def drops(held: list[Any]) -> str:
    held.clear()
    gc.collect()
    return "dropped"


ENDINGS = [pytest.param(closes, id="close"), pytest.param(drops, id="garbage")]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("ends", ENDINGS)
def test_a_child_says_goodbye_to_nobody(aurora_lab: PostgresLab, ends: Ending) -> None:
    held = [connect(aurora_lab)]
    pid = held[0].info.backend_pid
    assert in_a_child(lambda: ends(held)) in ("closed", "dropped")
    with held.pop() as conn:
        assert where(conn) == aurora_lab.writer
        assert conn.info.backend_pid == pid


def test_a_child_that_exits_says_goodbye_to_nobody(aurora_lab: PostgresLab) -> None:
    """By the interpreter's own end, finalizers and all, not by ``os._exit()``."""
    script = f"""if True:
        import os, sys, aurora_actors, psycopg
        aurora_actors.set_resolver(lambda host, port: {{"w": [{aurora_lab.address(aurora_lab.writer)!r}]}}["w"])
        conn = aurora_actors.connect(psycopg.Connection.connect, {aurora_lab.conninfo()!r}, autocommit=True)
        pid = conn.info.backend_pid
        child = os.fork()
        if not child:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert conn.execute("SELECT pg_catalog.pg_backend_pid()").fetchone() == (pid,)
        conn.close()
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_using_a_connection_of_the_parent_s_is_one_clear_error(aurora_lab: PostgresLab) -> None:
    told = f"belongs to process {os.getpid()}.*Connect anew"
    with connect(aurora_lab) as conn:

        def work() -> str:
            with pytest.raises(psycopg.OperationalError, match=told) as caught:
                conn.execute("SELECT 1")
            assert isinstance(caught.value, FailoverError)
            assert caught.value.outcome is Outcome.NOT_SENT
            return "refused"

        assert in_a_child(work) == "refused"
        assert where(conn) == aurora_lab.writer


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("ends", ENDINGS)
@pytest.mark.parametrize("face", [each for each in FACES if each.id != "aio"])
def test_a_child_says_goodbye_to_no_mysql_server(aurora_mysql_lab: MysqlLab, face: Face, ends: Ending) -> None:
    held = [asyncio.run(face.connect(aurora_mysql_lab))]
    session = asyncio.run(query(held[0], "SELECT CONNECTION_ID()"))

    def work() -> Any:
        with pytest.raises(FailoverError, match=r"belongs to process .* Connect anew"):
            held[0].cmd_query("SELECT 1")
        return ends(held)

    assert in_a_child(work) in ("closed", "dropped")
    with held.pop() as conn:
        assert asyncio.run(query(conn, "SELECT CONNECTION_ID()")) == session


# Event loops

NUMBER = {"psycopg": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
Addresses = dict[str, tuple[str, int]]


async def open_in_a_loop(engine: str, conninfo: str, resolve: Any = None) -> Any:
    if engine == "psycopg":
        return await aio.connect(psycopg.AsyncConnection.connect, conninfo, autocommit=True, resolve=resolve)
    return await aio.connect(mysql.connector.aio.connect, conninfo, autocommit=True, ssl_disabled=True, resolve=resolve)


async def session_of(engine: str, conn: Any) -> int:
    cursor = conn.cursor() if engine == "psycopg" else await conn.cursor()
    await cursor.execute(NUMBER[engine])
    (number,) = await cursor.fetchone()
    await cursor.close()
    return int(number)


async def a_child_s_own(engine: str, conninfo: str, addresses: Addresses) -> tuple[int, int]:
    """The session of a connection that a child opens, and how many hosts of the cluster it has found."""
    conn = await open_in_a_loop(engine, conninfo, lambda host, _: [addresses[host]])
    try:
        return await session_of(engine, conn), len(system.clusters[0].cell.view.topology.hosts)
    finally:
        await conn.close()


def tell_of_a_child_s_own(pipe: Connection, *given: Any) -> None:
    pipe.send(asyncio.run(a_child_s_own(*given)))


async def use_what_is_inherited(engine: str, conn: Any) -> None:
    with pytest.raises(FailoverError, match=r"belongs to process .* Connect anew") as caught:
        await session_of(engine, conn)
    assert caught.value.outcome is Outcome.NOT_SENT
    await conn.close()


def use_and_tell(held: Any, pipe: Connection, *given: Any) -> None:
    asyncio.run(use_what_is_inherited(given[0], held))
    tell_of_a_child_s_own(pipe, *given)


def in_a_process(method: str, work: Callable[..., None], *given: Any) -> Any:
    """What *work* sends from a child of ``multiprocessing``."""
    context: Any = multiprocessing.get_context(method)
    ours, its = context.Pipe()
    process = context.Process(target=work, args=(its, *given))
    process.start()
    its.close()
    told = ours.recv()
    process.join()
    assert process.exitcode == 0
    return told


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("engine", ["psycopg", "mysql"])
def test_the_children_of_an_event_loop(request: pytest.FixtureRequest, engine: str) -> None:
    """Forked within a task, where the loop runs, and beside it; and started afresh, which inherits nothing."""
    lab: Any = request.getfixturevalue("aurora_lab" if engine == "psycopg" else "aurora_mysql_lab")
    addresses: Addresses = {lab.endpoint(host): lab.address(host) for host in lab.hosts}
    addresses[lab.writer_endpoint] = lab.address(lab.writer)
    given = engine, lab.conninfo(), addresses
    with asyncio.Runner() as runner:
        held = runner.run(open_in_a_loop(engine, lab.conninfo()))
        session = runner.run(session_of(engine, held))

        def child() -> str:
            asyncio.run(use_what_is_inherited(engine, held))
            number, hosts = asyncio.run(a_child_s_own(*given))
            return f"{number != session}, {hosts}"

        async def forks() -> str:
            return in_a_child(child)

        assert runner.run(forks()) == f"True, {len(lab.hosts)}"
        assert runner.run(session_of(engine, held)) == session
        for method, work in (("fork", partial(use_and_tell, held)), ("spawn", tell_of_a_child_s_own)):
            number, hosts = in_a_process(method, work, *given)
            assert number != session
            assert hosts == len(lab.hosts)
            assert runner.run(session_of(engine, held)) == session
        lab.failover()
        with pytest.raises(FailoverError):
            runner.run(session_of(engine, held))
        addresses[lab.writer_endpoint] = lab.address(lab.writer)
        assert in_a_child(child).startswith("True")
        runner.run(session_of(engine, held))
        runner.run(held.close())
