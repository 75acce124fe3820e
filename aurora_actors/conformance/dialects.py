"""The conformance suite of dialects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aurora_actors.conformance.stage import (
    SHORT_SECONDS,
    Stage,
    Suite,
    flow,
    probing,
    raising,
)
from aurora_actors.flow import discovery
from aurora_actors.model.faults import Fault
from aurora_actors.model.hosts import Role

__all__ = [
    "DialectSuite",
]


class DialectSuite(Suite):
    """What a dialect promises, on a cluster that speaks it.

    class TestMyDialect(DialectSuite):
        dialect = MyDialect
        driver, target, lab = MyDriver, my_database.connect, "aurora_mysql_lab"
    """

    dialect: ClassVar[type[Any]]

    def test_it_is_found(self) -> None:
        record = discovery.load("aurora_actors.dialects", self.dialect.code)
        assert record.status is discovery.Status.LOADED, record.error
        assert record.value is self.dialect

    def test_its_tables_are_schema_qualified(self) -> None:
        dialect = self.dialect()
        for sql in (dialect.report_sql, dialect.role_sql, dialect.detect_sql, dialect.hold_sql(1.0)):
            assert unqualified(sql) == []

    def test_its_table_of_faults_says_what_codes_mean(self) -> None:
        faults: Mapping[str, Fault] = self.dialect.faults
        assert set(map(type, faults.values())) == {Fault}
        assert {Fault.LOGIN, Fault.CONNECTION_LOST, Fault.READ_ONLY} <= set(faults.values())
        assert Fault.STALE not in faults.values()

    def test_it_reads_no_answer_into_nothing(self) -> None:
        with raising(ValueError):
            self.dialect().read([])

    @flow
    async def test_it_is_detected(self, stage: Stage) -> None:
        dialect = self.dialect()
        async with stage.wire(guarded=False) as wire:
            rows = await stage.driver.query(wire, dialect.detect_sql, stage.sockets())
        assert dialect.code in dialect.detected(rows)

    @flow
    async def test_every_host_tells_its_role(self, stage: Stage) -> None:
        dialect = self.dialect()
        for host in stage.lab.hosts:
            role = Role.WRITER if host == stage.lab.writer else Role.READER
            async with stage.wire(host, guarded=False) as wire:
                told = dialect.read_role(await stage.driver.query(wire, dialect.role_sql, stage.sockets()))
                report = await stage.report(dialect, wire, dialect.report_sql)
            assert (told, report.role) == (role, role)
            assert report.id == (host if dialect.names_hosts else "")
            assert (report.promotion > 0.0) <= (role is Role.WRITER)

    @flow
    async def test_a_host_that_names_others_names_them_all(self, stage: Stage) -> None:
        dialect = self.dialect()
        async with stage.wire(guarded=False) as wire:
            report = await stage.report(dialect, wire, dialect.report_sql)
        if dialect.names_hosts:
            assert sorted(row.id for row in report.rows) == sorted(stage.lab.hosts)
            assert [row.id for row in report.rows if row.is_writer] == [stage.lab.writer]
        else:
            assert report.rows == ()

    @flow
    async def test_a_held_question_is_answered_in_time(self, stage: Stage) -> None:
        dialect = self.dialect()
        for host, role in ((stage.lab.writer, Role.WRITER), (stage.lab.readers[0], Role.READER)):
            with probing(stage, host) as ask:
                assert dialect.read(ask(dialect.hold_sql(SHORT_SECONDS))).role is role


def unqualified(sql: str) -> Sequence[str]:
    """What *sql* reads from without saying in which schema it is. Its own `WITH` names and sub-selects have none."""
    own = set(re.findall(r"\bWITH\s+(?:RECURSIVE\s+)?(\w+)", sql, re.IGNORECASE))
    read = re.findall(r"\b(?:FROM|JOIN)\s+(?:LATERAL\s+)?([\w.]+)", sql, re.IGNORECASE)
    return [name for name in read if "." not in name and name not in own]
