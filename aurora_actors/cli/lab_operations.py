"""Commands of ``aurora-actors lab`` that do something to a running lab beyond the life and death of one host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol

import typer

__all__ = ["HostId", "Name", "add_to"]

Name = Annotated[str, typer.Option("--name", help="Which lab, where several run; also the cluster's name.")]
HostId = Annotated[str, typer.Argument(metavar="HOST", help="A host's id, such as database-1.")]


class Doing(Protocol):
    """Gives an order to a running lab and shows what came of it."""

    def __call__(self, name: str, order: str, /, **arguments: Any) -> None: ...


def add_to(app: typer.Typer, do: Doing) -> None:
    """Add the commands."""

    def command(function: Callable[..., None]) -> None:
        app.command(function.__name__.replace("_", "-"))(function)

    @command
    def cut_flow(host: HostId, name: Name = "database") -> None:
        """Drop the packets of all connections that the host has now; new ones work; 'heal' ends it."""
        do(name, "cut_flow", host=host)

    @command
    def slow(
        host: HostId,
        milliseconds: Annotated[float, typer.Argument(min=0, help="0 ends it.")],
        name: Name = "database",
    ) -> None:
        """Let everything that the host says arrive so much later."""
        do(name, "slow", host=host, milliseconds=milliseconds)

    @command
    def drop_packets(
        host: HostId, percent: Annotated[float, typer.Argument(min=0, max=100, help="0 ends it.")], name: Name = "database"
    ) -> None:
        """Lose so many of the packets between the host and its clients."""
        do(name, "drop_packets", host=host, percent=percent)

    @command
    def add_reader(
        name: Name = "database",
        id_: Annotated[str | None, typer.Option("--id", help="Default: the cluster's name and the next number.")] = None,
    ) -> None:
        """Add a reader."""
        do(name, "add_reader", id=id_)

    @command
    def remove_reader(host: HostId, name: Name = "database") -> None:
        """Delete a reader."""
        do(name, "remove_reader", host=host)

    @command
    def rename(host: HostId, new_id: Annotated[str, typer.Argument(metavar="ID")], name: Name = "database") -> None:
        """Give a host another id; it is restarted."""
        do(name, "rename", host=host, new_id=new_id)

    @command
    def drop_sessions(
        name: Name = "database",
        refuse_seconds: Annotated[float, typer.Option(min=0, help="Refuse logins for so long.")] = 0.0,
    ) -> None:
        """End all sessions on all hosts (57P01); every host stays up."""
        do(name, "drop_sessions", refuse_seconds=refuse_seconds)

    @command
    def claim_writer(
        host: HostId,
        name: Name = "database",
        on: Annotated[bool, typer.Option("--on/--off")] = True,
        updated_seconds_ago: Annotated[float, typer.Option(help="How old its report is.")] = 0.0,
    ) -> None:
        """Let a reader tell that it writes, beside the real writer, or the truth again (--off)."""
        do(name, "claim_writer", host=host, on=on, updated_seconds_ago=updated_seconds_ago)

    @command
    def claim_nobody(name: Name = "database", on: Annotated[bool, typer.Option("--on/--off")] = True) -> None:
        """Let no host tell who writes, or all of them again (--off)."""
        do(name, "claim_nobody", on=on)

    @command
    def resurrect(
        host: HostId,
        name: Name = "database",
        seconds: Annotated[float | None, typer.Option(min=0, help="Default: until 'restart' or 'reset'.")] = None,
        commits: Annotated[Literal["hang", "refuse"], typer.Option(help="It acknowledges none in any case.")] = "hang",
    ) -> None:
        """Let a former writer come back as it was, beside the present one."""
        do(name, "resurrect", host=host, seconds=seconds, commits=commits)
