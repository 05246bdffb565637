"""What live serving tells of itself, as Prometheus collects it.

Only `serving` (through its `Observer`), the service and the command line count here. Labels are
stages and causes, never a stream: their number is fixed, however many streams come and go.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pose_analyzer.errors import DependencyMissingError
from pose_analyzer.serving.observer import DROP_CAUSES, STAGES, DropCause, Stage

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

STAGE_BUCKETS_S: Final = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.018, 0.025),
    *(0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0),
)
"""From half a millisecond to two seconds, each about 1.5 times the last where it matters, with
edges at 12, 25 and 50 ms, by which live latency is judged (chosen by us)."""
_BATCH_BUCKETS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""The batch sizes that a GPU engine runs."""
_OCCUPANCY_BUCKETS: Final = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


class PoseMetrics:
    """An `Observer` that counts with Prometheus; safe to use from any thread.

    Parameters
    ----------
    registry : CollectorRegistry, optional
        Where the collectors live; one of its own otherwise, so two of these can be in a process.

    Raises
    ------
    DependencyMissingError
        If prometheus-client is not installed.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError as exc:
            raise DependencyMissingError(
                "metrics need prometheus-client: pip install 'pose-analyzer[live]'"
            ) from exc
        self.registry = prometheus.CollectorRegistry() if registry is None else registry
        self._generate = prometheus.generate_latest
        stages = prometheus.Histogram(
            "pose_stage_seconds",
            "Time of a frame or a batch in each stage, and from end to end.",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=self.registry,
        )
        drops = prometheus.Counter(
            "pose_dropped_frames",
            "Live frames that were not analysed.",
            ["cause"],
            registry=self.registry,
        )
        # All labels exist from the start, so a rate is zero and not missing.
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._drops = {cause: drops.labels(cause) for cause in DROP_CAUSES}
        self._batch_frames = prometheus.Histogram(
            "pose_batch_frames",
            "Frames in a batch.",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self._occupancy = prometheus.Histogram(
            "pose_batch_occupancy_ratio",
            "Frames in a batch, of those that it could have held.",
            buckets=_OCCUPANCY_BUCKETS,
            registry=self.registry,
        )
        self._streams = prometheus.Gauge(
            "pose_open_streams", "Streams that are open.", registry=self.registry
        )
        self._vram_used = prometheus.Gauge(
            "pose_vram_used_bytes",
            "GPU memory used by all processes; NaN if not measured.",
            registry=self.registry,
        )
        self._vram_total = prometheus.Gauge(
            "pose_vram_total_bytes", "GPU memory; NaN if not measured.", registry=self.registry
        )
        self.vram(0, 0)

    def stage(self, stage: Stage, seconds: float) -> None:
        """Count how long a stage took."""
        self._stages[stage].observe(seconds)

    def dropped(self, cause: DropCause, n: int = 1) -> None:
        """Count dropped frames."""
        self._drops[cause].inc(n)

    def batch(self, n_frames: int, capacity: int) -> None:
        """Count a batch; the capacity is at least 1."""
        self._batch_frames.observe(n_frames)
        self._occupancy.observe(n_frames / capacity)

    def streams(self, n_live: int) -> None:
        """Keep how many streams are open."""
        self._streams.set(n_live)

    def vram(self, used_bytes: int, total_bytes: int) -> None:
        """Keep how full the memory is; (0, 0) means not measured."""
        is_measured = total_bytes > 0
        self._vram_used.set(used_bytes if is_measured else math.nan)
        self._vram_total.set(total_bytes if is_measured else math.nan)

    def render(self) -> str:
        """Return everything in the text format that Prometheus scrapes."""
        return self._generate(self.registry).decode()
