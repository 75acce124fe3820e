"""The conformance suite of drivers."""

from __future__ import annotations

import copy
import socket
from typing import Any

from aurora_actors import errors, signals
from aurora_actors.actors.asking import DeadlineExceeded
from aurora_actors.conformance.stage import (
    BOUND_SECONDS,
    SHORT_SECONDS,
    Stage,
    Suite,
    descriptors,
    dialect_of,
    done,
    flow,
    meanwhile,
    probing,
    raising,
    set_autocommit,
)
from aurora_actors.drivers.base import Failure, Place, ProbeError
from aurora_actors.flow import discovery
from aurora_actors.model.faults import Fault, fault_of
from aurora_actors.model.hosts import Role
from aurora_actors.model.outcome import Outcome
from aurora_actors.settings import Settings

__all__ = [
    "DriverSuite",
]


class DriverSuite(Suite):
    """What a driver promises the core, and what an application then sees of it.

    class TestMyDriver(DriverSuite):
        driver = MyDriver
        target = my_database.connect
        lab = "aurora_mysql_lab"
    """

    def test_it_is_found(self) -> None:
        record = discovery.load("aurora_actors.drivers", self.driver.name)
        assert record.status is discovery.Status.LOADED, record.error
        assert record.value is self.driver

    def test_it_knows_its_targets(self) -> None:
        driver = self.driver()
        for target in (self._target(), driver.default_target(asynchronous=self.asynchronous)):
            assert driver.accepts(target)
            assert driver.is_async(target) in (self.asynchronous, None)

    def test_its_dialects_are_installed(self) -> None:
        assert self.driver.dialects
        for code in self.driver.dialects:
            assert discovery.load("aurora_actors.dialects", code).status is discovery.Status.LOADED

    def test_its_errors_are_both_ours_and_its_own(self) -> None:
        driver = self.driver()
        made = [
            errors.DeadlineExceededError,
            errors.FailoverError, errors.FailoverSuccessError, errors.TransactionResolutionUnknownError,
            errors.FailoverFailedError,
        ]  # fmt: skip
        for kind in made:
            both = driver.error(kind)
            assert issubclass(both, kind)
            assert issubclass(both, driver.errors)
            raised = both("what happened", outcome=Outcome.NOT_SENT)
            assert str(raised) == str(copy.copy(raised))
            assert "what happened" in str(raised)
            assert copy.copy(raised).outcome is Outcome.NOT_SENT

    @flow
    async def test_keywords_win_over_the_conninfo(self, stage: Stage) -> None:
        driver, conninfo = stage.driver, stage.lab.conninfo()
        read = driver.parameters(conninfo, {})
        (name,) = (key for key, value in read.items() if value == "john")
        assert driver.parameters(conninfo, {name: "jane"})[name] == "jane"
        assert driver.parameters(conninfo, {"plugins": "failover"})["plugins"] == "failover"
        assert set(read) <= set(driver.keys)

    @flow
    async def test_it_knows_where_its_parameters_lead(self, stage: Stage) -> None:
        driver = stage.driver
        parameters = driver.parameters(stage.lab.conninfo("reader"), {})
        ((host, port),) = driver.seeds(parameters)
        assert host == stage.lab.reader_endpoint
        assert stage.lab.resolve(host, port)
        assert driver.connect_timeout(parameters) is None
        assert not driver.keeps_alive(parameters)
        assert driver.keepalive(Settings()) == {}

    @flow
    async def test_it_connects_to_an_address_under_the_host_s_name(self, stage: Stage) -> None:
        place = stage.place()
        async with stage.wire() as wire:
            assert stage.driver.reached(wire) == (place.host, *place.addresses[0])
            assert stage.driver.told_role(wire) in (Role.WRITER, None)

    @flow
    async def test_it_tries_one_address_after_the_other(self, stage: Stage) -> None:
        address = stage.lab.address(stage.lab.writer)
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            place = Place(stage.lab.endpoint(stage.lab.writer), (closed.getsockname(), address))
            wire = await stage.driver.open(stage.access(), place, BOUND_SECONDS, guarded=True)
        assert stage.driver.reached(wire)[1:] == address
        stage.driver.discard(wire)

    @flow
    async def test_a_login_has_a_limit(self, stage: Stage) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            place = Place(stage.lab.endpoint(stage.lab.writer), (silent.getsockname(),))
            with raising(*stage.driver.errors, DeadlineExceeded) as caught:
                await stage.driver.open(stage.access(), place, SHORT_SECONDS, guarded=True)
        assert isinstance(caught[0], DeadlineExceeded) or stage.driver.failure(caught[0], None).lost

    @flow
    async def test_a_refused_login_is_no_loss(self, stage: Stage) -> None:
        with raising(*stage.driver.errors) as caught:
            await stage.driver.open(stage.access(password="not it"), stage.place(), BOUND_SECONDS, guarded=True)  # noqa: S106
        failure = stage.driver.failure(caught[0], None)
        dialect = dialect_of(stage.driver.dialects[0])
        # Not every driver tells the code of a refusal; none may call it a lost host.
        assert fault_of(failure.sqlstate, False, dialect.faults) in (Fault.LOGIN, Fault.NONE)

    @flow
    async def test_it_answers_questions_in_the_server_s_text(self, stage: Stage) -> None:
        async with stage.wire(guarded=False) as wire:
            rows = await stage.driver.query(wire, "SELECT 1, NULL, 'é'", stage.sockets())
            assert [list(row) for row in rows] == [["1", None, "é"]]
            rows = await stage.driver.query(wire, "SELECT 2", stage.sockets())
            assert [list(row) for row in rows] == [["2"]]

    @flow
    async def test_a_question_has_a_deadline(self, stage: Stage) -> None:
        async with stage.wire(guarded=False) as wire:
            with raising(DeadlineExceeded):
                await stage.driver.query(wire, stage.statements.waits, stage.sockets(SHORT_SECONDS))

    @flow
    async def test_it_leaves_no_descriptor_behind(self, stage: Stage) -> None:
        async def used() -> int:
            wire = await stage.driver.open(stage.access(), stage.place(), BOUND_SECONDS, guarded=True)
            line = stage.driver.line(wire)
            await stage.driver.close(wire)
            if line is not None:
                line.close()
            async with stage.wire():
                pass
            return descriptors()

        first = await used()
        assert await used() <= first

    @flow
    async def test_a_monitor_s_session_reads_the_role(self, stage: Stage) -> None:
        dialect = dialect_of(stage.driver.dialects[0])
        for host, role in ((stage.lab.writer, Role.WRITER), (stage.lab.readers[0], Role.READER)):
            with probing(stage, host) as ask:
                assert dialect.read(ask(dialect.report_sql)).role is role
                assert dialect.read_role(ask(dialect.role_sql)) is role

    @flow
    async def test_a_monitor_s_session_goes_on_after_an_error(self, stage: Stage) -> None:
        with probing(stage) as ask:
            with raising(ProbeError) as caught:
                ask(stage.statements.wrong)
            error: Any = caught[0]
            assert (error.answered, error.sqlstate) == (True, stage.statements.code)
            assert ask("SELECT 1")[0][0] == "1"

    @flow
    async def test_a_monitor_s_session_cannot_write(self, stage: Stage) -> None:
        async with stage.wire(guarded=False) as wire:
            await stage.driver.query(wire, "CREATE TABLE conformance (id int)", stage.sockets())
        with probing(stage) as ask, raising(ProbeError) as caught:
            ask("INSERT INTO conformance VALUES (1)")
        error: Any = caught[0]
        assert error.answered

    @flow
    async def test_a_monitor_learns_that_nobody_listens(self, stage: Stage) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            with raising(ProbeError) as caught, probing(stage, address=closed.getsockname()):
                pass
        error: Any = caught[0]
        assert (error.answered, error.local) == (False, False)

    @flow
    async def test_the_connection_is_of_the_driver_s_class(self, stage: Stage) -> None:
        raw = await done(stage.target(**stage.access(host=stage.lab.address(stage.lab.writer)[0]).parameters))
        async with stage.connection() as conn:
            assert isinstance(conn, type(raw))
            assert type(conn).__name__ == type(raw).__name__
            assert await stage.value(conn, stage.statements.host) == stage.lab.writer
        await done(raw.close())

    @flow
    async def test_an_error_of_a_statement_is_the_driver_s_own(self, stage: Stage) -> None:
        async with stage.connection() as conn:
            with raising(*stage.driver.errors) as caught:
                await stage.rows(conn, stage.statements.wrong)
            assert not isinstance(caught[0], errors.Error)
            failure = stage.driver.failure(caught[0], conn)
            assert failure == Failure(stage.statements.code, False)
            assert stage.driver.failure(ValueError("no error of a driver's"), conn) == Failure(None, False)
            assert await stage.value(conn, "SELECT 1") == 1

    @flow
    async def test_a_call_in_flight_is_seen_and_can_be_ended(self, stage: Stage) -> None:
        driver = stage.driver
        async with stage.connection() as conn:
            before = driver.session_id(conn)
            line = driver.line(conn)
            assert line is not None
            assert driver.busy_since(conn) == 0.0
            with meanwhile(lambda: driver.busy_since(conn), line.sever), raising(errors.FailoverSuccessError) as caught:
                await stage.rows(conn, stage.statements.waits)
            line.close()
            assert driver.busy_since(conn) == 0.0
            assert driver.session_id(conn) != before
            cause = caught[0].__cause__
            assert cause is not None
            assert driver.failure(cause, None).lost or driver.failure(cause, conn).lost
            assert await stage.value(conn, "SELECT 1") == 1

    @flow
    async def test_a_killed_session_goes_on_under_the_same_object(self, stage: Stage) -> None:
        async with stage.connection() as conn:
            session = await stage.value(conn, stage.statements.session)
            stage.kill(conn)
            # An idle connection that notices in time goes on without an error.
            assert await stage.again(conn, stage.statements.session) != session
            assert stage.driver.session_id(conn) == await stage.value(conn, stage.statements.session)

    @flow
    async def test_a_transaction_that_is_lost_was_rolled_back(self, stage: Stage) -> None:
        async with stage.connection(autocommit=False) as conn:
            await stage.rows(conn, stage.statements.begin)
            await stage.rows(conn, "SELECT 1")
            stage.kill(conn)
            with raising(errors.TransactionResolutionUnknownError) as caught:
                await stage.rows(conn, "SELECT 2")
            error: Any = caught[0]
            assert error.outcome is Outcome.ROLLED_BACK
            assert isinstance(error, stage.driver.errors)
            assert await stage.value(conn, "SELECT 3") == 3

    @flow
    async def test_the_session_s_mode_is_replayed(self, stage: Stage) -> None:
        async with stage.connection(autocommit=False) as conn:
            await set_autocommit(conn)
            stage.kill(conn)
            with raising(errors.FailoverSuccessError):
                await stage.rows(conn, stage.statements.leaves)
            # Under autocommit the next loss finds no transaction.
            await stage.rows(conn, "SELECT 1")
            stage.kill(conn)
            with raising(errors.FailoverSuccessError):
                await stage.rows(conn, stage.statements.leaves)

    @flow
    async def test_open_cursors_tell_no_lie(self, stage: Stage) -> None:
        async with stage.connection() as conn:
            cursor = await done(conn.cursor())
            await done(cursor.execute(stage.statements.rows))
            stage.kill(conn)
            with raising(*stage.driver.errors):
                await stage.rows(conn, stage.statements.leaves)
            # All of its rows, or an error: never a part of them.
            try:
                rows = [tuple(row) for row in await done(cursor.fetchall())]
            except stage.driver.errors:
                pass
            else:
                assert rows == [(1,), (2,), (3,)]
            assert await stage.again(conn, "SELECT 4") == 4

    @flow
    async def test_what_cannot_be_replayed_is_told(self, stage: Stage) -> None:
        async with stage.connection() as conn:
            await stage.rows(conn, stage.statements.leaves)
            stage.kill(conn)
            with raising(errors.FailoverSuccessError) as caught:
                await stage.rows(conn, "SELECT 1")
            assert isinstance(caught[0], stage.driver.errors)

    @flow
    async def test_it_follows_the_writer(self, stage: Stage) -> None:
        async with stage.connection() as conn:
            old = await stage.value(conn, stage.statements.host)
            stage.lab.failover()
            new = stage.lab.writer
            assert new != old
            # Idle and clean, it may have gone there before the statement was sent.
            assert await stage.again(conn, stage.statements.host) == new

    @flow
    async def test_a_closed_connection_keeps_nothing(self, stage: Stage) -> None:
        from aurora_actors.testing import recorded

        with recorded(signals.connection_closed) as closed:
            async with stage.connection() as conn:
                pass
            assert len(closed.first()) == 1
        assert stage.driver.line(conn) is None
        with raising(*stage.driver.errors):
            await stage.rows(conn, "SELECT 1")
