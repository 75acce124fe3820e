"""The command: a lab, an application, trials, and the account that decides about the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from aurora_actors.actors.names import set_resolver
from aurora_actors.actors.system import system
from aurora_actors.cli.demo import report
from aurora_actors.cli.demo.account import Rows, count, recoveries
from aurora_actors.cli.demo.application import Application
from aurora_actors.cli.demo.story import Kind, Story
from aurora_actors.cli.demo.trials import BY_NAME, USUAL, Fault, Stalled, lose_writers
from aurora_actors.cli.demo.view import View, show_account
from aurora_actors.lab import LabError
from aurora_actors.lab.nemesis.colours import COLOURS
from aurora_actors.lab.nemesis.engines import ENGINES, Engine

__all__ = ["demo"]

CALM_SECONDS = 2.0
"""How long the application works undisturbed before and after each loss: enough to see its usual throughput."""

USUAL_FAULTS = ",".join(fault.value for fault in USUAL)

T = TypeVar("T")


def _named(known: Mapping[str, object]) -> str:
    return ", ".join(known)


def _chosen(what: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise typer.BadParameter(f"no {what} {name!r} in this version; there is {_named(known)}")
    return known[name]


def demo(
    connections: Annotated[int, typer.Option(min=1, help="Connections of the application.")] = 20,
    faults: Annotated[
        str, typer.Option(metavar="FAULT,…", help=f"How the writer is lost, time after time: {_named(BY_NAME)}.")
    ] = USUAL_FAULTS,
    engine: Annotated[str, typer.Option(envvar="ENGINE", help=f"The database: {_named(ENGINES)}.")] = "postgres",
    colour: Annotated[
        str, typer.Option(envvar="COLOUR", help="The application: on threads (sync) or asyncio (async).")
    ] = "sync",
    sabotage: Annotated[
        bool, typer.Option(envvar="SABOTAGE", help="Drop one acknowledged row and repeat one: the account must fail.")
    ] = False,
    calm: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Undisturbed work before and after each loss.")
    ] = CALM_SECONDS,
    report_path: Annotated[
        Path, typer.Option("--report", metavar="FILE", help="Where the report goes, one HTML file.")
    ] = Path("demo-report.html"),
) -> None:
    """Take a local cluster's writer away from an application, time after time, and account for its rows."""
    chosen_engine, chosen_colour = _chosen("engine", engine, ENGINES), _chosen("colour", colour, COLOURS)
    chosen_faults = tuple(_chosen("fault", name.strip(), BY_NAME) for name in faults.split(","))
    console = Console()
    console.print(f"starting three hosts of {chosen_engine.title} …")
    try:
        with chosen_engine.lab() as lab:
            before = set_resolver(lab.resolve)
            try:
                with chosen_engine.connect(lab) as conn:
                    _prepare(conn, chosen_engine)
                application = Application(lab, chosen_engine, chosen_colour(), connections)
                balanced = _run(console, application, chosen_faults, calm, report_path, sabotage=sabotage)
            finally:
                set_resolver(before)
                system.stop()
    except LabError as error:
        console.print(f"the lab: {error}", highlight=False, markup=False)
        raise typer.Exit(2) from None
    if not balanced:
        raise typer.Exit(1)


def _run(
    console: Console, application: Application, faults: tuple[Fault, ...], calm: float, path: Path, *, sabotage: bool
) -> bool:
    lab = application.lab
    view = View(console)
    story = Story(lab, application.began, view.tell)
    failures: list[str] = []
    with story.listening(), view.showing(story, application):
        application.start()
        story.tell(Kind.PHASE, f"{len(application.clients)} connections insert and read, on {application.colour.title}")
        try:
            lose_writers(faults, lab, application, story, calm)
        except Stalled as error:
            failures.append(str(error))
        except BaseException:
            # Nobody promotes a host any more: what waits for one would wait in vain.
            application.stop(0.0)
            raise
        application.stop()
    if sabotage:
        console.print("sabotage: one acknowledged row is dropped, and one is repeated")
    rows = _count(application, sabotage=sabotage)
    failures += application.failures
    found = recoveries(story.losses, story.switches, application.marks, story.moments)
    show_account(console, found, rows, failures)
    report.write(path, report.of(application, story, found, rows, failures))
    console.print(f"report: {path.resolve()}", highlight=False, markup=False, soft_wrap=True)
    return rows.balanced and not failures


def _prepare(conn: Any, engine: Engine) -> None:
    cursor = conn.cursor()
    for sql in engine.create:
        cursor.execute(sql)
    cursor.close()


def _count(application: Application, *, sabotage: bool) -> Rows:
    engine, acknowledged = application.engine, application.acknowledged
    unread = sum(len(client.unread) for client in application.clients)
    with engine.connect(application.lab) as conn:
        cursor = conn.cursor()
        if sabotage:
            for row in acknowledged[:1]:
                cursor.execute(engine.delete, (row,))
            for row in acknowledged[1:2]:
                cursor.execute(engine.insert, (row,))
        cursor.execute(engine.everything)
        stored = [row[0] for row in cursor.fetchall()]
        cursor.close()
    return count(acknowledged, stored, unread)
