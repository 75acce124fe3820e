"""SQLAlchemy on our connections: what it keeps, what it throws away, what it does again."""

from __future__ import annotations

import gc
from contextlib import closing, nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

import aurora_actors
from aurora_actors import FailoverError, FailoverFailedError, FailoverSuccessError, TransactionResolutionUnknownError
from aurora_actors.lab import PostgresLab
from tests.orm.engines import Engines, ask, driver_of

HOLDS_SOMETHING = "CREATE TEMPORARY TABLE held (id int)"


class Base(DeclarativeBase):
    """Of what the tests map."""


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


def fails(conn: Connection | Session, query: str = "SELECT 1") -> tuple[OperationalError, Any]:
    """The error of a statement, and ours in it."""
    with pytest.raises(OperationalError) as caught:
        conn.execute(text(query))
    return caught.value, caught.value.orig


@pytest.mark.parametrize("by_creator", [False, True], ids=["url", "creator"])
def test_an_engine_keeps_the_connection_after_success(engines: Engines, by_creator: bool) -> None:
    def work(engine: Engine) -> None:
        Base.metadata.create_all(engine)
        with engine.connect() as conn:
            held = driver_of(conn)
            assert held.stale is False
            conn.execute(text("INSERT INTO orders VALUES (1)"))
            engines.kill(held)
            error, ours = fails(conn, "INSERT INTO orders VALUES (2)")
            assert isinstance(ours, TransactionResolutionUnknownError)
            assert not error.connection_invalidated
            conn.rollback()
            assert driver_of(conn) is held
            conn.execution_options(isolation_level="AUTOCOMMIT")
            engines.kill(held)
            error, ours = fails(conn)
            assert isinstance(ours, FailoverSuccessError)
            assert not error.connection_invalidated
        with engine.connect() as conn:
            assert driver_of(conn) is held
        assert ask(engine, "SELECT count(*) FROM orders") == 0

    engines.run(work, by_creator=by_creator)


def test_a_connection_that_its_user_only_drops_goes_back(engines: Engines) -> None:
    """The driver's connection, which the pool holds, must not hold the error with all that was on the stack."""

    def use(engine: Engine) -> None:
        conn = engine.connect()
        engines.kill(driver_of(conn))
        fails(conn)

    def work(engine: Engine) -> None:
        use(engine)
        gc.collect()
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]

    if engines.name == "psycopg_async":
        pytest.skip("SQLAlchemy warns of a task's connection that is dropped, and closes it")
    engines.run(work)


def test_a_parameter_in_the_url_and_a_failure_that_invalidates(engines: Engines) -> None:
    def work(engine: Engine) -> None:
        with engine.connect() as conn:
            held = driver_of(conn)
            for host in engines.lab.hosts:
                engines.lab.crash(host)
            error, ours = fails(conn)
            assert isinstance(ours, FailoverFailedError)
            assert error.connection_invalidated
        for host in engines.lab.hosts:
            engines.lab.restart(host)
        engines.lab.wait_ready()
        with engine.connect() as conn:
            assert driver_of(conn) is not held
            assert conn.execute(text(engines.who)).scalar_one() == engines.lab.writer

    engines.run(work, query={"failover_timeout_sec": "1"})


@pytest.mark.parametrize(("way", "by_creator"), [
    ("killed", False), ("failover", False), ("noticed", False), ("killed", True), ("noticed", True),
])  # fmt: skip
@pytest.mark.parametrize("holds", [False, True], ids=["clean", "holding"])
def test_a_pre_ping_shows_no_error(engines: Engines, way: str, holds: bool, by_creator: bool) -> None:
    connected: list[Any] = []

    def work(engine: Engine) -> None:
        event.listen(engine, "connect", lambda conn, _: connected.append(conn))
        with engine.connect() as conn:
            if holds:
                conn.execute(text(HOLDS_SOMETHING))
                conn.commit()
            held = driver_of(conn)
        if way == "killed":
            engines.kill(held)
        elif way == "failover":
            engines.lab.failover()
        else:
            with closing(engines.connect()) as other:
                engines.lab.failover()
                with suppress(FailoverError):
                    other.cursor().execute(engines.who)
            assert held.stale
        assert ask(engine, engines.who) == engines.lab.writer
        # What cannot be brought along is set up anew, as the engine's events know how.
        assert len(connected) <= 2
        if holds:
            assert len(connected) == 2

    engines.run(work, by_creator=by_creator, pool_pre_ping=True)


def test_idle_connections_go_over_in_silence(engines: Engines) -> None:
    def work(engine: Engine) -> None:
        with engine.connect() as first, engine.connect() as second:
            ids = {id(driver_of(first)), id(driver_of(second))}

        with engine.connect() as used:
            other_used = driver_of(used)
            engines.lab.failover()
            with suppress(OperationalError):
                used.execute(text(engines.who))
            used.rollback()
            with engine.connect() as idle:
                assert driver_of(idle) is not other_used
                assert {id(driver_of(idle)), id(other_used)} == ids
                assert idle.execute(text(engines.who)).scalar_one() == engines.lab.writer

    engines.run(work, pool_use_lifo=True, pool_size=2)


def test_no_pool_at_all(engines: Engines) -> None:
    def work(engine: Engine) -> None:
        assert ask(engine, engines.who) == engines.lab.writer
        engines.lab.failover()
        assert ask(engine, engines.who) == engines.lab.writer

    engines.run(work, poolclass=NullPool)


def test_the_isolation_level_goes_along(engines: Engines) -> None:
    def work(engine: Engine) -> None:
        with engine.connect().execution_options(isolation_level="SERIALIZABLE") as conn:
            conn.execute(text("SELECT 1"))
            engines.kill(driver_of(conn))
            fails(conn)
            conn.rollback()
            assert conn.get_isolation_level() == "SERIALIZABLE"
        with engine.connect() as conn:
            assert conn.get_isolation_level() != "SERIALIZABLE"

    engines.run(work)


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_a_unit_of_work_is_done_again(engines: Engines, nested: bool) -> None:
    def work(engine: Engine) -> None:
        Base.metadata.create_all(engine)
        tries: list[int] = []

        def unit(session: Session) -> int:
            session.add(Order(id=1))
            session.flush()
            tries.append(1)
            with session.begin_nested() if nested else nullcontext():
                if len(tries) == 1:
                    engines.kill(driver_of(session.connection()))
                session.add(Order(id=2))
                session.flush()
            return len(tries)

        assert aurora_actors.run_transaction(sessionmaker(engine), unit) == 2
        assert ask(engine, "SELECT count(*) FROM orders") == 2

    engines.run(work)


@pytest.mark.parametrize("hook", ["after_commit", "after_transaction_end"])
def test_what_a_listener_raises_after_the_commit_repeats_nothing(engines: Engines, hook: str) -> None:
    """Though the error itself, of a connection of the listener's own, says that a transaction may be done again."""

    def work(engine: Engine) -> None:
        Base.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        tries: list[int] = []

        def unit(session: Session) -> None:
            tries.append(1)
            with session.begin_nested():
                session.add(Order(id=len(tries)))

        def lost(session: Session, ended: Any = None) -> None:
            if session.in_nested_transaction() or getattr(ended, "nested", False):
                return
            with engine.connect() as other:
                other.execute(text("SELECT 1"))
                engines.kill(driver_of(other))
                other.execute(text("SELECT 2"))

        event.listen(sessions, hook, lost)
        with pytest.raises(OperationalError) as caught:
            aurora_actors.run_transaction(sessions, unit)
        ours: Any = caught.value.orig
        assert ours.outcome.safe_to_repeat
        assert ask(engine, "SELECT max(id) FROM orders") == 1

    engines.run(work)


EVERY_SECOND_COMMIT_IS_REFUSED = """
    CREATE SEQUENCE turns;
    CREATE TABLE others (id int);
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF mod(nextval('turns'), 2) = 0 THEN RAISE EXCEPTION USING ERRCODE = 'serialization_failure'; END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER refusing AFTER INSERT ON others DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.filterwarnings("ignore:transaction already deassociated:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize(("databases", "tries", "rows"), [(1, 2, 1), (2, 1, 1)])
def test_a_refused_commit_is_done_again_unless_another_went_before_it(
    aurora_lab: PostgresLab, databases: int, tries: int, rows: int
) -> None:
    tried: list[int] = []

    def work(engine: Engine) -> None:
        with engine.begin() as conn:
            conn.exec_driver_sql(EVERY_SECOND_COMMIT_IS_REFUSED)
            conn.exec_driver_sql(f"SELECT setval('turns', 1, {databases == 1})")

        def unit(session: Session) -> None:
            tried.append(1)
            for bind in (engine, engine.execution_options())[:databases]:
                session.execute(text("INSERT INTO others VALUES (1)"), bind_arguments={"bind": bind})

        with nullcontext() if databases == 1 else pytest.raises(OperationalError):
            aurora_actors.run_transaction(sessionmaker(engine), unit)
        assert len(tried) == tries
        assert ask(engine, "SELECT count(*) FROM others") == rows

    Engines("psycopg", aurora_lab).run(work)


def test_what_a_savepoint_was_in_is_what_the_application_hears_of(engines: Engines) -> None:
    def work(engine: Engine) -> None:
        with engine.connect() as conn, conn.begin():
            conn.execute(text("SELECT 1"))

            def lost() -> None:
                with conn.begin_nested(), conn.begin_nested():
                    engines.kill(driver_of(conn))
                    conn.execute(text("SELECT 1"))

            with pytest.raises(OperationalError) as caught:
                lost()
            assert isinstance(caught.value.orig, FailoverError)

    engines.run(work)
