"""How many live streams a machine holds: cameras that are none, and what became of their frames.

Each stream pushes pictures at its own pace from a thread of its own, as a camera would. A frame is
captured when it is due, whether or not the machine had time to push it then: what waits before the
push counts, too.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from pose_analyzer.errors import StreamClosedError
from pose_analyzer.inference.jpeg_head import jpeg_size
from pose_analyzer.multi_stream_processor import MultiStreamProcessor, ProcessorConfig
from pose_analyzer.serving.batch_runner import BatchDetector
from pose_analyzer.serving.live_stream import FramePipeline, StreamConfig
from pose_analyzer.serving.observer import STAGES, DropCause, Stage
from pose_analyzer.serving.result_queue import LiveResult, StreamEnd
from pose_analyzer.types import AnyFrame, FloatArray, Frame, ImageArray, JpegFrame

Capture: TypeAlias = Callable[[int, int], ImageArray | bytes | None]
"""Takes the number of the stream and of the frame; returns the picture, or a JPEG file that the
processor decodes. None ends the stream. It may take its time, as a decoder does."""

_MOST_SAMPLES: Final = 200_000


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """The streams of one measurement.

    Attributes
    ----------
    n_streams : int
        Streams at once.
    fps : float
        Frames a second of each; their phases are random, as those of cameras are.
    seconds : float
        How long is measured.
    warm_up_s : float
        How long they run before.
    stream : StreamConfig
        How each is served.
    processor : ProcessorConfig
        How all are.
    seed : int
        Of the phases.
    """

    n_streams: int
    fps: float = 30.0
    seconds: float = 60.0
    warm_up_s: float = 2.0
    stream: StreamConfig = field(default_factory=StreamConfig)
    processor: ProcessorConfig = field(default_factory=ProcessorConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_streams < 1:
            raise ValueError(f"n_streams must be at least 1, got {self.n_streams}")
        for name, value in (("fps", self.fps), ("seconds", self.seconds)):
            if not value > 0.0:
                raise ValueError(f"{name} must be above 0, got {value}")


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What became of the frames that were captured while it was measured.

    Attributes
    ----------
    n_captured : int
        Frames that the streams captured.
    latency_ms : array, shape (N,)
        From capture to analysis, of each frame that was analysed, in the order of the results.
    stream_idx : array, shape (N,)
        Of which stream it was.
    dropped : mapping of str to int
        Frames that were not analysed, by cause, over the whole run.
    stage_ms : mapping of str to array
        Times of each stage.
    batch_sizes : array
        Frames in each batch.
    seconds : float
        How long was measured.
    cpu_s : float
        Processor time of this process in that time, without that of others that analyse.
    """

    n_captured: int
    latency_ms: FloatArray
    stream_idx: FloatArray
    dropped: Mapping[DropCause, int]
    stage_ms: Mapping[Stage, FloatArray]
    batch_sizes: FloatArray
    seconds: float
    cpu_s: float

    @property
    def fps(self) -> float:
        """Frames analysed in a second, of all streams."""
        return len(self.latency_ms) / self.seconds

    @property
    def drop_share(self) -> float:
        """Share of the captured frames that were not analysed; NaN if none was captured."""
        if self.n_captured == 0:
            return float("nan")
        return 1.0 - min(len(self.latency_ms) / self.n_captured, 1.0)

    @property
    def mean_batch(self) -> float:
        """Frames in a batch; NaN if there was none."""
        return float(self.batch_sizes.mean()) if self.batch_sizes.size else float("nan")

    def percentile_ms(self, percent: float, streams: Sequence[int] | None = None) -> float:
        """Return a percentile of the latency, of all streams or of some; NaN if there is none."""
        chosen = self.latency_ms
        if streams is not None:
            chosen = chosen[np.isin(self.stream_idx, streams)]
        return float(np.percentile(chosen, percent)) if chosen.size else float("nan")

    def counts(self, n_streams: int) -> FloatArray:
        """Return how many frames of each stream were analysed, shape (n_streams,)."""
        return np.bincount(self.stream_idx.astype(np.intp), minlength=n_streams).astype(np.float64)


class _Tally:
    """Counts what the processor tells while it is measured; an `Observer`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.is_measuring = False
        self.drops: Counter[DropCause] = Counter()
        self.stages: dict[Stage, list[float]] = {stage: [] for stage in STAGES}
        self.batches: list[int] = []

    def stage(self, stage: Stage, seconds: float) -> None:
        if self.is_measuring and len(self.stages[stage]) < _MOST_SAMPLES:
            self.stages[stage].append(1e3 * seconds)

    def dropped(self, cause: DropCause, n: int = 1) -> None:
        with self._lock:
            self.drops[cause] += n

    def batch(self, n_frames: int, capacity: int) -> None:
        del capacity
        if self.is_measuring and len(self.batches) < _MOST_SAMPLES:
            self.batches.append(n_frames)

    def streams(self, n_live: int) -> None:
        """Pass over it."""

    def vram(self, used_bytes: int, total_bytes: int) -> None:
        """Pass over it."""


class _Camera:
    """One stream: pushes its pictures when they are due and takes what became of them."""

    def __init__(self, number: int, capture: Capture, spec: LoadSpec, phase_s: float) -> None:
        self.stream_id = f"stream {number}"
        self._number = number
        self._capture = capture
        self._interval_s = 1.0 / spec.fps
        self._phase_s = phase_s
        self.captured_s: list[float] = []
        self.results: list[tuple[float, float]] = []
        self.stop = threading.Event()

    def take(self, result: LiveResult | StreamEnd) -> None:
        """Remember when a frame was captured and when it was done; called by the processor."""
        if isinstance(result, LiveResult):
            self.results.append((result.captured_s, result.done_s))

    def run(self, processor: MultiStreamProcessor, start_s: float) -> None:
        """Push frames until told to stop."""
        index = 0
        while not self.stop.is_set():
            due_s = start_s + self._phase_s + index * self._interval_s
            wait_s = due_s - time.monotonic()
            if wait_s > 0.0 and self.stop.wait(wait_s):
                return
            picture = self._capture(self._number, index)
            if picture is None:
                return
            self.captured_s.append(due_s)
            try:
                processor.push(self.stream_id, self._frame(picture, index), captured_s=due_s)
            except StreamClosedError:
                return
            index += 1

    def _frame(self, picture: ImageArray | bytes, index: int) -> AnyFrame:
        time_s = index * self._interval_s
        if isinstance(picture, bytes):
            height, width = jpeg_size(picture) or (0, 0)
            return JpegFrame(picture, time_s, index, height, width)
        return Frame(picture, time_s, index)


def run_load(
    detector: BatchDetector,
    spec: LoadSpec,
    capture: Capture,
    make_pipeline: Callable[[], FramePipeline],
) -> LoadResult:
    """Run streams against a detector and return what became of their frames.

    Parameters
    ----------
    detector : BatchDetector
        Warm: its first batches are not left out.
    spec : LoadSpec
        The streams.
    capture : callable
        Gives the pictures; called by the thread of each stream.
    make_pipeline : callable
        Makes the analysis of one stream.
    """
    tally = _Tally()
    rng = np.random.default_rng(spec.seed)
    phases_s = rng.uniform(0.0, 1.0 / spec.fps, spec.n_streams)
    cameras = [_Camera(n, capture, spec, float(phase)) for n, phase in enumerate(phases_s)]
    with MultiStreamProcessor(detector, spec.processor, tally) as processor:
        for camera in cameras:
            processor.open_stream(camera.stream_id, make_pipeline(), spec.stream, camera.take)
        start_s = time.monotonic() + 0.05
        threads = [
            threading.Thread(target=camera.run, args=(processor, start_s), daemon=True)
            for camera in cameras
        ]
        for thread in threads:
            thread.start()
        time.sleep(max(start_s + spec.warm_up_s - time.monotonic(), 0.0))
        tally.is_measuring, cpu_from_s, from_s = True, time.process_time(), time.monotonic()
        time.sleep(spec.seconds)
        to_s, cpu_to_s = time.monotonic(), time.process_time()
        tally.is_measuring = False
        # What was captured in time may still be done.
        time.sleep(min(4.0 * spec.stream.budget_s, 1.0))
        for camera in cameras:
            camera.stop.set()
        for thread in threads:
            thread.join(5.0)
    return _result(cameras, tally, (from_s, to_s), cpu_to_s - cpu_from_s)


def _result(
    cameras: Sequence[_Camera], tally: _Tally, span_s: tuple[float, float], cpu_s: float
) -> LoadResult:
    from_s, to_s = span_s
    done = [
        (captured_s, done_s, number)
        for number, camera in enumerate(cameras)
        for captured_s, done_s in camera.results
        if from_s <= captured_s < to_s
    ]
    table = np.array(done, dtype=np.float64).reshape(-1, 3)
    captured = [one for camera in cameras for one in camera.captured_s if from_s <= one < to_s]
    return LoadResult(
        n_captured=len(captured),
        latency_ms=1e3 * (table[:, 1] - table[:, 0]),
        stream_idx=table[:, 2],
        dropped=dict(tally.drops),
        stage_ms={stage: np.array(times) for stage, times in tally.stages.items()},
        batch_sizes=np.array(tally.batches, dtype=np.float64),
        seconds=to_s - from_s,
        cpu_s=cpu_s,
    )
