"""What the servers of MySQL's family answer, read: which they are, and whom they know."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_actors.dialects.mysql import AuroraMysql, MultiAzMysql, Mysql, RdsMysql
from aurora_actors.model.hosts import Role
from aurora_actors.model.topology import HostRow

RDS = ["version_comment", "Source distribution"]


@pytest.mark.parametrize(
    ("rows", "codes"),
    [
        ([["aurora_version", "3.08.0"], RDS, ["report_host", ""]], ("aurora-mysql",)),
        ([RDS, ["report_host", "ip-10-0-0-1"]], ("rds-multi-az-mysql-cluster", "rds-mysql")),
        ([["version_comment", "Debian 12"], ["report_host", "a"]], ("rds-multi-az-mysql-cluster", "mysql")),
        ([["version_comment", "MySQL Community Server"], ["report_host", ""]], ("mysql",)),
        ([["version_comment", "Debian 12"]], ("mysql",)),
    ],
)
def test_detection(rows: Any, codes: tuple[str, ...]) -> None:
    assert Mysql.detected(rows) == codes


@pytest.mark.parametrize(
    ("flags", "role"),
    [
        (["0", "0"], Role.WRITER),
        (["1", "0"], Role.READER),
        (["0", "1"], Role.READER),
        (["OFF", "0"], Role.WRITER),
        (["NO_LOCK", "0"], Role.READER),
    ],
)
def test_a_role(flags: list[str | None], role: Role) -> None:
    for dialect in (Mysql(), RdsMysql()):
        report = dialect.read([[None, *flags]])
        assert (report.id, report.role, report.rows, report.promotion) == ("", role, (), 0.0)
        assert dialect.read_role([flags]) is role


def test_aurora_orders_claims_by_the_writer_s_own_report() -> None:
    report = AuroraMysql().read(
        [
            ["b", "0", None, "a", "1", "100.5"],
            ["b", "0", None, "b", "1", "101.5"],
            ["b", "0", None, "c", "0", None],
        ]
    )
    assert (report.id, report.role, report.promotion) == ("b", Role.WRITER, 101.5)
    assert report.rows == (HostRow("a", False, 100.5), HostRow("b", True, 101.5), HostRow("c", False))


def test_a_reader_s_word_orders_nothing() -> None:
    report = AuroraMysql().read([["a", "1", None, "a", "0", "1"], ["a", "1", None, "b", "1", "101.5"]])
    assert (report.role, report.promotion) == (Role.READER, 0.0)
    assert AuroraMysql().read([["a", "0", None, None, None, None]]).rows == ()


def test_a_multi_az_cluster_names_its_members() -> None:
    rows = [["b", "0", "0", name] for name in ("a", "b", "c")]
    report = MultiAzMysql().read(rows)
    assert (report.id, report.role) == ("b", Role.WRITER)
    assert report.rows == (HostRow("a", False), HostRow("b", True), HostRow("c", False))


def test_no_answer_is_no_report() -> None:
    with pytest.raises(ValueError, match="empty answer"):
        Mysql().read([])
