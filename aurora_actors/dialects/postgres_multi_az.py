"""RDS Multi-AZ DB clusters for PostgreSQL: one writer and two readable standbys.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/multi-az-db-clusters-concepts.html
"""

from __future__ import annotations

from typing import ClassVar

from aurora_actors.dialects.base import Rows
from aurora_actors.dialects.postgres import Postgres
from aurora_actors.model.topology import HostRow

__all__ = ["MultiAzPostgres"]


class MultiAzPostgres(Postgres):
    """Needs ``CREATE EXTENSION rds_tools`` and the right to execute its functions.

    A host knows its resource id (``db-…``); its name is the first label of its endpoint in the topology. Which host is the
    source of the replication every host tells alike, so that it is a reader's word about another; a host's own role is
    what its server says of recovery.
    """

    code: ClassVar[str] = "multi-az-pg"
    names_hosts: ClassVar[bool] = True
    report_sql: ClassVar[str] = (
        Postgres.report_sql.replace("SELECT NULL,", "SELECT rds_tools.dbi_resource_id(),", 1)
        + ", topology.id, topology.endpoint, topology.id OPERATOR(pg_catalog.=)"
        " (SELECT source.id FROM rds_tools.multi_az_db_cluster_source_dbi_resource_id() AS source(id))"
        " FROM (SELECT 1) AS self LEFT JOIN rds_tools.show_topology('aurora_actors') AS topology ON true"
    )

    def _own_id(self, rows: Rows) -> str:
        own = next((row[5] for row in rows if row[4] is not None and row[4] == row[0]), None)
        return (own or "").partition(".")[0]

    def _members(self, rows: Rows) -> tuple[HostRow, ...]:
        if not any(row[6] is not None for row in rows):
            # The extension exists on every RDS instance; only in a Multi-AZ DB cluster does it know a source.
            raise ValueError("the host belongs to no Multi-AZ DB cluster")
        names = ((row[5].partition(".")[0], row[6] == "t") for row in rows if row[5])
        return tuple(HostRow(name, is_writer) for name, is_writer in sorted(names))
