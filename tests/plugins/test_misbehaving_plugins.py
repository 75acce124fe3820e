"""Plugins that fail on a real server: the application is no worse off, and is told once whose plugin it was."""

from __future__ import annotations

import asyncio
import logging
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import aurora_actors
import aurora_actors.aio
from aurora_actors import FailoverSuccessError, signals
from aurora_actors.actors.system import system
from aurora_actors.errors import PluginError
from aurora_actors.lab import PostgresLab
from aurora_actors.testing import Recording, recorded
from tests.plugins.conftest import PLUGINS, SELECTORS, Install

HEAD = """
import asyncio
import time
from dataclasses import replace
import psycopg
from aurora_actors import errors
from aurora_actors.plugin import Detection, Host, Plugin

class Bad(Plugin):
    name = "{module}"
    order = 100  # outside of failover
"""


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    system.stop(5.0)
    yield
    system.stop(5.0)


def installed(install: Install, hook: str) -> str:
    """Install a plugin whose only hook is *hook*; its name."""
    return install(PLUGINS, HEAD + textwrap.indent(textwrap.dedent(hook), "    "), {"{module}": "Bad"})


def connect(lab: PostgresLab, plugins: str, endpoint: str = "writer", **parameters: Any) -> Any:
    given = {"plugins": plugins, "autocommit": True, **parameters}
    return aurora_actors.connect(psycopg.connect, lab.conninfo(endpoint), **given)


def one(conn: Any) -> None:
    assert conn.execute("SELECT 1").fetchone() == (1,)


def only(failures: Recording[signals.PluginFailed], name: str, *said: str) -> None:
    """One failure, of that plugin, with its distribution, and these words."""
    (failure,) = failures.so_far()
    assert (failure.plugin, failure.distribution) == (name, "acme-extras 1.2")
    for words in said:
        assert words in failure.error


def test_one_that_cannot_be_made_is_an_error_of_connect(install: Install) -> None:
    name = installed(install, "def __init__(self, context): raise KeyError('no settings')")
    with pytest.raises(PluginError) as caught:
        aurora_actors.connect(psycopg.connect, "host=127.0.0.1 port=1", plugins=name)
    assert str(caught.value) == f"plugin {name} of acme-extras 1.2 cannot be made: KeyError: 'no settings'"
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_plugin_may_refuse_its_connection_in_words_of_its_own(install: Install) -> None:
    name = installed(install, "def __init__(self, context): raise errors.ConfigurationError('a and b contradict')")
    with pytest.raises(aurora_actors.ConfigurationError, match=r"^a and b contradict$"):
        aurora_actors.connect(psycopg.connect, "host=127.0.0.1 port=1", plugins=name)


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("async def execute(self, call, proceed): raise KeyError('tag')", "execute: KeyError: 'tag'"),
        ("async def execute(self, call, proceed):\n    await proceed(call)\n    1 / 0", "execute: ZeroDivisionError"),
        ("async def execute(self, call, proceed):\n    return proceed(call)", "it has to await proceed(call)"),
        ("async def execute(self, call, proceed):\n    return (x for x in await proceed(call))", "execute: TypeError"),
        ("async def execute(self, call, proceed):\n    await asyncio.sleep(0)\n    await proceed(call)", "FlowError"),
        ("async def execute(self, call, proceed):\n    await self.context.blocking(asyncio.sleep, 0)", "async def"),
        ("async def connect(self, call, proceed): raise KeyError('token')", "connect: KeyError: 'token'"),
        ("async def connect(self, call, proceed): await proceed(call)", "connect: TypeError"),
        ("async def connect(self, call, proceed):\n    await proceed(call)\n    return 42", "gave int, which is no result"),
        ("async def connect(self, call, proceed):\n    await asyncio.sleep(0)\n    await proceed(call)", "FlowError"),
        ("def detection(self): raise KeyError('detection')", "detection: KeyError: 'detection'"),
        ("def detection(self): return 5", "detection: it gave int, which is no Detection"),
        ("def detection(self): return Detection(1, 0, 3, ('sql',))", "probes need a pause"),
        ("def detection(self): return Detection(1, 1, 3, ('moon',))", "it wants the monitors moon"),
        ("def detection(self): return Detection(1, 1, 3, ())", "it wants the monitors none"),
        ("def detection(self): time.sleep(0.3)", "it blocked for 0.3 s"),
        ("def close(self): raise KeyError('close')", "close: KeyError: 'close'"),
    ],
)
def test_a_hook_that_fails_costs_nobody_a_statement(
    install: Install, aurora_lab: PostgresLab, failures: Recording[signals.PluginFailed], hook: str, said: str
) -> None:
    name = installed(install, hook)
    for _ in range(2):
        with connect(aurora_lab, f"failover,{name}") as conn:
            one(conn)
            with conn.transaction(), conn.cursor(name="many") as cursor:
                assert len(cursor.execute("SELECT generate_series(1, 10)").fetchall()) == 10
            with pytest.raises(psycopg.errors.UndefinedTable):
                conn.execute("SELECT * FROM nowhere")
            one(conn)
    only(failures, name, said)


def test_what_the_driver_raised_goes_on_though_the_hook_fails_over_it(
    install: Install, aurora_lab: PostgresLab, failures: Recording[signals.PluginFailed]
) -> None:
    name = installed(
        install,
        """
        async def execute(self, call, proceed):
            try:
                return await proceed(call)
            except Exception as error:
                raise KeyError(error.no_such_thing) from error
        """,
    )
    with connect(aurora_lab, name) as conn:
        with pytest.raises(psycopg.errors.UndefinedTable) as caught:
            conn.execute("SELECT * FROM nowhere")
        assert caught.value.diag.sqlstate == "42P01"
        one(conn)
    only(failures, name, "AttributeError")


@pytest.mark.parametrize("error", ["errors.NotSupportedError", "psycopg.NotSupportedError"])
def test_a_hook_may_refuse_a_statement_in_the_terms_of_pep_249(
    install: Install, aurora_lab: PostgresLab, failures: Recording[signals.PluginFailed], error: str
) -> None:
    name = installed(
        install,
        f"""
        async def execute(self, call, proceed):
            if "secrets" in call.operation.statement:
                raise {error}("nobody reads that here")
            return await proceed(call)
        """,
    )
    with connect(aurora_lab, name) as conn:
        with pytest.raises((aurora_actors.NotSupportedError, psycopg.NotSupportedError), match="nobody reads that"):
            conn.execute("SELECT * FROM secrets")
        one(conn)
    assert failures.so_far() == ()


def test_what_fails_before_the_login_stands_beside_the_driver_s_error(
    install: Install, aurora_lab: PostgresLab, failures: Recording[signals.PluginFailed]
) -> None:
    name = installed(install, "async def connect(self, call, proceed): raise KeyError('no token')")
    with pytest.raises(psycopg.OperationalError) as caught:
        connect(aurora_lab, name, dbname="nowhere")
    assert caught.value.__notes__ == ["before that, Bad.connect failed: KeyError: 'no token'"]
    only(failures, name, "no token")


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("async def recover(self, call, proceed): raise KeyError('recover')", "recover: KeyError"),
        ("async def recover(self, call, proceed): await proceed(call)", "gave NoneType, which is no result"),
        ("async def recover(self, call, proceed):\n    await proceed(call)\n    return 'lost'", "gave str"),
        ("async def recover(self, call, proceed):\n    return proceed(call)", "it has to await proceed(call)"),
        ("async def connect(self, call, proceed):\n    call.initial or 1 / 0\n    return await proceed(call)", "Zero"),
        ("def choose_host(self, hosts): raise KeyError('choose')", "choose_host: KeyError"),
        ("def choose_host(self, hosts): return hosts", "it chose (Host("),
        ("def choose_host(self, hosts): return Host('moon', 'moon', 1)", "it chose Host(id='moon'"),
        ("def choose_host(self, hosts): time.sleep(0.3)", "it blocked for 0.3 s"),
        ("def switched(self, old, new): raise KeyError('switched')", "switched: KeyError"),
    ],
)
def test_a_hook_that_fails_costs_nobody_a_failover(
    install: Install, aurora_lab: PostgresLab, failures: Recording[signals.PluginFailed], hook: str, said: str
) -> None:
    name = installed(install, hook)
    with connect(aurora_lab, f"{name},failover") as conn:
        aurora_lab.failover(how="crash")
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert conn.execute("SELECT aurora_db_instance_identifier()").fetchone() == (aurora_lab.writer,)
    only(failures, name, said)


def test_a_hook_that_fails_costs_no_task_a_statement(
    install: Install, aurora_lab: PostgresLab, failures: Recording[signals.PluginFailed]
) -> None:
    name = installed(
        install,
        """
        async def execute(self, call, proceed):
            await asyncio.sleep(0)
            await proceed(call)
            raise KeyError("tag")
        """,
    )

    async def use() -> None:
        async with await aurora_actors.aio.connect(
            psycopg.AsyncConnection.connect, aurora_lab.conninfo(), plugins=name, autocommit=True
        ) as conn:
            cursor = await conn.execute("SELECT 1")
            assert await cursor.fetchone() == (1,)

    asyncio.run(use())
    only(failures, name, "execute: KeyError: 'tag'")


SELECTOR = "from aurora_actors.plugin import Host\n\ndef bad(hosts, weights, turn, chance):\n    "


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('zone')", "choosing: KeyError: 'zone'"),
        ("return None", "it chose None"),
        ("return hosts[0].id", "it chose 'database-"),
        ("return Host('moon', 'moon', 1)", "it chose Host(id='moon'"),
    ],
)
def test_a_selector_that_fails_costs_nobody_a_reader(
    install: Install, aurora_lab: PostgresLab, failures: Recording[signals.PluginFailed], body: str, said: str
) -> None:
    name = install(SELECTORS, SELECTOR + body, {"{module}": "bad"})
    strategy = {"initial_connection_host_selector_strategy": name}
    # Who comes first to an endpoint takes what its name leads to; the strategy is asked once the cluster is known by it.
    with (
        connect(aurora_lab, "failover"),
        connect(aurora_lab, "failover", "reader"),
        connect(aurora_lab, "failover", "reader", **strategy) as conn,
    ):
        host = conn.execute("SELECT aurora_db_instance_identifier()").fetchone()[0]
        assert host in aurora_lab.readers
    only(failures, name, said)


def test_fetching_once_for_many_lets_nobody_wait_for_one_that_fails(install: Install, aurora_lab: PostgresLab) -> None:
    name = installed(
        install,
        """
        async def connect(self, call, proceed):
            def fetch():
                raise errors.OperationalError("no token today")
            await self.context.once("token", fetch)
        """,
    )
    for _ in range(2):
        with pytest.raises(aurora_actors.OperationalError, match="no token today"):
            connect(aurora_lab, name)


def test_receivers_with_a_wrong_signature_delay_and_break_nothing(
    aurora_lab: PostgresLab, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(event: object) -> None:
        raise AssertionError("it cannot be called")

    signals.writer_changed.connect(wrong)
    signals.connection_opened.connect(wrong)
    with (
        recorded(signals.writer_changed) as changes,
        caplog.at_level(logging.ERROR, "aurora_actors.signals"),
        connect(aurora_lab, "failover") as conn,
    ):
        aurora_lab.failover(how="crash")
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        one(conn)
        (change,) = changes.first()
        assert change.new_writer is not None
        assert change.new_writer.id == aurora_lab.writer
        changes.so_far()
    assert any("wrong, a receiver of writer_changed, raised" in message for message in caplog.messages)
    assert threading.active_count() > 1
