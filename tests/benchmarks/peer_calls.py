"""What a call costs on real servers: raw, ours and the peer, each in a process of its own, in turns."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import mysql.connector

from aurora_actors.lab import MysqlLab
from aurora_actors.lab.state import StateFile
from tests.benchmarks import clients, peer
from tests.benchmarks.clients import Client
from tests.benchmarks.cost import Bystander, installed
from tests.benchmarks.harness import Beside, Plan, Spread, Table, differences
from tests.benchmarks.jobs import JOBS
from tests.benchmarks.servers import running

__all__ = ["tables"]

TIMES = {"execute + fetchone": 4000, "executemany, a row": 3000, "cursor()": 3000, "commit": 500}
ROWS, QUICK_ROWS = 100_000, 5_000
SHARE = 50
"""Ours may cost one part in so many of what the peer adds."""
DEFAULT = "initial_connection,aurora_connection_tracker,failover"
SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "raw": ("raw", {}),
    "raw again": ("raw", {}),
    "ours, none": ("ours", {"plugins": ""}),
    "ours": ("ours", {}),
    "ours, a hook": ("ours", {"plugins": f"{DEFAULT},{Bystander.name}"}),
    "peer, none": ("peer", {"plugins": ""}),
    "peer": ("peer", {}),
}


def tables(plan: Plan) -> list[Table]:
    """One table for each driver and colour."""
    return peer.installed(lambda: [*_psycopg(plan), *_mysql(plan)])


def _psycopg(plan: Plan) -> Iterator[Table]:
    users = [f"bench_{name}" for name in ("raw", "ours", "peer")]
    with running(users, hosts=2) as servers, peer.named(servers.lab) as places, installed() as path:
        for colour in ("sync", "async"):
            orders: dict[str, dict[str, Any]] = {}
            for name, (subject, parameters) in SUBJECTS.items():
                made = peer.order(servers, subject, places, do="jobs", colour=colour, parameters=parameters, path=path)
                if colour == "async" and subject != "raw":
                    # The peer's first statement through the cluster endpoint fails with asyncio; ours goes the same way.
                    user = f"bench_{subject}"
                    known = servers.lab.conninfo(
                        servers.lab.writer, user=user, password="bench", application_name=user
                    )
                    made["conninfo"] = known
                orders[name] = made
            yield _measured(plan, f"psycopg{', asyncio' if colour == 'async' else ''}", orders, JOBS)


def _mysql(plan: Plan) -> Iterator[Table]:
    clients.INTERPRETERS["connector"] = peer.connector()
    jobs = tuple(job for job in JOBS if "stream" not in job)
    with MysqlLab(hosts=2) as lab, ExitStack() as stack:
        state = lab.directory / "state.json"
        stack.enter_context(StateFile(lab, state, lab.directory / "control"))
        places, path = stack.enter_context(peer.named(lab)), stack.enter_context(installed())
        address, port = lab.address(lab.writer)
        made: Any = mysql.connector.connect(**lab.parameters(host=address, port=port), use_pure=True, autocommit=True)
        made.cursor().execute("CREATE TABLE bench (id int)")
        made.close()
        for face in ("pure", "C"):
            orders: dict[str, dict[str, Any]] = {}
            for name, (subject, parameters) in SUBJECTS.items():
                where: dict[str, Any] = {"host": address, "port": port} if subject == "raw" else {}
                known = {**lab.parameters(**where), "use_pure": face == "pure"}
                orders[name] = {
                    "subject": subject, "place": "peer" if subject == "peer" else "connector", "do": "jobs",
                    "driver": "mysql",
                    "known": known, "state": str(state), "places": str(places), "parameters": parameters, "path": path,
                }  # fmt: skip
            yield _measured(plan, f"MySQL Connector 9.7, {face}", orders, jobs)


@contextmanager
def _opened(orders: dict[str, dict[str, Any]]) -> Iterator[dict[str, Client]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(Client(one, sampled=False)) for name, one in orders.items()}


def _measured(plan: Plan, face: str, orders: dict[str, dict[str, Any]], jobs: tuple[str, ...]) -> Table:
    columns = ["raw", "raw again", *(f"{name}: added" for name in [*SUBJECTS][2:])]
    table = Table(f"{face}: CPU of a call on the lab, µs", columns)
    cannot: dict[str, str] = {}
    with _opened(orders) as opened:
        for name, client in opened.items():
            # The first calls fill caches, and have the monitors begin.
            cannot |= {name: error} if (error := client.ask("200 execute + fetchone").get("error")) else {}
        for job in jobs:
            times = TIMES.get(job, plan.count(ROWS, QUICK_ROWS))
            found: dict[str, list[float]] = {name: [] for name in SUBJECTS}
            for _ in range(plan.rounds):
                for name in random.sample([*SUBJECTS], len(SUBJECTS)):
                    answer = opened[name].ask(f"{times} {job}")
                    if "error" in answer:
                        cannot[f"{name}: {job}"] = answer["error"]
                    else:
                        found[name].append(answer["cpu"])
            _row(table, face, job, found)
            plan.say(f"calls, {face}: {job}")
    table.notes = [
        f"Median (quartiles) of {plan.rounds} rounds in shuffled order, a live process for each; CPU of all its threads.",
        "psycopg waits once a row of a stream, each time under our guard; the peer's stream goes past its plugins.",
        "added: over raw in the same round; under 'raw again' it is the noise. hook: a stranger's plugin.",
        *(f"{what} failed: {error[:160]}" for what, error in cannot.items()),
    ]
    return table


def _row(table: Table, face: str, job: str, found: dict[str, list[float]]) -> None:
    whole = {name: len(values) == len(found["raw"]) for name, values in found.items()}
    added = {
        name: Spread.of(differences(found, name, "raw"), "µs", scale=1e6, digits=2, shown="quartiles")
        for name in SUBJECTS if name != "raw" and whole[name]
    }  # fmt: skip
    raw = Spread.of(found["raw"], "µs", scale=1e6, digits=2, shown="quartiles")
    table.add(job, raw, *(added.get(name) for name in [*SUBJECTS][1:]))
    ours, theirs = added.get("ours"), added.get("peer")
    what = f"{face}: added to {job}, CPU µs"
    table.beside.append(Beside(what, ours, theirs, raw=added.get("raw again"), limit=0.0, bound="the driver's own call"))
    if job == JOBS[0] and ours is not None and theirs is not None:
        share = f"{theirs.median / ours.median:.0f}" if ours.median > 0 else "any number"
        table.target(
            f"{face}: {job} adds at most 1/{SHARE} of what the peer adds ({ours.median:.2f} of {theirs.median:.2f} µs,"
            f" 1/{share})",
            ours.median <= theirs.median / SHARE,
        )
