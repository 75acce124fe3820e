"""Enhanced failure monitoring: end calls that wait for a dead host, long before TCP would.

    conn = aurora_actors.connect("host=… dbname=…", plugins="failover,efm", failure_detection_time_ms=1000)
"""

from __future__ import annotations

from aurora_actors.plugin import Detection, Plugin

__all__ = ["Efm"]


class Efm(Plugin):
    """Has the host's monitor judge this connection's calls. ``failure_detection_enabled=False`` turns it off.

    A call that is ended fails with the driver's own error; what follows is the business of other plugins.
    """

    name = "efm"
    order = 500
    needs_cluster = True

    def detection(self) -> Detection | None:
        """As the ``failure_detection_*`` parameters say, with the monitors that ``monitors`` names."""
        settings = self.context.settings
        if not settings.failure_detection_enabled:
            return None
        return Detection(
            settings.failure_detection_time_ms / 1000,
            settings.failure_detection_interval_ms / 1000,
            settings.failure_detection_count,
            settings.monitors,
        )
