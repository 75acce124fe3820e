"""The clusters of this process: found by what identifies them, stopped when nobody needs them, at exit, or by a fork."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from time import monotonic

from aurora_actors.actors.base import stop_all
from aurora_actors.actors.clock import Clock
from aurora_actors.actors.cluster import Cluster, Identity
from aurora_actors.actors.dispatch import dispatcher
from aurora_actors.actors.forking import on_fork
from aurora_actors.actors.names import names
from aurora_actors.actors.polling import join_workers

__all__ = ["Seed", "System", "release_resources", "system"]

EXIT_SECONDS = 0.5
"""How long the end of the process may wait for actors; their threads are daemons, so that the rest is left behind."""
PARK_SECONDS = 1.0
"""How long the end of a call may wait for threads that were needed on demand: for receivers of signals, above all."""
LOOK_UP_SECONDS = 0.1
"""How much of that for code that nobody can interrupt: the system's resolver, what monitors call that blocks."""
Seed = tuple[str, str, str, int]
"""A given endpoint: its engine, the user's ``cluster_id``, host and port."""


class System:
    """Guards the registry by one lock, under which nothing waits for a server or an actor."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._seeds: dict[Seed, Cluster] = {}
        self._clusters: list[Cluster] = []
        self._exit_registered = False
        self._calls: set[object] = set()
        self._lock = threading.RLock()
        on_fork(self.reset)

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        with self._lock:
            return tuple(self._clusters)

    def find(self, seed: Seed) -> Cluster | None:
        """The cluster that a given endpoint was seen to belong to."""
        with self._lock:
            return self._seeds.get(seed)

    def join(self, seed: Seed, identity: Identity, make: Callable[[], Cluster]) -> Cluster:
        """The known cluster of that identity, or the one that *make* makes, under its lock."""
        with self._lock:
            cluster = next((known for known in self._clusters if known.identity.is_same(identity)), None)
            if cluster is None:
                cluster = make()
                self._clusters.append(cluster)
                self._register_exit()
            else:
                cluster.identity = cluster.identity.with_more(identity)
            self._seeds[seed] = cluster
            return cluster

    def begin_call(self) -> object:
        """A call begins that may start threads, which are not to outlive it; ``end_call`` takes what this gives."""
        call = object()
        with self._lock:
            self._calls.add(call)
        return call

    def end_call(self, call: object) -> bool:
        """Whether there are threads to be stopped, by ``park``: it was the last of the calls under way."""
        with self._lock:
            self._calls.discard(call)
            return not self._calls and self._is_awake()

    def park(self, seconds: float = PARK_SECONDS) -> None:
        """Deliver the signals that wait, and stop every thread of ours that no connection needs in the background.

        Blocks; what does not end in time (a receiver, a look-up, a monitor of somebody's) is left behind.
        """
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            with self._lock:
                if self._calls or not self._is_awake():
                    return
                parked = [cluster for cluster in self._clusters if not cluster.background]
                # Out of reach for a call that begins now, which starts its own.
                refs = [ref for cluster in parked for ref in cluster.let_go()]
                for cluster in parked:
                    if not cluster.leases and monotonic() - cluster.released_at > cluster.grace:
                        self._clusters.remove(cluster)
                        self._seeds = {seed: known for seed, known in self._seeds.items() if known is not cluster}
            stop_all(refs, left)
            join_workers(min(left, LOOK_UP_SECONDS))
            with self._lock:
                if self._calls or any(cluster.background for cluster in self._clusters):
                    return
                stopping = self.clock.let_go()
            stopping(left)
            dispatcher.stop(left)
            names.rest(min(left, LOOK_UP_SECONDS))

    def _is_awake(self) -> bool:
        if any(cluster.running for cluster in self._clusters if not cluster.background):
            return True
        shared = self.clock.running or dispatcher.running or names.running
        return shared and not any(cluster.background for cluster in self._clusters)

    def forget(self, cluster: Cluster) -> None:
        """Stop a cluster that nobody uses any more; one that is used again in the meantime stays. Does not wait."""
        with self._lock:
            if cluster.leases:
                return
            if cluster in self._clusters:
                self._clusters.remove(cluster)
            self._seeds = {seed: known for seed, known in self._seeds.items() if known is not cluster}
            if not self._clusters:
                # Under the lock, so that no timer of a cluster that is made just now is dropped.
                self.clock.stop(0.0)
                dispatcher.stop(0.0)
                names.rest()
        cluster.stop(0.0)

    def stop(self, seconds: float = EXIT_SECONDS) -> None:
        """Stop everything; whoever needs it starts it again. Clusters that connections use stay known."""
        with self._lock:
            clusters = self._clusters
            self._clusters = [cluster for cluster in clusters if cluster.leases]
            self._seeds = {seed: known for seed, known in self._seeds.items() if known.leases}
        for cluster in clusters:
            cluster.stop(seconds / max(1, len(clusters)))
        dispatcher.stop(seconds)
        self.clock.stop(seconds)
        names.rest()

    def reset(self) -> None:
        """In a forked child: new locks, no threads; connections carried over keep their cluster and start it afresh."""
        self._lock = threading.RLock()
        self._calls = set()
        for cluster in self._clusters:
            cluster.reset()

    def _register_exit(self) -> None:
        if not self._exit_registered:
            self._exit_registered = True
            atexit.register(self.stop)


system = System()


def release_resources() -> None:
    """End the threads of this package now, which else end by themselves, some time after the last connection or at exit.

    The AWS wrapper's name, whose applications have to call it. Nothing here has to: connections that are open work on and
    start what they need. Waits for half a second at most.
    """
    system.stop()
