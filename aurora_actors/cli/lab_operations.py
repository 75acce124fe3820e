"""Commands of ``aurora-actors lab`` that do something to a running lab beyond the life and death of one host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Protocol

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
