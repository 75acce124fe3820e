"""``aurora-actors lab``: run a local cluster that behaves like Aurora, and do to it what happens to clusters."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from aurora_actors.cli.lab_operations import HostId, Name, add_to
from aurora_actors.lab.control import Control, ask
from aurora_actors.lab.state import LabState, StateFile, read_state, runtime_directory, state_path
from aurora_actors.lab.values import CA_FILE, HostStatus, LabError

if TYPE_CHECKING:
    from aurora_actors.lab.lab import Lab

__all__ = ["app"]

UP_SECONDS = 120.0
"""The first start on a machine makes the template; the others take about a second."""
DOWN_SECONDS = 60.0
LOOK_SECONDS = 0.05
END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

app = typer.Typer(help="Run a local cluster that behaves like Aurora.", no_args_is_help=True)
console = Console()


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the lab cannot do into one line and exit code 1."""
    try:
        yield
    except LabError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(f"aurora-actors lab: {message}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)


@app.command()
def up(
    name: Name = "database",
    hosts: Annotated[int, typer.Option(min=1, max=16, help="How many; the first one writes.")] = 3,
    engine: Annotated[Literal["postgresql", "mysql"], typer.Option(help="Which engine's Aurora.")] = "postgresql",
    version: Annotated[int | None, typer.Option(help="PostgreSQL's major version; default: 18.")] = None,
    server: Annotated[
        Literal["mariadb", "mysql"] | None, typer.Option(help="What stands for Aurora MySQL; default: mariadb.")
    ] = None,
    habit: Annotated[
        Literal["keep", "drop", "restart"], typer.Option(help="What a promotion does to the promoted host's sessions.")
    ] = "keep",
    flavour: Annotated[
        Literal["aurora", "multi-az", "plain"],
        typer.Option(help="multi-az: an RDS Multi-AZ DB cluster; plain: community PostgreSQL."),
    ] = "aurora",
    restart_seconds: Annotated[float, typer.Option(min=0, help="How long the habit 'restart' takes.")] = 2.0,
    stale_topology_seconds: Annotated[
        float, typer.Option(min=0, help="Readers tell the old topology for so long.")
    ] = 0.0,
    dns_lag_seconds: Annotated[float, typer.Option(min=0, help="Names lead where they led for so long.")] = 0.0,
    domain: Annotated[str, typer.Option(help="Zone id and region of the names.")] = "xyz.us-east-1.rds.amazonaws.com",
    user: Annotated[str, typer.Option(help="Whom applications log in as.")] = "john",
    password: Annotated[str, typer.Option(help="For a cluster on loopback addresses.")] = "pwd",  # noqa: S107 - on loopback addresses
    database: Annotated[str, typer.Option(help="The application's database.")] = "db",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: the engine's usual port if free.")] = None,
    directory: Annotated[str | None, typer.Option(help="Where its data goes; default: in memory if there is room.")] = None,
    asynchronous: Annotated[bool, typer.Option(help="Commits wait for no reader: a failover may lose some.")] = False,
    tls: Annotated[bool, typer.Option("--tls", help="Clients may speak TLS; 'env' tells the authority's file.")] = False,
    token_user: Annotated[str, typer.Option(help="Who logs in with an IAM token; needs --tls.")] = "",
    detach: Annotated[bool, typer.Option(help="Return once it is up; 'down' ends it.")] = False,
) -> None:
    """Start a lab and keep it until Ctrl-C, or until 'down'."""
    options = {
        "engine": engine, "hosts": hosts, "version": version, "server": server, "name": name,
        "domain": domain, "user": user, "password": password,
        "database": database, "habit": habit, "flavour": flavour, "restart_seconds": restart_seconds,
        "stale_topology_seconds": stale_topology_seconds, "dns_lag_seconds": dns_lag_seconds, "port": port,
        "directory": directory, "asynchronous": asynchronous,
        "tls": tls, "token_user": token_user or None,
    }  # fmt: skip
    with _told():
        if (engine == "mysql" and version is not None) or (engine != "mysql" and server is not None):
            raise LabError("--version is PostgreSQL's, --server is MySQL's")
        if _running(name):
            raise LabError(f"the lab {name!r} is up already; see 'aurora-actors lab status', or choose another --name")
        if detach:
            _detach(name, options)
        else:
            _run(name, options)


class _Ended(BaseException):
    """A signal asked for the end."""


def _end(number: int, _frame: object) -> NoReturn:
    # Once: a second Ctrl-C must not leave half of the lab behind.
    for other in END_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise _Ended(number)


def _run(name: str, options: dict[str, Any]) -> None:
    """Run the lab in this process and wait for the end."""
    lab_of, given = _lab_class(options["engine"]), {key: value for key, value in options.items() if value is not None}
    del given["engine"]
    for number in END_SIGNALS:
        signal.signal(number, _end)
    with suppress(_Ended), lab_of(**given) as lab:
        control_path = lab.directory / "control"
        with Control(lab, control_path) as control, StateFile(lab, state_path(name), control_path):
            console.print(_table(lab.status()))
            console.print(f"[bold]{lab.writer_endpoint}[/bold] is up; Ctrl-C or 'aurora-actors lab down' ends it")
            control.down.wait()


def _lab_class(engine: str) -> Callable[..., Lab]:
    try:
        if engine == "mysql":
            from aurora_actors.lab.mysql import MysqlLab

            return MysqlLab
        from aurora_actors.lab.postgres import PostgresLab
    except ModuleNotFoundError as missing:
        extras = "mysql,lab" if engine == "mysql" else "lab"
        _fail(f"the module {missing.name!r} is not installed: pip install 'aurora-actors[{extras}]'")
    return PostgresLab


def _detach(name: str, options: dict[str, Any]) -> None:
    """Run ``lab up`` in a process and session of its own, and return when it is up."""
    log = runtime_directory() / f"lab-{name}.log"
    given = [f"--{key.replace('_', '-')}={value}" for key, value in options.items() if value not in {None, True, False}]
    flags = [f"--{key}" for key in ("asynchronous", "tls") if options[key]]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "aurora_actors.cli", "lab", "up", *given, *flags],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + UP_SECONDS
    while not _running(name):
        if process.poll() is not None:
            _fail(f"the lab did not start: {log.read_text(encoding='utf-8', errors='replace').strip()[-800:]}")
        if time.monotonic() > deadline:
            process.terminate()
            _fail(f"the lab was not up within {UP_SECONDS:g} s; its output is in {log}")
        time.sleep(LOOK_SECONDS)
    # It outlives this process, which is why its Popen object must not complain that it still runs.
    process.returncode = 0
    state = read_state(state_path(name))
    console.print(_table(state.hosts))
    console.print(f"[bold]{state.zone.writer_endpoint}[/bold] is up; 'aurora-actors lab down' ends it", soft_wrap=True)


def _running(name: str) -> bool:
    try:
        state = read_state(state_path(name))
    except LabError:
        return False
    return Path(state.control).exists()


def _state(name: str) -> LabState:
    if not _running(name):
        raise LabError(f"the lab {name!r} is not up; 'aurora-actors lab up --detach' starts it")
    return read_state(state_path(name))


def _table(hosts: tuple[HostStatus, ...]) -> Table:
    table = Table("host", "role", "address", "state", "timeline", "replication")
    for host in hosts:
        role = f"[bold]{host.role}[/bold]" if host.role == "WRITER" else host.role
        table.add_row(host.id, role, f"{host.address}:{host.port}", _condition(host), str(host.timeline), host.replication)
    return table


def _condition(host: HostStatus) -> str:
    """The host's state, and what else is done to it."""
    more = {
        "refuses logins": host.refuses_logins,
        f"{host.cut_flows} flows cut": host.cut_flows,
        f"{host.late_ms:g} ms late": host.late_ms,
        f"loses {host.loss_percent:g} %": host.loss_percent,
        "claims to write": host.claims_to_write,
    }
    return ", ".join([host.state, *(text for text, holds in more.items() if holds)])


@app.command()
def status(name: Name = "database") -> None:
    """Show every host."""
    with _told():
        console.print(_table(_state(name).hosts))


@app.command()
def env(name: Name = "database") -> None:
    """Print what an application needs, as shell variables: endpoints, connection string, state file."""
    with _told():
        state = _state(name)
        values = {
            "AURORA_LAB_STATE": str(state_path(name)),
            "AURORA_LAB_WRITER": state.zone.writer_endpoint,
            "AURORA_LAB_READER": state.zone.reader_endpoint,
            "AURORA_LAB_CONNINFO": state.conninfo,
        }
        if (ca := Path(state.directory) / CA_FILE).exists():
            values["AURORA_LAB_CA"] = str(ca)
        for variable, value in values.items():
            print(f"export {variable}={shlex.quote(value)}")
        print("# names resolve in a Python process after:")
        print("#   aurora_actors.set_resolver(aurora_actors.lab.resolver_from(os.environ['AURORA_LAB_STATE']))")


@app.command()
def failover(
    name: Name = "database",
    to: Annotated[str | None, typer.Option(help="The reader to promote; default: the one that has most.")] = None,
    how: Annotated[Literal["crash", "planned"], typer.Option(help="crash: SIGKILL of the writer.")] = "crash",
    after_seconds: Annotated[float, typer.Option(min=0, help="Between the end of the writer and the promotion.")] = 0.0,
    rejoin: Annotated[bool, typer.Option(help="The old writer comes back as a reader.")] = True,
) -> None:
    """Promote a reader."""
    _do(name, "failover", to=to, how=how, after_seconds=after_seconds, rejoin=rejoin)


@app.command()
def restart(
    host: HostId,
    name: Name = "database",
    down_seconds: Annotated[float, typer.Option(min=0, help="How long it is down.")] = 0.0,
) -> None:
    """Restart a host in place, or start one that crashed."""
    _do(name, "restart", host=host, down_seconds=down_seconds)


@app.command("refuse-logins")
def refuse_logins(
    host: HostId, name: Name = "database", on: Annotated[bool, typer.Option("--on/--off")] = True
) -> None:
    """Refuse new logins with SQLSTATE 28000, or accept them again (--off)."""
    _do(name, "refuse_logins", host=host, on=on)


@app.command("kill-session")
def kill_session(host: HostId, pid: int, name: Name = "database") -> None:
    """End one session by its process id (57P01)."""
    _do(name, "kill_session", host=host, pid=pid)


@app.command()
def reset(name: Name = "database") -> None:
    """Bring all hosts back, let the first one write, and drop all that was stored."""
    _do(name, "reset")


@app.command()
def down(name: Name = "database") -> None:
    """End the lab and remove its files."""
    with _told():
        state = _state(name)
        ask(state.control, "down")
        deadline = time.monotonic() + DOWN_SECONDS
        while state_path(name).exists() or Path(state.directory).exists():
            if time.monotonic() > deadline:
                _fail(f"the lab is not down after {DOWN_SECONDS:g} s; its process is {state.pid}")
            time.sleep(LOOK_SECONDS)


def _plain_order(order: str, text: str) -> Callable[..., None]:
    def command(host: HostId, name: Name = "database") -> None:
        _do(name, order, host=host)

    command.__doc__ = text
    return command


for _order, _text in {
    "crash": "SIGKILL a host's processes; it stays down until 'restart'.",
    "freeze": "SIGSTOP a host's processes.",
    "thaw": "End 'freeze'; a deposed writer dies and comes back as a reader.",
    "black_hole": "Drop all packets of a host.",
    "heal": "Let all packets of a host through; a deposed writer dies and comes back as a reader.",
}.items():
    app.command(_order.replace("_", "-"))(_plain_order(_order, _text))


def _do(name: str, order: str, /, **arguments: Any) -> None:
    with _told():
        state = _state(name)
        done = ask(state.control, order, **arguments)
        if isinstance(done, dict) and done.get("events"):
            for event in done["events"]:
                console.print(f"{(event['at'] - done['started_at']) * 1000:8.1f} ms  {event['host']}  {event['name']}")
        elif done is False:
            _fail(f"{order}: there is no such session")
        console.print(_table(_state(name).hosts))


add_to(app, _do)
