"""Who is in the cluster: readers come and go, and hosts get other names."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace

from . import faults, network
from .addresses import choose_another
from .cluster import Cluster, Host, Journal
from .names import Place
from .promoting import fail_over
from .rejoining import operation_on, rejoin_now, settle
from .values import LabError, OperationRecord

__all__ = ["add_reader", "remove_reader", "rename", "restore"]

MOST_HOSTS = 16
"""As many as an Aurora cluster may have; the servers' settings allow for it."""
ID = re.compile(r"(?=.{1,63}\Z)[A-Za-z](?:-?[A-Za-z0-9])*")
"""What RDS takes for an instance identifier."""


def add_reader(cluster: Cluster, id_: str | None) -> OperationRecord:
    """See :meth:`Lab.add_reader`."""
    with cluster.lock:
        id_ = id_ or _next_id(cluster)
        with cluster.operation("add_reader", id_) as journal:
            _check_id(cluster, id_)
            if not cluster.writer.is_live:
                raise LabError(f"add_reader: there is nothing to copy while {cluster.writer.id} is {cluster.writer.state}")
            if len(cluster.hosts) >= MOST_HOSTS:
                raise LabError(f"add_reader: a cluster has at most {MOST_HOSTS} hosts")
            taken = {(host.place.address, host.place.port) for host in cluster.hosts.values()}
            place = Place(id_, *choose_another(taken, cluster.spent))
            host = Host(cluster.writer.server.sibling(place), state="starting", added=True)
            journal.note("created", id_)
            cluster.set_hosts([*cluster.hosts.values(), host])
            try:
                rejoin_now(cluster, host, clone=True)
            except BaseException:
                _forget(cluster, host)
                raise
            journal.note("added", id_)
            return journal.record()


def _next_id(cluster: Cluster) -> str:
    """The cluster's name and the number after the highest that any host ever had."""
    pattern = re.compile(re.escape(cluster.zone.name) + r"-(\d+)", re.IGNORECASE)
    known = [match for id_ in {*cluster.hosts, *cluster.former_ids} if (match := pattern.fullmatch(id_))]
    return f"{cluster.zone.name}-{max((int(match.group(1)) for match in known), default=0) + 1}"


def _check_id(cluster: Cluster, id_: str) -> None:
    if not ID.fullmatch(id_):
        raise LabError(f"{id_!r} is no instance identifier: letters, digits and single hyphens, a letter first")
    if id_.lower() in {known.lower() for known in cluster.hosts}:
        raise LabError(f"there is a host {id_!r} already")


def remove_reader(cluster: Cluster, host_id: str) -> OperationRecord:
    """See :meth:`Lab.remove_reader`."""
    with operation_on(cluster, "remove_reader", host_id) as journal:
        host = cluster.host(host_id)
        if host.role == "WRITER":
            raise LabError(f"{host.id} writes; fail over first")
        if not cluster.writer.is_live:
            # It may be the one that holds what the writer acknowledged last.
            raise LabError(f"remove_reader: the writer {cluster.writer.id} is {cluster.writer.state}")
        if host.is_live:
            faults.leave(cluster, host)
            _stop(journal, host)
        else:
            faults.kill(cluster, host)
        _forget(cluster, host)
        cluster.engine.adapt(cluster)
        cluster.publish()
        journal.note("removed", host.id)
        return journal.record()


def _stop(journal: Journal, host: Host) -> None:
    """End a host in order: its sessions get 57P01."""
    host.state, host.seen = "restarting", time.time()
    journal.note("stop_requested", host.id)
    host.server.shut_down()
    journal.note("stopped", host.id)


def _forget(cluster: Cluster, host: Host) -> None:
    host.server.kill()
    network.lift(cluster, host)
    cluster.set_hosts(other for other in cluster.hosts.values() if other is not host)
    cluster.former_ids.add(host.id)
    cluster.spent.add((host.place.address, host.place.port))
    host.server.remove_data()
    shutil.rmtree(host.server.directory, ignore_errors=True)


def rename(cluster: Cluster, host_id: str, new_id: str) -> OperationRecord:
    """See :meth:`Lab.rename`."""
    with operation_on(cluster, "rename", host_id) as journal:
        host = cluster.host(host_id)
        _check_id(cluster, new_id)
        for needed in (host, cluster.writer):
            if not needed.is_live:
                raise LabError(f"rename: {needed.id} is {needed.state}")
        if host.role == "READER":
            faults.leave(cluster, host)
        _stop(journal, host)
        old, new = host.place, replace(host.place, id=new_id)
        host.server.move(new)
        for other in cluster.hosts.values():
            if other.server.upstream == old:
                other.server.upstream = new
                other.server.write_settings()
                other.server.reload()
        host.born = host.born or old.id
        cluster.former_ids.add(old.id)
        cluster.set_hosts(cluster.hosts.values())
        cluster.publish()
        journal.note("renamed", new_id)
        faults.bring_up(cluster, journal, host)
        return journal.record()


def restore(cluster: Cluster, ids: Sequence[str]) -> None:
    """Bring back the hosts of the start, under their names and in their order; those that came later go."""
    present = {host.born or host.id for host in cluster.hosts.values() if not host.added}
    for host in cluster.hosts.values():
        if host.added and host.id in set(ids) - present:
            host.added = False
    _add_missing(cluster, ids)
    if cluster.writer.added:
        fail_over(cluster, _originals(cluster)[0].id, cluster.engine.handover, rejoin=True, after_seconds=0.0)
        for host in cluster.hosts.values():
            settle(host)
    for host in [host for host in cluster.hosts.values() if host.added]:
        remove_reader(cluster, host.id)
    while renamed := [host for host in _originals(cluster) if host.born not in {"", host.id}]:
        ready = next((host for host in renamed if host.born not in cluster.hosts), None)
        if ready is not None:
            rename(cluster, ready.id, ready.born)
        else:
            # They have each other's names.
            rename(cluster, renamed[0].id, f"{renamed[0].id}-aside")
    _add_missing(cluster, ids)
    with cluster.lock:
        if tuple(cluster.hosts) != tuple(ids):
            cluster.set_hosts([cluster.hosts[id_] for id_ in ids])
            cluster.publish()
        cluster.former_ids.clear()


def _originals(cluster: Cluster) -> list[Host]:
    return [host for host in cluster.hosts.values() if not host.added]


def _add_missing(cluster: Cluster, ids: Sequence[str]) -> None:
    present = {host.born or host.id for host in _originals(cluster)}
    for id_ in ids:
        if id_ not in present and id_ not in cluster.hosts:
            add_reader(cluster, id_)
            cluster.host(id_).added = False
