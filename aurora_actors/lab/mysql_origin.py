"""What the MySQL or MariaDB servers of one lab come from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from .account import Account
from .addresses import SHARED_ADDRESS, choose_apart
from .mysql_binaries import MysqlBinaries
from .mysql_template import MysqlTemplate
from .names import Place
from .tls import Tls
from .values import Flavour, Login

__all__ = ["Origin", "inner_place"]


def inner_place(place: Place, flavour: Flavour) -> Place:
    """Choose where other hosts find the host whose clients find it at *place*."""
    if place.address == SHARED_ADDRESS and flavour != "aurora":
        # It has no front, and there is one port that it can listen on.
        return place
    return Place(place.id, *choose_apart(place.address, place.port))


@dataclass(frozen=True, slots=True)
class Origin:
    """Programs, template, accounts and the next free server id."""

    binaries: MysqlBinaries
    account: Account
    template: MysqlTemplate
    flavour: Flavour
    domain: str
    login: Login
    tls: Tls | None = None
    server_ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
