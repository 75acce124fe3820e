"""The SQL that makes a PostgreSQL server answer what RDS for PostgreSQL answers in a Multi-AZ DB cluster.

Source: the queries which the AWS drivers send, and what they take the answers for. A host is known by the resource id of
its instance, not by its name. ``multi_az_db_cluster_source_dbi_resource_id`` answers on every host, on the writer with
the writer's own id, so that only the row of ``show_topology`` with that id is the writer. On RDS the functions come with
``CREATE EXTENSION rds_tools`` and a ``GRANT EXECUTE``; here they are there for everybody.

They read what Aurora's functions of the lab read: settings of the host, and the file of its data directory.
"""

from __future__ import annotations

__all__ = ["MULTI_AZ_EXTENSIONS", "MULTI_AZ_SQL"]

MULTI_AZ_EXTENSIONS = (
    "address_standardizer, amcheck, aws_commons, aws_lambda, aws_s3, bloom, btree_gin, btree_gist, citext, cube, dblink, "
    "dict_int, fuzzystrmatch, hstore, intarray, isn, log_fdw, ltree, orafce, pageinspect, pg_buffercache, pg_cron, "
    "pg_partman, pg_prewarm, pg_stat_statements, pg_trgm, pgaudit, pgcrypto, pglogical, pgrowlocks, pgstattuple, "
    "plpgsql, postgres_fdw, rds_tools, sslinfo, tablefunc, unaccent, uuid-ossp, vector"
)
"""Part of what RDS lists; ``rds_tools`` is what drivers look for, ``aurora_stat_utils`` is not among RDS's."""

MULTI_AZ_SQL = """
CREATE SCHEMA rds_tools;

GRANT USAGE ON SCHEMA rds_tools TO PUBLIC;

CREATE FUNCTION rds_tools.dbi_resource_id() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT pg_catalog.current_setting('aurora_lab.resource_id') $$;

CREATE FUNCTION rds_tools.show_topology(
    driver text DEFAULT NULL, OUT id text, OUT endpoint text, OUT port integer)
RETURNS SETOF record LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    clock double precision := extract(epoch FROM clock_timestamp());
BEGIN
    RETURN QUERY
    SELECT host.resource, host.endpoint, host.port
    FROM json_to_recordset(pg_read_file('aurora_topology.json')::json)
         AS host(resource text, endpoint text, port integer, since double precision, until double precision)
    WHERE coalesce(host.since <= clock, true) AND coalesce(clock < host.until, true);
END $$;

CREATE FUNCTION rds_tools.multi_az_db_cluster_source_dbi_resource_id() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    me text := current_setting('aurora_lab.resource_id');
    writes boolean := NOT pg_is_in_recovery();
    clock double precision := extract(epoch FROM clock_timestamp());
BEGIN
    RETURN (
        SELECT host.resource
        FROM json_to_recordset(pg_read_file('aurora_topology.json')::json)
             AS host(resource text, writer boolean, claims boolean, hidden boolean,
                     since double precision, until double precision)
        WHERE coalesce(host.since <= clock, true) AND coalesce(clock < host.until, true) AND host.hidden IS NOT TRUE
        AND (host.claims OR (host.resource = me AND writes) OR (host.writer AND NOT writes))
        ORDER BY host.claims IS TRUE DESC LIMIT 1);
END $$;
"""
