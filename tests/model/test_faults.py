"""Which error is the loss of a connection, by code, by class, and by what the driver found."""

from __future__ import annotations

import pytest

from aurora_actors.dialects.postgres import FAULTS
from aurora_actors.model.faults import Fault, fault_of

LOST, ENDED, NONE = Fault.CONNECTION_LOST, Fault.SESSION_ENDED, Fault.NONE


@pytest.mark.parametrize(
    ("sqlstate", "lost", "fault"),
    [
        # Without a code the state of the connection decides.
        (None, False, NONE),
        (None, True, LOST),
        ("", True, LOST),
        # The server's goodbye is a loss although the connection may still look well.
        ("57P01", False, ENDED),
        ("57P01", True, ENDED),
        ("57P02", False, LOST),
        ("57P03", False, LOST),
        ("57P05", False, ENDED),
        ("25P03", True, ENDED),
        ("25P04", True, ENDED),
        # The whole class of connection exceptions.
        ("08000", False, LOST),
        ("08006", False, LOST),
        ("08P01", False, LOST),
        # Refusals say nothing about the connection, unless it broke with them.
        ("57014", False, NONE),
        ("53300", False, NONE),
        ("53300", True, LOST),
        ("42501", False, NONE),
        ("23505", False, NONE),
        ("40001", False, NONE),
        ("58030", False, NONE),
        ("58030", True, LOST),
        ("XX000", False, NONE),
        ("XX000", True, LOST),
        ("28P01", False, Fault.LOGIN),
        ("28000", True, LOST),
        ("25006", False, Fault.READ_ONLY),
        ("25006", True, LOST),
    ],
)
def test_faults_of_postgresql(sqlstate: str | None, lost: bool, fault: Fault) -> None:
    assert fault_of(sqlstate, lost, FAULTS) is fault


@pytest.mark.parametrize("fault", Fault)
def test_a_code_goes_before_its_class(fault: Fault) -> None:
    assert fault_of("12345", False, {"12": LOST, "12345": fault}) is fault


def test_without_a_table_only_the_driver_s_finding_counts() -> None:
    assert fault_of("57P01", False, {}) is NONE
    assert fault_of("57P01", True, {}) is LOST


@pytest.mark.parametrize("fault", Fault)
def test_what_ends_a_session(fault: Fault) -> None:
    assert fault.ends_session is (fault in (LOST, ENDED))
