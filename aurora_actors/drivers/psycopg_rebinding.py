"""What psycopg made on a session that is gone, on that of now: a cursor, a transaction, a pipeline remembers its own."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.generators import notifies

from aurora_actors.drivers.psycopg_reading import STARTS

__all__ = ["rebound"]

_SERVER_CURSORS = (psycopg.ServerCursor, psycopg.AsyncServerCursor)


def rebound(conn: Any, gen: Any, outcome: Exception | None) -> tuple[Any, bool]:
    """*gen* on the session of now, None where nothing is left to do, and whether it goes on with the session that is gone.

    Raises *outcome* for rows that were lost with their session.
    """
    frame = getattr(gen, "gi_frame", None)
    name, found = gen.__name__, frame.f_locals if frame is not None else {}
    if found.get("pgconn") not in (None, conn.pgconn):
        # Given it as an argument. A COPY, whose session is gone, must not go on.
        return (notifies(conn.pgconn), False) if name == "notifies" else (gen, True)
    owner = found.get("self")
    attribute = "_pgconn" if hasattr(owner, "_pgconn") else "pgconn"
    if owner is None or owner is conn or getattr(owner, attribute, conn.pgconn) is conn.pgconn:
        return gen, False
    if isinstance(owner, _SERVER_CURSORS) and name != "_declare_gen":
        gen.close()
        if name == "_close_gen":
            return None, False
        raise outcome or psycopg.OperationalError("the server-side cursor was lost with its session")
    if name not in STARTS and name not in ("_executemany_gen_pipeline", "_enter_gen"):
        return gen, True
    setattr(owner, attribute, conn.pgconn)
    if attribute == "_pgconn":
        owner._last_query = None
    if isinstance(owner, _SERVER_CURSORS):
        owner._described = False
    return gen, False
