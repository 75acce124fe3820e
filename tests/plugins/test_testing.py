"""What `aurora_actors.testing` gives to the authors of extensions."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from aurora_actors import signals
from aurora_actors.errors import ConfigurationError, PluginError
from aurora_actors.plugin import Execute, Fault, Host, Monitor, Operation, Plugin, Proceed, Recover, Setting, Sign
from aurora_actors.testing import Answer, PluginScript, check, probed, recorded, run, settle

HOST = Host("orders-1", "127.0.0.1", 1)


def failure(number: int) -> signals.PluginFailed:
    return signals.PluginFailed(f"plugin {number}", "acme 1.0", "", 0.0)


class Tagging(Plugin):
    """Uses all of its context."""

    name = "tagging"
    parameters = {  # noqa: RUF012 - nobody changes it
        "tagging_depth": Setting("tagging_depth", "int", default=3, least=1),
        "failover_timeout_sec": Setting("failover_timeout_sec", "float", available=False),
    }

    async def execute(self, call: Execute, proceed: Proceed[Execute, Any]) -> Any:
        await self.context.sleep(0.5)
        tag = await self.context.once("tag", lambda: "once")
        depth = await self.context.blocking(int, self.context.plugin_settings["tagging_depth"])
        return tag, depth, await proceed(dataclasses.replace(call, host=HOST))

    async def recover(self, call: Recover, proceed: Proceed[Recover, Exception]) -> Exception:
        return await self.context.fail_over(call)


class OwnName(Tagging):
    """The same with a parameter that is nobody else's."""

    name = "own_name"
    parameters = {"tagging_depth": Tagging.parameters["tagging_depth"]}  # noqa: RUF012 - nobody changes it


def test_events_are_recorded_in_their_order_while_the_block_runs() -> None:
    with recorded(signals.plugin_failed) as events:
        for number in range(3):
            signals.emit(signals.plugin_failed, "orders", failure(number))
        assert events.so_far() == (failure(0), failure(1), failure(2))
        assert events.first(2) == (failure(0), failure(1))
    signals.emit(signals.plugin_failed, "orders", failure(3))
    assert settle(10.0)
    assert len(events.so_far()) == 3


def test_events_that_do_not_come_are_an_error_of_the_test() -> None:
    with recorded(signals.plugin_failed) as events, pytest.raises(AssertionError, match=r"^0 of 1 events came"):
        events.first(seconds=0.01)


@pytest.mark.parametrize("runner", [run, asyncio.run])
def test_a_script_stands_for_a_connection(runner: Any) -> None:
    script = PluginScript(OwnName, host=HOST, tagging_depth="5")
    plugin, proceed = OwnName(script), Answer("rows")
    call = Execute(Operation("execute", "SELECT 1"), None)
    assert runner(plugin.execute(call, proceed)) == ("once", 5, "rows")
    assert proceed.calls == [dataclasses.replace(call, host=HOST)]
    assert script.slept == [0.5]
    lost = Recover(ConnectionError("gone"), Fault.CONNECTION_LOST, call.operation, 0.0)
    assert runner(plugin.recover(lost, Answer())) is lost.error
    script.outcome = OSError("moved")
    assert runner(plugin.recover(lost, Answer())) is script.outcome
    assert script.failed_over == [lost, lost]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"tagging_depth": 0}, "expected a whole number from 1"), ({"colour": "red"}, "unknown parameters: colour")],
)
def test_a_script_reads_parameters_as_connect_does(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        PluginScript(OwnName, **parameters)


def test_a_parameter_of_the_core_is_refused_by_a_script_too() -> None:
    with pytest.raises(ConfigurationError, match="failover_timeout_sec"):
        PluginScript(Tagging)


class Nameless(Monitor):
    """Has no name."""


def any_host(hosts: Any) -> Any:
    return hosts[0]


@pytest.mark.parametrize(
    ("extension", "said"),
    [
        (Nameless, "Nameless cannot be used: it has no name"),
        (any_host, "any_host cannot be used: it cannot be called with (hosts, weights, turn, chance)"),
        (Sign, "Sign cannot be used: it is not a subclass of aurora_actors.Plugin"),
    ],
)
def test_what_cannot_be_used_is_said(extension: Any, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        check(extension)
    assert str(caught.value) == said


class Broken(Monitor):
    """Fails otherwise than a probe may."""

    name = "broken"

    async def probe(self) -> Sign:
        raise KeyError("status")


def test_what_production_would_report_is_raised() -> None:
    with pytest.raises(KeyError, match="status"):
        probed(Broken, HOST)
