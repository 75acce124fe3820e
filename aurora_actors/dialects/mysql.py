"""MySQL and MariaDB: community, RDS (one instance and Multi-AZ DB cluster) and Aurora."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from aurora_actors.dialects.base import STALE_ROW_SECONDS, Report, Rows, members_of, own_claim
from aurora_actors.dialects.markers import Markers, of_mysql
from aurora_actors.model.faults import Fault
from aurora_actors.model.hosts import Role
from aurora_actors.model.topology import HostRow

__all__ = ["AuroraMysql", "MultiAzMysql", "Mysql", "RdsMysql"]

# https://dev.mysql.com/doc/mysql-errors/8.4/en/ (2xxx: the client's own), https://mariadb.com/kb/en/mariadb-error-codes/
FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        **dict.fromkeys(
            ("2001", "2002", "2003", "2004", "2005", "2006", "2012", "2013", "2026", "2027", "2055"),
            Fault.CONNECTION_LOST,
        ),
        "1053": Fault.CONNECTION_LOST,  # server shutdown in progress
        "3032": Fault.CONNECTION_LOST,  # the server is offline
        "1152": Fault.SESSION_ENDED,  # aborted connection
        "1184": Fault.SESSION_ENDED,
        "1927": Fault.SESSION_ENDED,  # MariaDB: connection was killed
        "3169": Fault.SESSION_ENDED,  # session was killed
        "4031": Fault.SESSION_ENDED,  # disconnected because of inactivity
        "1290": Fault.READ_ONLY,  # option prevents the statement; the driver sees to it that the option is --read-only
        "1836": Fault.READ_ONLY,  # running in read-only mode
        **dict.fromkeys(
            # Access denied, host not allowed or blocked, account locked, password expired, plugin not usable …
            ("1044", "1045", "1129", "1130", "1251", "1698", "1862", "2059", "2061", "3118", "3955", "4151"),
            Fault.LOGIN,
        ),
        # … and refusals for the number of connections, which say nothing of the host's health.
        **dict.fromkeys(("1040", "1203", "1226"), Fault.LOGIN),
    }
)


class Mysql:
    """Community MySQL and MariaDB: a host knows its own role and no other host.

    No answer can be held back until a promotion: system variables are read once in a statement.
    """

    code: ClassVar[str] = "mysql"
    names_hosts: ClassVar[bool] = False
    faults: ClassVar[Mapping[str, Fault]] = FAULTS
    markers: ClassVar[Markers] = of_mysql()
    # Valid on every server and with every grant. RDS instances have a report_host, and so may a community replica.
    detect_sql: ClassVar[str] = (
        "SHOW VARIABLES WHERE Variable_name IN ('aurora_version', 'version_comment', 'report_host')"
    )
    report_sql: ClassVar[str] = "SELECT NULL, @@global.read_only, @@global.innodb_read_only"
    role_sql: ClassVar[str] = "SELECT @@global.read_only, @@global.innodb_read_only"

    @staticmethod
    def detected(rows: Rows) -> tuple[str, ...]:
        found = {(name or "").lower(): value or "" for name, value in rows}
        if "aurora_version" in found:
            return (AuroraMysql.code,)
        if not found.get("report_host"):
            return (Mysql.code,)
        is_rds = found.get("version_comment", "").lower() == "source distribution"
        return (MultiAzMysql.code, RdsMysql.code if is_rds else Mysql.code)

    def read_role(self, rows: Rows) -> Role:
        return Role.READER if any(_is_on(flag) for flag in rows[0]) else Role.WRITER

    def hold_sql(self, seconds: float) -> str:
        return self.report_sql

    def read(self, rows: Rows) -> Report:
        if not rows:
            raise ValueError("the host gave an empty answer to the question who it is")
        host_id, role = rows[0][0] or "", self.read_role([rows[0][1:3]])
        members = self._members(rows, host_id, role)
        return Report(host_id, role, members, own_claim(members, host_id) if role is Role.WRITER else 0.0)

    def _members(self, rows: Rows, host_id: str, role: Role) -> tuple[HostRow, ...]:
        return ()


class RdsMysql(Mysql):
    """RDS for MySQL or MariaDB, one DB instance: the same name leads to whoever is the primary."""

    code: ClassVar[str] = "rds-mysql"


class MultiAzMysql(Mysql):
    """RDS Multi-AZ DB cluster for MySQL: one writer, two readable standbys.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/multi-az-db-clusters-concepts.html

    ``mysql.rds_topology`` names the members; who writes only each of them knows of itself. Needs
    ``GRANT SELECT ON mysql.rds_topology``.
    """

    code: ClassVar[str] = "rds-multi-az-mysql-cluster"
    names_hosts: ClassVar[bool] = True
    report_sql: ClassVar[str] = (
        "SELECT (SELECT SUBSTRING_INDEX(own.endpoint, '.', 1) FROM mysql.rds_topology AS own"
        " WHERE own.id = @@global.server_id LIMIT 1), @@global.read_only, @@global.innodb_read_only,"
        " SUBSTRING_INDEX(topology.endpoint, '.', 1) FROM mysql.rds_topology AS topology"
    )

    def _members(self, rows: Rows, host_id: str, role: Role) -> tuple[HostRow, ...]:
        names = {row[3] for row in rows if row[3]}
        return tuple(HostRow(name, name == host_id and role is Role.WRITER) for name in sorted(names))


class AuroraMysql(Mysql):
    """Aurora MySQL.

    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/AuroraMySQL.Replication.html
    """

    code: ClassVar[str] = "aurora-mysql"
    names_hosts: ClassVar[bool] = True
    role_sql: ClassVar[str] = "SELECT @@innodb_read_only"
    report_sql: ClassVar[str] = (
        "SELECT @@aurora_server_id, @@innodb_read_only, NULL,"
        " status.server_id, status.session_id = 'MASTER_SESSION_ID', UNIX_TIMESTAMP(status.last_update_timestamp)"
        " FROM (SELECT 1 AS one) AS self LEFT JOIN information_schema.replica_host_status AS status"
        " ON status.session_id = 'MASTER_SESSION_ID' OR status.last_update_timestamp IS NULL"
        f" OR TIME_TO_SEC(TIMEDIFF(NOW(), status.last_update_timestamp)) <= {STALE_ROW_SECONDS}"
    )

    def _members(self, rows: Rows, host_id: str, role: Role) -> tuple[HostRow, ...]:
        return members_of(HostRow(row[3] or "", row[4] == "1", float(row[5] or 0.0)) for row in rows)


def _is_on(flag: str | None) -> bool:
    # MariaDB 12 has more than two values for it.
    return (flag or "0").upper() not in ("0", "OFF")
