"""A path can die while its host lives: state lost in a NAT or a load balancer on the way."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.lab import LabError, PostgresLab

FACT_SECONDS = 60.0
QUICK: Any = {"failure_detection_time_ms": 1000, "failure_detection_interval_ms": 500, "failure_detection_count": 2}


def connect(lab: PostgresLab, **parameters: Any) -> Any:
    given = {"plugins": "failover,efm", "autocommit": True, **QUICK, **parameters}
    return aurora_actors.connect(psycopg.Connection.connect, lab.conninfo("writer"), **given)


def cut(lab: PostgresLab) -> None:
    try:
        lab.cut_flow(lab.writer)
    except LabError as error:
        pytest.skip(str(error))


def test_a_call_whose_answer_cannot_come_goes_on_at_the_same_writer(aurora_lab: PostgresLab) -> None:
    """Nothing of ours is on its way: the kernel's keepalive finds out, as the detection settings say."""
    with connect(aurora_lab) as conn, ThreadPoolExecutor(1) as pool:
        call = pool.submit(conn.execute, "SELECT pg_catalog.pg_sleep(3600)")
        cut(aurora_lab)
        with pytest.raises(FailoverSuccessError) as caught:
            call.result(FACT_SECONDS)
        assert caught.value.host is not None
        assert caught.value.host.id == aurora_lab.writer
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_call_whose_question_does_not_arrive_goes_on_at_the_same_writer(aurora_lab: PostgresLab) -> None:
    """What was sent is not acknowledged: the monitor sees it in the kernel's view of the socket."""
    with connect(aurora_lab) as conn:
        conn.execute("SELECT 1")
        cut(aurora_lab)
        with pytest.raises(FailoverSuccessError) as caught:
            conn.execute("SELECT 1")
        assert caught.value.host is not None
        assert caught.value.host.id == aurora_lab.writer
        assert conn.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("own", [{"keepalives": 0}, {"keepalives_idle": 77}, {"tcp_user_timeout": 4242}])
def test_what_the_user_said_about_keepalives_stands(aurora_lab: PostgresLab, own: dict[str, int]) -> None:
    raw = psycopg.connect(aurora_lab.conninfo("writer", hostaddr=aurora_lab.address(aurora_lab.writer)[0], **own))
    with raw, connect(aurora_lab, **own) as ours:
        assert options(ours) == options(raw)


def test_without_detection_the_kernel_is_left_alone(aurora_lab: PostgresLab) -> None:
    raw = psycopg.connect(aurora_lab.conninfo("writer", hostaddr=aurora_lab.address(aurora_lab.writer)[0]))
    with raw, connect(aurora_lab, plugins="failover") as ours:
        assert options(ours) == options(raw)


def options(conn: Any) -> list[int]:
    with socket.socket(fileno=socket.dup(conn.fileno())) as twin:
        asked = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), *((socket.IPPROTO_TCP, o) for o in range(4, 7)))
        return [twin.getsockopt(level, option) for level, option in asked]
