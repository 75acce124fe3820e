"""What tokens are good for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aurora_actors.lab.tokens import refusal
from tests.lab.tokens import DOMAIN, USER, token

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECRET = "X-Amz-Signature"


def refused(text: str) -> str:
    return refusal(text, user=USER, domain=DOMAIN, ports=(5432, 6000), now=NOW)


@pytest.mark.parametrize("kind", ["cluster-", "cluster-ro-", "cluster-custom-", ""])
@pytest.mark.parametrize("age", [-240, 0, 899])
def test_a_good_token_lets_its_user_in(kind: str, age: int) -> None:
    made = NOW - timedelta(seconds=age)
    assert not refused(token(host=f"database.{kind}{DOMAIN}", port=6000, made=made))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pwd", "no presigned URL"),
        ("", "no presigned URL"),
        (token(port=5432, made=NOW, DBUser="john"), "another user"),
        (token(port=5432, made=NOW, Action="delete"), "another action"),
        (token(port=3306, made=NOW), "another port"),
        (token(host=f"database.cluster-other{DOMAIN}", port=5432, made=NOW), "another cluster"),
        (token(host="127.0.0.1", port=5432, made=NOW), "another cluster"),
        (token(port=5432, made=NOW - timedelta(seconds=900)), "expired"),
        (token(port=5432, made=NOW - timedelta(seconds=60), X_Amz_Expires="60"), "expired"),
        (token(port=5432, made=NOW - timedelta(hours=1), X_Amz_Expires="86400"), "expired"),
        (token(port=5432, made=NOW + timedelta(minutes=6)), "future"),
        (token(port=5432, made=NOW, X_Amz_Credential="AKIA/20261125/eu-west-1/rds-db/aws4_request"), "scope"),
        (token(port=5432, made=NOW, X_Amz_Credential="AKIA"), "scope"),
        (token(port=5432, made=NOW, X_Amz_Date="yesterday"), "no presigned URL"),
    ],
)
def test_what_is_wrong_with_a_token_is_told_without_it(text: str, why: str) -> None:
    told = refused(text)
    assert why in told
    assert SECRET not in told
