"""PostgreSQL: community, RDS and Aurora."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from aurora_actors.dialects.base import STALE_ROW_SECONDS, Report, Rows, members_of, own_claim
from aurora_actors.dialects.markers import Markers, of_postgres
from aurora_actors.model.faults import Fault
from aurora_actors.model.hosts import Role
from aurora_actors.model.topology import HostRow

__all__ = ["AuroraPostgres", "Postgres", "RdsPostgres"]

HOLD_STEP_SECONDS = 0.004
"""How often a held reader looks whether recovery has ended: 250 looks a second cost the server about 0.5 % of a core."""

# https://www.postgresql.org/docs/current/errcodes-appendix.html
FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "08": Fault.CONNECTION_LOST,
        "57P01": Fault.SESSION_ENDED,  # admin_shutdown, and pg_terminate_backend
        "57P02": Fault.CONNECTION_LOST,  # crash_shutdown
        "57P03": Fault.CONNECTION_LOST,  # cannot_connect_now: starting up or in recovery
        "57P05": Fault.SESSION_ENDED,  # idle_session_timeout
        "25P03": Fault.SESSION_ENDED,  # idle_in_transaction_session_timeout
        "25P04": Fault.SESSION_ENDED,  # transaction_timeout
        "25006": Fault.READ_ONLY,
        "28": Fault.LOGIN,
    }
)

# The sub-select has to depend on the row before it, or the server would evaluate it once.
_HOLD = (
    "WITH RECURSIVE hold(step, done) AS ("
    "SELECT 0, NOT pg_catalog.pg_is_in_recovery()"
    " UNION ALL "
    "SELECT step OPERATOR(pg_catalog.+) 1, NOT pg_catalog.pg_is_in_recovery() FROM hold,"
    " LATERAL (SELECT pg_catalog.pg_sleep({pause}) AS slept WHERE step OPERATOR(pg_catalog.>=) 0 OFFSET 0) AS pause"
    " WHERE NOT done AND step OPERATOR(pg_catalog.<) {steps} AND slept IS NOT NULL)"
    " SELECT pg_catalog.bool_or(done) FROM hold"
)


class Postgres:
    """Community PostgreSQL: a host knows its own role and no other host."""

    code: ClassVar[str] = "pg"
    names_hosts: ClassVar[bool] = False
    faults: ClassVar[Mapping[str, Fault]] = FAULTS
    markers: ClassVar[Markers] = of_postgres()
    # One row, cheap, valid on every PostgreSQL: to_regproc answers NULL where the function does not exist.
    detect_sql: ClassVar[str] = (
        "SELECT (SELECT setting FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'rds.extensions'),"
        " pg_catalog.to_regproc('pg_catalog.aurora_replica_status') IS NOT NULL,"
        " pg_catalog.to_regproc('rds_tools.multi_az_db_cluster_source_dbi_resource_id') IS NOT NULL"
    )
    # The timeline is in the first eight digits of the WAL file's name, which only a host out of recovery can tell.
    report_sql: ClassVar[str] = (
        "SELECT NULL, pg_catalog.pg_is_in_recovery(),"
        " pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)"
        " pg_catalog.statement_timestamp()),"
        " CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE"
        " pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END"
    )

    role_sql: ClassVar[str] = "SELECT pg_catalog.pg_is_in_recovery()"

    def read_role(self, rows: Rows) -> Role:
        return Role.READER if rows[0][0] == "t" else Role.WRITER

    @staticmethod
    def detected(rows: Rows) -> tuple[str, ...]:
        extensions, has_status, has_source = rows[0]
        if has_status == "t" and "aurora_stat_utils" in (extensions or ""):
            return (AuroraPostgres.code,)
        if extensions is None:
            return (Postgres.code,)
        return ("multi-az-pg", RdsPostgres.code) if has_source == "t" else (RdsPostgres.code,)

    def hold_sql(self, seconds: float) -> str:
        steps = max(1, round(seconds / HOLD_STEP_SECONDS))
        return f"{_HOLD.format(pause=HOLD_STEP_SECONDS, steps=steps)}; {self.report_sql}"

    def read(self, rows: Rows) -> Report:
        if not rows:
            raise ValueError("the host gave an empty answer to the question who it is")
        host_id, (in_recovery, waited) = self._own_id(rows), rows[0][1:3]
        role = Role.READER if in_recovery == "t" else Role.WRITER
        members = self._members(rows)
        promotion = self._promotion(rows, host_id, members) if role is Role.WRITER else 0.0
        return Report(host_id, role, members, promotion, float(waited or 0.0))

    def _own_id(self, rows: Rows) -> str:
        return rows[0][0] or ""

    def _members(self, rows: Rows) -> tuple[HostRow, ...]:
        return ()

    def _promotion(self, rows: Rows, host_id: str, members: tuple[HostRow, ...]) -> float:
        timeline = rows[0][3]
        return float(int(timeline, 16)) if timeline else 0.0


class RdsPostgres(Postgres):
    """RDS for PostgreSQL, one DB instance: the same name leads to whoever is the primary."""

    code: ClassVar[str] = "rds-pg"


class AuroraPostgres(Postgres):
    """Aurora PostgreSQL.

    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora_replica_status.html
    """

    code: ClassVar[str] = "aurora-pg"
    names_hosts: ClassVar[bool] = True
    report_sql: ClassVar[str] = (
        "SELECT pg_catalog.aurora_db_instance_identifier(), pg_catalog.pg_is_in_recovery(),"
        " pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)"
        " pg_catalog.statement_timestamp()),"
        " status.server_id, status.session_id OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID',"
        " pg_catalog.date_part('epoch', status.last_update_timestamp)"
        " FROM (SELECT 1) AS self LEFT JOIN pg_catalog.aurora_replica_status() AS status"
        " ON status.last_update_timestamp IS NULL"
        " OR status.session_id OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID'"
        " OR pg_catalog.date_part('epoch', pg_catalog.now() OPERATOR(pg_catalog.-) status.last_update_timestamp)"
        f" OPERATOR(pg_catalog.<=) {STALE_ROW_SECONDS}"
    )

    def _members(self, rows: Rows) -> tuple[HostRow, ...]:
        return members_of(
            HostRow(name or "", is_writer == "t", float(updated or 0.0))
            for name, is_writer, updated in (row[3:6] for row in rows)
        )

    def _promotion(self, rows: Rows, host_id: str, members: tuple[HostRow, ...]) -> float:
        return own_claim(members, host_id)
