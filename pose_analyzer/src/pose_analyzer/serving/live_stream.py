"""One live stream: what it accepts, its state, its counts, its client."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, get_args

from pose_analyzer.errors import PoseAnalyzerError, StreamError
from pose_analyzer.serving.arrival_rate import ArrivalRate
from pose_analyzer.serving.batch_scheduler import MOST_PRIORITY
from pose_analyzer.serving.limits import require_whole
from pose_analyzer.serving.live_frame import is_picture
from pose_analyzer.serving.observer import DropCause
from pose_analyzer.serving.ordered_pool import Lane
from pose_analyzer.serving.result_queue import LiveResult, ResultQueue, StreamEnd
from pose_analyzer.serving.stream_ledger import StreamLedger
from pose_analyzer.serving.stream_state import StreamState
from pose_analyzer.serving.stream_timeline import StreamTimeline
from pose_analyzer.types import AnyFrame, FrameAnalysis, PoseDetections

StreamPolicy = Literal["newest", "every_frame"]
Sink = Callable[[LiveResult | StreamEnd], None]
"""Called, in order, by a worker thread with every result and at last with the end."""

_EARLY_SHARE: Final = 0.1
"""A frame may come so much of its interval too early and still pass a limit of frame rate."""


class FramePipeline(Protocol):
    """What analyses the detections of one stream: `StreamPipeline`."""

    def update(self, detections: PoseDetections, index: int, time_s: float) -> FrameAnalysis:
        """Return what is known after a frame."""
        ...


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How a stream is served.

    Attributes
    ----------
    priority : int
        From -10 to 10; larger is served sooner and shed later.
    budget_s : float
        From capture to result: the time in which feedback feels immediate.
    stale_s : float
        A frame that would be older when it is done, were it alone, is dropped when its turn comes;
        the detector's time counts for half of this at most. Not with ``"every_frame"``.
    policy : str
        ``"newest"``: a newer frame replaces the one that waits. ``"every_frame"``: none is dropped;
        whoever pushes waits while ``depth`` frames do.
    depth : int
        Results that may wait for a client without a sink, and with ``"every_frame"`` also frames
        that may wait for the detector.
    """

    priority: int = 0
    budget_s: float = 0.1
    stale_s: float = 0.5
    policy: StreamPolicy = "newest"
    depth: int = 1

    def __post_init__(self) -> None:
        require_whole("priority", self.priority, -MOST_PRIORITY, MOST_PRIORITY)
        require_whole("depth", self.depth, 1)
        for name, value in (("budget_s", self.budget_s), ("stale_s", self.stale_s)):
            if not value > 0.0:
                raise ValueError(f"{name} must be above 0, got {value}")
        if self.policy not in get_args(StreamPolicy):
            raise ValueError(f"policy must be one of {get_args(StreamPolicy)}, got {self.policy!r}")

    @property
    def is_lossless(self) -> bool:
        """Whether every frame is analysed."""
        return self.policy == "every_frame"


@dataclass(frozen=True, slots=True)
class QueuedFrame:
    """A frame on its way.

    Attributes
    ----------
    stream : LiveStream
        Whose it is.
    frame : Frame or JpegFrame
        As it was pushed.
    time_s : float
        Its time on the `StreamTimeline` of its stream.
    captured_s : float
        When it was captured, on the clock of the processor.
    """

    stream: LiveStream
    frame: AnyFrame
    time_s: float
    captured_s: float


@dataclass(frozen=True, slots=True)
class DetectedFrame:
    """A frame that waits for its analysis."""

    queued: QueuedFrame
    detections: PoseDetections


@dataclass(eq=False, slots=True)
class LiveStream:
    """The state of an open stream. Its own lock guards what several threads touch.

    Attributes
    ----------
    stream_id : str
        Its name.
    pipeline : FramePipeline
        Used by one thread at a time, in the order of the frames.
    config : StreamConfig
        How it is served.
    opened_s : float
        When it was opened.
    sink : callable or ResultQueue
        Where its results go.
    lane : Lane
        Where its frames wait for their analysis.
    ledger : StreamLedger
        Where its frames went.
    push_lock : Lock
        Held while a frame is put, so that frames pushed by several threads keep their order.
    max_fps : float or None
        Limit of frames a second.
    is_suspended : bool
        Whether its frames are dropped to save GPU memory.
    is_closed : bool
        Whether it takes no more frames.
    is_stopped : bool
        Whether frames that its client has no room for are dropped.
    is_failed : bool
        Whether the frames on their way are dropped, too.
    error : PoseAnalyzerError or None
        What its client is told at the end.
    """

    stream_id: str
    pipeline: FramePipeline
    config: StreamConfig
    opened_s: float
    sink: Sink | ResultQueue
    lane: Lane[DetectedFrame]
    ledger: StreamLedger = field(default_factory=StreamLedger)
    push_lock: threading.Lock = field(default_factory=threading.Lock)
    max_fps: float | None = None
    is_suspended: bool = False
    is_closed: bool = False
    is_stopped: bool = False
    is_failed: bool = False
    error: PoseAnalyzerError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_delivering: bool = False
    _is_given_up: bool = False
    _rate: ArrivalRate = field(default_factory=ArrivalRate)
    _last_frame_s: float | None = None
    _timeline: StreamTimeline = field(default_factory=StreamTimeline)
    _due_s: float = -math.inf

    def admit(
        self, frame: AnyFrame, now_s: float, captured_s: float | None
    ) -> QueuedFrame | DropCause:
        """Take that a frame arrived; return it for the mailbox, or why it is refused."""
        with self._lock:
            self._rate.add(now_s)
            self._last_frame_s = now_s
            if not is_picture(frame):
                return "bad_frame"
            if self.is_closed:
                return "closed"
            time_s = self._timeline.place(frame.time_s, now_s)
            if time_s is None:
                return "bad_frame"
            if self.is_suspended or not self._is_due(now_s):
                return "vram"
        return QueuedFrame(self, frame, time_s, now_s if captured_s is None else captured_s)

    def state(self) -> StreamState:
        """Return what is known of it."""
        with self._lock:
            return StreamState(
                stream_id=self.stream_id,
                priority=self.config.priority,
                opened_s=self.opened_s,
                fps=self._rate.fps,
                max_fps=self.max_fps,
                is_suspended=self.is_suspended,
                last_frame_s=self._last_frame_s,
            )

    def failure(self, what: str, exc: Exception) -> StreamError:
        """Return what its client is told when something of it failed."""
        if isinstance(exc, StreamError):
            return exc  # It says the same, and what to do.
        error = StreamError(
            f"stream {self.stream_id!r} ended, because {what} failed "
            f"({type(exc).__name__}: {exc}); open it again"
        )
        error.__cause__ = exc
        return error

    @property
    def last_sign_s(self) -> float:
        """When its last frame arrived, dropped or not, or it was opened."""
        with self._lock:
            return self.opened_s if self._last_frame_s is None else self._last_frame_s

    @property
    def has_room(self) -> bool:
        """Whether its client takes a result without losing one that it must get."""
        is_full = isinstance(self.sink, ResultQueue) and not self.sink.has_room
        return not (self.config.is_lossless and is_full)

    def deliver(self, result: LiveResult) -> int | None:
        """Give a result to the client; return how many that waited it displaced.

        None if the stream was given up, and so nothing was given.
        """
        n_displaced: int | None = None
        with self._lock:
            if self._is_given_up:
                return None
            self._is_delivering = True
        try:
            n_displaced = self._give(result)
        finally:
            with self._lock:
                self._is_delivering = False
                if n_displaced is not None:
                    self.ledger.deliver(n_displaced)
        return n_displaced

    def give_up(self) -> int:
        """Count what is in flight as dropped, but for a result that the client is taking.

        Returns
        -------
        int
            How many frames that were.
        """
        with self._lock:
            self._is_given_up = True
            in_flight = self.ledger.counts().in_flight
            return self.ledger.drop("closed", in_flight - int(self._is_delivering))

    def end(self) -> None:
        """Tell the client that nothing more will come, and why."""
        end = StreamEnd(self.stream_id, self.error)
        if isinstance(self.sink, ResultQueue):
            self.sink.end(end)
        else:
            self.sink(end)

    def _give(self, result: LiveResult) -> int:
        if isinstance(self.sink, ResultQueue):
            return self.sink.put(result)
        self.sink(result)
        return 0

    def _is_due(self, now_s: float) -> bool:
        if self.max_fps is None:
            return True
        interval_s = 1.0 / self.max_fps
        if now_s < self._due_s - _EARLY_SHARE * interval_s:
            return False
        # From when it was due, so that jitter does not lower the rate, unless it paused.
        self._due_s = max(self._due_s + interval_s, now_s + (1.0 - _EARLY_SHARE) * interval_s)
        return True
