"""The SQL that lets a MySQL or MariaDB server answer what Aurora MySQL and RDS Multi-AZ clusters answer.

Sources: the Aurora user guide on ``information_schema.replica_host_status``, and the statements that the AWS drivers
send. The view ``aurora_lab.replica_host_status`` stands for Aurora's table; the lab's front (front_mysql.py) puts its name
into statements. It reads two things of the host it runs on: ``@@report_host``, which is the instance's name, and the
file ``aurora_topology.json`` of its data directory, which the lab replaces in one step whenever the cluster changes.
"""

from __future__ import annotations

from .mysql_binaries import MysqlBinaries
from .values import Flavour, Login

__all__ = [
    "LAB_DATABASE", "OWNER", "REPLICATOR", "SYSTEM_DATABASES", "TOPOLOGY_FILE", "cluster_statements", "create_database",
    "literal", "name_of", "spoil_passwords",
]  # fmt: skip

OWNER = "rdsadmin"
"""The superuser, named as on RDS."""
REPLICATOR = "rdsrepladmin"
LAB_DATABASE = "aurora_lab"
TOPOLOGY_FILE = "aurora_topology.json"
SYSTEM_DATABASES = ("information_schema", "mysql", "performance_schema", "sys", LAB_DATABASE)

# Who writes is the host's own word about itself (@@read_only) and the lab's word about the others; a host that takes
# writes is the writer, so it takes nobody else for one. There is no lag to tell: nothing on the writer measures it.
AURORA = (
    f"""
    CREATE FUNCTION {LAB_DATABASE}.topology() RETURNS longtext CHARACTER SET utf8mb4
    NOT DETERMINISTIC READS SQL DATA SQL SECURITY DEFINER
    RETURN COALESCE(LOAD_FILE(CONCAT(@@datadir, '{TOPOLOGY_FILE}')), '[]')
    """,
    f"""
    CREATE FUNCTION {LAB_DATABASE}.writes() RETURNS boolean NOT DETERMINISTIC READS SQL DATA
    RETURN @@global.read_only = 0
    """,
    f"""
    CREATE FUNCTION {LAB_DATABASE}.server_id() RETURNS varchar(255) CHARACTER SET utf8mb4
    NOT DETERMINISTIC READS SQL DATA RETURN @@global.report_host
    """,
    f"""
    CREATE VIEW {LAB_DATABASE}.replica_host_status AS
    SELECT host.id AS SERVER_ID,
           CASE WHEN host.hidden THEN host.session
                WHEN host.claims
                  OR (host.id = {LAB_DATABASE}.server_id() AND {LAB_DATABASE}.writes())
                  OR (host.id <> {LAB_DATABASE}.server_id() AND host.writer AND NOT {LAB_DATABASE}.writes())
                THEN 'MASTER_SESSION_ID' ELSE host.session END AS SESSION_ID,
           0e0 AS CPU,
           0e0 AS REPLICA_LAG_IN_MILLISECONDS,
           CASE WHEN host.ago IS NOT NULL THEN NOW(6) - INTERVAL ROUND(host.ago * 1000000) MICROSECOND
                WHEN host.id = {LAB_DATABASE}.server_id() AND NOT host.own_time THEN NULL
                WHEN host.seen IS NULL THEN NOW(6) ELSE LEAST(FROM_UNIXTIME(host.seen), NOW(6))
           END AS LAST_UPDATE_TIMESTAMP
    FROM JSON_TABLE({LAB_DATABASE}.topology(), '$[*]' COLUMNS (
             id varchar(255) PATH '$.id', session varchar(64) PATH '$.session', writer boolean PATH '$.writer',
             own_time boolean PATH '$.own_time', claims boolean PATH '$.claims', hidden boolean PATH '$.hidden',
             ago double PATH '$.ago', seen double PATH '$.seen',
             since double PATH '$.since', until double PATH '$.until')) AS host
    WHERE COALESCE(host.since <= UNIX_TIMESTAMP(NOW(6)), TRUE) AND COALESCE(UNIX_TIMESTAMP(NOW(6)) < host.until, TRUE)
    """,
    # Everybody may ask, as on Aurora: rights on a database that are given to no user name are everybody's.
    f"INSERT INTO mysql.db (Host, Db, User, Select_priv, Execute_priv) VALUES ('%', '{LAB_DATABASE}', '', 'Y', 'Y')",
)

MULTI_AZ = (
    """
    CREATE TABLE mysql.rds_topology (id varchar(255) NOT NULL PRIMARY KEY, endpoint varchar(255) NOT NULL,
        port int NOT NULL, role varchar(100), status varchar(100), version varchar(100)) ENGINE=InnoDB
    """,
)


def literal(text: str) -> str:
    """A string literal for both servers, in their default modes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def name_of(text: str) -> str:
    """A quoted identifier."""
    return "`" + text.replace("`", "``") + "`"


def spoil_passwords(binaries: MysqlBinaries) -> str:
    """The statement that makes the passwords of all applications wrong, and, run once more, right again.

    It turns a part of their hashes round; they keep their form, else the server would say so.
    """
    others = f"User NOT IN ('{OWNER}', '{REPLICATOR}', 'mariadb.sys', '') AND User NOT LIKE 'mysql.%'"
    if binaries.is_mariadb:
        hashed = "JSON_VALUE(Priv, '$.authentication_string')"
        return (
            "UPDATE mysql.global_priv SET Priv = JSON_SET(Priv, '$.authentication_string', "
            f"CONCAT('*', REVERSE(SUBSTRING({hashed}, 2)))) WHERE LENGTH({hashed}) = 41 AND {others}"
        )
    return (
        "UPDATE mysql.user SET authentication_string = CONCAT(LEFT(authentication_string, 27), "
        f"REVERSE(SUBSTRING(authentication_string, 28))) WHERE plugin = 'caching_sha2_password' AND {others}"
    )


def create_database(login: Login) -> tuple[str, ...]:
    """The application's database."""
    return (f"CREATE DATABASE IF NOT EXISTS {name_of(login.database)}",)


def _token_user(user: str, monitor: str, database: str) -> tuple[str, ...]:
    """Who has no password and comes from the server's own machine alone: the front, which has seen the token."""
    return (
        f"CREATE USER {user} IDENTIFIED BY ''",
        f"GRANT PROCESS, REPLICATION CLIENT{monitor} ON *.* TO {user}",
        f"GRANT ALL PRIVILEGES ON {database}.* TO {user}",
        f"GRANT ALL PRIVILEGES ON aurora_actors.* TO {user} WITH GRANT OPTION",  # the table of commit_outcome
        f"GRANT SELECT, EXECUTE ON {LAB_DATABASE}.* TO {user}",
    )


def cluster_statements(
    binaries: MysqlBinaries, flavour: Flavour, login: Login, replication_password: str
) -> tuple[str, ...]:
    """All that a fresh server gets besides its superuser."""
    user = f"{literal(login.user)}@'%'"
    monitor = ", REPLICA MONITOR" if binaries.is_mariadb else ""
    database = name_of(login.database).replace("_", "\\_").replace("%", "\\%")
    return (
        f"CREATE DATABASE {LAB_DATABASE} CHARACTER SET utf8mb4",
        f"CREATE TABLE {LAB_DATABASE}.commits (id int PRIMARY KEY, at timestamp(6) NOT NULL) ENGINE=InnoDB",
        f"CREATE USER '{REPLICATOR}'@'%' IDENTIFIED BY {literal(replication_password)}",
        f"GRANT REPLICATION SLAVE ON *.* TO '{REPLICATOR}'@'%'",
        *create_database(login),
        f"CREATE USER {user} IDENTIFIED BY {literal(login.password)}",
        f"GRANT PROCESS, REPLICATION CLIENT{monitor} ON *.* TO {user}",
        f"GRANT ALL PRIVILEGES ON {database}.* TO {user}",
        f"GRANT ALL PRIVILEGES ON aurora_actors.* TO {user} WITH GRANT OPTION",  # the table of commit_outcome
        *(_token_user(f"{literal(login.token_user)}@'localhost'", monitor, database) if login.token_user else ()),
        *(AURORA if flavour == "aurora" else ()),
        *((*MULTI_AZ, f"GRANT SELECT ON mysql.rds_topology TO {user}") if flavour == "multi-az" else ()),
        "FLUSH PRIVILEGES",
    )
