"""What a connect of MySQL Connector takes: keywords, `key=value` text, URLs and option files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from mysql.connector.constants import CNX_POOL_ARGS, DEFAULT_CONFIGURATION
from mysql.connector.optionfiles import read_option_files

from aurora_actors.errors import ConfigurationError

__all__ = ["ALIASES", "DEFAULT_HOST", "DEFAULT_PORT", "KEEPING_ALIVE", "KEYS", "POOL", "merged", "plain"]

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 3306
POOL = frozenset(CNX_POOL_ARGS)
# The driver's own other names.
ALIASES = {"db": "database", "username": "user", "passwd": "password", "connect_timeout": "connection_timeout"}
KEEPING_ALIVE = ("tcp_keepalive", "tcp_keepalive_time", "tcp_keepalive_interval", "tcp_keepalive_probes")
_OPTION_FILES = frozenset({"option_files", "option_groups", "read_default_file"})
KEYS = frozenset(DEFAULT_CONFIGURATION) | POOL | _OPTION_FILES | frozenset(ALIASES) | {"failover"}

_PAIR = re.compile(
    r"""([\w-]+)\s*=\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?:\\.|[^\s'"\\])(?:\\.|[^\s\\])*|)\s*""", re.DOTALL
)
# Of a URL everything is optional but the scheme. A password ends at the last @ of what stands before /, ? and #.
_URL = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:(?P<user>[^:/?#]*)(?::(?P<password>[^/?#]*))?@)?"
    r"(?:\[(?P<v6>[^\]@]*)\]|(?P<host>[^:/?#@\[\]]*))(?::(?P<port>[0-9]*))?"
    r"(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_SPELT_BOOLS = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}
_WHOLE = frozenset({"port", "connection_timeout", "read_timeout", "write_timeout", "pool_size", "client_flags"})
_BOOLS = frozenset({"pool_reset_session"}) | {k for k, v in DEFAULT_CONFIGURATION.items() if isinstance(v, bool)}


def merged(conninfo: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Text and keywords merged, keywords first, option files read and the driver's aliases resolved.

    Raises ``ConfigurationError`` for text that cannot be read, and what the driver raises for its option files.
    """
    given = _from_url(conninfo) if re.match(r"\s*[a-z][a-z0-9+.-]*://", conninfo, re.IGNORECASE) else _from_pairs(conninfo)
    # What stands in a text is text; what the driver declares otherwise is read as that.
    found: dict[str, Any] = {ALIASES.get(key, key): _read(ALIASES.get(key, key), value) for key, value in given.items()}
    found |= {ALIASES.get(key, key): value for key, value in keywords.items() if value is not None}
    if "read_default_file" in found:
        found["option_files"] = found.pop("read_default_file")
    if "option_files" in found:
        found = {ALIASES.get(key, key): value for key, value in read_option_files(**found).items()}
    return found


def plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """*parameters* for one connection of its own: of no pool, to one host, without what only ``connect()`` knows."""
    left_out = POOL | set(KEEPING_ALIVE) | {"failover", "dns_srv", "use_pure"}
    return {key: value for key, value in parameters.items() if key not in left_out}


def _from_url(text: str) -> dict[str, str]:
    parts = _URL.fullmatch(text.strip())
    if parts is None:
        # Never the text itself: what does not fit may be a password with a / in it.
        raise ConfigurationError(
            "the URL cannot be read: it is mysql://user:password@host:port/database?key=value, with the characters"
            " / ? # in a user or password percent-encoded and a number as port"
        )
    own = {key: unquote(parts[key] or "") for key in ("user", "password", "port", "database")}
    own["host"] = unquote(parts["v6"] or parts["host"] or "").lower()
    query = dict(parse_qsl(parts["query"] or "", keep_blank_values=True))
    return {**{key: value for key, value in own.items() if value}, **query}


def _from_pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    end = len(text) - len(text.lstrip())
    while match := _PAIR.match(text, end):
        value = match[2]
        if value[:1] in ("'", '"'):
            value = value[1:-1]
        found[match[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        end = match.end()
    if end < len(text):
        # Never the text itself: it may be a password that ends where a blank was not quoted.
        raise ConfigurationError(
            f"the conninfo cannot be read from character {end + 1} on: it is `key=value` pairs with blanks between them,"
            " and a value with a blank in it stands in quotes"
        )
    return found


def _read(key: str, value: str) -> Any:
    if key in _WHOLE:
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise ConfigurationError(f"{key}={value!r}: expected a whole number")
        return int(value)
    if key in _BOOLS:
        if value.lower() not in _SPELT_BOOLS:
            raise ConfigurationError(f"{key}={value!r}: expected true or false (or on, off, yes, no, 1, 0)")
        return _SPELT_BOOLS[value.lower()]
    return value
