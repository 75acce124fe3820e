"""Signals: blinker's interface, any thread, order kept, and nothing that a receiver does reaches the sender."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

import blinker
import pytest
from blinker._utilities import make_id

from aurora_actors import signals
from aurora_actors.actors.dispatch import Dispatcher, TaskLine
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.topology import ClusterTopology
from aurora_actors.signals import EventSignal, emit

SECONDS = 10.0  # a bound on what takes milliseconds; only a failing test waits for it
OLD = Host("a", "a.example", 5432, Role.WRITER)
NEW = Host("b", "b.example", 5432, Role.WRITER)
BEFORE, AFTER = ClusterTopology("orders", (OLD,), 1), ClusterTopology("orders", (NEW,), 2)

# Each signal with an event of its kind.
EVENTS: dict[str, object] = {
    "topology_changed": signals.TopologyChanged("orders", BEFORE, AFTER, 1.0),
    "writer_changed": signals.WriterChanged("orders", BEFORE, AFTER, 1.0),
    "host_added": signals.HostAdded("orders", NEW, 1.0),
    "host_removed": signals.HostRemoved("orders", OLD, 1.0),
    "host_down": signals.HostDown("orders", OLD, "silent for 3 s", 1.0),
    "host_up": signals.HostUp("orders", OLD, "answered", 1.0),
    "failover_started": signals.FailoverStarted("orders", OLD, 1, 1.0),
    "failover_completed": signals.FailoverCompleted("orders", NEW, 0.04, 20, 1.0),
    "failover_failed": signals.FailoverFailed("orders", 30.0, "no host says that it writes", (), 1.0),
    "connection_opened": signals.ConnectionOpened("orders", NEW, 4711, 1.0),
    "connection_switched": signals.ConnectionSwitched("orders", OLD, NEW, "NOT_SENT", True, None, 1.0),
    "connection_closed": signals.ConnectionClosed("orders", NEW, 1.0),
    "actor_crashed": signals.ActorCrashed("topology-orders", "ValueError: boom", False, 1, 1.0),
    "plugin_failed": signals.PluginFailed("slow_queries", "aurora-actors-slow-queries", "ImportError: no", 1.0),
}


class Listener:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, sender: object, *, event: object) -> None:
        self.seen.append((sender, event))


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    made = Dispatcher()
    yield made
    assert made.stop(SECONDS)


@pytest.fixture
def signal(dispatcher: Dispatcher) -> EventSignal[Any]:
    return EventSignal("tested", "A signal for tests.", dispatcher=dispatcher)


# The public signals


def test_every_signal_has_an_event_of_its_own_and_a_text() -> None:
    public = {name: value for name, value in vars(signals).items() if isinstance(value, EventSignal)}
    assert public.keys() == EVENTS.keys()
    assert {name: value.name for name, value in public.items()} == {name: name for name in EVENTS}
    for name, event in EVENTS.items():
        assert f":class:`{type(event).__name__}`" in (public[name].__doc__ or "")
        assert type(event).__name__ in signals.__all__
        assert name in signals.__all__
        assert signals.namespace[name] is public[name]


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_events_are_frozen_values(event: Any) -> None:
    assert event == copy.deepcopy(event) == pickle.loads(pickle.dumps(event))
    assert hash(event) == hash(copy.copy(event))
    assert not hasattr(event, "__dict__")
    assert repr(event).startswith(f"{type(event).__name__}(")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.at = 2.0


def test_events_of_the_same_fields_differ_by_their_kind() -> None:
    added: object = signals.HostAdded("orders", NEW, 1.0)
    assert added != signals.HostRemoved("orders", NEW, 1.0)


def test_a_writer_change_names_both_writers() -> None:
    event = signals.WriterChanged("orders", BEFORE, AFTER, 1.0)
    assert (event.old_writer, event.new_writer) == (OLD, NEW)
    assert signals.WriterChanged("orders", ClusterTopology("orders"), AFTER, 1.0).old_writer is None


def test_the_public_signals_arrive_in_the_order_they_were_sent() -> None:
    seen: list[object] = []

    def note(sender: object, *, event: object) -> None:
        seen.append(event)

    with ExitStack() as stack:
        for name in EVENTS:
            stack.enter_context(signals.namespace[name].connected_to(note))
        for name, event in EVENTS.items():
            emit(signals.namespace.signal(name), "orders", event)
        assert signals.settle(SECONDS)
    assert seen == list(EVENTS.values())
    for name, event in EVENTS.items():
        emit(signals.namespace.signal(name), "orders", event)
    assert signals.settle(SECONDS)
    assert len(seen) == len(EVENTS)


def test_others_make_their_own_signals() -> None:
    made = signals.SignalNamespace()
    slow_query = made.signal("slow_query", "A statement ran past the limit.")
    assert made.signal("slow_query") is slow_query
    assert slow_query.__doc__ == "A statement ran past the limit."
    assert repr(slow_query).endswith("; 'slow_query'>")
    made["foreign"] = blinker.NamedSignal("foreign")
    with pytest.raises(TypeError, match="'foreign' was put"):
        made.signal("foreign")


# blinker's interface


def test_send_returns_at_once_and_delivers_elsewhere(signal: EventSignal[Any], dispatcher: Dispatcher) -> None:
    threads: list[threading.Thread] = []

    def note(sender: object, *, event: object) -> None:
        threads.append(threading.current_thread())

    signal.connect(note)
    assert signal.send("orders", event=1) == []
    assert asyncio.run(signal.send_async("orders", event=2)) == []
    assert dispatcher.settle(SECONDS)
    assert [thread.name for thread in threads] == ["aurora_actors-signals"] * 2


def test_a_signal_nobody_listens_to_starts_nothing(signal: EventSignal[Any], dispatcher: Dispatcher) -> None:
    emit(signal, "orders", 1)
    signal.send("orders", event=1)
    assert repr(dispatcher) == "<Dispatcher idle, 0 waiting, 0 dropped, 0 errors>"


def test_senders_filter_by_value(signal: EventSignal[Any], dispatcher: Dispatcher) -> None:
    orders, everybody, via = Listener(), Listener(), list[object]()
    signal.connect(orders.note, sender="orders")

    @signal.connect_via("billing")
    def moved(cluster: str, *, event: object) -> None:
        via.append((cluster, event))

    signal.connect(everybody.note)
    assert signal.has_receivers_for("orders")
    for cluster in ("or" + "ders", "billing"):
        emit(signal, cluster, cluster.upper())
    assert dispatcher.settle(SECONDS)
    assert orders.seen == [("orders", "ORDERS")]
    assert everybody.seen == [("orders", "ORDERS"), ("billing", "BILLING")]
    assert via == [("billing", "BILLING")]


def test_connected_to_ends_with_its_block(signal: EventSignal[Any], dispatcher: Dispatcher) -> None:
    listener = Listener()
    with signal.connected_to(listener.note):
        emit(signal, "orders", 1)
        assert dispatcher.settle(SECONDS)
    emit(signal, "orders", 2)
    assert dispatcher.settle(SECONDS)
    assert listener.seen == [("orders", 1)]
    assert not signal.receivers


def test_what_is_sent_while_muted_is_not_delivered(signal: EventSignal[Any], dispatcher: Dispatcher) -> None:
    listener = Listener()
    signal.connect(listener.note)
    with signal.muted():
        emit(signal, "orders", 1)
        signal.send("orders", event=2)
    emit(signal, "orders", 3)
    assert dispatcher.settle(SECONDS)
    assert listener.seen == [("orders", 3)]


def test_receivers_are_held_weakly(signal: EventSignal[Any], dispatcher: Dispatcher) -> None:
    listener = Listener()
    gone = weakref.ref(listener)
    signal.connect(listener.note)
    emit(signal, "orders", 1)
    assert dispatcher.settle(SECONDS)
    del listener
    gc.collect()
    assert gone() is None
    assert not signal.receivers


def test_first_receivers_come_first(signal: EventSignal[Any], dispatcher: Dispatcher) -> None:
    seen: list[int] = []
    receivers: list[Callable[..., None]] = [lambda sender, event, n=n: seen.append(n) for n in range(40)]
    for number, receiver in enumerate(receivers):
        signal.connect(receiver, first=number >= 20)
    emit(signal, "orders", None)
    assert dispatcher.settle(SECONDS)
    assert sorted(seen[:20]) == list(range(20, 40))
    assert sorted(seen[20:]) == list(range(20))


def test_a_sender_that_dies_leaves_nothing_to_one_with_its_id(signal: EventSignal[Any], dispatcher: Dispatcher) -> None:
    class Sender:
        pass

    sender, listener = Sender(), Listener()
    signal.connect(listener.note, sender=sender)
    assert list(signal.receivers_for(sender)) == [listener.note]
    buckets = [bucket for bucket in signal._by_sender.values() if bucket]
    del sender
    gc.collect()
    assert buckets == [set()]
    assert signal._weak_senders == {}


@pytest.mark.parametrize(
    "use",
    [
        lambda signal, receiver: signal.connect(receiver),
        lambda signal, receiver: signal.disconnect(receiver),
        lambda signal, receiver: signal.receivers_for("orders"),
        lambda signal, receiver: signal.has_receivers_for("orders"),
    ],
    ids=["connect", "disconnect", "receivers_for", "has_receivers_for"],
)
def test_whoever_reads_or_changes_the_receivers_takes_turns(
    use: Callable[[EventSignal[Any], Callable[..., None]], object], signal: EventSignal[Any]
) -> None:
    listener = Listener()
    signal.connect(listener.note)
    user = threading.Thread(target=use, args=(signal, listener.note))
    with signal._lock:
        user.start()
        user.join(0.03)  # it ends here only if it does not care
        assert user.is_alive()
    user.join(SECONDS)
    assert not user.is_alive()


def test_connecting_and_sending_from_many_threads(signal: EventSignal[Any], dispatcher: Dispatcher) -> None:
    stop, errors = monotonic() + 1.0, list[BaseException]()
    steady, sent = Listener(), [0, 0]
    signal.connect(steady.note)

    def guarded(work: Callable[[int], None]) -> Callable[[int], None]:
        def run(number: int) -> None:
            try:
                while monotonic() < stop:
                    work(number)
            except BaseException as error:  # noqa: BLE001 - what the test is about
                errors.append(error)

        return run

    def subscribe(number: int) -> None:
        listeners = [Listener() for _ in range(5)]
        for position in range(5):
            signal.connect(listeners[position].note, sender=f"cluster-{number}-{sent[0] % 50}-{position}")
            signal.connect(listeners[position].note)
        signal.disconnect(listeners[0].note)
        signal.has_receivers_for(f"cluster-{number}")
        listeners.clear()  # four weak receivers die, connected

    def publish(number: int) -> None:
        if dispatcher.settle(SECONDS):  # so that nothing is dropped
            emit(signal, f"cluster-{number}", sent[number])
            sent[number] += 1

    threads = [threading.Thread(target=guarded(subscribe), args=(n,)) for n in range(3)]
    threads += [threading.Thread(target=guarded(publish), args=(n,)) for n in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert dispatcher.settle(SECONDS)
    assert errors == []
    assert dispatcher.errors == dispatcher.dropped == 0
    for number in range(2):
        mine = [event for sender, event in steady.seen if sender == f"cluster-{number}"]
        assert mine == list(range(sent[number]))
    assert len(signal.receivers) == 1


# Coroutine functions


def test_a_coroutine_function_needs_a_running_loop(signal: EventSignal[Any]) -> None:
    async def note(sender: object, *, event: object) -> None:
        pass

    with pytest.raises(RuntimeError, match="note is a coroutine function: connect it to tested where the loop runs"):
        signal.connect(note)
    assert not signal.receivers


def test_a_coroutine_function_is_awaited_in_its_loop_and_leaves_with_it(
    signal: EventSignal[Any], dispatcher: Dispatcher
) -> None:
    seen: list[tuple[object, asyncio.AbstractEventLoop]] = []

    async def main() -> asyncio.AbstractEventLoop:
        done = asyncio.Event()

        async def note(sender: object, *, event: int) -> None:
            await asyncio.sleep(0)
            seen.append((event, asyncio.get_running_loop()))
            if event == 99:
                done.set()

        signal.connect(note, weak=False)
        for number in range(100):
            emit(signal, "orders", number)
        async with asyncio.timeout(SECONDS):
            await done.wait()
        return asyncio.get_running_loop()

    loop = asyncio.run(main())
    assert seen == [(number, loop) for number in range(100)]
    assert signal.receivers
    emit(signal, "orders", 100)
    assert dispatcher.settle(SECONDS)
    assert not signal.receivers
    assert len(seen) == 100


def test_a_weak_coroutine_method_stays_weak(signal: EventSignal[Any], dispatcher: Dispatcher) -> None:
    class Listening:
        def __init__(self) -> None:
            self.seen = asyncio.Event()

        async def note(self, sender: object, *, event: object) -> None:
            self.seen.set()

    async def main() -> bool:
        listening = Listening()
        gone = weakref.ref(listening)
        signal.connect(listening.note)
        emit(signal, "orders", 1)
        async with asyncio.timeout(SECONDS):
            await listening.seen.wait()
        await asyncio.sleep(0)  # the task that drains lets go of its last receiver
        del listening
        gc.collect()
        return gone() is None

    assert asyncio.run(main())
    assert not signal.receivers
    assert not signal._lines


def test_a_plain_function_that_got_the_id_of_a_coroutine_function_is_called(
    signal: EventSignal[Any], dispatcher: Dispatcher
) -> None:
    listener = Listener()
    loop = asyncio.new_event_loop()
    signal._lines[make_id(listener.note)] = TaskLine(loop)  # left behind by blinker's _clear_state(), for one
    signal.connect(listener.note)
    emit(signal, "orders", 1)
    assert dispatcher.settle(SECONDS)
    assert listener.seen == [("orders", 1)]
    loop.close()


# The import


def test_importing_signals_starts_nothing_and_loads_no_event_loop() -> None:
    script = (
        "import sys, threading\n"
        "import aurora_actors.signals\n"
        "print(threading.active_count(), 'asyncio' in sys.modules, 'pykka' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert ran.stdout.split() == ["1", "False", "False"]
