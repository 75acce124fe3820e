"""The first connection, from the endpoint that was given to the host that it should be on: each case in both colours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from aurora_actors import errors, signals
from aurora_actors.actors.asking import DeadlineExceeded
from aurora_actors.actors.base import ActorStopped
from aurora_actors.actors.system import system
from aurora_actors.flow.opening import Plan, opened
from aurora_actors.model.failover import Mode
from aurora_actors.model.hosts import Role
from aurora_actors.plugin import Connect, Plugin, Proceed
from tests.flow.stage import COLOURS, PORT, SECONDS, ZONE, Refused, Stage, host, stage

W, R = Role.WRITER, Role.READER
WRITER, READER = f"database.cluster-{ZONE}", f"database.cluster-ro-{ZONE}"
UNDEFINED = psycopg.errors.UndefinedFunction("there is no aurora_replica_status")
DOWN = psycopg.OperationalError("connection refused")


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    system.stop(0.0)
    yield
    system.stop(0.0)


@dataclass(frozen=True)
class Case:
    """What is given and scripted; the story that follows; the host that the connection is on, or the error."""

    endpoint: str
    story: list[str]
    on: str | type[Exception]
    leads: dict[str, str] = field(default_factory=lambda: {WRITER: "db-1", READER: "db-2"})
    roles: dict[str, Role] = field(default_factory=lambda: {"db-1": W, "db-2": R, "db-3": R})
    script: dict[str, Any] = field(default_factory=dict[str, Any])
    given: dict[str, Any] = field(default_factory=dict[str, Any])
    asked: bool = True
    dialect: str | None = None
    mode: Mode = Mode.STRICT_WRITER
    known: bool = False
    clustered: bool = True


CASES = {
    "a writer endpoint that leads to the writer": Case(WRITER, ["connect db-1", "ask db-1"], "db-1"),
    "an instance endpoint is taken at its word": Case(
        f"db-2.{ZONE}", ["connect db-2", "detect db-2", "ask db-2"], "db-2"
    ),
    "with the dialect given nothing is detected": Case(
        f"db-2.{ZONE}", ["connect db-2", "ask db-2"], "db-2", dialect="aurora-pg"
    ),
    "a writer endpoint whose DNS lags": Case(
        WRITER,
        ["connect db-2", "ask db-2", "find strict_writer", "connect db-1", "ask db-1", "discard db-2"],
        "db-1",
        leads={WRITER: "db-2"},
        script={"answers": [(host("db-1", W),)]},
    ),
    "the host that was found is no writer either": Case(
        WRITER,
        [
            *("connect db-2", "ask db-2", "find strict_writer", "connect db-3", "ask db-3", "discard db-3", "sleep 0.025"),
            *("find strict_writer", "connect db-1", "ask db-1", "discard db-2"),
        ],
        "db-1",
        leads={WRITER: "db-2"},
        script={"answers": [(host("db-3", W),), (host("db-1", W),)]},
    ),
    "nobody writes within the limit": Case(
        WRITER,
        ["connect db-2", "ask db-2", "find strict_writer", "sleep 0.018", "find strict_writer", "discard db-2"],
        errors.FailoverFailedError,
        leads={WRITER: "db-2"},
        script={"answers": [DeadlineExceeded("late"), DeadlineExceeded("late")]},
        given={"open_connection_retry_timeout_ms": 20},
    ),
    "a reader endpoint that leads to a reader": Case(
        READER, ["connect db-2", "ask db-2"], "db-2", mode=Mode.READER_OR_WRITER
    ),
    "a reader endpoint that leads to the writer": Case(
        READER,
        ["connect db-1", "ask db-1", "connect db-2", "ask db-2", "discard db-1"],
        "db-2",
        leads={READER: "db-1"},
        mode=Mode.READER_OR_WRITER,
    ),
    "a reader endpoint of a cluster whose reader is down": Case(
        READER,
        ["connect db-1", "ask db-1", "connect db-2"],
        "db-1",
        leads={READER: "db-1"},
        roles={"db-1": W, "db-2": R},
        script={"fails": {"db-2": [DOWN]}},
        mode=Mode.READER_OR_WRITER,
    ),
    "a reader endpoint of a cluster one of whose readers is down": Case(
        READER,
        ["connect db-1", "ask db-1", "connect db-2", "connect db-3", "ask db-3", "discard db-1"],
        "db-3",
        leads={READER: "db-1"},
        script={"fails": {"db-2": [DOWN]}},
        mode=Mode.READER_OR_WRITER,
    ),
    "a reader endpoint of a cluster without readers": Case(
        READER, ["connect db-1", "ask db-1"], "db-1", leads={READER: "db-1"}, roles={"db-1": W}
    ),
    "an endpoint that cannot be reached is the driver's error": Case(
        WRITER, ["connect db-1"], psycopg.OperationalError, script={"fails": {"db-1": [DOWN]}}
    ),
    "a refused login is the driver's error": Case(
        WRITER, ["connect db-1"], Refused, script={"fails": {"db-1": [Refused("FATAL: password")]}}
    ),
    "a cluster endpoint of a database that is no Aurora": Case(
        WRITER, ["connect db-1", "ask db-1", "detect db-1", "ask db-1"], WRITER, script={"flavour": "pg"}
    ),
    "a connection that dies under the question stays the driver's": Case(
        WRITER,
        ["connect db-1", "ask db-1", "detect db-1"],
        WRITER,
        script={"query_fails": [UNDEFINED, DOWN]},
    ),
    "a connection that does not answer the question is replaced by one that was asked nothing": Case(
        WRITER,
        ["connect db-1", "ask db-1", "discard db-1", "connect db-1"],
        WRITER,
        script={"query_fails": [DeadlineExceeded("late")]},
    ),
    "a dialect that does not fit is said": Case(
        WRITER,
        ["connect db-1", "ask db-1", "discard db-1"],
        errors.ConfigurationError,
        script={"flavour": "pg"},
        dialect="aurora-pg",
    ),
    "a plain database is asked nothing": Case(
        "127.0.0.1", ["connect db-9"], "127.0.0.1", leads={"127.0.0.1": "db-9"}, roles={"db-9": W}, asked=False,
        clustered=False,
    ),
    "a name of the user's own may be an alias of a cluster's": Case(
        "orders.example.com",
        ["canonical orders.example.com", "connect db-1", "ask db-1"],
        "db-1",
        leads={"orders.example.com": "db-1"},
        script={"aliases": {"orders.example.com": WRITER}},
        asked=False,
    ),
    "a name of the user's own that is none": Case(
        "orders.example.com",
        ["canonical orders.example.com", "connect db-1"],
        "orders.example.com",
        leads={"orders.example.com": "db-1"},
        asked=False,
        clustered=False,
    ),
    "a known cluster is gone straight to its writer": Case(WRITER, ["connect db-1", "ask db-1"], "db-1", known=True),
    "a known writer that is down: the endpoint is tried": Case(
        WRITER,
        ["connect db-1", "connect db-3", "ask db-3"],
        "db-3",
        leads={WRITER: "db-3"},
        roles={"db-1": R, "db-2": R, "db-3": W},
        script={"fails": {"db-1": [DOWN]}},
        known=True,
    ),
    "a known writer that has become a reader: the endpoint is tried": Case(
        WRITER,
        ["connect db-1", "ask db-1", "discard db-1", "connect db-3", "ask db-3"],
        "db-3",
        leads={WRITER: "db-3"},
        roles={"db-1": R, "db-2": R, "db-3": W},
        known=True,
    ),
    "the first connect fails over where that was asked for": Case(
        WRITER,
        ["connect db-1", "connect db-1", "find strict_writer", "connect db-3", "ask db-3"],
        "db-3",
        roles={"db-2": R, "db-3": W},
        script={"answers": [(host("db-3", W),)]},
        given={"enable_connect_failover": True},
        known=True,
    ),
    "and not where it was not": Case(
        WRITER, ["connect db-1", "connect db-1"], psycopg.OperationalError, roles={"db-2": R, "db-3": W}, known=True
    ),
    "the topology is waited for as long as was given": Case(
        f"db-2.{ZONE}",
        ["connect db-2", "detect db-2", "ask db-2", "refresh", "sleep 0.013"],
        "db-2",
        script={"answers": [None]},
        given={"wait_for_initial_topology_ms": 15},
    ),
    "a broken machinery does not keep the topology's waiter": Case(
        f"db-2.{ZONE}",
        ["connect db-2", "detect db-2", "ask db-2", "refresh"],
        "db-2",
        script={"answers": [ActorStopped("it crashed")]},
        given={"wait_for_initial_topology_ms": 1000},
    ),
}


def opening(made: Stage, case: Case, plugins: tuple[type[Plugin], ...] = ()) -> tuple[Any, Any]:
    plan = Plan(((case.endpoint, PORT),), "pg", "", case.asked, True, case.dialect, None)
    if case.known:
        first = made.cluster("db-1")
        cluster = system.join(plan.seed, first.identity, lambda: made.cluster("db-1"))
        assert cluster.cell.standing.settled
    proxy = made.proxy(case.endpoint, mode=case.mode, plugins=plugins, **case.given)
    return proxy, made.run(opened(proxy, plan))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", CASES)
def test_opening(name: str, colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    script = {key: value.copy() for key, value in case.script.items() if not isinstance(value, str)}
    if "fails" in script:
        script["fails"] = {host: list(errors) for host, errors in script["fails"].items()}
    script |= {key: value for key, value in case.script.items() if isinstance(value, str)}
    roles = dict(case.roles)
    with stage(colour, monkeypatch, roles=roles, leads=case.leads, **script) as (made, told):
        if case.known and "db-1" not in roles:
            made.roles["db-1"] = W
            first = made.cluster("db-1")
            system.join(("pg", "", case.endpoint, PORT), first.identity, lambda: first)
            del made.roles["db-1"]
        if isinstance(case.on, str):
            proxy, wire = opening(made, case)
            assert made.story == case.story
            assert proxy.host.endpoint.partition(".")[0] == case.on.partition(".")[0]
            assert proxy.wire is wire
            assert (proxy.control is not None) is clustered(case)
            proxy.closed()
        else:
            with pytest.raises(case.on) as caught:
                opening(made, case)
            assert made.story == case.story
            if not issubclass(case.on, errors.AwsWrapperError):
                assert isinstance(caught.value, psycopg.OperationalError)
        assert signals.settle(SECONDS)
        names = [signal for signal, _ in told]
        assert names.count("connection_opened") == names.count("connection_closed")
        assert names.count("connection_opened") == (isinstance(case.on, str) and clustered(case))
        assert all(cluster.leases == 0 for cluster in system.clusters)


def clustered(case: Case) -> bool:
    return case.clustered and not case.script.get("query_fails")


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("step", ["ask db-2", "find strict_writer", "ask db-1"])
def test_an_interrupted_opening_leaves_no_connection(step: str, colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a thread, a cancelled task in asyncio."""

    def interrupt(entry: str) -> None:
        if entry == step:
            if colour == "thread":
                raise KeyboardInterrupt
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    case = CASES["a writer endpoint whose DNS lags"]
    kind: type[BaseException] = KeyboardInterrupt if colour == "thread" else asyncio.CancelledError
    script: dict[str, Any] = {"roles": dict(case.roles), "leads": case.leads, "answers": [(host("db-1", W),)]}
    with stage(colour, monkeypatch, **script, before=interrupt) as (made, _):
        with pytest.raises(kind):
            opening(made, case)
        opened_hosts = [entry.split()[1] for entry in made.story if entry.startswith("connect")]
        discarded = [entry.split()[1] for entry in made.story if entry.startswith("discard")]
        assert set(discarded) == set(opened_hosts)
        assert all(cluster.leases == 0 for cluster in system.clusters)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_plugin_s_connect_hook_sees_every_opening_and_may_change_it(
    colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str | None, bool]] = []

    class Redirecting(Plugin):
        name = "redirecting"

        async def connect(self, call: Connect, proceed: Proceed[Connect, Any]) -> Any:
            calls.append((call.host.id if call.host else None, call.initial))
            await self.context.sleep(0.5)
            return await proceed(Connect(call.host, {**call.parameters, "host": f"db-1.{ZONE}"}, call.initial))

    case = CASES["a writer endpoint whose DNS lags"]
    with stage(colour, monkeypatch, roles=dict(case.roles), leads=case.leads) as (made, _):
        proxy, _ = opening(made, case, (Redirecting,))
        assert made.story == ["sleep 0.500", "connect db-1", "ask db-1"]
        assert calls == [(None, True)]
        proxy.closed()


@pytest.mark.parametrize("colour", COLOURS)
def test_behind_a_proxy_names_are_not_guessed_and_one_warning_says_what_to_give(
    colour: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"app-{colour}.proxy-{ZONE}"
    case = Case(name, [], name, leads={name: "db-1"})
    with stage(colour, monkeypatch, roles=dict(case.roles), leads=case.leads) as (made, _):
        for _ in range(2):
            proxy, _ = opening(made, case)
            assert proxy.host.endpoint == name
            assert [each.endpoint for each in proxy.control.cell.view.topology.hosts] == [name]
            proxy.closed()
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert "cluster_instance_host_pattern" in warned[0]
