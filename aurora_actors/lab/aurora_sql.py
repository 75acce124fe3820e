"""The SQL that makes a PostgreSQL server answer what Aurora PostgreSQL answers.

Sources: "aurora_replica_status" and "aurora_db_instance_identifier" of the Aurora user guide, and the queries which
the AWS drivers send. The functions live in ``pg_catalog`` of every database, reach the readers by replication, and read
two things of the host they run on: the setting ``aurora_lab.identifier`` and the file ``aurora_topology.json`` of its
data directory, which the lab replaces in one step whenever the cluster changes.
"""

from __future__ import annotations

__all__ = ["AURORA_EXTENSIONS", "AURORA_SQL", "LAB_SQL", "SETTINGS_SQL", "TOPOLOGY_FILE"]

TOPOLOGY_FILE = "aurora_topology.json"

AURORA_EXTENSIONS = (
    "address_standardizer, amcheck, apg_plan_mgmt, aurora_stat_utils, aws_commons, aws_lambda, aws_s3, bloom, "
    "btree_gin, btree_gist, citext, cube, dblink, dict_int, fuzzystrmatch, hstore, intarray, isn, log_fdw, ltree, "
    "pageinspect, pg_buffercache, pg_cron, pg_prewarm, pg_stat_statements, pg_trgm, pgaudit, "
    "pgcrypto, pgrowlocks, "
    "pgstattuple, plpgsql, postgres_fdw, sslinfo, tablefunc, unaccent, uuid-ossp, vector"
)
"""Part of what Aurora lists; ``aurora_stat_utils`` is what drivers look for, ``rds_tools`` is not among Aurora's."""

# Who writes is the host's own word about itself (pg_is_in_recovery) and the lab's word about the others; a host that
# is out of recovery is the writer, so it takes nobody else for one. The lag of readers is what the writer measures.
AURORA_SQL = """
CREATE FUNCTION pg_catalog.aurora_db_instance_identifier() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT pg_catalog.current_setting('aurora_lab.identifier') $$;

CREATE FUNCTION pg_catalog.aurora_replica_status(
    OUT server_id text, OUT session_id text, OUT last_update_timestamp timestamptz,
    OUT replica_lag_in_msec double precision, OUT cpu double precision)
RETURNS SETOF record LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    me text := current_setting('aurora_lab.identifier');
    writes boolean := NOT pg_is_in_recovery();
    clock double precision := extract(epoch FROM clock_timestamp());
BEGIN
    RETURN QUERY
    SELECT host.id,
           CASE WHEN host.hidden THEN host.session
                WHEN host.claims OR (host.id = me AND writes) OR (host.id <> me AND host.writer AND NOT writes)
                THEN 'MASTER_SESSION_ID' ELSE host.session END,
           CASE WHEN host.ago IS NOT NULL THEN to_timestamp(clock - host.ago)
                WHEN host.id = me AND NOT host.own_time THEN NULL
                ELSE to_timestamp(least(coalesce(host.seen, clock), clock)) END,
           CASE WHEN writes AND host.id <> me THEN lag.msec END,
           0::double precision
    FROM json_to_recordset(pg_read_file('aurora_topology.json')::json)
         AS host(id text, session text, writer boolean, own_time boolean, claims boolean, hidden boolean,
                 ago double precision, seen double precision, since double precision, until double precision)
    LEFT JOIN LATERAL (
        SELECT 1000 * extract(epoch FROM sender.replay_lag)::double precision AS msec
        FROM pg_stat_get_wal_senders() sender, LATERAL pg_stat_get_activity(sender.pid) session
        WHERE writes AND session.application_name = host.id LIMIT 1) lag ON true
    WHERE coalesce(host.since <= clock, true) AND coalesce(clock < host.until, true);
END $$;
"""

SETTINGS_SQL = """
CREATE OR REPLACE VIEW pg_catalog.pg_settings AS
SELECT * FROM pg_catalog.pg_show_all_settings()
UNION ALL
SELECT 'rds.extensions', pg_catalog.current_setting('rds.extensions'), NULL, 'Customized Options',
       'List of extensions that the service offers.', NULL, 'internal', 'string', 'configuration file',
       NULL, NULL, NULL, NULL, pg_catalog.current_setting('rds.extensions'), NULL, NULL, false
WHERE pg_catalog.current_setting('rds.extensions', true) IS NOT NULL;
"""
"""PostgreSQL hides settings that no module declared from pg_settings, so the view is extended by the one row."""

LAB_SQL = """
CREATE SCHEMA aurora_lab;

CREATE TABLE aurora_lab.commits (at timestamptz NOT NULL DEFAULT clock_timestamp());
"""
"""In the database ``postgres``: what the lab's own session commits to after a promotion."""
