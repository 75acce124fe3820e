"""When a host is held dead, and when never: the rules of law 14 as tables."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_actors.model import health
from aurora_actors.model.health import NEVER, Call, Detection, Health, Look, Sign, answered, asked, looked

QUICK = Detection(1.0, 0.5, 3, ("sql", "tcp"))
SLOW = Detection(10.0, 2.0, 3, ("sql",))


def look(state: Health, calls: list[Call], now: float, *, late: float = 0.0, heard: float = NEVER) -> Look:
    idle = min([1.0, *(health.idle_pause(call.detection) for call in calls)])
    return looked(state, calls, now, due=now - late, heard=heard, idle=idle)


def run(
    calls: list[Call], answers: dict[str, float], until: float, heard: float = NEVER
) -> list[tuple[float, tuple[int, ...]]]:
    """Look whenever a look says so; a probe is answered if it is sent before the time that *answers* has for its kind."""
    state, now, verdicts = Health(), 0.0, []
    while now < until:
        made = look(state, calls, now, heard=heard)
        state = made.health
        if made.dead:
            verdicts.append((round(now, 3), made.dead))
            calls = [call for call in calls if call.key not in made.dead]
        for kind in made.probes:
            state = asked(state, kind, now)
            if now < answers.get(kind, NEVER):
                state = answered(state, kind, Sign.SPOKE if kind == "sql" else Sign.REACHED)
        now = made.next_at
    return verdicts


@pytest.mark.parametrize(
    ("detection", "verdict"),
    [
        (Detection(1.0, 0.5, 3, ("sql",)), 2.0),
        (Detection(1.0, 0.5, 3, ("tcp",)), 2.0),
        (Detection(2.0, 1.0, 3, ("sql", "tcp")), 4.0),
        (Detection(6.0, 1.0, 1, ("sql",)), 6.0),
        (Detection(30.0, 5.0, 3, ("sql",)), 40.0),
        (Detection(0.2, 0.5, 2, ("sql",)), 1.0),  # probing begins with the call, where time is shorter than an interval
    ],
)
def test_a_silent_host_is_dead_after_time_and_count_minus_one_intervals(detection: Detection, verdict: float) -> None:
    ((at, keys),) = run([Call(1, 0.0, detection)], {}, 60.0)
    assert at == pytest.approx(verdict, abs=0.002)
    assert keys == (1,)


def test_each_call_is_judged_by_its_own_settings() -> None:
    calls = [Call(1, 0.0, QUICK), Call(2, 0.0, SLOW)]
    assert [keys for _, keys in run(calls, {}, 60.0)] == [(1,), (2,)]
    at = [at for at, _ in run(calls, {}, 60.0)]
    assert at == pytest.approx([2.0, 10.0], abs=0.01)


def test_a_frozen_server_is_found_though_its_machine_accepts_packets() -> None:
    ((at, _),) = run([Call(1, 0.0, QUICK)], {"tcp": 1e9}, 10.0)
    assert at == pytest.approx(2.0, abs=0.002)


def test_a_server_that_answers_is_alive_though_its_machine_takes_no_new_connections() -> None:
    assert run([Call(1, 0.0, QUICK)], {"sql": 1e9}, 100.0) == []


def test_a_healthy_call_of_any_length_is_never_ended() -> None:
    assert run([Call(1, 0.0, QUICK)], {"sql": 1e9, "tcp": 1e9}, 10_000.0) == []


def test_the_silence_counts_from_the_first_unanswered_probe() -> None:
    ((at, _),) = run([Call(1, 0.0, QUICK)], {"sql": 5.2, "tcp": 5.2}, 60.0)
    assert 5.2 + QUICK.silence <= at <= 5.2 + QUICK.interval + QUICK.silence


@pytest.mark.parametrize(
    ("sign", "left"),
    [
        (Sign.SPOKE, ()),
        (Sign.REACHED, (("sql", 1.0),)),
        (Sign.NOTHING, (("sql", 1.0),)),
        (Sign.SILENT, (("sql", 1.0), ("tcp", 1.0))),
    ],
)
def test_what_a_sign_ends(sign: Sign, left: tuple[tuple[str, float], ...]) -> None:
    assert answered(Health((("sql", 1.0), ("tcp", 1.0))), "tcp", sign).silent == left


def test_a_probe_that_says_nothing_makes_nobody_dead() -> None:
    state, now, call = Health(), 0.0, Call(1, 0.0, replace(QUICK, kinds=("sql",)))
    for _ in range(100):
        made = look(state, [call], now)
        assert not made.dead
        state = made.health
        for kind in made.probes:
            state = answered(asked(state, kind, now), kind, Sign.NOTHING)
        now = made.next_at


def test_a_monitor_that_ran_late_begins_to_count_anew() -> None:
    silent = Health((("sql", 0.5),), round_at=1.5)
    assert look(silent, [Call(1, 0.0, QUICK)], 2.0).dead == (1,)
    made = look(silent, [Call(1, 0.0, QUICK)], 2.3, late=0.3)
    assert made.dead == ()
    assert made.health.silent == ()


def test_a_byte_that_anybody_heard_ends_the_silence() -> None:
    silent = Health((("sql", 0.5), ("tcp", 1.6)), round_at=1.5)
    made = look(silent, [Call(1, 0.0, QUICK)], 2.0, heard=1.5)
    assert made.dead == ()
    assert made.health.silent == (("tcp", 1.6),)
    assert look(silent, [Call(1, 0.0, QUICK)], 2.0, heard=0.4).dead == (1,)


def test_a_call_that_begins_on_a_dead_host_is_given_its_time() -> None:
    silent = Health((("sql", 0.5),), round_at=99.9, down_since=2.0)
    assert look(silent, [Call(1, 99.5, QUICK)], 100.0).dead == ()
    assert look(silent, [Call(1, 99.0, QUICK)], 100.0).dead == (1,)


def test_a_dead_host_that_nobody_waits_for_is_asked_ever_more_rarely_until_it_answers() -> None:
    state, now, rounds = Health((), 10.0, 10.0, ("sql",)), 10.0, []
    while now < 1000.0:
        made = look(state, [], now)
        state = made.health
        if made.probes:
            rounds.append(now)
        now = made.next_at
    pauses = [later - sooner for sooner, later in pairwise(rounds)]
    assert pauses[0] == pytest.approx(1.0, abs=0.01)
    assert pauses[-1] == pytest.approx(10.0, abs=0.01)
    assert sorted(pauses) == pytest.approx(pauses, abs=0.02)
    back = answered(state, "sql", Sign.SPOKE)
    assert not back.down
    assert look(back, [], now).probes == ()


def test_nothing_is_probed_for_calls_that_are_short() -> None:
    state, now = Health(), 0.0
    while now < 60.0:
        made = look(state, [Call(1, now - 0.01, QUICK)], now)
        assert made.probes == ()
        state, now = made.health, made.next_at


@given(
    st.floats(0.05, 30.0), st.floats(0.05, 10.0), st.integers(1, 5), st.floats(0.0, 20.0), st.sampled_from([0.0, 0.3, 1.0])
)
def test_no_verdict_comes_before_its_time_and_none_long_after(
    time: float, interval: float, count: int, began: float, pause: float
) -> None:
    detection = Detection(time, interval, count, ("sql",))
    call = Call(1, began + pause, detection)
    ((at, _),) = run([Call(1, call.since, detection)], {}, 500.0) or [(float("inf"), ())]
    bound = call.since + max(time, detection.first + detection.silence)
    assert bound - 0.01 <= at <= bound + health.SOONEST_SECONDS + 0.01


@pytest.mark.parametrize(
    ("waited", "resent", "silence", "dead"),
    [
        (3.0, 2, 2.0, True),
        (3.0, 0, 60.0, False),  # nothing is on its way, or it was sent only now by a process that was held up
        (3.0, 1, 60.0, False),  # one lost packet
        (3.0, 2, 1.0, False),  # acknowledged a while ago
        (1.0, 2, 60.0, False),  # the connection was idle for a minute before this call
    ],
)
def test_a_path_is_dead_when_nobody_acknowledges(
    waited: float, resent: int, silence: float, dead: bool
) -> None:
    now = 100.0
    call = Call(1, now - waited, QUICK)
    assert health.path_is_dead(call, now, resent=resent, acknowledged=now - silence) is dead


def test_one_unanswered_probe_is_enough_where_another_host_writes() -> None:
    silent = Health((("sql", 0.5),), round_at=0.5)
    assert look(silent, [Call(1, 0.0, QUICK)], 1.0).dead == ()
    assert look(silent, [Call(1, 0.0, QUICK, deposed=True)], 1.0).dead == (1,)
    assert look(silent, [Call(1, 0.0, QUICK, deposed=True)], 0.9).dead == ()
    assert look(silent, [Call(1, 0.9, QUICK, deposed=True)], 1.0).dead == (1,)
    assert look(Health(), [Call(1, 0.0, QUICK, deposed=True)], 1000.0).dead == ()


def test_the_first_unanswered_probe_makes_a_host_suspect() -> None:
    silent = Health((("sql", 0.5),), round_at=0.5)
    assert not look(silent, [Call(1, 0.0, QUICK)], 0.9).suspect
    assert look(silent, [Call(1, 0.0, QUICK)], 1.0).suspect
    assert not look(Health(), [Call(1, 0.0, QUICK)], 1.0).suspect
