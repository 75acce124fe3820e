"""From a lost connection to one that works again, and to the error that says what happened."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from aurora_actors import errors, signals
from aurora_actors.actors.asking import DeadlineExceeded
from aurora_actors.actors.base import ActorStopped
from aurora_actors.actors.cluster import Cluster
from aurora_actors.actors.messages import FindHost, RefreshTopology
from aurora_actors.deadlines import nearest
from aurora_actors.drivers.base import Wire
from aurora_actors.flow.interrupts import pass_interrupt
from aurora_actors.model.deadlines import advice, overdue
from aurora_actors.model.failover import Want, explained
from aurora_actors.model.faults import Fault
from aurora_actors.model.hosts import Host
from aurora_actors.model.outcome import Attempt, Ledger, Operation, Outcome, outcome_of
from aurora_actors.plugin import Recover
from aurora_actors.proxies.marker import told

if TYPE_CHECKING:
    from aurora_actors.proxies.proxy import Proxy

log = logging.getLogger("aurora_actors.connect")

__all__ = [
    "WrongRole", "failed_over", "find", "opened_in_role", "pause", "renewed", "set_up", "topology_awaited", "tries_again",
]  # fmt: skip

FIRST_PAUSE_SECONDS = 0.025
"""Before the second try at a host that was said to be there; doubled each time."""
LONGEST_PAUSE_SECONDS = 1.0
LONGEST_OPTIONAL_SECONDS = 5.0
"""How long a connection that still works may try to get to the host that it should be on."""


class SetUpFailed(Exception):
    """The application's ``on_connect`` did not do on a new session what it did on the first."""


class WrongRole(Exception):
    """A host answered, in a role that the connection cannot use."""


def tries_again(proxy: Proxy) -> tuple[type[Exception], ...]:
    """What a try to reach a host may raise that the next try may not."""
    return (*proxy.driver.errors, errors.OperationalError, WrongRole, SetUpFailed, ValueError, DeadlineExceeded)


def pause(tries: int) -> float:
    """Seconds to wait after that many tries failed."""
    return min(FIRST_PAUSE_SECONDS * 2.0 ** min(tries - 1, 10), LONGEST_PAUSE_SECONDS)


async def find(proxy: Proxy, control: Cluster, want: Want, until: float) -> tuple[Host, ...]:
    """Hosts that *want* may go to: from the published topology where it accounts for the loss, else by a search."""
    return _known(control, want) or await proxy.io.ask(control.failover, FindHost(want, until), until)


def _known(control: Cluster, want: Want) -> tuple[Host, ...]:
    """The writer, where the published topology accounts for the loss."""
    standing = control.cell.standing
    writer = standing.topology.writer
    known = explained(want, standing.topology, standing.verdict, standing.settled)
    return (writer,) if known and writer is not None else ()


async def opened_in_role(proxy: Proxy, control: Cluster, host: Host, until: float, *, initial: bool) -> tuple[Wire, Host]:
    """A new connection to *host*, and the host in the role that it gave itself.

    Raises the driver's error, ``OSError``, or ``WrongRole``.
    """
    limit = proxy.login_limit(until)
    wire = await proxy.open(host, limit, initial=initial)
    try:
        dialect = control.naming.dialect
        # Behind a proxy the server that was logged in to need not be the one that answers.
        role = proxy.driver.told_role(wire) if control.naming.pattern is not None else None
        if role is None:
            role = dialect.read_role(await proxy.io.query(wire, dialect.role_sql, limit))
    except BaseException:
        proxy.io.discard(wire)
        raise
    return wire, host.playing(role)


async def failed_over(proxy: Proxy, control: Cluster, call: Recover) -> Exception:
    """Find a host, switch to it, restore the session; the error for the application, which says where it is now."""
    io = proxy.io
    optional = call.fault is Fault.STALE and not proxy.must_leave()
    until = min(call.at + (LONGEST_OPTIONAL_SECONDS if optional else proxy.settings.failover_timeout_sec), nearest())
    lost = proxy.host
    want = Want(proxy.mode, lost, proxy.opened, call.at)
    ledger = Ledger(call.at, verdict=io.now() - call.at)
    attempts: list[Attempt] = []
    while True:
        ledger = replace(ledger, searched=ledger.searched or not _known(control, want))
        try:
            hosts = await find(proxy, control, want, until)
        except ActorStopped:
            # Our machinery broke: the application is no worse off than with the driver alone.
            return call.error
        except DeadlineExceeded:
            return call.error if optional else _failed(proxy, control, call, ledger, attempts)
        if ledger.writer_known is None:
            ledger = replace(ledger, writer_known=io.now() - call.at)
        host, began = proxy.choose(hosts, initial=False), io.now()
        try:
            ledger, outcome = await _moved(proxy, control, host, until, ledger, call.operation)
        except tries_again(proxy) as error:
            pass_interrupt(error)
            attempts.append(Attempt(str(host), began - call.at, _line(error)))
            await io.sleep(max(0.0, min(io.jitter(pause(len(attempts))), until - io.now())))
            want = _wanted_now(proxy, want, host, began, error)
            if io.now() >= until:
                return call.error if optional else _failed(proxy, control, call, ledger, attempts)
        else:
            return _succeeded(proxy, control, call, lost, ledger, tuple(attempts), outcome)


def _wanted_now(proxy: Proxy, want: Want, host: Host, began: float, error: Exception) -> Want:
    """What to ask for when *host* could not be had: one that refused lives, any other has to prove itself anew."""
    # A failed set-up, or credentials that could not be had, say nothing of the host.
    lives = isinstance(error, (SetUpFailed, errors.OperationalError))
    refused = lives or not (isinstance(error, WrongRole) or proxy.driver.failure(error, None).lost)
    want = replace(want, since=proxy.io.now())
    return want if refused else replace(want, lost=host, opened=began)


async def renewed(proxy: Proxy, control: Cluster, host: Host) -> None:
    """A new session with the host that the connection is on, at the application's wish.

    Raises what another try may not raise (``tries_again``).
    """
    at = proxy.io.now()
    gone = Operation("reconnect", sent=False)
    await _moved(proxy, control, host, at + proxy.settings.failover_timeout_sec, Ledger(at), gone)


async def topology_awaited(proxy: Proxy, control: Cluster) -> None:
    """Give the writer time to say that it is one; whoever waits in vain goes on without."""
    io, tries = proxy.io, 0
    until = min(io.now() + proxy.settings.wait_for_initial_topology_ms / 1000, nearest())
    try:
        while not control.cell.standing.settled and io.now() < until:
            await io.ask(control.topology, RefreshTopology(until), until)
            tries += 1
            if not control.cell.standing.settled:
                await io.sleep(max(0.0, min(io.jitter(pause(tries)), until - io.now())))
    except (DeadlineExceeded, ActorStopped) as error:
        log.debug("the writer of cluster %s is not known yet: %s", control.name, error)


async def set_up(proxy: Proxy, wire: Wire, until: float) -> None:
    """Have the application set *wire* up, if it wants to. Raises what ``on_connect`` raises."""
    hook = proxy.settings.on_connect
    if hook is not None:
        try:
            await proxy.io.set_up(hook, wire, proxy.login_limit(until))
        except Exception as error:
            error.add_note("aurora_actors: raised by on_connect, within which a new connection is set up")
            raise


async def _moved(
    proxy: Proxy, control: Cluster, host: Host, until: float, ledger: Ledger, operation: Operation
) -> tuple[Ledger, Outcome]:
    """*operation* was under way when the session was lost; its outcome is told before the session is forgotten."""
    io = proxy.io
    opened = io.now()
    spare, host = await opened_in_role(proxy, control, host, until, initial=False)
    try:
        at = io.now() - ledger.symptom_at
        ledger = replace(ledger, connected=at, verified=at)
        alone = len(control.cell.view.topology.hosts) == 1
        if not proxy.mode.accepts(host) and not alone:
            raise WrongRole(f"it says that it is a {host.role.value}")
        outcome = await told(proxy, spare, operation, host, proxy.login_limit(until))
        try:
            await set_up(proxy, spare, until)
        except Exception as error:
            pass_interrupt(error)
            raise SetUpFailed(f"on_connect failed: {type(error).__name__}: {_line(error)}") from error
        if proxy.settings.transfer_session_state_on_switch:
            ledger = replace(ledger, lacking=await io.restore(proxy.wire, spare, proxy.login_limit(until)))
    except BaseException:
        io.discard(spare)
        raise
    proxy.moved(host, opened)
    proxy.driver.swap(proxy.wire, spare)
    return replace(ledger, restored=io.now() - ledger.symptom_at), outcome


def _succeeded(
    proxy: Proxy,
    control: Cluster,
    call: Recover,
    lost: Host | None,
    ledger: Ledger,
    attempts: tuple[Attempt, ...],
    outcome: Outcome,
) -> Exception:
    assert proxy.host is not None
    event = signals.ConnectionSwitched(
        control.name, lost, proxy.host, outcome.value, call.fault is Fault.STALE, ledger, proxy.io.now()
    )
    signals.emit(signals.connection_switched, control.name, event)
    two_phase = bool(call.operation.gid)
    open_before = call.operation.in_transaction or two_phase
    kind = errors.TransactionResolutionUnknownError if open_before else errors.FailoverSuccessError
    unit = "transaction" if open_before else call.operation.name
    gone = "left before anything was sent" if call.fault is Fault.STALE else "lost"
    lacking = f" but for {', '.join(ledger.lacking)}" if ledger.lacking else ""
    message = (
        f"the connection to {lost} was {gone} ({_line(call.error)}); it goes on at {proxy.host},"
        f" {ledger.seconds:.3f} s later, its session restored{lacking}. {advice(unit, outcome, two_phase=two_phase)}"
    )
    return _error(proxy, kind, message, outcome, proxy.host, attempts, ledger)


def _failed(proxy: Proxy, control: Cluster, call: Recover, ledger: Ledger, attempts: list[Attempt]) -> Exception:
    probes = [replace(a, seconds=a.seconds - call.at) for a in control.cell.attempts if a.seconds >= call.at]
    tried = tuple(sorted((*attempts, *probes), key=lambda attempt: attempt.seconds))
    outcome, two_phase = outcome_of(call.operation), bool(call.operation.gid)
    if proxy.io.now() >= nearest():
        # The application may have more time for its next statement, which goes on searching.
        kind: type[errors.DeadlineExceededError] = proxy.driver.error(errors.DeadlineExceededError)
        seconds = proxy.io.now() - call.at
        message = (
            f"the connection to {proxy.host} was lost ({_line(call.error)}), and"
            f" {overdue('search for another host', seconds, outcome, closed=True, two_phase=two_phase)}"
            f" (the {call.operation.name}). Tried: {'; '.join(map(str, tried)) or 'no host answered'}"
        )
        return kind(message, outcome=outcome, seconds=seconds)
    proxy.driver.give_up(proxy.wire)
    message = (
        f"the connection to {proxy.host} was lost ({_line(call.error)}) and no host of cluster {control.name} was found"
        f" that fits {proxy.mode.value} within {proxy.io.now() - call.at:.1f} s (failover_timeout_sec). Tried: "
        f"{'; '.join(map(str, tried)) or 'no host answered'}. The connection is closed: connect anew."
        f" {advice(call.operation.name, outcome, two_phase=two_phase)}"
    )
    return _error(proxy, errors.FailoverFailedError, message, outcome, None, tried, ledger)


def _error(
    proxy: Proxy,
    kind: type[errors.FailoverError],
    message: str,
    outcome: Outcome,
    host: Host | None,
    attempts: tuple[Attempt, ...],
    ledger: Ledger,
) -> Exception:
    both: type[errors.FailoverError] = proxy.driver.error(kind)
    return both(message, outcome=outcome, host=host, attempts=attempts, ledger=ledger)


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
