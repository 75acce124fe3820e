"""The table that tells what became of a COMMIT, and what is said to it.

One row for each server session that has committed something; ``token`` is that of its last transaction. ``closed``: whoever
lost the session has looked, and from then on it commits nothing more, wherever its last bytes may still be.
"""

from __future__ import annotations

from collections.abc import Sequence

from aurora_actors.dialects.base import Rows
from aurora_actors.model.values import dataclass

__all__ = ["LOOK_SECONDS", "Markers", "by_scheme", "of_mysql", "of_postgres"]

LOOK_SECONDS = 2
"""How long a look waits for a COMMIT that is still under way; longer, and its outcome stays unknown."""


@dataclass(frozen=True, slots=True)
class Markers:
    """The statements of one engine.

    ``commit`` marks, and on PostgreSQL commits in the same round trip; it fails with the transaction still there where it
    cannot mark, and ``unmarked`` then commits without. ``close`` closes a session, and ``look`` gives its last token;
    ``before`` and ``after`` are what goes round them, with the first row that ``before`` gave. ``check`` ends with ``t``
    where a connection may do all that. ``uptime`` gives the seconds since the server's start in its second column, and
    ``end`` ends a session by its number, where a COMMIT that got no further has to be ended. ``prune`` removes sessions
    that committed last so many days ago.

    ``alive`` tells whether the server has a session of that number, and ``prepared`` whether it has a two-phase transaction
    of that name prepared; both answer with ``t``.
    """

    check: Sequence[str]
    commit: str
    look: str
    install: Sequence[str]
    grant: Sequence[str]
    prune: str
    quote: str
    unmarked: str = ""
    before: Sequence[str] = ()
    close: str = ""
    after: Sequence[str] = ()
    uptime: str = ""
    end: str = ""
    alive: str = ""
    prepared: str = ""

    def committing(self, session: str, token: str) -> str:
        return self.commit.format(session=session, token=token)

    def granting(self, user: str) -> list[str]:
        """The statements that let *user* use it, on MySQL also ``user@host``."""
        parts = user.rsplit("@", 1) if self.quote == "`" else [user]
        quoted = "@".join(self.quote + part.replace(self.quote, 2 * self.quote) + self.quote for part in parts)
        return [statement.format(user=quoted) for statement in self.grant]

    @staticmethod
    def usable(rows: Rows) -> bool:
        """The answer to ``check``, ``alive`` and ``prepared``."""
        return bool(rows) and all(value == "t" for value in rows[0])

    @staticmethod
    def found(rows: Rows) -> str:
        """The token in the answer to ``look``; empty: the session has committed nothing."""
        return rows[0][0] or ""


_SAVEPOINT = "aurora_actors_commit"
_DEFINER = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp"


def of_postgres() -> Markers:
    """PostgreSQL 10 and newer. A transaction that has written has an id; one that is read-only may write no token."""
    return Markers(
        check=(
            (
                "SELECT coalesce(pg_catalog.has_function_privilege(pg_catalog.to_regprocedure("
                "'aurora_actors.mark(text,text)'), 'EXECUTE'), false),"
                " coalesce(pg_catalog.has_function_privilege(pg_catalog.to_regprocedure("
                "'aurora_actors.look(text)'), 'EXECUTE'), false)"
            ),
        ),
        commit=(
            f"SAVEPOINT {_SAVEPOINT}; SELECT CASE WHEN pg_catalog.txid_current_if_assigned() IS NOT NULL"
            " AND pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'off'"
            f" THEN aurora_actors.mark('{{session}}', '{{token}}') END; RELEASE SAVEPOINT {_SAVEPOINT}; COMMIT"
        ),
        unmarked=f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}; COMMIT",
        # One message is one transaction, within which the limit is in force.
        look=(
            f"SELECT pg_catalog.set_config('lock_timeout', '{LOOK_SECONDS}s', true);"
            " SELECT aurora_actors.look('{session}')"
        ),
        # Everybody may read both. A session leaves the first after its last transaction has ended.
        alive="SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) {number})",
        prepared="SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts WHERE gid OPERATOR(pg_catalog.=) E'{gid}')",
        install=(
            "CREATE SCHEMA IF NOT EXISTS aurora_actors",
            (
                "CREATE TABLE IF NOT EXISTS aurora_actors.commits (session text PRIMARY KEY, token text NOT NULL,"
                " closed boolean NOT NULL DEFAULT false, at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)"
            ),
            (
                "CREATE OR REPLACE FUNCTION aurora_actors.mark(text, text) RETURNS void"
                f" {_DEFINER} AS $$ BEGIN INSERT INTO aurora_actors.commits AS c VALUES ($1, $2, false, now())"
                " ON CONFLICT (session) DO UPDATE SET token = excluded.token, at = excluded.at WHERE NOT c.closed;"
                " IF NOT FOUND THEN RAISE EXCEPTION 'this session was lost, and commits nothing more'; END IF; END $$"
            ),
            (
                "CREATE OR REPLACE FUNCTION aurora_actors.look(text) RETURNS text"
                f" {_DEFINER} AS $$ DECLARE last text; BEGIN"
                " INSERT INTO aurora_actors.commits AS c VALUES ($1, '', true, now())"
                " ON CONFLICT (session) DO UPDATE SET closed = true RETURNING c.token INTO last; RETURN last; END $$"
            ),
            "REVOKE ALL ON FUNCTION aurora_actors.mark(text, text), aurora_actors.look(text) FROM PUBLIC",
        ),
        grant=(
            "GRANT USAGE ON SCHEMA aurora_actors TO {user}",
            "GRANT EXECUTE ON FUNCTION aurora_actors.mark(text, text), aurora_actors.look(text) TO {user}",
        ),
        prune="DELETE FROM aurora_actors.commits WHERE at < now() - interval '{days} days'",
        quote='"',
    )


def of_mysql() -> Markers:
    """MySQL 8.0, MariaDB 10.6 and newer. The row without a name stands in the way of a session that is closed: to mark one
    would give it that name.
    """
    return Markers(
        check=(
            (
                "EXPLAIN INSERT INTO aurora_actors.commits (session, token) VALUES ('', '')"
                " ON DUPLICATE KEY UPDATE session = session"
            ),
            "SELECT 't' FROM aurora_actors.commits WHERE session = ''",
        ),
        commit=(
            "INSERT INTO aurora_actors.commits (session, token) VALUES ('{session}', '{token}') ON DUPLICATE KEY UPDATE"
            " session = IF(closed, '', session), token = '{token}', at = UTC_TIMESTAMP()"
        ),
        # A COMMIT that never left holds the lock on its row until its session is ended.
        uptime="SHOW GLOBAL STATUS LIKE 'Uptime'",
        end="KILL CONNECTION {number}",
        before=(
            "SELECT @@session.innodb_lock_wait_timeout, @@session.autocommit",
            f"SET SESSION innodb_lock_wait_timeout = {LOOK_SECONDS}, SESSION autocommit = 1",
        ),
        close=(
            "INSERT INTO aurora_actors.commits (session, token, closed) VALUES ('{session}', '', TRUE)"
            " ON DUPLICATE KEY UPDATE closed = TRUE"
        ),
        look="SELECT token FROM aurora_actors.commits WHERE session = '{session}'",
        after=("SET SESSION innodb_lock_wait_timeout = {before[0]}, SESSION autocommit = {before[1]}",),
        install=(
            "CREATE DATABASE IF NOT EXISTS aurora_actors",
            (
                "CREATE TABLE IF NOT EXISTS aurora_actors.commits (session VARCHAR(64) CHARACTER SET ascii NOT NULL"
                " PRIMARY KEY, token VARCHAR(20) CHARACTER SET ascii NOT NULL, closed BOOLEAN NOT NULL DEFAULT FALSE,"
                " at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE = InnoDB"
            ),
            "INSERT INTO aurora_actors.commits (session, token) VALUES ('', '') ON DUPLICATE KEY UPDATE closed = FALSE",
        ),
        grant=("GRANT SELECT, INSERT, UPDATE ON aurora_actors.commits TO {user}",),
        prune="DELETE FROM aurora_actors.commits WHERE session <> '' AND at < UTC_TIMESTAMP() - INTERVAL {days} DAY",
        quote="`",
    )


def by_scheme(scheme: str) -> Markers:
    """Those of the engine that a URL names. Raises ``KeyError``."""
    return {"postgresql": of_postgres, "postgres": of_postgres, "mysql": of_mysql, "mariadb": of_mysql}[scheme]()
