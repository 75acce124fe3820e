"""Connections carried over a fork: the parent's stay as they are, the child's copies are told from it and harmless."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from aurora_actors import FailoverError, Outcome
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
