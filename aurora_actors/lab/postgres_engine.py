"""How the lab replicates and promotes PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Collection

import psycopg
from psycopg import sql

from . import replication
from .cluster import Cluster, Host, Journal
from .server import PostgresServer
from .template import REPLICATOR
from .values import Commits, Flavour, How, LabError, LabEvent, Login
from .waiting import until

__all__ = ["PostgresEngine"]

PROMOTION_SECONDS = 60.0
LOOK_SECONDS = 0.002
"""Between two looks whether a host has left recovery."""
EMPTY_SECONDS = 30.0
NOBODY = "nobody follows"
"""No host has an id with a space, so no commit that waits for this one ever ends."""


class PostgresEngine:
    """The :class:`~aurora_actors.lab.engine.Engine` of PostgreSQL: streaming replication with synchronous standbys."""

    errors: tuple[type[Exception], ...] = (psycopg.Error,)
    telling: tuple[Flavour, ...] = ("aurora", "multi-az")
    handover: How = "planned"

    def adapt(self, cluster: Cluster, leaving: Collection[str] = ()) -> None:
        replication.adapt(cluster, leaving)

    def leave(self, cluster: Cluster, host: Host) -> None:
        replication.adapt(cluster, {host.id})
        cluster.writer.server.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = %s", (host.id,)
        )

    def wait_following(self, cluster: Cluster, host: Host, seconds: float | None = None) -> None:
        replication.wait_following(cluster, host, seconds or replication.FOLLOW_SECONDS)

    def copy(self, cluster: Cluster, host: Host, writer: Host) -> None:
        _postgres(host).clone(writer.place)

    def quiesce(self, cluster: Cluster, writer: Host) -> None:
        writer.server.query("CHECKPOINT")

    def detach(self, cluster: Cluster, hosts: list[Host]) -> None:
        replication.detach(cluster, hosts)

    def received(self, host: Host) -> int:
        return replication.received(host)

    def catch_up(self, cluster: Cluster, behind: Host, ahead: Host) -> None:
        replication.catch_up(cluster, behind, ahead)

    def promote(self, cluster: Cluster, journal: Journal, new: Host, others: list[Host]) -> int:
        habit, server = cluster.options.habit, _postgres(new)
        server.upstream = None
        server.synchronous = () if cluster.options.asynchronous else tuple(host.id for host in others)
        server.write_settings()
        if habit == "restart":
            cluster.kill_before_promotion(journal, new)
            # It must not be seen as a reader that comes back: it takes no session before it writes.
            server.start("-c", "hot_standby=off")
            server.wait_started("standby", "ready")
        else:
            server.reload()
        for host in others:
            replication.follow(host, new)
        requested = journal.note("promotion_requested", new.id)
        server.promote()
        if habit == "drop":
            _drop_sessions(new, requested)
            journal.note("sessions_dropped", new.id)
        _wait_promoted(cluster, journal, new)
        return timeline_of(new)

    def has_strayed(self, new: Host, timeline: int, received: int) -> bool:
        """Of a record that was cut off by the old writer's end the new timeline has nothing: it begins before that record.

        A reader that received the part of it in the next segment of WAL asks for that segment only, never for the one in
        which the new timeline begins, and ends with a PANIC that it is not there (seen on 18).
        """
        begin, size = new.server.query(
            "SELECT pg_wal_lsn_diff(split_part(trim(line), E'\\t', 2)::pg_lsn, '0/0')::bigint, "
            "pg_size_bytes(current_setting('wal_segment_size')) "
            "FROM string_to_table(trim(E'\\n' FROM pg_read_file(%s)), E'\\n') WITH ORDINALITY AS t(line, number) "
            "WHERE line <> '' ORDER BY number DESC LIMIT 1",
            (f"pg_wal/{timeline:08X}.history",),
        )[0]
        return int(received) // int(size) > int(begin) // int(size)

    def commit(self, host: Host) -> None:
        host.server.query("INSERT INTO aurora_lab.commits DEFAULT VALUES")

    def is_former_writer(self, host: Host) -> bool:
        return not (host.server.data / "standby.signal").exists()

    def resurrect(self, host: Host, commits: Commits) -> None:
        server = host.server
        server.upstream, server.synchronous = None, (NOBODY,)
        server.write_settings()
        server.start(*(["-c", "default_transaction_read_only=on"] if commits == "refuse" else []))

    def empty(self, cluster: Cluster, login: Login) -> None:
        server = _postgres(cluster.writer)
        for gid, database in server.query("SELECT gid, database FROM pg_prepared_xacts"):
            # It keeps its database from being dropped, and can be ended only there.
            with server.session(database) as session:
                session.execute(sql.SQL("ROLLBACK PREPARED {}").format(gid))
        user, database = sql.Identifier(login.user), sql.Identifier(login.database)
        for name in server.query("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"):
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name[0]))
            server.query(drop.as_string(None))
        if login.database != "postgres":
            create = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template1").format(database, user)
            server.query(create.as_string(None))
        _end_other_sessions(cluster)
        lsn = server.query("SELECT pg_current_wal_lsn()::text")[0][0]
        until(
            lambda: all(_replayed(host, lsn) for host in cluster.live_readers()),
            "the readers know the empty database", seconds=EMPTY_SECONDS, stopping=cluster.stopping,
        )  # fmt: skip


def _postgres(host: Host) -> PostgresServer:
    assert isinstance(host.server, PostgresServer)
    return host.server


def _drop_sessions(new: Host, requested: LabEvent) -> None:
    """End the sessions that were there when the promotion began; new ones may already be welcome."""
    age = time.monotonic() - requested.at
    new.server.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' "
        "AND pid <> pg_backend_pid() AND backend_start <= clock_timestamp() - make_interval(secs => %s)",
        (age,),
    )


def _wait_promoted(cluster: Cluster, journal: Journal, new: Host) -> None:
    deadline = time.monotonic() + PROMOTION_SECONDS
    while True:
        try:
            if not new.server.query("SELECT pg_is_in_recovery()")[0][0]:
                break
        except psycopg.OperationalError:
            # 57P03 while it starts; a dead server is told apart here.
            if not new.server.is_running:
                raise LabError(f"{new.id} ended during its promotion: {new.server.log_tail()}") from None
        if time.monotonic() > deadline:
            raise LabError(f"{new.id} was not promoted within {PROMOTION_SECONDS:g} s: {new.server.log_tail()}")
        cluster.pause(LOOK_SECONDS)
    journal.note("promoted", new.id)


def timeline_of(host: Host) -> int:
    """The timeline that a writer writes on."""
    name = host.server.query("SELECT pg_walfile_name(pg_current_wal_lsn())")[0][0]
    return int(name[:8], 16)


def _replayed(host: Host, lsn: str) -> bool:
    return bool(host.server.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (lsn,))[0][0])


def _end_other_sessions(cluster: Cluster) -> None:
    for host in cluster.hosts.values():
        host.server.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND pid <> pg_backend_pid() AND usename <> %s",
            (REPLICATOR,),
        )
