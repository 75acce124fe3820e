"""The parameters of one connection: which are ours, what they mean, and what may be shown of them.

`split()` takes what the user gave, keeps what the table of `settings_table` knows, refuses what is wrong or misspelt
in one sentence, and leaves the rest to the driver. Pure but for the raising: nothing here does I/O; any thread.
"""

from __future__ import annotations

import math
import numbers
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, cast

from aurora_actors.errors import ConfigurationError
from aurora_actors.model.endpoints import InstancePattern, parse_instance_pattern
from aurora_actors.settings_table import (
    LACKING_PREFIXES,
    NO_BOUND,
    PREFIXES,
    SETTINGS,
    SPELLINGS,
    Kind,
    Resolver,
    Setting,
    plain,
    spellings,
)
from aurora_actors.settings_values import Settings

__all__ = ["SETTINGS", "Kind", "Resolver", "Setting", "Settings", "Table", "redacted", "split"]

# Similarity (difflib) from which a key is taken for a misspelt one of ours. For names that this version lacks the bar
# is higher: at 0.8 `username` is taken for `idp_username`, and the driver's own error about it is as good.
_ALIKE = 0.8
_ALIKE_LACKING = 0.85
_SHOWN_LENGTH = 80
_SPELT_BOOLS = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_INTEGER = r"[+-]?[0-9]{1,18}"
_NAME = r"[a-z0-9]+(?:_[a-z0-9]+)*"
_SENSITIVE = r"(?:passw|passphrase|pwd|token|secret|credential|private_?key|access_?key|api_?key|scram_)"
_SECRET_NAME = rf"{_SENSITIVE}|^pass$"
# These run over whatever the user gave: each starts once per word or per text, so that none takes quadratic time.
# A password in a URL ends at the last @ of the text: of one with a bare @ or / in it nothing may stay behind.
_URL = r"(?i)\s*[a-z][a-z0-9+.-]*://"
_URL_PASSWORD = r"(?s)\A([^:]*://[^:]*:).*@"  # noqa: S105 - a pattern
_URL_SECRET = rf"(?i)(?<=[?&])(?=[^?&=#]*?{_SENSITIVE})([^?&=#]++=)[^&#]*"
_CONNINFO_SECRET = (
    rf"(?is)(?<![\w-])(?=[\w-]*?{_SENSITIVE})([\w-]++\s*+=\s*+)(?:'(?:[^'\\]|\\.)*+'?|(?:\\.|\S)+)"
)


class Table:
    """The rows in force for connections with the same plugins, and their spellings. Made once for all of them.

    `plugin_settings` are the rows of the plugins in use, by name; they may take the place of rows that the core lacks.
    `extra_choices` are further values of a choice, such as the codes of installed dialects.
    """

    def __init__(
        self,
        plugin_settings: Mapping[str, Setting] = MappingProxyType({}),
        extra_choices: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        rows = dict(SETTINGS)
        for name, row in plugin_settings.items():
            ours = SETTINGS.get(name)
            if ours is not None and ours.available and ours != row:
                raise ConfigurationError(f"a plugin declares the parameter {name}, which is the core's; name it otherwise")
            rows[name] = row
        for name, choices in extra_choices.items():
            rows[name] = replace(rows[name], choices=tuple(dict.fromkeys((*rows[name].choices, *choices))))
        self.rows: Mapping[str, Setting] = rows
        self.spellings = {**SPELLINGS, **spellings(rows[name] for name in (*plugin_settings, *extra_choices))}
        self.declared = {name: row.default for name, row in plugin_settings.items() if name not in _FIELDS}
        secret = [name for name in self.declared if plugin_settings[name].secret]
        self.secret = frozenset(prefix + name for name in secret for prefix in ("", *PREFIXES))


def split(
    parameters: Mapping[str, object], driver_keys: Collection[str], table: Table | None = None
) -> tuple[Settings, dict[str, object]]:
    """Divide what the user gave into our settings, validated, and the driver's parameters, untouched.

    `driver_keys` are the names that the driver declares (empty: it cannot say). A value of None of ours counts as not
    given.

    Raises ConfigurationError: a key that is a misspelt one of ours, a wrong type, range or choice, a parameter whose
    function this version lacks, parameters that contradict each other.
    """
    return _Division(parameters, driver_keys, table or _CORE).settled()


class _Division:
    """One call of `split()`: what was found so far."""

    def __init__(self, parameters: Mapping[str, object], driver_keys: Collection[str], table: Table) -> None:
        self.driver_keys = driver_keys
        self.table = table
        self.rows = table.rows
        self.spellings = table.spellings
        self.spelt: dict[tuple[str, str], str] = {}
        self.values: dict[tuple[str, str], object] = {}
        self.drivers: dict[str, object] = {}
        for key, value in cast("Mapping[object, object]", parameters).items():
            if not isinstance(key, str):
                raise ConfigurationError(f"{key!r}: the name of a parameter is text")
            self.take(key, value)

    def take(self, key: str, value: object) -> None:
        if key not in self.rows and key in self.driver_keys:
            self.drivers[key] = value
            return
        row = self.spellings.get(plain(key))
        if row is not None:
            self.take_ours(row, key, value)
        elif not self.take_prefixed(key, value):
            self.refuse_misspelt(key)
            self.drivers[key] = value

    def take_ours(self, row: Setting, key: str, value: object) -> None:
        if value is None or not _has_function(row, key, value):
            return
        self.keep("", row.name, key, _read(row, key, value))

    def keep(self, prefix: str, name: str, key: str, value: object) -> None:
        where = prefix, name
        if where in self.values and self.values[where] != value:
            raise ConfigurationError(f"{self.spelt[where]} and {key} are one parameter with two values; give one")
        self.spelt[where] = key
        self.values[where] = value

    def take_prefixed(self, key: str, value: object) -> bool:
        lowered = key.lower()
        for prefix, plugin in LACKING_PREFIXES.items():
            if lowered.startswith(prefix):
                raise ConfigurationError(
                    f"{key}: parameters that begin with {prefix} are for the plugin {plugin}, which this version of"
                    " aurora_actors does not have"
                )
        for prefix in PREFIXES:
            if plain(key).startswith(plain(prefix)):
                return self.take_inner(prefix, key, key[len(prefix) :], value, hyphened=lowered.startswith(prefix))
        return False

    def take_inner(self, prefix: str, key: str, inner: str, value: object, *, hyphened: bool) -> bool:
        row = self.spellings.get(plain(inner))
        if inner not in self.driver_keys and inner.lower() in self.driver_keys:
            inner = inner.lower()
        if inner in self.driver_keys and inner not in self.rows:
            name, read = inner, value
        elif row is not None:
            if value is None or not _has_function(row, key, value):
                return True
            name, read = row.name, _read(row, key, value)
        elif not hyphened:
            return False
        elif self.driver_keys or not inner:
            # A monitor that cannot connect for a misspelt parameter would look like a dead host.
            known = (*self.driver_keys, *self.available())
            raise ConfigurationError(f"unknown parameter {key}{_did_you_mean(plain(inner), known, prefix)}")
        else:
            name, read = inner, value
        if value is not None:
            self.keep(prefix, name, key, read)
        return True

    def refuse_misspelt(self, key: str) -> None:
        import difflib

        bare = plain(key)
        known = (*self.spellings, *self.driver_keys)
        for nearest in difflib.get_close_matches(bare, known, n=1, cutoff=_ALIKE):
            row = self.spellings.get(nearest)
            close = difflib.SequenceMatcher(None, nearest, bare).ratio()
            if row is not None and (row.available or close >= _ALIKE_LACKING):
                raise ConfigurationError(f"unknown parameter {key}; did you mean {row.name}?")

    def available(self) -> tuple[str, ...]:
        return tuple(name for name, row in self.rows.items() if row.available)

    def settled(self) -> tuple[Settings, dict[str, object]]:
        values = {name: value for (prefix, name), value in self.values.items() if not prefix}
        ours = {name: value for name, value in values.items() if name in _FIELDS}
        declared = self.table.declared
        settings = Settings(
            **cast("dict[str, Any]", _without_contradiction(ours)),
            given=frozenset(values),
            of_plugins=MappingProxyType({name: values.get(name, default) for name, default in declared.items()}),
            prefixed_values=tuple((*where, value) for where, value in self.values.items() if where[0]),
            secret=self.table.secret,
        )
        return settings, self.drivers


def _has_function(row: Setting, key: str, value: object) -> bool:
    """Whether this version can act on the row; raises if not, unless the value asks for nothing anyway."""
    if row.available:
        return True
    spelt = str(value).strip().lower() if isinstance(value, (str, bool, int)) else "?"
    if spelt in (("false", "off", "no", "0") if row.kind == "bool" else ("", "none")):
        return False
    by = " and ".join(row.used_by)
    if by in ("iam", "aws_secrets_manager", "federated_auth or okta"):
        raise ConfigurationError(f"{key} is a parameter of the plugin {by}, which plugins= does not name: add it there")
    lacking = f", for {by}" if by not in ("", "core") else ""
    whose = "of this package" if row.is_ours else "of the AWS wrapper"
    raise ConfigurationError(
        f"{key} is a parameter {whose}{lacking}; this version of aurora_actors lacks its function. Leave it away"
    )


def _without_contradiction(values: dict[str, object]) -> dict[str, object]:
    """The same values; raises if two of them cannot both be meant. A default gives way to what was given."""

    def value(name: str) -> Any:
        return values.get(name, SETTINGS[name].default)

    refresh, fast = "topology_refresh_ms", "cluster_topology_high_refresh_rate_ms"
    if value(fast) > value(refresh):
        if fast in values:
            raise ConfigurationError(f"{fast}={value(fast)} is slower than {refresh}={value(refresh)}; lower the first")
        values = {**values, fast: value(refresh)}
    pause, limit = "open_connection_retry_interval_ms", "open_connection_retry_timeout_ms"
    if value(pause) > value(limit):
        if pause in values:
            raise ConfigurationError(f"{pause}={value(pause)} is longer than {limit}={value(limit)}; lower the first")
        values = {**values, pause: max(value(limit), 1)}
    if value("enable_connect_failover") and not value("enable_failover"):
        raise ConfigurationError("enable_connect_failover=true contradicts enable_failover=false; give one of them")
    roles = {value("endpoint_substitution_role"), value("verify_opened_connection_type")}
    if roles == {"writer", "reader"}:
        raise ConfigurationError(
            f"endpoint_substitution_role={value('endpoint_substitution_role')} contradicts"
            f" verify_opened_connection_type={value('verify_opened_connection_type')}; ask for one role"
        )
    details = sorted(name for name in values if name.startswith("tcp_keepalive_"))
    if details and value("tcp_keepalive") is False:
        raise ConfigurationError(f"{details[0]} contradicts tcp_keepalive=false; leave one of them away")
    return values


def _read(row: Setting, key: str, value: object) -> object:
    try:
        return _READERS[row.kind](row, value)
    except ValueError as error:
        shown = "***" if row.secret else _shown(value)
        raise ConfigurationError(f"{key}={shown}: {error}") from None


def _read_bool(_: Setting, value: object) -> bool:
    spelt = value.strip().lower() if isinstance(value, str) else str(int(value)) if isinstance(value, int) else ""
    if spelt not in _SPELT_BOOLS:
        raise ValueError("expected true or false (or on, off, yes, no, 1, 0)")
    return _SPELT_BOOLS[spelt]


def _read_number(row: Setting, value: object) -> int | float:
    number: int | float = math.nan
    if isinstance(value, str):
        text = value.strip()
        number = int(text) if re.fullmatch(_INTEGER, text) else float(text) if re.fullmatch(_NUMBER, text) else math.nan
    elif isinstance(value, (int, numbers.Integral)):
        number = math.nan if isinstance(value, bool) else int(value)
    elif isinstance(value, (float, numbers.Real)):
        number = float(value)
    whole = row.kind == "int"
    # Compared before it is converted: float() of an int beyond its range raises.
    bounded = row.least <= number <= row.most and abs(number) <= sys.float_info.max
    if not bounded or (whole and number % 1):
        raise ValueError(_expected_number(row))
    return int(number) if whole else float(number)


def _expected_number(row: Setting) -> str:
    unit = {"ms": " of milliseconds", "s": " of seconds"}.get(row.unit, f" of {row.unit}" if row.unit else "")
    least = "" if row.least == -NO_BOUND else f" from {row.least:.15g}"
    most = "" if row.most == NO_BOUND else f" to {row.most:.15g}"
    example = f", such as {row.example}" if row.example else ""
    return f"expected a {'whole ' if row.kind == 'int' else ''}number{unit}{least}{most}{example}"


def _read_text(row: Setting, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected text{f', such as {row.example}' if row.example else ''}")
    return value.strip()


def _read_name(row: Setting, value: object) -> str:
    name = plain(value) if isinstance(value, str) else ""
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"expected a name{f', such as {row.example}' if row.example else ''}")
    return name


def _read_choice(row: Setting, value: object) -> str:
    asked = plain(value) if isinstance(value, str) else ""
    by_spelling = {plain(choice): choice for choice in row.choices}
    for code, reason in row.refused:
        if asked == plain(code) and asked not in by_spelling:
            raise ValueError(reason)
    if asked not in by_spelling:
        raise ValueError(f"expected one of {', '.join(row.choices)}{_did_you_mean(asked, row.choices)}")
    return by_spelling[asked]


def _read_list(row: Setting, value: object) -> tuple[str, ...]:
    parts: tuple[object, ...] = (value,)
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, Mapping)):
        parts = tuple(value)
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) < len(parts):
        raise ValueError(f"expected names, comma separated, such as {row.example}, or a list of them")
    return tuple(name for text in texts for part in text.split(",") if (name := part.strip()))


def _read_weights(row: Setting, value: object) -> tuple[tuple[str, int], ...]:
    pairs = value.items() if isinstance(value, Mapping) else [
        (host.strip(), weight) for text in _read_list(row, value) for host, _, weight in (text.rpartition(":"),)
    ]  # fmt: skip
    weight_row = Setting("weight", "int", least=1, most=1_000_000, example="3")
    read: list[tuple[str, int]] = []
    for host, weight in pairs:
        if not isinstance(host, str) or not host:
            raise ValueError(f"expected `host:weight` pairs, comma separated, such as {row.example}")
        try:
            read.append((host.lower(), int(_read_number(weight_row, weight))))
        except ValueError as error:
            raise ValueError(f"weight of {host}: {error}") from None
    return tuple(read)


def _read_pattern(row: Setting, value: object) -> InstancePattern:
    return value if isinstance(value, InstancePattern) else parse_instance_pattern(_read_text(row, value))


def _read_callable(row: Setting, value: object) -> object:
    if callable(value):
        return value
    raise ValueError(f"expected a callable{f', such as: {row.example}' if row.example else ''}")


_READERS: Mapping[Kind, Callable[[Setting, object], object]] = MappingProxyType(
    {
        "bool": _read_bool, "int": _read_number, "float": _read_number, "text": _read_text, "name": _read_name,
        "choice": _read_choice, "list": _read_list, "weights": _read_weights, "pattern": _read_pattern,
        "callable": _read_callable,
    }
)  # fmt: skip
_FIELDS = frozenset(each.name for each in fields(Settings)) & frozenset(SETTINGS)
_CORE = Table()


def _did_you_mean(asked: str, known: Iterable[str], prefix: str = "") -> str:
    from difflib import get_close_matches

    by_spelling = {plain(name): name for name in known}
    nearest = get_close_matches(asked, by_spelling, n=1)
    return f"; did you mean {prefix}{by_spelling[nearest[0]]}?" if nearest else ""


def redacted(parameters: Mapping[str, object], secret: Collection[str] = ()) -> dict[str, str]:
    """The parameters as text for logs: secrets, by the table, by their names and within URLs, are `***`.

    `secret` names more of them. Objects that are no text, number or list are shown by their type alone.
    """
    return {key: "***" if key in secret or _is_secret(key) else _shown(value) for key, value in parameters.items()}


def _is_secret(key: str) -> bool:
    name = plain(key)
    for prefix in (*PREFIXES, *LACKING_PREFIXES):
        name = name.removeprefix(plain(prefix))
    row = SETTINGS.get(name)
    return re.search(_SECRET_NAME, name) is not None if row is None else row.secret


def _shown(value: object) -> str:
    if isinstance(value, str):
        text = _masked(value)
        return repr(text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…")
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_shown(part) for part in value)}]"
    if value is None or isinstance(value, (bool, float, InstancePattern)):
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**_SHOWN_LENGTH else "a number of many digits"
    return f"<{getattr(value, '__qualname__', None) or type(value).__name__}>"


def _masked(text: str) -> str:
    if re.match(_URL, text):
        return re.sub(_URL_SECRET, r"\1***", re.sub(_URL_PASSWORD, r"\1***@", text))
    return re.sub(_CONNINFO_SECRET, r"\1***", text)
