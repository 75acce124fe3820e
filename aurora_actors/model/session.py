"""Whether a statement leaves something in its session that a new session would lack, as far as its text tells.

When in doubt it does. What functions and procedures do inside a query stays invisible, but for the names below.
"""

from __future__ import annotations

import re

__all__ = ["LONGEST_TEXT", "leaves_nothing"]

LONGEST_TEXT = 10_000
"""Characters of a statement that are worth reading; longer ones leave something."""

_BLANK = r"(?:\s|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*+"
# Commands that touch rows, transactions or the catalogue, and nothing that belongs to the session alone.
_HARMLESS = re.compile(
    rf"{_BLANK}\(*{_BLANK}(?:select|insert|update|delete|merge|values|table|with|explain|show|copy|begin|start\s+transaction"
    r"|commit|end|rollback|abort|savepoint|release|truncate|analyze|vacuum|lock|notify|fetch|move|close|checkpoint"
    r"|refresh|reindex|comment|grant|revoke|set\s+local|set\s+transaction)\b",
    re.IGNORECASE,
)
_PREPARES = re.compile(r"\b(?:commit|rollback|prepare)\s+prepared\b|\bwith\s+hold\b|\band\s+chain\b", re.IGNORECASE)
_TELLTALE = re.compile(
    r"set_config|advisory|pg_temp|dblink|setseed|currval|lastval|\binto\s+(?:local\s+|global\s+)?temp|\w*temp\w*\s*\(",
    re.IGNORECASE,
)


def leaves_nothing(text: str) -> bool:
    """Whether a session is after *text* as it was before. Several statements may stand in it, with `;` between them."""
    if len(text) > LONGEST_TEXT or _TELLTALE.search(text) or _PREPARES.search(text):
        return False
    # A `;` within a literal cuts it in two; what follows then looks like no command, and counts as leaving something.
    return all(_HARMLESS.match(part) for part in text.split(";") if _is_statement(part))


def _is_statement(part: str) -> bool:
    return re.fullmatch(_BLANK, part + "\n") is None
