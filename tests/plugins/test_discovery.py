"""What is installed, what of it can be used, and what is said about the rest."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import aurora_actors
from aurora_actors.errors import ConfigurationError, PluginError
from aurora_actors.flow import discovery
from aurora_actors.flow.discovery import Status
from tests.plugins.conftest import MONITORS, PLUGINS, SELECTORS, Install

HEAD = "from aurora_actors.plugin import Monitor, Plugin, Setting, Sign\n"


def nowhere(*_: object, **__: object) -> Any:
    raise AssertionError("a connection was opened")


def refused(names: str = "", **parameters: Any) -> str:
    """Why ``connect()`` refuses, before anything is opened."""
    psycopg = pytest.importorskip("psycopg")
    if names:
        parameters["plugins"] = names
    with pytest.raises((ConfigurationError, PluginError)) as caught:
        aurora_actors.connect(psycopg.connect, "host=127.0.0.1 port=1", resolve=nowhere, **parameters)
    return str(caught.value)


def test_an_extension_is_found_without_being_loaded(install: Install) -> None:
    install(PLUGINS, "raise AssertionError('loaded')", {"found": "Found"})
    (record,) = (record for record in discovery.found(PLUGINS) if record.name == "found")
    assert (record.status, record.distribution, record.error) == (Status.FOUND, "acme-extras 1.2", "")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import there_is_no_such_module", "ModuleNotFoundError: No module named 'there_is_no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit('usage: acme')", "SystemExit: usage: acme"),
        ("Other = 1", "AttributeError: module"),
    ],
)
def test_one_that_does_not_load_is_an_error_for_who_names_it(install: Install, source: str, said: str) -> None:
    install(PLUGINS, source, {"broken": "Broken"})
    message = refused("broken")
    assert message.startswith("plugin 'broken' of acme-extras 1.2 cannot be used: ")
    assert said in message


def test_one_that_does_not_load_and_nobody_names_is_one_line_at_most(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(PLUGINS, "1 / 0", {"unnamed": "Broken"})
    with caplog.at_level(logging.WARNING, "aurora_actors"):
        assert discovery.plugin_classes(None)
        assert caplog.messages == []
        for _ in range(3):
            assert discovery.load(PLUGINS, "unnamed").status is Status.LOAD_ERROR
    assert caplog.messages == ["plugin unnamed of acme-extras 1.2 does not load: ZeroDivisionError: division by zero"]


PLUGIN = "class Bad(Plugin):\n    name = 'bad'\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class Bad: pass", "it is not a subclass of aurora_actors.Plugin"),
        ("Bad = Plugin(None)", "it is not a subclass of aurora_actors.Plugin"),
        ("class Bad(Monitor): name = 'bad'", "it is not a subclass of aurora_actors.Plugin"),
        ("class Bad(Plugin): pass", "it has no name"),
        (PLUGIN + "    def execute(self, call, proceed): return proceed(call)", "its hook execute is not an async def"),
        (PLUGIN + "    async def connect(self, call, proceed): yield", "its hook connect is not an async def"),
        (PLUGIN + "    recover = None", "its hook recover is not an async def"),
        (PLUGIN + "    async def execute(self, proceed): pass", "its hook execute cannot be called with (call, proceed)"),
        (PLUGIN + "    async def choose_host(self, hosts): pass", "its hook choose_host is an async def"),
        (PLUGIN + "    def switched(self, new): pass", "its hook switched cannot be called with (old, new)"),
        (PLUGIN + "    close = 1", "its hook close cannot be called with ()"),
        (PLUGIN + "    def __init__(self, context, pool): pass", "it cannot be made from a context alone"),
        (PLUGIN + "    order = 'first'", "its order is no number: 'first'"),
        (PLUGIN + "    before = 'failover'", "its before is no tuple of names: 'failover'"),
        (PLUGIN + "    parameters = {'limit': 5}", "its parameter limit is no Setting"),
        (PLUGIN + "    parameters = {'limit': Setting('limit_ms')}", "its parameter limit calls itself limit_ms"),
        (PLUGIN + "    parameters = [Setting('limit')]", "its parameters are no mapping of names to Setting"),
    ],
)
def test_a_plugin_that_cannot_work_is_refused_when_it_is_loaded(install: Install, source: str, said: str) -> None:
    install(PLUGINS, HEAD + source, {"bad": "Bad"})
    assert refused("bad") == f"plugin 'bad' of acme-extras 1.2 cannot be used: {said}"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class Bad(Plugin): name = 'bad'", "it is not a subclass of aurora_actors.Monitor"),
        ("class Bad(Monitor):\n    name = 'bad'\n    def probe(self): pass", "its hook probe is not an async def"),
        ("class Bad(Monitor):\n    name = 'bad'\n    async def probe(self, n): pass", "its hook probe cannot be called"),
        ("class Bad(Monitor):\n    async def probe(self): pass", "it has no name"),
    ],
)
def test_a_monitor_that_cannot_work_is_refused_when_it_is_loaded(install: Install, source: str, said: str) -> None:
    install(MONITORS, HEAD + source, {"bad": "Bad"})
    assert refused(monitors="sql,bad").startswith(f"monitor 'bad' of acme-extras 1.2 cannot be used: {said}")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("bad = 3", "it is no function"),
        ("class bad: pass", "it is no function"),
        ("async def bad(hosts, weights, turn, chance): pass", "it is an async def"),
        ("def bad(hosts): pass", "it cannot be called with (hosts, weights, turn, chance)"),
    ],
)
def test_a_selector_that_cannot_work_is_refused_when_it_is_loaded(install: Install, source: str, said: str) -> None:
    install(SELECTORS, source, {"bad": "bad"})
    message = refused(failover_reader_host_selector_strategy="bad")
    assert message == f"host selector 'bad' of acme-extras 1.2 cannot be used: {said}"


@pytest.mark.parametrize(
    ("group", "given"),
    [
        (PLUGINS, {"plugins": "failoverr"}),
        (MONITORS, {"monitors": "sqll"}),
        (SELECTORS, {"initial_connection_host_selector_strategy": "randon"}),
    ],
)
def test_a_misspelt_name_is_told_the_nearest(group: str, given: dict[str, str]) -> None:
    message = refused(**given)
    assert message.startswith(f"no {discovery.kind_of(group)} named '{next(iter(given.values()))}' is installed; did you")


def test_a_name_that_two_claim_is_given_to_neither(install: Install) -> None:
    source = HEAD + "class Claim(Plugin): name = 'claimed'"
    install(PLUGINS, source, {"claimed": "Claim"})
    install(PLUGINS, source, {"claimed": "Claim"}, distribution="other-extras", version="0.3")
    said = "acme-extras 1.2 and other-extras 0.3 both claim the name claimed: uninstall one"
    assert refused("claimed").endswith(f"cannot be used: {said}")
    records = [record for record in discovery.found(PLUGINS) if record.name == "claimed"]
    assert {record.distribution for record in records} == {"acme-extras 1.2", "other-extras 0.3"}
    assert {(record.status, record.error) for record in records} == {(Status.UNUSABLE, said)}


PARAMETER = (
    HEAD + "class One(Plugin):\n    name = '{name}'\n"
    "    parameters = {{'{key}': Setting('{key}', 'int', default={value})}}\n"
)


def test_two_that_declare_one_parameter_differently_are_named(install: Install) -> None:
    install(PLUGINS, PARAMETER.format(name="one", key="acme_limit", value=1), {"one": "One"})
    install(PLUGINS, PARAMETER.format(name="two", key="acme_limit", value=2), {"two": "One"}, distribution="other-extras")
    owners = "plugin one of acme-extras 1.2 and plugin two of other-extras 1.2"
    assert refused("one,two") == f"{owners} both declare the parameter acme_limit, differently"


def test_a_parameter_of_the_driver_is_not_taken(install: Install) -> None:
    install(PLUGINS, PARAMETER.format(name="greedy", key="application_name", value=1), {"greedy": "One"})
    assert refused("greedy") == (
        "plugin greedy of acme-extras 1.2 declares the parameter application_name, which is the driver's"
    )


def test_a_parameter_of_the_core_is_not_taken(install: Install) -> None:
    install(PLUGINS, PARAMETER.format(name="bold", key="failover_timeout_sec", value=1), {"bold": "One"})
    assert "failover_timeout_sec" in refused("bold")


def test_a_wrong_value_of_an_extension_s_own_parameter_is_refused(install: Install) -> None:
    install(PLUGINS, PARAMETER.format(name="strict", key="acme_limit", value=1), {"strict": "One"})
    assert refused("strict", acme_limit="many") == "acme_limit='many': expected a whole number"
    assert refused("strict", acme_limitt="2") == "unknown parameter acme_limitt; did you mean acme_limit?"


def test_plugins_that_ask_for_a_circle_are_told(install: Install) -> None:
    one, other = (
        f"class {name.upper()}(Plugin):\n    name = '{name}'\n    before = ('{next_}',)\n"
        for name, next_ in (("a", "b"), ("b", "a"))
    )
    install(PLUGINS, HEAD + one + other, {"a": "A", "b": "B"})
    assert refused("a,b") == "the plugins a, b ask to be before or after each other in a circle"
