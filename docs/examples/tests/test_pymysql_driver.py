"""The conformance suite on PyMySQL."""

import pymysql
from acme_aurora.pymysql_driver import PymysqlDriver

from aurora_actors.testing import DriverSuite


class TestPymysql(DriverSuite):
    """On the local cluster of MySQL servers."""

    driver, target, lab = PymysqlDriver, pymysql.connect, "aurora_mysql_lab"
