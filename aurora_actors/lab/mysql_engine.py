"""How the lab replicates and promotes MySQL and MariaDB: global transaction ids, semi-synchronous commits."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import mysql.connector

from .cluster import Cluster, Host, Journal
from .gtids import count_mariadb, count_mysql
from .mysql_server import MysqlServer
from .mysql_settings import semi_sync_source
from .mysql_sql import LAB_DATABASE, OWNER, REPLICATOR, SYSTEM_DATABASES, create_database, literal, name_of
from .values import Commits, Flavour, How, LabError, Login
from .waiting import until

__all__ = ["MysqlEngine"]

FOLLOW_SECONDS = 20.0
"""A reader connects within some ten milliseconds; one that has much to receive needs longer."""
APPLY_SECONDS = 60.0
COPY_SECONDS = 300.0
STALL_SECONDS = 15.0
"""A copy that makes no progress for so long is begun again: a replica's applier was seen to stand still."""
"""A host that starts from the template applies all that the cluster ever wrote."""
RETRIES = 1_000_000
"""One a second, as long as any lab lives."""
NOBODY = "nobody follows"
OUR_USERS = (OWNER, REPLICATOR, "mariadb.sys", "PUBLIC", "")


class MysqlEngine:
    """The :class:`~aurora_actors.lab.engine.Engine` of both servers.

    After a crash a host's data may hold what was acknowledged to nobody and is on no other host; it starts anew from
    the template, as no server can take a transaction back.
    """

    errors: tuple[type[Exception], ...] = (mysql.connector.Error,)
    telling: tuple[Flavour, ...] = ("aurora",)
    handover: How = "crash"

    def adapt(self, cluster: Cluster, leaving: Collection[str] = ()) -> None:
        writer = cluster.writer
        if not writer.is_live or cluster.options.asynchronous:
            return
        able = [host for host in cluster.live_readers() if host.id not in leaving and not host.deposed]
        able = [host for host in able if _receives_from(host, writer)]
        holders = tuple(host.id for host in able)
        if holders == cluster.holders:
            return
        server = _mysql(writer)
        server.synchronous = holders
        server.write_settings()
        _wait_for_readers(server, bool(holders))
        if able:
            for host in able:
                _count_in(cluster, writer, host)
            # All that was acknowledged through a host that leaves, or through none, comes before this in the log.
            self.commit(writer)
            goal = _written(server)
            until(lambda: all(_received(_mysql(host)) >= goal for host in able),
                  f"{', '.join(holders)} hold all that was acknowledged", seconds=FOLLOW_SECONDS,
                  stopping=cluster.stopping)  # fmt: skip
        cluster.holders = holders

    def leave(self, cluster: Cluster, host: Host) -> None:
        _stop_receiving(cluster, [host])
        self.adapt(cluster, {host.id})

    def wait_following(self, cluster: Cluster, host: Host, seconds: float | None = None) -> None:
        writer, server = cluster.writer, _mysql(host)
        if server.following != writer.id or not _receives_from(host, writer):
            _follow(server, _mysql(writer))

        def follows() -> bool:
            if not server.is_running:
                raise LabError(f"the server of {host.id} ended: {server.log_tail()}")
            _check_receiving(host)
            return _receives_from(host, writer)

        until(follows, f"{host.id} follows {writer.id}", seconds=seconds or FOLLOW_SECONDS, stopping=cluster.stopping)

    def copy(self, cluster: Cluster, host: Host, writer: Host) -> None:
        server = _mysql(host)
        server.rebuild()
        server.start()
        server.wait_answering()
        _follow(server, _mysql(writer))
        goal = _written(_mysql(writer))
        reached, at = -1, time.monotonic()

        def applied() -> bool:
            nonlocal reached, at
            if cluster.writer is not writer or not writer.is_live:
                raise LabError(f"{host.id} cannot be copied from {writer.id} any more")
            _check_receiving(host)
            now, done = time.monotonic(), _applied(server)
            if done != reached:
                reached, at = done, now
            elif now - at > STALL_SECONDS:
                raise LabError(f"{host.id} has applied {done} of {goal} transactions, and none for {STALL_SECONDS:g} s")
            return _has_applied(host, goal)

        until(applied, f"{host.id} has what {writer.id} wrote", seconds=COPY_SECONDS, stopping=cluster.stopping)

    def quiesce(self, cluster: Cluster, writer: Host) -> None:
        server = _mysql(writer)
        server.take_no_writes()
        goal = _written(server)
        readers = cluster.live_readers()
        until(lambda: any(_received(_mysql(host)) >= goal for host in readers), "a reader has all that was written",
              seconds=FOLLOW_SECONDS, stopping=cluster.stopping)  # fmt: skip
        _stop_receiving(cluster, readers)

    def detach(self, cluster: Cluster, hosts: list[Host]) -> None:
        _stop_receiving(cluster, hosts)
        for host in hosts:
            host.server.upstream = None

    def received(self, host: Host) -> int:
        return _received(_mysql(host))

    def catch_up(self, cluster: Cluster, behind: Host, ahead: Host) -> None:
        # A host gives to others what it has applied.
        goal = _received(_mysql(ahead))
        _wait_applied(cluster, ahead, goal)
        _follow(_mysql(behind), _mysql(ahead))
        until(lambda: _received(_mysql(behind)) >= goal, f"{behind.id} has all that {ahead.id} has",
              seconds=FOLLOW_SECONDS, stopping=cluster.stopping)  # fmt: skip
        _stop_receiving(cluster, [behind])

    def promote(self, cluster: Cluster, journal: Journal, new: Host, others: list[Host]) -> int:
        habit, server = cluster.options.habit, _mysql(new)
        _wait_applied(cluster, new, _received(server))
        server.query("STOP REPLICA")
        server.query("RESET REPLICA ALL")
        server.upstream, server.following = None, None
        server.synchronous = () if cluster.options.asynchronous else tuple(host.id for host in others)
        server.write_settings()
        if habit == "restart":
            cluster.kill_before_promotion(journal, new)
            server.start()
            server.wait_answering()
        else:
            # Before the first commit: it must wait for one of the others.
            _wait_for_readers(server, bool(server.synchronous))
        for host in others:
            host.server.upstream = new.place
            host.server.write_settings()
            _follow(_mysql(host), server)
        journal.note("promotion_requested", new.id)
        if habit == "drop":
            server.end_sessions()
            journal.note("sessions_dropped", new.id)
        server.query("SET GLOBAL read_only = OFF")
        journal.note("promoted", new.id)
        server.wait_started()
        return max(host.timeline for host in cluster.hosts.values()) + 1

    def has_strayed(self, new: Host, timeline: int, received: int) -> bool:
        return False

    def commit(self, host: Host) -> None:
        host.server.query(f"REPLACE INTO {LAB_DATABASE}.commits VALUES (1, NOW(6))")

    def is_former_writer(self, host: Host) -> bool:
        return host.server.upstream is None

    def resurrect(self, host: Host, commits: Commits) -> None:
        server = host.server
        server.synchronous = (NOBODY,)
        server.write_settings()
        server.start(*(["--read_only=ON"] if commits == "refuse" else []))

    def empty(self, cluster: Cluster, login: Login) -> None:
        for host in cluster.hosts.values():
            host.server.end_sessions()
        server = _mysql(cluster.writer)
        for form, length, _, name in server.query("XA RECOVER"):
            # It keeps its tables from being dropped.
            server.query(f"XA ROLLBACK X'{name[:length].hex()}', X'{name[length:].hex()}', {form}")
        for (name,) in server.query("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA"):
            if str(name).lower() not in SYSTEM_DATABASES:
                server.query(f"DROP DATABASE {name_of(str(name))}")
        for user, place in server.query("SELECT User, Host FROM mysql.user"):
            if user not in {*OUR_USERS, login.user, login.token_user} and not str(user).startswith("mysql."):
                server.query(f"DROP USER {literal(str(user))}@{literal(str(place))}")
        for statement in create_database(login):
            server.query(statement)
        goal = _written(server)
        for host in cluster.live_readers():
            self.wait_following(cluster, host)
            _wait_applied(cluster, host, goal)


def _mysql(host: Host) -> MysqlServer:
    assert isinstance(host.server, MysqlServer)
    return host.server


def _status(server: MysqlServer) -> dict[str, Any]:
    """What a reader says of its replication, in MySQL's words of today; empty where there is none."""
    row = server.session.row("SHOW REPLICA STATUS")
    return {name.replace("Master", "Source").replace("Slave", "Replica"): value for name, value in row.items()}


def _receives_from(host: Host, writer: Host) -> bool:
    status, source = _status(_mysql(host)), _mysql(writer).inner
    found = (status.get("Source_Host"), int(status.get("Source_Port") or 0))
    return status.get("Replica_IO_Running") == "Yes" and found == (source.address, source.port)


def _check_receiving(host: Host) -> None:
    """Raise what ended a reader's receiving for good."""
    status = _status(_mysql(host))
    if status.get("Replica_IO_Running") == "No" and int(status["Last_IO_Errno"]):
        raise LabError(f"{host.id} cannot follow: {status['Last_IO_Error']}")


def _received(server: MysqlServer) -> int:
    status = _status(server)
    if server.is_mariadb:
        return max(count_mariadb(str(status.get("Gtid_IO_Pos", ""))), _applied(server))
    executed = str(server.query("SELECT @@global.gtid_executed")[0][0])
    return count_mysql(str(status.get("Retrieved_Gtid_Set", "")), executed)


def _applied(server: MysqlServer) -> int:
    if server.is_mariadb:
        return count_mariadb(str(server.query("SELECT @@global.gtid_slave_pos")[0][0]))
    return count_mysql(str(server.query("SELECT @@global.gtid_executed")[0][0]))


def _written(server: MysqlServer) -> int:
    """How much a writer has written."""
    if server.is_mariadb:
        return count_mariadb(str(server.query("SELECT @@global.gtid_binlog_pos")[0][0]))
    return count_mysql(str(server.query("SELECT @@global.gtid_executed")[0][0]))


def _has_applied(host: Host, goal: int) -> bool:
    server = _mysql(host)
    if not server.is_running:
        raise LabError(f"the server of {host.id} ended: {server.log_tail()}")
    if _applied(server) >= goal:
        return True
    status = _status(server)
    if int(status.get("Last_SQL_Errno", 0)):
        raise LabError(f"{host.id} cannot apply what it received: {status['Last_SQL_Error']}")
    return False


def _wait_applied(cluster: Cluster, host: Host, goal: int) -> None:
    until(lambda: _has_applied(host, goal), f"{host.id} has applied what it received", seconds=APPLY_SECONDS,
          stopping=cluster.stopping)  # fmt: skip


def _wait_for_readers(server: MysqlServer, on: bool) -> None:
    """Let commits wait for a reader, or let them and those that wait already go on without one."""
    server.query(f"SET GLOBAL {semi_sync_source(server.origin.binaries)} = {'ON' if on else 'OFF'}")


def _count_in(cluster: Cluster, writer: Host, host: Host) -> None:
    """Make sure that a reader which connected while commits waited for nobody acknowledges from now on."""
    name = "Rpl_semi_sync_slave_status" if _mysql(host).is_mariadb else "Rpl_semi_sync_replica_status"
    if _mysql(host).query(f"SHOW GLOBAL STATUS LIKE '{name}'") == [(name, "ON")]:
        return
    _follow(_mysql(host), _mysql(writer))
    until(lambda: _receives_from(host, writer), f"{host.id} follows {writer.id}", seconds=FOLLOW_SECONDS,
          stopping=cluster.stopping)  # fmt: skip


def _follow(server: MysqlServer, source: MysqlServer) -> None:
    """Make a reader receive from another host, from where its own data end."""
    server.query("STOP REPLICA")
    word = "MASTER" if server.is_mariadb else "SOURCE"
    login = (
        f"{word}_HOST='{source.inner.address}', {word}_PORT={source.inner.port}, {word}_CONNECT_RETRY=1, "
        f"{word}_USER='{REPLICATOR}', {word}_PASSWORD={literal(source.origin.template.replication_password)}"
    )
    if server.is_mariadb:
        own = str(server.query("SELECT @@global.gtid_binlog_pos")[0][0])
        if count_mariadb(own) > _applied(server):
            # It wrote before: what it wrote counts as received.
            server.query(f"SET GLOBAL gtid_slave_pos = '{own}'")
        server.query(f"CHANGE MASTER TO {login}, MASTER_USE_GTID=slave_pos")
    else:
        server.query(
            f"CHANGE REPLICATION SOURCE TO {login}, SOURCE_AUTO_POSITION=1, SOURCE_RETRY_COUNT={RETRIES}, "
            "SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1"
        )
    server.query("START REPLICA")
    server.following = source.place.id


def _stop_receiving(cluster: Cluster, hosts: list[Host]) -> None:
    for host in hosts:
        _mysql(host).query("STOP REPLICA IO_THREAD")
        _mysql(host).following = None
    until(lambda: all(_status(_mysql(host)).get("Replica_IO_Running", "No") == "No" for host in hosts),
          "the readers have ended their receiving", seconds=FOLLOW_SECONDS, stopping=cluster.stopping)  # fmt: skip
