"""Django's backend for PostgreSQL on psycopg, with our connections; its pool has them too."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base

from aurora_actors import psycopg

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, but for what it connects with."""

    Database = psycopg

    @property
    def pool(self) -> Any:
        """Django's pool, of our connections."""
        options = self.settings_dict["OPTIONS"]
        if given := options.get("pool"):
            chosen = given if isinstance(given, dict) else {}
            self.settings_dict["OPTIONS"] = {**options, "pool": {"connection_class": psycopg.Connection, **chosen}}
        return super().pool
