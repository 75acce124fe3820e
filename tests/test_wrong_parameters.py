"""Whatever is given for a parameter, and however its name is misspelt: one clear error before anything starts."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aurora_actors
from aurora_actors.errors import ConfigurationError, PluginError
from aurora_actors.settings import SETTINGS

SOMETHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.just(object()),
    st.lists(st.one_of(st.text(), st.integers(), st.none()), max_size=2), st.dictionaries(st.text(), st.text(), max_size=1),
)  # fmt: skip
NAMES = st.sampled_from(sorted(SETTINGS))


@st.composite
def misspelt(draw: st.DrawFn) -> str:
    """The name of a parameter with a letter too much, too few, or in the wrong place; or as it is."""
    name = draw(NAMES)
    at = draw(st.integers(1, len(name) - 1))
    head, tail = name[:at], name[at:]
    wrong = (head + tail[1:], head + tail[0] + tail, head + tail[1::-1] + tail[2:])
    return draw(st.sampled_from((name, name.upper(), *wrong)))


def connect(_: str, **parameters: Any) -> None:
    raise psycopg.OperationalError("nothing was wrong")


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(misspelt(), SOMETHING)
def test_one_clear_error(name: str, value: object) -> None:
    given: dict[str, Any] = {"host": "127.0.0.1", name: value}
    with pytest.raises((ConfigurationError, PluginError, psycopg.OperationalError)) as caught:
        aurora_actors.connect(connect, "", **given)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["wrapper_plugins", "Plugins"])
def test_plugins_count_however_the_parameter_is_spelt(name: str) -> None:
    given: dict[str, Any] = {"host": "127.0.0.1", name: "no_such_plugin"}
    with pytest.raises(ConfigurationError, match="no_such_plugin"):
        aurora_actors.connect(connect, "", **given)
