"""Django's backend for PostgreSQL on psycopg, with our connections; its pool has them too."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base

from aurora_actors import psycopg

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, but for what it connects with."""

    Database = psycopg

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = self.settings_dict["OPTIONS"]
        if pool := options.get("pool"):
            chosen = pool if isinstance(pool, dict) else {}
            self.settings_dict["OPTIONS"] = {**options, "pool": {"connection_class": psycopg.Connection, **chosen}}
