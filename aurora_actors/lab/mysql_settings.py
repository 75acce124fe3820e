"""The configuration of the lab's MySQL and MariaDB servers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .mysql_binaries import MysqlBinaries

__all__ = ["common_settings", "option_file", "own_tls", "semi_sync_source"]

FOR_EVER_MS = 4294967295
"""The longest time-out of semi-synchronous replication that both know, 49 days: it never becomes asynchronous by itself."""


def semi_sync_source(binaries: MysqlBinaries) -> str:
    """The variable that lets commits wait for a reader."""
    return "rpl_semi_sync_master_enabled" if binaries.is_mariadb else "rpl_semi_sync_source_enabled"


def common_settings(binaries: MysqlBinaries, directory: Path) -> dict[str, str]:
    """What does not change while a host lives.

    Nothing is synced to disk: a killed process loses nothing that the kernel has. InnoDB writes its log at each commit.
    """
    settings = {
        "datadir": str(directory / "data"),
        # A server that starts deletes every temporary table that it finds there, those of its neighbours too.
        "tmpdir": str(directory),
        "socket": str(directory / "mysql.sock"),
        "pid_file": str(directory / "server.pid"),
        "lc_messages_dir": str(binaries.share),
        "character_sets_dir": str(binaries.share / "charsets"),
        "log_bin": "binlog",
        "relay_log": "relay",
        "log_slave_updates" if binaries.is_mariadb else "log_replica_updates": "ON",
        "relay_log_recovery": "ON",
        "skip_slave_start" if binaries.is_mariadb else "skip_replica_start": "ON",
        "sync_binlog": "0",
        "innodb_flush_log_at_trx_commit": "2",
        "innodb_flush_method": "fsync",
        "innodb_buffer_pool_size": "32M",
        "max_connections": "400",
        "max_allowed_packet": "64M",
        "performance_schema": "OFF",
        "secure_file_priv": "",
        "skip_name_resolve": "ON",
        "default_time_zone": "+00:00",
        "character_set_server": "utf8mb4",
    }
    if binaries.is_mariadb:
        return settings | {
            "gtid_strict_mode": "ON",
            "expire_logs_days": "0",
            "binlog_format": "ROW",
            "innodb_log_file_size": "16M",
            "innodb_autoextend_increment": "1",
            "innodb_data_file_path": "ibdata1:4M:autoextend",
            "innodb_temp_data_file_path": "ibtmp1:1M:autoextend",
            "aria_pagecache_buffer_size": "8M",
            "rpl_semi_sync_slave_enabled": "ON",
            "rpl_semi_sync_slave_kill_conn_timeout": "1",
            "rpl_semi_sync_master_wait_point": "AFTER_SYNC",
            "rpl_semi_sync_master_wait_no_slave": "ON",
            "rpl_semi_sync_master_timeout": str(FOR_EVER_MS),
        }
    plugins = {"plugin_dir": str(binaries.plugins)} if binaries.plugins else {}
    return settings | plugins | {
        "plugin_load_add": "semisync_source.so;semisync_replica.so",
        "gtid_mode": "ON",
        "enforce_gtid_consistency": "ON",
        "binlog_expire_logs_auto_purge": "OFF",
        "innodb_redo_log_capacity": "32M",
        "mysqlx": "OFF",
        "tls_version": "",
        "auto_generate_certs": "OFF",
        "loose_rpl_semi_sync_replica_enabled": "ON",
        "loose_rpl_semi_sync_source_wait_point": "AFTER_SYNC",
        "loose_rpl_semi_sync_source_wait_no_replica": "ON",
        "loose_rpl_semi_sync_source_wait_for_replica_count": "1",
        "loose_rpl_semi_sync_source_timeout": str(FOR_EVER_MS),
    }  # fmt: skip


def own_tls(binaries: MysqlBinaries, certificate: Path) -> dict[str, str]:
    """What lets a server serve TLS itself, with its key and certificate in one file."""
    settings = {"ssl_cert": str(certificate), "ssl_key": str(certificate)}
    return settings if binaries.is_mariadb else settings | {"tls_version": "TLSv1.2,TLSv1.3"}


def option_file(settings: Mapping[str, str]) -> str:
    """The text of an option file."""
    return "[mysqld]\n" + "".join(f"{name}={value}\n" for name, value in settings.items())
