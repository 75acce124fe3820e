"""A plugin of pytest for MySQL Connector's own suite: gives it the lab's server, and our connections in place of its own.

Loaded by ``connector.py`` in the process of the suite; what it has to know stands in the environment. Whatever way a test
opens a connection leads to ours: ``connect`` of both colours, and the classes themselves.
"""

from __future__ import annotations

import functools
import inspect
import os
import socket
import unittest
from abc import ABCMeta
from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
from typing import Any

import mysql.connector
from mysql.connector import aio, pooling

import aurora_actors
import aurora_actors.aio

# The suite's, not ours.
suite: Any = import_module("tests")
driver: Any = mysql.connector

_PATTERN = os.environ["FOREIGN_PATTERN"]
_ADDRESS, _PORT = os.environ["FOREIGN_ADDRESS"].split(":")
_DOMAIN = _PATTERN[1:].partition(":")[0]
_getaddrinfo = socket.getaddrinfo
_ours_at_work: ContextVar[bool] = ContextVar("ours_at_work", default=False)


def _of_a_cluster(parameters: dict[str, Any]) -> dict[str, Any]:
    """The suite knows an address: what hosts are called makes a cluster of it, with every plugin that is on by default."""
    there = parameters.get("host") == _ADDRESS
    return {**parameters, "cluster_instance_host_pattern": _PATTERN} if there else parameters


def _opened(target: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    token = _ours_at_work.set(True)
    try:
        return aurora_actors.connect(target, **_of_a_cluster(parameters))
    finally:
        _ours_at_work.reset(token)


def _swapped(connect: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(connect)
    def swapped(*args: Any, **parameters: Any) -> Any:
        if args or _ours_at_work.get():
            return connect(*args, **parameters)
        return _opened(connect, parameters)

    return swapped


def _swapped_aio(connect: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(connect)
    async def swapped(*args: Any, **parameters: Any) -> Any:
        if args or _ours_at_work.get():
            return await connect(*args, **parameters)
        token = _ours_at_work.set(True)
        try:
            return await aurora_actors.aio.connect(connect, **_of_a_cluster(parameters))
        finally:
            _ours_at_work.reset(token)

    return swapped


class _Swapping(ABCMeta):
    """Of the driver's classes for threads: called with parameters, one of them gives a connection of ours."""

    def __call__(cls, *args: Any, **parameters: Any) -> Any:
        if args or not parameters or hasattr(cls, "_aa_link") or _ours_at_work.get():
            return super().__call__(*args, **parameters)
        return _opened(cls, parameters)


def _foreach_cnx_aio(*classes: Any, **more: Any) -> Callable[..., Any]:
    """The suite's decorator, with connections of ours; its own opens them in two steps."""

    def decorated(test: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(test)
        async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not hasattr(self, "config"):
                self.config = suite.get_mysql_config()
            self.config.update(more)
            for kind in classes or self.all_cnx_classes:
                self.cnx = await aurora_actors.aio.connect(kind, **_of_a_cluster(self.config))
                try:
                    result = test(self, *args, **kwargs)
                    if inspect.isawaitable(result):
                        await result
                except unittest.SkipTest:
                    pass  # as in the suite's own
                finally:
                    await self.cnx.close()

        return run

    return decorated


def _found(host: Any, *args: Any, **kwargs: Any) -> Any:
    """As the DNS would, where the hosts of the cluster are."""
    return _getaddrinfo(_ADDRESS if str(host).endswith(_DOMAIN) else host, *args, **kwargs)


def _server() -> None:
    """What the suite's own ``unitsuite.py`` does with ``--use-external-server``."""
    server = import_module("tests.mysqld").MySQLExternalServer("", "server1")
    server.client_config = {
        "host": _ADDRESS, "port": int(_PORT), "user": "root", "password": os.environ["FOREIGN_PASSWORD"],
        "database": "myconnpy", "connection_timeout": 60, "unix_socket": None,
    }  # fmt: skip
    server.version = tuple(map(int, os.environ["FOREIGN_VERSION"].split(".")))
    server.license = "GPL"
    suite.MYSQL_SERVERS.append(server)
    suite.MYSQL_EXTERNAL_SERVER = suite.OPTIONS_INIT = True
    suite.MYSQL_VERSION, suite.MYSQL_LICENSE = server.version, server.license
    suite.MYSQL_VERSION_TXT = ".".join(map(str, server.version))
    suite.IPV6_AVAILABLE = False


_server()
if os.environ["FOREIGN_CONNECTIONS"] == "ours":
    socket.getaddrinfo = _found
    driver.MySQLConnection.__class__ = _Swapping
    if driver.HAVE_CEXT:
        driver.CMySQLConnection.__class__ = _Swapping
    driver.connect = driver.Connect = pooling.connect = _swapped(driver.connect)
    aio.connect = _swapped_aio(aio.connect)
    suite.foreach_cnx_aio = _foreach_cnx_aio
