"""What a statement leaves in its session on PostgreSQL, as far as its text tells.

When in doubt it leaves something that a new session would lack. What functions and procedures do inside a query stays
invisible, but for the names below.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from aurora_actors.model.session_state import LISTENS, Effect, only_transactions

__all__ = ["LONGEST_TEXT", "MOST_TEXTS", "REPORTED", "compiled", "effects_of", "leaves_nothing"]

MOST_TEXTS = 4096
"""How many texts are remembered; a program that makes up a new text for each statement gains nothing from more."""

LONGEST_TEXT = 10_000
"""Characters of a statement that are worth reading; longer ones leave something."""

_BLANK = r"(?:\s|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*+"
# Commands that touch rows, transactions or the catalogue, and nothing that belongs to the session alone.
_HARMLESS = (
    rf"{_BLANK}\(*{_BLANK}(?:select|insert|update|delete|merge|values|table|with|explain|show|copy|begin|start\s+transaction"
    r"|commit|end|rollback|abort|savepoint|release|truncate|analyze|vacuum|lock|notify|fetch|move|close|checkpoint"
    r"|refresh|reindex|comment|grant|revoke|set\s+transaction|set\s+constraints)\b"
)
_PREPARES = r"\b(?:commit|rollback|prepare)\s+prepared\b|\bwith\s+hold\b|\band\s+chain\b"
_TELLTALE = (
    r"set_config|advisory|pg_temp|dblink|setseed|currval|lastval|\binto\s+(?:local\s+|global\s+)?temp|\w*temp\w*\s*\("
)

# A value of which the text tells what it is, whatever the server's settings; a placeholder (%) is none.
_VALUE = r"(?:'(?:[^'\\%]|'')*+'|\"(?:[^\"%]|\"\")*+\"|[-+]?[\w.]+)"
_NAME = r"(?:\"(?:[^\"%]|\"\")+\"|[A-Za-z_][\w$]*)"
_TO = r"\s*(?:=|\bto\b)\s*"


def _whole(pattern: str) -> str:
    return rf"{_BLANK}{pattern}{_BLANK}"


_TURNS = _whole(
    r"(?:(?P<begin>begin|start\s+transaction)\b[\w\s,]*|(?P<commit>commit|end)(?:\s+(?:work|transaction))?"
    rf"|rollback(?:\s+(?:work|transaction))?\s+to(?:\s+savepoint)?\s+(?P<back>{_NAME})"
    r"|(?P<rollback>rollback|abort)(?:\s+(?:work|transaction))?"
    rf"|savepoint\s+(?P<savepoint>{_NAME})|release(?:\s+savepoint)?\s+(?P<release>{_NAME}))"
)
_TURNING = frozenset({"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"})
_SETS = _whole(
    rf"set\s+(?:(?P<scope>session|local)\s+)?(?:(?P<name>[a-z_][\w$]*(?:\.[a-z_][\w$]*)*){_TO}"
    rf"|(?P<word>time\s+zone|names|schema|role|session\s+authorization)\s+)(?P<value>{_VALUE}(?:\s*,\s*{_VALUE})*)"
)
_CHARACTERISTICS = _whole(r"set\s+session\s+characteristics\s+as\s+transaction\s+(?P<modes>[\w\s,]+?)")
_MODE = (
    r"[\s,]*(?:isolation\s+level\s+(?P<level>serializable|repeatable\s+read|read\s+committed|read\s+uncommitted)"
    r"|(?P<access>read\s+only|read\s+write)|(?P<deferrable>(?:not\s+)?deferrable))\b"
)
_RESETS = _whole(r"reset\s+(?P<name>[a-z_][\w$.]*|time\s+zone|session\s+authorization)")
_DISCARDS = _whole(r"discard\s+all")
_LISTENS = _whole(rf"(?P<verb>listen|unlisten)\s+(?P<name>{_NAME}|\*)")
_GIVEN = r"(?:'(?:[^'\\]|'')*+'|%s|%\(\w+\)s|\$\d+)(?:\s*::\s*\w+)?"
_CALL = (
    rf"(?:pg_catalog\.)?set_config\(\s*'(?P<name>[a-z_][\w$.]*)'\s*,\s*{_GIVEN}\s*,\s*(?P<local>true|false)\s*\)"
    r"(?:\s+(?:as\s+)?[a-z_]\w*)?"
)
_ANY_CALL = re.sub(r"\?P<\w+>", "?:", _CALL)
_CONFIGURES = _whole(rf"select\s+{_ANY_CALL}(?:\s*,\s*{_ANY_CALL})*")
# Other spellings, by the name that everybody else goes by.
_KNOWN_AS = {"time zone": "timezone", "names": "client_encoding", "schema": "search_path"}
REPORTED = ("client_encoding", "TimeZone", "DateStyle", "IntervalStyle", "application_name", "search_path")
"""What the session reports of itself however it was set (``search_path``: from PostgreSQL 18 on)."""
_REPORTED = frozenset(name.lower() for name in REPORTED)
_OF_ONE_TRANSACTION = frozenset({"transaction_isolation", "transaction_read_only", "transaction_deferrable", "seed"})
_FIRST_WORD = rf"{_BLANK}(\w*)"


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """*pattern*, in any case, compiled when the first statement needs it: all of them take as long as a login."""
    return re.compile(pattern, re.IGNORECASE)


@lru_cache(MOST_TEXTS)
def effects_of(text: str) -> tuple[Effect, ...] | None:
    """What *text* does to its session, if it succeeds; None: something that no new session can be given, or in doubt.

    Several statements may stand in it, with `;` between them.
    """
    if len(text) > LONGEST_TEXT or compiled(_PREPARES).search(text):
        return None
    found: list[Effect] = []
    # A `;` within a literal cuts it in two; what follows then looks like no command, and counts as leaving something.
    for part in filter(_is_statement, text.split(";")):
        effects = _effects(part + "\n")
        if effects is None:
            return None
        found += effects
    return tuple(found)


def leaves_nothing(text: str) -> bool:
    """Whether a session is after *text* as it was before."""
    effects = effects_of(text)
    return effects is not None and only_transactions(effects)


def _effects(part: str) -> list[Effect] | None:  # noqa: PLR0911 - a table of forms
    first = compiled(_FIRST_WORD).match(part)
    word = first[1].lower() if first else ""
    if word in _TURNING and (match := compiled(_TURNS).fullmatch(part)):
        kind, name = next((kind, name) for kind, name in match.groupdict().items() if name)
        turns = {"begin": Effect("begin"), "commit": Effect("commit"), "rollback": Effect("rollback")}
        named = {"back": "rollback to", "savepoint": "savepoint", "release": "release"}
        return [turns[kind] if kind in turns else Effect(named[kind], _folded(name))]  # type: ignore[arg-type]
    if word == "set" and (match := compiled(_SETS).fullmatch(part)):
        return _set(match["scope"], match["name"] or " ".join(match["word"].split()), match["value"])
    if word == "set" and (match := compiled(_CHARACTERISTICS).fullmatch(part)):
        return _characteristics(match["modes"])
    if word == "reset" and (match := compiled(_RESETS).fullmatch(part)):
        name = " ".join(match["name"].lower().split())
        return [Effect("reset all") if name == "all" else Effect("reset", _known_as(name))]
    if word in ("listen", "unlisten") and (match := compiled(_LISTENS).fullmatch(part)):
        return [_listening(match["verb"].lower(), match["name"])]
    if word == "discard" and compiled(_DISCARDS).fullmatch(part):
        return [Effect("discard all")]
    if "set_config" in part.lower() and compiled(_CONFIGURES).fullmatch(part):
        calls = enumerate(compiled(_CALL).finditer(part))
        return [
            effect
            for column, call in calls
            for effect in (
                _locally(_known_as(call["name"].lower()))
                if call["local"].lower() == "true"
                else [Effect("told", _known_as(call["name"].lower()), str(column))]
            )
        ]
    return [] if compiled(_HARMLESS).match(part) and not compiled(_TELLTALE).search(part) else None


def _set(scope: str | None, name: str, value: str) -> list[Effect] | None:
    key = _known_as(name.lower())
    if (scope or "").lower() == "local":
        return _locally(key)
    if key in _OF_ONE_TRANSACTION:
        return None
    if value.lower() == "default" or (key == "role" and value.lower() == "none"):
        return [Effect("reset", key)]
    words = {"role": "ROLE", "session_authorization": "SESSION AUTHORIZATION", "timezone": "TIME ZONE"}
    written = f"SET {words[key]} {value}" if key in words else f"SET {key} TO {value}"
    return [Effect("set", key, written)]


def _locally(key: str) -> list[Effect]:
    # Of the other settings nobody but the server sees what they are until the transaction ends.
    return [Effect("touch", key)] if key in _REPORTED else []


def _characteristics(modes: str) -> list[Effect] | None:
    found: list[Effect] = []
    end = 0
    while match := compiled(_MODE).match(modes, end):
        end = match.end()
        mode, words = match.lastgroup, " ".join(match[match.lastgroup or 0].lower().split())
        name = {"level": "isolation", "access": "read_only"}.get(mode or "", "deferrable")
        value = words if mode == "level" else "on" if words in ("read only", "deferrable") else "off"
        key = f"default_transaction_{name}"
        found.append(Effect("set", key, f"SET {key} TO '{value}'"))
    return found if end == len(modes) else None


def _listening(verb: str, name: str) -> Effect:
    if name == "*":
        return Effect("unlisten all")
    key = LISTENS + _folded(name)
    return Effect("set", key, f"LISTEN {name}") if verb == "listen" else Effect("reset", key)


def _known_as(name: str) -> str:
    return _KNOWN_AS.get(name, name.replace(" ", "_"))


def _folded(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def _is_statement(part: str) -> bool:
    return re.fullmatch(_BLANK, part + "\n") is None
