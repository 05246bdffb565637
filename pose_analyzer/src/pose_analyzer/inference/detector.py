"""What a pose detector is, and the part that all of them share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias, runtime_checkable

from pose_analyzer.errors import DetectorError
from pose_analyzer.inference.latency import LatencyWindow
from pose_analyzer.types import Frame, PoseDetections


@dataclass(frozen=True, slots=True)
class DetectorStats:
    """What a detector has cost so far.

    Attributes
    ----------
    n_frames : int
        Frames analysed.
    latency_ms_median, latency_ms_p99 : float
        Of one call of `PoseDetector.detect`, however many frames it took, over the last 4096
        calls; NaN before the first.
    device_memory_bytes : int or None
        The most GPU memory reserved; None on a CPU, or where the library does not tell.
    """

    n_frames: int
    latency_ms_median: float
    latency_ms_p99: float
    device_memory_bytes: int | None


class PoseDetector(Protocol):
    """Anything that finds people in frames. A context manager: leaving it closes the detector."""

    @property
    def name(self) -> str:
        """What it is, for reports: ``"mediapipe-full"``, ``"yolo11n-pose.onnx"``."""
        ...

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the people of each frame, in the order of the frames.

        Raises
        ------
        DetectorError
            If the detector fails or is closed.
        """
        ...

    def stats(self) -> DetectorStats:
        """Return what it has cost so far."""
        ...

    def close(self) -> None:
        """Free what it holds. Safe to call twice; `detect` fails afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class PoseBackend(Protocol):
    """What runs the network."""

    def infer(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the people of each frame; at least one frame comes."""
        ...

    def device_memory_bytes(self) -> int | None:
        """Return the most GPU memory reserved; None where that is not known."""
        ...

    def reset(self) -> None:
        """Forget the stream."""
        ...

    def close(self) -> None:
        """Free everything; called once."""
        ...


DetectorStage = Literal["preprocess", "infer", "postprocess"]
StageListener: TypeAlias = Callable[[DetectorStage, float], None]
"""Takes a stage and how many seconds a batch spent in it; the `stage` of an observer is one."""


@runtime_checkable
class BatchedBackend(Protocol):
    """A backend that says how many frames it takes at once, and where the time goes."""

    on_stage: StageListener | None

    @property
    def max_batch(self) -> int:
        """Most frames of one run now; it may fall and rise again."""
        ...


class TimedDetector:
    """The part that all detectors share: name, clock, lifetime."""

    def __init__(self, name: str, backend: PoseBackend) -> None:
        self._name = name
        self._backend = backend
        self._latency = LatencyWindow()
        self._is_closed = False

    @property
    def name(self) -> str:
        """What it is, for reports."""
        return self._name

    @property
    def max_batch(self) -> int | None:
        """Most frames that one run of the network takes now; None if that is not known."""
        return self._backend.max_batch if isinstance(self._backend, BatchedBackend) else None

    def watch_stages(self, listener: StageListener | None) -> None:
        """Tell a listener how long each batch spends where; only the batched engine knows."""
        if isinstance(self._backend, BatchedBackend):
            self._backend.on_stage = listener

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the people of each frame, in the order of the frames.

        Parameters
        ----------
        frames : sequence of Frame
            Any number, none too. Not modified.

        Raises
        ------
        DetectorError
            If the detector is closed, or its library fails.
        """
        if self._is_closed:
            raise DetectorError(f"detector {self._name} is closed; make a new one")
        if not frames:
            return []
        started_s = time.perf_counter()
        try:
            detections = self._backend.infer(frames)
        except RuntimeError as exc:
            raise DetectorError(f"detector {self._name} failed: {exc}") from exc
        self._latency.add(time.perf_counter() - started_s, len(frames))
        return detections

    def stats(self) -> DetectorStats:
        """Return what it has cost so far."""
        return DetectorStats(
            n_frames=self._latency.n_frames,
            latency_ms_median=self._latency.percentile_ms(50.0),
            latency_ms_p99=self._latency.percentile_ms(99.0),
            device_memory_bytes=None if self._is_closed else self._backend.device_memory_bytes(),
        )

    def reset(self) -> None:
        """Forget the stream: the next frame is treated as the first of a new one."""
        self._backend.reset()

    def close(self) -> None:
        """Free what it holds. Safe to call twice; `detect` fails afterwards."""
        if not self._is_closed:
            self._is_closed = True
            self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
