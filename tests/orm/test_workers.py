"""Idioms of those who run work on SQLAlchemy: a task queue's soft limits and forked workers, requests of a web service."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from aurora_actors import aio
from aurora_actors.lab import PostgresLab
from tests.failover.sweeps import SoftLimit
from tests.failover.test_interrupts import interrupted_after
from tests.failover.test_processes import in_a_child
from tests.orm.engines import Engines, ask, driver_of

LIMIT_SECONDS = 0.2
"""After the statement began, which lasts much longer."""
REQUESTS = 6


def test_a_soft_limit_passes_as_it_is(engines: Engines) -> None:
    if engines.name == "psycopg_async":
        pytest.skip("a signal handler that raises is not for an event loop")
    sleep = "SELECT SLEEP(30)" if engines.name == "mysql" else "SELECT pg_sleep(30)"

    def work(engine: Engine) -> None:
        raised = SoftLimit()
        with pytest.raises(SoftLimit) as caught, engine.connect() as conn, interrupted_after(LIMIT_SECONDS, raised):
            conn.execute(text(sleep))
        assert caught.value is raised
        assert ask(engine, engines.who) == engines.lab.writer

    engines.run(work, pool_pre_ping=True)


def test_a_forked_worker_leaves_its_parent_s_connections_alone(engines: Engines) -> None:
    if engines.name == "psycopg_async":
        pytest.skip("event loops are not for forked workers")

    def work(engine: Engine) -> None:
        with engine.connect() as conn:
            held = driver_of(conn)

        def worker() -> str:
            engine.dispose(close=False)
            return str(ask(engine, engines.who))

        assert in_a_child(worker) == engines.lab.writer
        with engine.connect() as conn:
            assert driver_of(conn) is held
            assert conn.execute(text(engines.who)).scalar_one() == engines.lab.writer

    engines.run(work)


def test_requests_share_an_engine_through_a_failover(aurora_lab: PostgresLab) -> None:
    met = asyncio.Barrier(REQUESTS)

    async def main() -> None:
        engine = create_async_engine(Engines("psycopg_async", aurora_lab).url(), pool_size=REQUESTS)
        sessions = async_sessionmaker(engine)
        async with engine.begin() as conn:
            await conn.execute(text("CREATE TABLE requests (id int)"))
        first = set(range(REQUESTS))

        async def request(number: int) -> None:
            async def work(session: AsyncSession) -> None:
                await session.execute(text("INSERT INTO requests VALUES (:id)"), {"id": number})
                if number in first:
                    first.discard(number)
                    if await met.wait() == 0:
                        await asyncio.to_thread(aurora_lab.failover)
                    await met.wait()
                    await session.execute(text("SELECT 1"))

            await aio.run_transaction(sessions, work)

        await asyncio.gather(*map(request, range(REQUESTS)))
        async with engine.connect() as conn:
            found: Any = await conn.execute(text("SELECT id FROM requests ORDER BY id"))
            assert list(found.scalars()) == list(range(REQUESTS))
        await engine.dispose()

    asyncio.run(main())
