"""What a session of psycopg's holds: what was done to it, what it reports of itself, and how a new one gets that."""

from __future__ import annotations

import logging
from typing import Any

import psycopg
from psycopg import pq

from aurora_actors.drivers.base import Sockets
from aurora_actors.drivers.psycopg_ask import answer_to
from aurora_actors.drivers.psycopg_reading import COMMITS, TRANSACTIONS
from aurora_actors.model.session import REPORTED
from aurora_actors.model.session_state import Effect

__all__ = ["block_effects", "done_effects", "replayed", "reported"]

log = logging.getLogger("aurora_actors.drivers")


def reported(conn: Any) -> dict[str, bytes]:
    """What the session says of itself, which can be read after its loss too. Raises psycopg's error once it is finished."""
    found = {name: conn.pgconn.parameter_status(name.encode()) for name in REPORTED}
    return {name: value for name, value in found.items() if value is not None}


def block_effects(name: str, found: dict[str, Any]) -> tuple[Effect, ...]:
    """What a generator that has no statement of the application's did; *found*: its variables."""
    owner = found.get("self")
    if not isinstance(owner, TRANSACTIONS):
        if name == "_rollback_gen" or found.get("action") == "ROLLBACK":
            return (Effect("rollback"),)
        # PREPARE TRANSACTION leaves the settings to its session, as COMMIT does.
        return (Effect("commit"),) if name in COMMITS else ()
    inner = "" if owner._outer_transaction else str(owner.savepoint_name or "")
    if name == "_enter_gen":
        return (Effect("savepoint", inner),) if inner else ()
    if name != "_exit_gen":
        return ()
    if found.get("exc_val") is None and not owner.force_rollback:
        return (Effect("release", inner),) if inner else (Effect("commit"),)
    return (Effect("rollback to", inner), Effect("release", inner)) if inner else (Effect("rollback"),)


def done_effects(effects: tuple[Effect, ...], found: dict[str, Any], *, failed: bool) -> tuple[Effect, ...]:
    """*effects* as they came about: by the server's answer, and by the state of the transaction (*failed*) before."""
    done: list[Effect] = []
    for effect in effects:
        if effect.kind == "told":
            value = found["self"].pgresult.get_value(0, int(effect.sql))
            done.append(Effect("set", effect.key, _configured(effect.key, value)))
        elif effect.kind == "commit" and failed:
            done.append(Effect("rollback"))
        else:
            done.append(effect)
    return tuple(done)


def _configured(name: str, value: bytes) -> str:
    quoted = (value.decode().replace("'", "''").replace("\\", "\\\\"), name)
    return "SELECT pg_catalog.set_config('{1}', E'{0}', false)".format(*quoted)


async def replayed(old: Any, new: Any, sockets: Sockets) -> tuple[str, ...]:
    """Give *new* what *old*, lost or not, held; what the server refused, by name. Raises psycopg's error at a loss."""
    link = old._aa_link
    held = dict(link.session.kept)
    try:
        told = reported(old) if link.reported is None else link.reported
    except psycopg.OperationalError:
        # psycopg itself finished it, as it does when the cancelling of an interrupted statement comes to nothing.
        told = {}
    mine = reported(new)
    wanted = {name: _configured(name, value) for name, value in told.items() if value != mine.get(name)}
    known = {name.lower() for name in told}
    wanted |= {name: sql for name, sql in held.items() if name not in known}
    if not wanted:
        return ()
    try:
        await answer_to(new.pgconn, "; ".join(wanted.values()), sockets)
    except psycopg.Error:
        if new.pgconn.status != pq.ConnStatus.OK:
            raise
    else:
        return ()
    lacking: list[str] = []
    for name, sql in wanted.items():
        try:
            await answer_to(new.pgconn, sql, sockets)
        except psycopg.Error as error:
            if new.pgconn.status != pq.ConnStatus.OK:
                raise
            log.warning("%s of a session cannot be had on its new host: %s", name, type(error).__name__)
            lacking.append(name)
    return tuple(lacking)
