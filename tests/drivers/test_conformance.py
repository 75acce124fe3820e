"""The conformance suite on the drivers and dialects that come along."""

from __future__ import annotations

from types import MappingProxyType

import mysql.connector
import psycopg
import pytest
from mysql.connector import aio

from aurora_actors.dialects.mysql import AuroraMysql
from aurora_actors.dialects.postgres import AuroraPostgres
from aurora_actors.drivers.mysql import MysqlDriver
from aurora_actors.drivers.psycopg import PsycopgDriver
from aurora_actors.testing import DialectSuite, DriverSuite


class TestPsycopg(DriverSuite):
    driver, target = PsycopgDriver, psycopg.Connection.connect


class TestAsyncPsycopg(DriverSuite):
    driver, target, asynchronous = PsycopgDriver, psycopg.AsyncConnection.connect, True


class TestPureMysql(DriverSuite):
    driver, target, lab = MysqlDriver, mysql.connector.connect, "aurora_mysql_lab"
    parameters = MappingProxyType({"use_pure": True})


@pytest.mark.skipif(not mysql.connector.HAVE_CEXT, reason="test_mysql_c.py runs it where the extension loads")
class TestMysqlInC(DriverSuite):
    driver, target, lab = MysqlDriver, mysql.connector.connect, "aurora_mysql_lab"
    parameters = MappingProxyType({"use_pure": False})


class TestAsyncMysql(DriverSuite):
    driver, target, lab, asynchronous = MysqlDriver, aio.connect, "aurora_mysql_lab", True
    # The lab's front offers no TLS, and without it the driver's aio wants to be told so.
    parameters = MappingProxyType({"ssl_disabled": True})


class TestAuroraPostgres(DialectSuite):
    dialect, driver, target = AuroraPostgres, PsycopgDriver, psycopg.Connection.connect


class TestAuroraMysql(DialectSuite):
    dialect, driver, target, lab = AuroraMysql, MysqlDriver, mysql.connector.connect, "aurora_mysql_lab"
