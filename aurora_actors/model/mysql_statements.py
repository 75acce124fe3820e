"""What the text of a statement tells on MySQL and MariaDB: does it commit, does it leave something in its session?

When in doubt it does both: a wrong "unknown" costs the application one look-up, a wrong "rolled back" a duplicate. What
functions and procedures do inside a query stays invisible, but for the names below.
"""

from __future__ import annotations

import re

from aurora_actors.model.session import LONGEST_TEXT, compiled
from aurora_actors.model.session_state import Effect

__all__ = [
    "commits", "effects_of", "is_alone", "leaves_nothing", "looks_back", "may_be_killed", "prepares", "used_database",
]  # fmt: skip

# `/*! … */` is no comment: the server runs it.
_BLANK = r"(?:\s|--[^\n]*\n|\#[^\n]*\n|/\*(?!M?!)(?:[^*]|\*(?!/))*\*/)*+"
_IDENTIFIER = r"`(?:[^`]|``)+`|[\w$]+"


def _begins(words: str) -> str:
    return rf"{_BLANK}\(*{_BLANK}(?:{words})\b"


# https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html; LOAD DATA commits on NDB alone, which Aurora has not.
_COMMITS_NOTHING = _begins(
    r"select|insert|update|delete|replace|with|values|table|do|show|explain|describe|desc|help|use|handler|savepoint"
    r"|rollback(?!\s+and\s+chain)|release\s+savepoint|set\s+(?:session\s+|local\s+)?transaction|set\s+names|kill|load\s+data"
    r"|(?:create|drop)\s+temporary\s+table"
)
_PREPARES = r"\bxa\s+prepare\b"
_BEGINS = _begins(r"begin|start\s+transaction")
# Commands that touch rows, transactions or the catalogue, and nothing that belongs to the session alone.
_HARMLESS = _begins(
    r"select|insert|update|delete|replace|with|values|table|do|show|explain|describe|desc|help|commit|rollback|savepoint"
    r"|begin(?!\s+not\b)|start\s+transaction|release\s+savepoint|truncate|analyze|optimize|check|checksum|repair|alter"
    r"|(?:create|drop)(?!\s+(?:or\s+replace\s+)?temporary\b)|rename|grant|revoke|kill|load\s+data|comment"
)
_USES = rf"{_BLANK}use\s+({_IDENTIFIER}){_BLANK};?{_BLANK}"
# User variables, locks by name, what the statement before left behind, and results that go on in another place.
_TELLTALE = (
    r"(?<![\w@`'\"])@(?!@)|:=|get_lock|release_(?:all_)?locks?|last_insert_id|found_rows|row_count|sql_calc_found_rows"
    r"|lastval|nextval|setval|\band\s+chain\b|\block\s+tables?\b|/\*M?!"
)
_COMMIT = r"commit\b|\bxa\b"
_LOOKS_BACK = (
    r"last_insert_id|found_rows|row_count|lastval|\bshow\s+(?:warnings|errors|count)|get\s+diagnostics"
)


# A value of which the text tells what it is, whatever sql_mode says; a placeholder (%) is none.
_VALUE = r"(?:'(?:[^'\\%]|'')*+'|[-+]?[\w.]+)"
_ASSIGNS = rf"(?:(?:session|local)\s+|@@(?:session\.|local\.)?)?(?P<name>[a-z_]\w*)\s*=\s*(?P<value>{_VALUE})"
_ONE = rf"\s*{_ASSIGNS}\s*(?:,|\Z)"
_SETS = (
    rf"{_BLANK}set\s+(?:(?P<words>names|character\s+set|charset|role)\s+(?P<value>{_VALUE}(?:\s+collate\s+{_VALUE})?)"
    rf"|session\s+transaction\s+(?P<mode>isolation\s+level\s+[a-z]+(?:\s+[a-z]+)?|read\s+(?:only|write))"
    rf"|(?P<several>[^;]+?)){_BLANK};?{_BLANK}"
)
# Of one statement, or known to the server as something else than a setting of the session.
_NO_SETTING = frozenset({"insert_id", "last_insert_id", "timestamp", "rand_seed1", "rand_seed2", "password"})


def looks_back(text: str) -> bool:
    """Whether *text* asks what the statement before it did, which only the same session can tell."""
    return compiled(_LOOKS_BACK).search(text) is not None


def leaves_nothing(text: str) -> bool:
    """Whether a session is after *text* as it was before, and the answer to it the same on any other."""
    if len(text) > LONGEST_TEXT or compiled(_TELLTALE).search(text):
        return False
    return all(compiled(_HARMLESS).match(part) for part in _parts(text))


def commits(text: str, *, in_transaction: bool) -> bool:
    """Whether *text* may have committed: by itself, or implicitly as most of what changes the catalogue does."""
    if len(text) > LONGEST_TEXT:
        text = text[:LONGEST_TEXT]
        if ";" in text:
            return True
    if re.search(r"/\*M?!", text):
        return True
    harmless = (_COMMITS_NOTHING,) if in_transaction else (_COMMITS_NOTHING, _BEGINS)
    return not all(any(compiled(pattern).match(part) for pattern in harmless) for part in _parts(text))


def prepares(text: str) -> bool:
    """Whether *text* prepares an XA transaction, which outlives its session from then on."""
    return compiled(_PREPARES).search(text) is not None


def is_alone(text: str) -> bool:
    """Whether *text* is one statement that commits nothing, so that the server does it as a whole or not at all."""
    return len(text) <= LONGEST_TEXT and len(_parts(text)) == 1 and not commits(text, in_transaction=True)


def may_be_killed(text: str) -> bool:
    """Whether nothing in *text* may be a COMMIT, which a KILL would leave nobody knows where. Empty: there is no text."""
    return len(text) <= LONGEST_TEXT and compiled(_COMMIT).search(text) is None


def used_database(text: str) -> str | None:
    """The database that *text* makes the current one, where it does nothing else."""
    match = compiled(_USES).fullmatch(text)
    if match is None:
        return None
    name = match[1]
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def effects_of(text: str) -> tuple[Effect, ...] | None:
    """What *text*, a ``SET`` alone, does to its session; None: it is another statement, or not fully understood.

    No transaction undoes it.
    """
    tells = len(text) > LONGEST_TEXT or compiled(_TELLTALE).search(text.replace("@@", ""))
    match = None if tells else compiled(_SETS).fullmatch(text)
    if match is None:
        return None
    if match["words"]:
        key = "role" if match["words"].lower() == "role" else "names"
        return (Effect("set", key, f"SET {match['words']} {match['value']}"),)
    if match["mode"]:
        key = "transaction_isolation" if match["mode"].lower().startswith("isolation") else "transaction_read_only"
        return (Effect("set", key, f"SET SESSION TRANSACTION {match['mode']}"),)
    found: list[Effect] = []
    rest = match["several"].strip()
    while rest and (one := compiled(_ONE).match(rest)):
        name, value, rest = one["name"].lower(), one["value"], rest[one.end() :]
        if name in _NO_SETTING:
            return None
        if value.lower() == "default":
            found.append(Effect("reset", name))
        else:
            found.append(Effect("set", name, f"SET SESSION {name} = {value}"))
    return tuple(found) if found and not rest else None


def _parts(text: str) -> list[str]:
    # A `;` within a literal cuts it in two; what follows then looks like no command, which is the safe side.
    return [part for part in text.split(";") if re.fullmatch(_BLANK, part + "\n") is None]
