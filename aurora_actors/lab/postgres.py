"""A local cluster of real PostgreSQL servers that behaves like Aurora PostgreSQL."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from .account import Account, server_account
from .addresses import POSTGRES_PORT, choose_addresses
from .binaries import DEFAULT_VERSION, Binaries, find_binaries
from .cluster import Options
from .lab import Lab, ServerPlan
from .names import Place
from .postgres_engine import PostgresEngine
from .server import PostgresServer
from .template import Template, make_template
from .tls import Tls
from .values import Flavour, Habit, Login

__all__ = ["PostgresLab"]


class PostgresLab(Lab):
    """A writer and readers on loopback addresses, with Aurora's names, SQL and faults.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. Every public method may be called from any
    thread; operations on hosts run one after another. Servers run as subprocesses; should this process die, however,
    they are ended and their files removed.

    ``hosts``: how many; the first starts as the writer. ``version``: PostgreSQL's major version (the wheel has 18 and
    16). ``name``, ``domain``: of the endpoints, as in ``database.cluster-xyz.us-east-1.rds.amazonaws.com``. ``user``,
    ``password``, ``database``: what the application logs in with; no superuser, may create tables.

    ``habit``: what a promotion does to the promoted host's sessions: ``keep``, ``drop`` (57P01) or ``restart`` (the
    host is down for ``restart_seconds``). ``stale_topology_seconds``: how long readers go on telling the old topology.
    ``dns_lag_seconds``: how long names go on leading where they led. ``asynchronous``: commits wait for no reader, so
    a failover may lose what was acknowledged; :meth:`status` says so. ``flavour``: ``aurora``; ``multi-az``, an RDS
    Multi-AZ DB cluster; ``plain``, community PostgreSQL; all with the same operations. ``own_report_time=False``: as
    Aurora PostgreSQL does since 13.9, a host gives no ``last_update_timestamp`` for itself.

    ``tls``: clients may speak TLS, with a certificate that :attr:`ca_file` vouches for, and that is good for all names of
    the cluster. ``token_user``: a user that logs in, through TLS alone, with a token of RDS's IAM authentication in place
    of a password: a presigned URL for this cluster and user that has not expired (its signature is not checked).

    ``directory``: where the lab's own directory is made (default: ``/dev/shm`` if it has room, else the system's
    temporary directory).
    ``address_block`` (``"127.20.30"``) and ``port`` fix where it listens; without them a free place is found, with
    port 5432 if that is free.

    :class:`ServerUnavailable` from :meth:`start` where no PostgreSQL can be had, :class:`LabError` from everything
    that cannot be done.
    """

    engine = PostgresEngine()
    usual_port = POSTGRES_PORT

    def __init__(
        self,
        hosts: int = 3,
        *,
        version: int = DEFAULT_VERSION,
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
        super().__init__(
            hosts, name=name, domain=domain, login=Login(user, password, database, token_user),
            dns_lag_seconds=dns_lag_seconds, directory=directory, tls=tls,
            options=Options(habit, flavour, asynchronous, restart_seconds, stale_topology_seconds, own_report_time),
        )  # fmt: skip
        self._version, self._block, self._port = version, address_block, port

    def _plan(self) -> ServerPlan:
        account = server_account()
        binaries = find_binaries(self._version, account)
        template = make_template(binaries, account, self._options.flavour, self.login)
        return _Plan(account, binaries, template, self._options.flavour, self._block, self._port)

    def conninfo(self, endpoint: str = "writer", **extra: Any) -> str:
        return make_conninfo("", **self._parameters(endpoint, "dbname", extra))


@dataclass(frozen=True, slots=True)
class _Plan(ServerPlan):
    account: Account
    binaries: Binaries
    template: Template
    flavour: Flavour
    block: str | None
    port: int | None

    def places(self, ids: Sequence[str]) -> tuple[Place, ...]:
        found = choose_addresses(len(ids), self.block, self.port, POSTGRES_PORT)
        return tuple(Place(id_, *where) for id_, where in zip(ids, found, strict=True))

    def server(self, place: Place, directory: Path, stopping: threading.Event, tls: Tls | None) -> PostgresServer:
        server = PostgresServer(
            place, self.account.directory(directory), self.binaries, self.account, self.flavour,
            self.template.replication_password, stopping, tls,
        )  # fmt: skip
        self.template.copy_to(server.data, self.account)
        return server
