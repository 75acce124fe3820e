"""A local cluster of real MySQL or MariaDB servers that behaves like Aurora MySQL."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from .account import Account, server_account
from .addresses import MYSQL_PORT, choose_addresses
from .cluster import Options
from .lab import Lab, ServerPlan
from .mysql_binaries import find_mysql
from .mysql_engine import MysqlEngine
from .mysql_origin import Origin, inner_place
from .mysql_server import MysqlServer
from .mysql_template import make_mysql_template
from .names import Place
from .tls import Tls
from .values import Flavour, Habit, LabError, Login, ServerKind

__all__ = ["MysqlLab"]


class MysqlLab(Lab):
    """A writer and readers on loopback addresses, with Aurora's names, SQL and faults.

    As :class:`PostgresLab`, except for: ``server``: ``mariadb`` or ``mysql``. ``flavour``: ``aurora`` (Aurora's
    variables and ``information_schema.replica_host_status``, through a front), ``multi-az`` (an RDS Multi-AZ DB
    cluster: ``mysql.rds_topology``) or ``plain``. A session that is ended by the habit ``drop`` or by
    :meth:`kill_session` is lost with 2013; a refused login fails with 1045 (28000). Needs the extra ``mysql``.
    """

    engine = MysqlEngine()
    usual_port = MYSQL_PORT

    def __init__(
        self,
        hosts: int = 3,
        *,
        server: ServerKind = "mariadb",
        name: str = "database",
        domain: str = "xyz.us-east-1.rds.amazonaws.com",
        user: str = "john",
        password: str = "pwd",
        database: str = "db",
        habit: Habit = "keep",
        restart_seconds: float = 2.0,
        stale_topology_seconds: float = 0.0,
        dns_lag_seconds: float = 0.0,
        directory: str | os.PathLike[str] | None = None,
        address_block: str | None = None,
        port: int | None = None,
        asynchronous: bool = False,
        flavour: Flavour = "aurora",
        own_report_time: bool = True,
        tls: bool = False,
        token_user: str = "",
    ) -> None:
        if server not in get_args(ServerKind):
            raise LabError(f"server is 'mariadb' or 'mysql', not {server!r}")
        if token_user and flavour != "aurora":
            raise LabError("token_user needs the flavour 'aurora' on MySQL: its front checks the tokens")
        super().__init__(
            hosts, name=name, domain=domain, login=Login(user, password, database, token_user),
            dns_lag_seconds=dns_lag_seconds, directory=directory, tls=tls,
            options=Options(habit, flavour, asynchronous, restart_seconds, stale_topology_seconds, own_report_time),
        )  # fmt: skip
        self._server: ServerKind = server
        self._block, self._port = address_block, port

    def _plan(self) -> ServerPlan:
        account = server_account()
        binaries = find_mysql(self._server, account)
        template = make_mysql_template(binaries, account, self._options.flavour, self.login)
        origin = Origin(binaries, account, template, self._options.flavour, self._domain, self.login)
        return _Plan(account, origin, self._block, self._port)

    def conninfo(self, endpoint: str = "writer", **extra: Any) -> str:
        return " ".join(f"{key}={value}" for key, value in self.parameters(endpoint, **extra).items())

    def parameters(self, endpoint: str = "writer", **extra: Any) -> dict[str, Any]:
        """As :meth:`conninfo`, but what ``mysql.connector.connect`` takes."""
        return self._parameters(endpoint, "database", extra)


@dataclass(frozen=True, slots=True)
class _Plan(ServerPlan):
    account: Account
    origin: Origin
    block: str | None
    port: int | None

    def places(self, ids: Sequence[str]) -> tuple[Place, ...]:
        found = choose_addresses(len(ids), self.block, self.port, MYSQL_PORT)
        return tuple(Place(id_, *where) for id_, where in zip(ids, found, strict=True))

    def server(self, place: Place, directory: Path, stopping: threading.Event, tls: Tls | None) -> MysqlServer:
        origin, inner = replace(self.origin, tls=tls), inner_place(place, self.origin.flavour)
        server = MysqlServer(place, inner, self.account.directory(directory), origin, stopping)
        origin.template.copy_to(server.data, self.account)
        return server
