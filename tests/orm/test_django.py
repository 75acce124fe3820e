"""Django on our connections, with its settings made for the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import django
import pytest
from django.conf import settings
from django.db import OperationalError, connections, models, transaction
from django.db.utils import IntegrityError

from aurora_actors import FailoverSuccessError, TransactionResolutionUnknownError
from aurora_actors.django import run_atomic

if not settings.configured:
    settings.configure(DATABASES={}, INSTALLED_APPS=[], USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
    django.setup()


atomic: Any = transaction.atomic


class Order(models.Model):
    """Of what the tests map."""

    objects: Any = models.Manager()
    id = models.IntegerField(primary_key=True)

    class Meta:
        app_label = "orders"
        db_table = "orders"


class Site:
    """One database of Django's, and the cluster that it is on."""

    def __init__(self, engine: str, lab: Any) -> None:
        self.engine, self.lab = engine, lab
        self.who = "SELECT @@aurora_server_id" if engine == "mysql" else "SELECT aurora_db_instance_identifier()"

    def open(self, **changes: Any) -> Any:
        """Django's connection, with changes to its settings."""
        login = self.lab.login
        given = {
            "ENGINE": f"aurora_actors.django.{self.engine}",
            "NAME": login.database, "USER": login.user, "PASSWORD": login.password,
            "HOST": self.lab.writer_endpoint, "PORT": self.lab.address(self.lab.writer)[1],
            **changes,
        }  # fmt: skip
        self.close()
        connections.settings = connections.configure_settings({"default": given})
        return connections["default"]

    def close(self) -> None:
        if hasattr(connections._connections, "default"):
            connection = connections["default"]
            connection.close()
            if getattr(connection, "pool", None):
                connection.close_pool()
            del connections["default"]

    def kill(self, connection: Any) -> None:
        """End the session under Django's connection."""
        held = connection.connection
        number = held.connection_id if self.engine == "mysql" else held.info.backend_pid
        assert self.lab.kill_session(self.lab.writer, number)

    def ask(self, connection: Any) -> str:
        with connection.cursor() as cursor:
            cursor.execute(self.who)
            return str(cursor.fetchone()[0])


@pytest.fixture(params=["postgresql", "mysql"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    lab = request.getfixturevalue("aurora_lab" if request.param == "postgresql" else "aurora_mysql_lab")
    made = Site(request.param, lab)
    with made.open().schema_editor() as editor:
        editor.create_model(Order)
    yield made
    made.close()


def ids() -> list[int]:
    return list(Order.objects.order_by("id").values_list("id", flat=True))


def test_errors_are_django_s_with_ours_as_their_cause(site: Site) -> None:
    connection = site.open(CONN_MAX_AGE=None)
    with pytest.raises(IntegrityError):
        Order.objects.bulk_create([Order(id=1), Order(id=1)])
    held = connection.connection
    site.kill(connection)
    with pytest.raises(OperationalError) as caught:
        site.ask(connection)
    assert isinstance(caught.value.__cause__, FailoverSuccessError)
    assert connection.is_usable()
    connection.close_if_unusable_or_obsolete()
    assert ids() == []

    @atomic
    def lost() -> None:
        Order.objects.create(id=2)
        site.kill(connection)
        Order.objects.create(id=3)

    with pytest.raises(OperationalError) as caught:
        lost()
    assert isinstance(caught.value.__cause__, TransactionResolutionUnknownError)
    assert connection.get_autocommit()
    assert ids() == []
    assert connection.connection is held


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_an_atomic_block_is_done_again(site: Site, nested: bool) -> None:
    connection = site.open()
    tries: list[int] = []
    hooks: list[int] = []

    def second() -> None:
        if len(tries) == 1:
            site.kill(connection)
        Order.objects.create(id=2)

    def work() -> str:
        Order.objects.create(id=1)
        tries.append(1)
        number = len(tries)
        transaction.on_commit(lambda: hooks.append(number))
        if nested:
            with atomic():
                second()
        else:
            second()
        return "done"

    assert run_atomic(work) == "done"
    assert ids() == [1, 2]
    assert (len(tries), hooks) == (2, [2])
    with atomic(), pytest.raises(RuntimeError, match="durable"):
        run_atomic(work)


def test_what_fails_after_the_commit_repeats_nothing(site: Site) -> None:
    connection = site.open()
    tries: list[int] = []

    def after() -> None:
        with atomic():
            site.ask(connection)
            site.kill(connection)
            site.ask(connection)

    def work() -> None:
        tries.append(1)
        Order.objects.create(id=len(tries))
        transaction.on_commit(after)

    with pytest.raises(OperationalError):
        run_atomic(work)
    assert ids() == [1]


def test_a_connection_that_is_kept_goes_over_in_silence(site: Site) -> None:
    connection = site.open(CONN_MAX_AGE=None)
    assert site.ask(connection) == site.lab.writer
    other = connection.copy()
    try:
        site.ask(other)
        site.lab.failover()
        with suppress(OperationalError):
            site.ask(other)
        assert site.ask(other) == site.lab.writer
        connection.close_if_unusable_or_obsolete()
        assert site.ask(connection) == site.lab.writer
    finally:
        other.close()


def test_a_health_check_shows_no_error(site: Site) -> None:
    connection = site.open(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    assert site.ask(connection) == site.lab.writer
    site.kill(connection)
    connection.close_if_unusable_or_obsolete()
    assert site.ask(connection) == site.lab.writer


def test_django_s_pool_has_our_connections(site: Site) -> None:
    if site.engine == "mysql":
        pytest.skip("this backend of Django's has no pool")
    connection = site.open(CONN_HEALTH_CHECKS=True, OPTIONS={"pool": {"min_size": 1, "max_size": 1}, "plugins": "failover"})
    for _ in range(2):
        assert site.ask(connection) == site.lab.writer
        assert connection.connection.stale is False
        connection.close()
        site.lab.failover()
