"""A host that accepts connections and says nothing: it is lost, and has answered nobody."""

from __future__ import annotations

import socket
from time import monotonic
from typing import Any

import mysql.connector

from aurora_actors.actors.polling import Poller
from aurora_actors.drivers.base import Access, Place, ProbeError
from aurora_actors.drivers.mysql import MysqlDriver

BOUND_SECONDS = 30.0


def test_a_silent_login_is_no_answer_to_a_monitor() -> None:
    parameters = {"user": "john", "password": "pwd", "connection_timeout": 1}
    poller = Poller()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        access = Access(MysqlDriver(), mysql.connector.connect, parameters)
        flow: Any = access.driver.open_probe(access, Place("silent", (silent.getsockname(),)), poller)
        task = poller.start("login", flow, monotonic() + BOUND_SECONDS)
        while not task.is_done:
            poller.get()
            poller.ended()
    poller.close()
    assert isinstance(task.error, ProbeError)
    assert (task.error.answered, task.error.sqlstate) == (False, None)
