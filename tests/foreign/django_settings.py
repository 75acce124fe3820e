"""Settings for Django's own tests, made from the environment that ``django_suite.py`` gives."""

from __future__ import annotations

import os

import aurora_actors

_ours = os.environ["FOREIGN_CONNECTIONS"] == "ours"
_address, _port = os.environ["FOREIGN_ADDRESS"].split(":")
_user, _password, _database = os.environ["FOREIGN_LOGIN"].split(":")


def _everything_leads_to_the_server(host: str, port: int) -> list[tuple[str, int]]:
    return [(_address, int(_port))]


if _ours:
    aurora_actors.set_resolver(_everything_leads_to_the_server)

DATABASES = {
    alias: {
        "ENGINE": "aurora_actors.django.postgresql" if _ours else "django.db.backends.postgresql",
        "NAME": _database,
        "USER": _user,
        "PASSWORD": _password,
        # The name of a cluster, so that there is one, with every plugin that is on by default.
        "HOST": os.environ["FOREIGN_ENDPOINT"] if _ours else _address,
        "PORT": _port,
        "TEST": {"NAME": f"{alias}_{os.environ['FOREIGN_CONNECTIONS']}"},
    }
    for alias in ("default", "other")
}
SECRET_KEY = "of tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
