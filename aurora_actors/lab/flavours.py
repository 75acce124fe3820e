"""Which service the lab's hosts look like: the SQL that they answer beyond community PostgreSQL's, by flavour."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .aurora_sql import AURORA_EXTENSIONS, AURORA_SQL, SETTINGS_SQL
from .multi_az_sql import MULTI_AZ_EXTENSIONS, MULTI_AZ_SQL
from .values import Flavour

__all__ = ["EXTENSIONS", "FLAVOUR_SQL"]

FLAVOUR_SQL: Mapping[Flavour, str] = MappingProxyType(
    {"aurora": AURORA_SQL + SETTINGS_SQL, "multi-az": MULTI_AZ_SQL + SETTINGS_SQL, "plain": ""}
)
"""Run once in the template of all databases."""

EXTENSIONS: Mapping[Flavour, str] = MappingProxyType({"aurora": AURORA_EXTENSIONS, "multi-az": MULTI_AZ_EXTENSIONS})
"""What ``rds.extensions`` lists; community PostgreSQL has no such setting."""
