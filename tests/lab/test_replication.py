"""How the lab's hosts hear from each other."""

from __future__ import annotations

from aurora_actors.lab import PostgresLab


def test_replication_does_not_share_the_network_of_clients(aurora_lab: PostgresLab) -> None:
    aurora_lab.failover()
    aurora_lab.wait_ready()
    server = aurora_lab.cluster.writer.server
    found = server.query("SELECT application_name, client_addr FROM pg_stat_replication ORDER BY 1")
    assert found == [(host, None) for host in sorted(aurora_lab.readers)]
