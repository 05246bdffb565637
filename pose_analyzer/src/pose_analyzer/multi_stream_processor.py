"""Serves many live streams with one detector: the newest frame of each, in batches, by deadline.

::

    push, or a reader thread for each source ─► FrameMailbox ─► scheduling thread ─► detector
                  sink or ResultQueue ◄─ pipelines, each in order, in a few workers ◄─┘

A stream that dies, stalls or sends garbage leaves the others alone. Every frame is accounted for.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from pose_analyzer.errors import (
    PoseAnalyzerError,
    StreamClosedError,
    StreamError,
    StreamIdleError,
)
from pose_analyzer.serving.batch_runner import BatchDetector, BatchRunner
from pose_analyzer.serving.batch_scheduler import BatchScheduler, SchedulerConfig, WaitingFrame
from pose_analyzer.serving.frame_mailbox import FrameMailbox, Letter, Look
from pose_analyzer.serving.live_stream import (
    DetectedFrame,
    FramePipeline,
    LiveStream,
    QueuedFrame,
    Sink,
    StreamConfig,
)
from pose_analyzer.serving.observer import NO_OBSERVER, DropCause, Observer
from pose_analyzer.serving.ordered_pool import Lane, OrderedPool
from pose_analyzer.serving.result_queue import LiveResult, ResultQueue
from pose_analyzer.serving.stream_ledger import StreamCounts
from pose_analyzer.serving.stream_state import StreamState
from pose_analyzer.types import Frame

logger = logging.getLogger(__name__)

_MOST_UNANALYSED: Final = 4
"""Frames of one stream between detector and analysis; with more its next frame has to wait."""
_IDLE_CHECK_S: Final = 1.0
_AFTER_ERROR_S: Final = 0.1


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> object: ...


@dataclass(frozen=True, slots=True)
class ProcessorConfig:
    """Settings of a `MultiStreamProcessor`.

    Attributes
    ----------
    max_batch : int
        Most frames at once; less where the detector has a smaller ``max_batch``.
    n_workers : int
        Threads that analyse.
    idle_s : float
        A stream that sent nothing for so long is closed with `StreamIdleError`; infinite by
        default.
    scheduler : SchedulerConfig
        When batches leave.
    """

    max_batch: int = 16
    n_workers: int = 2
    idle_s: float = math.inf
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)


class MultiStreamProcessor:
    """Analyses live streams with one detector. A context manager: leaving it closes it.

    Parameters
    ----------
    detector : BatchDetector
        Any pose detector that keeps nothing from frame to frame. Used by one thread; whoever made
        it closes it.
    config : ProcessorConfig, optional
        Sizes and times.
    observer : Observer, optional
        Is told stage times, drops, batches and streams.
    clock : callable, optional
        Monotonic seconds: the clock of ``captured_s``.

    Examples
    --------
    ::

        with MultiStreamProcessor(detector) as processor:
            results = processor.open_stream("door", StreamPipeline(load_exercise("squat")))
            processor.attach("door", camera)
            for result in results:
                print(result.analysis.rep_count)
    """

    def __init__(
        self,
        detector: BatchDetector,
        config: ProcessorConfig | None = None,
        observer: Observer = NO_OBSERVER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config or ProcessorConfig()
        self._observer = observer
        self._clock = clock
        self._runner = BatchRunner(detector, self._config.max_batch, clock)
        self._scheduler = BatchScheduler(self._config.scheduler)
        self._mailbox: FrameMailbox[QueuedFrame] = FrameMailbox()
        self._lock = threading.Lock()
        self._streams: dict[str, LiveStream] = {}
        self._unended: set[LiveStream] = set()
        self._forgotten: deque[str] = deque()
        self._readers: list[tuple[threading.Thread, Iterable[Frame]]] = []
        self._is_closed = False
        self._is_abandoned = False
        self._pool: OrderedPool[DetectedFrame] = OrderedPool(self._config.n_workers)
        self._thread = threading.Thread(target=self._schedule, name="scheduler", daemon=True)
        self._thread.start()

    def open_stream(
        self,
        stream_id: str,
        pipeline: FramePipeline,
        config: StreamConfig | None = None,
        sink: Sink | None = None,
    ) -> ResultQueue:
        """Open a stream.

        Parameters
        ----------
        stream_id : str
            Not open now.
        pipeline : FramePipeline
            A `StreamPipeline` of its own, new or reset.
        config : StreamConfig, optional
            Priority, budget, and whether frames may be dropped.
        sink : callable, optional
            Called with each `LiveResult`, in order, and at last with `StreamEnd`, by a worker
            thread. It should be quick: it holds up its own stream. One that raises ends it.

        Returns
        -------
        ResultQueue
            The results, where no sink was given; otherwise it stays empty.

        Raises
        ------
        ValueError
            If the stream is open already.
        StreamClosedError
            If the processor is closed.
        """
        config = config or StreamConfig()
        lane: Lane[DetectedFrame] = Lane(self._analyse)
        results = ResultQueue(config.depth, on_taken=lambda: self._pool.wake(lane))
        if sink is None and config.is_lossless:
            lane.may_run = lambda: results.has_room
        target = results if sink is None else sink
        with self._lock:
            if self._is_closed:
                raise StreamClosedError("the processor is closed; make a new one")
            self._mailbox.open(
                stream_id,
                config.depth if config.is_lossless else 1,
                replaces=not config.is_lossless,
            )
            stream = LiveStream(stream_id, pipeline, config, self._clock(), target, lane)
            self._streams[stream_id] = stream
            self._unended.add(stream)
        self._tell_streams()
        return results

    def push(self, stream_id: str, frame: Frame, captured_s: float | None = None) -> bool:
        """Offer a frame. From any thread; waits only for a stream that loses none.

        Parameters
        ----------
        stream_id : str
            An open stream.
        frame : Frame
            Its image is kept until it is analysed, and must not be changed.
        captured_s : float, optional
            When it was captured, on the processor's clock; now by default.

        Returns
        -------
        bool
            Whether it was accepted; if not, the drop is counted with its cause.

        Raises
        ------
        StreamClosedError
            If no such stream is open, any more.
        """
        stream = self._open(stream_id)
        stream.ledger.push()
        with stream.push_lock:
            now_s = self._clock()
            cause = stream.refusal(frame, now_s)
            if cause is None:
                queued = QueuedFrame(stream, frame, now_s if captured_s is None else captured_s)
                replaced = self._mailbox.put(stream_id, queued, self._clock)
                if replaced:
                    self._drop(stream, "replaced", len(replaced))
                cause = "closed" if replaced is None else None
        if cause is not None:
            self._drop(stream, cause)
        return cause is None

    def attach(self, stream_id: str, source: Iterable[Frame]) -> None:
        """Read a source into an open stream, in a thread of its own, at the source's pace.

        When it ends, the stream is closed after its last frame; when it raises, with that error.

        Parameters
        ----------
        stream_id : str
            An open stream.
        source : iterable of Frame
            A camera, a network stream, a file. Its ``close``, if it has one, is called when the
            processor is closed, and should end a read under way.
        """
        stream = self._open(stream_id)
        thread = threading.Thread(
            target=self._read, args=(stream, source), name=f"reader {stream_id}", daemon=True
        )
        with self._lock:
            self._readers = [pair for pair in self._readers if pair[0].is_alive()]
            self._readers.append((thread, source))
            thread.start()

    def close_stream(self, stream_id: str) -> None:
        """Close a stream: what waits is dropped, what was detected is still delivered."""
        with self._lock:
            stream = self._streams.get(stream_id)
        if stream is not None:
            self._close(stream, None)

    def stream_states(self) -> Sequence[StreamState]:
        """Return the open streams, in the order in which they were opened."""
        with self._lock:
            streams = list(self._streams.values())
        return [stream.state() for stream in streams]

    def counts(self, stream_id: str) -> StreamCounts:
        """Return where the frames of an open stream went."""
        return self._open(stream_id).ledger.counts()

    def set_max_fps(self, stream_id: str, max_fps: float | None) -> None:
        """Let at most so many frames a second through; the others are dropped as ``"vram"``."""
        if max_fps is not None and not max_fps > 0.0:
            raise ValueError(f"max_fps must be above 0, got {max_fps}; suspend the stream instead")
        self._open(stream_id).max_fps = max_fps

    def suspend(self, stream_id: str) -> None:
        """Drop the frames of a stream, as ``"vram"``, and keep its state."""
        self._open(stream_id).is_suspended = True

    def resume(self, stream_id: str) -> None:
        """End `suspend`."""
        self._open(stream_id).is_suspended = False

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop. What was detected is delivered, every client is told the end, threads are joined.

        Parameters
        ----------
        timeout_s : float
            At most so long in all. A source that does not return from a read by then is left
            behind, with an error in the log.
        """
        end_s = time.monotonic() + timeout_s
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            streams = list(self._streams.values())
            readers = list(self._readers)
        for stream in streams:
            self._close(stream, None)
        for _, source in readers:
            _close_source(source)
        self._mailbox.wake()
        threads = [self._thread, *(thread for thread, _ in readers)]
        for thread in threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        is_done = self._pool.close(max(0.0, end_s - time.monotonic()))
        self._is_abandoned = True
        with self._lock:
            unended = list(self._unended)
        for stream in unended:
            self._drop(stream, "closed", stream.ledger.counts().in_flight)
        alive = [thread.name for thread in threads if thread.is_alive()]
        if alive or not is_done:
            logger.error("still at work after %.1f s: %s", timeout_s, ", ".join(alive))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # The scheduling thread.

    def _schedule(self) -> None:
        checked_s = self._clock()
        while True:
            look = self._mailbox.look()
            if self._is_closed:
                return
            try:
                if self._clock() - checked_s >= _IDLE_CHECK_S:
                    checked_s = self._clock()
                    self._close_idle(checked_s)
                wait_s = self._step(look)
            except Exception:
                logger.exception("the scheduler failed; it goes on")
                wait_s = _AFTER_ERROR_S
            if wait_s > 0.0:
                idle_s = _IDLE_CHECK_S if math.isfinite(self._config.idle_s) else math.inf
                timeout_s = min(wait_s, idle_s)
                self._mailbox.wait_for_change(
                    look.version, timeout_s if math.isfinite(timeout_s) else None
                )

    def _step(self, look: Look[QueuedFrame]) -> float:
        """Do what is best now; return how long to wait before looking again, 0 for at once."""
        while self._forgotten:
            self._scheduler.forget(self._forgotten.popleft())
        for letter_id, arrived_s in look.arrivals:
            self._scheduler.arrived(letter_id, arrived_s)
        now_s, most = self._clock(), self._runner.max_batch
        decision = self._scheduler.decide(_waiting(look.waiting), now_s, most)
        for letter in self._mailbox.take(_numbers(decision.stale)):
            self._drop(letter.content.stream, "stale")
        if decision.run:
            self._detect(self._mailbox.take(_numbers(decision.run), or_newer=True), most)
            return 0.0
        return decision.wait_until_s - now_s

    def _detect(self, letters: Sequence[Letter[QueuedFrame]], most: int) -> None:
        if not letters:
            return
        started_s = self._clock()
        for letter in letters:
            self._observer.stage("queue", started_s - letter.arrived_s)
        result = self._runner.run([letter.content.frame for letter in letters])
        took_s = self._clock() - started_s
        if self._is_abandoned:
            return
        if result.is_clean:
            self._scheduler.ran(len(letters), took_s)
        self._observer.stage("infer", took_s)
        self._observer.batch(len(letters), most)
        for letter, detections in zip(letters, result.detections, strict=True):
            queued = letter.content
            if detections is None:
                self._drop(queued.stream, "failed")
            else:
                self._pool.submit(queued.stream.lane, DetectedFrame(queued, detections))

    def _close_idle(self, now_s: float) -> None:
        for state in self.stream_states():
            last_s = state.opened_s if state.last_frame_s is None else state.last_frame_s
            if now_s - last_s > self._config.idle_s:
                with contextlib.suppress(StreamClosedError):
                    self._close(
                        self._open(state.stream_id),
                        StreamIdleError(
                            f"stream {state.stream_id!r} sent no frame for {now_s - last_s:.0f} s "
                            "and was closed; open it again"
                        ),
                    )

    # The workers.

    def _analyse(self, detected: DetectedFrame) -> None:
        queued = detected.queued
        stream, frame = queued.stream, queued.frame
        if len(stream.lane.items) >= _MOST_UNANALYSED - 1:
            self._mailbox.wake()
        if stream.is_failed or self._is_abandoned:
            self._drop(stream, "closed")
            return
        started_s = self._clock()
        try:
            analysis = stream.pipeline.update(detected.detections, frame.index, frame.time_s)
            done_s = self._clock()
            n_displaced = stream.deliver(
                LiveResult(stream.stream_id, frame, analysis, queued.captured_s, done_s)
            )
        except Exception as exc:
            logger.exception("stream %r ends: its analysis failed", stream.stream_id)
            error = StreamError(
                f"stream {stream.stream_id!r} ended at frame {frame.index}, because its analysis "
                f"failed ({type(exc).__name__}: {exc}); open it again"
            )
            error.__cause__ = exc
            stream.is_failed = True
            self._close(stream, error)
            self._drop(stream, "failed")
            return
        self._observer.stage("analyse", done_s - started_s)
        self._observer.stage("end_to_end", done_s - queued.captured_s)
        if n_displaced > 0:
            self._observer.dropped("backpressure", n_displaced)
        self._end_if_done(stream)

    # The readers.

    def _read(self, stream: LiveStream, source: Iterable[Frame]) -> None:
        error: PoseAnalyzerError | None = None
        try:
            for frame in source:
                if stream.is_closed:
                    break
                self.push(stream.stream_id, frame)
        except StreamClosedError:
            return
        except PoseAnalyzerError as exc:
            error = exc
        except Exception as exc:
            logger.exception("stream %r ends: its source failed", stream.stream_id)
            error = StreamError(
                f"stream {stream.stream_id!r} ended, because its source failed "
                f"({type(exc).__name__}: {exc}); open it again"
            )
            error.__cause__ = exc
        self._drain(stream, error)

    # The ends of streams.

    def _open(self, stream_id: str) -> LiveStream:
        with self._lock:
            stream = self._streams.get(stream_id)
        if stream is None or stream.is_closed:
            raise StreamClosedError(f"stream {stream_id!r} is not open; open it first")
        return stream

    def _drain(self, stream: LiveStream, error: PoseAnalyzerError | None) -> None:
        """Take no more frames, and end the stream when the last is done."""
        with self._lock:
            stream.is_closed = True
            stream.error = stream.error or error
        self._end_if_done(stream)

    def _close(self, stream: LiveStream, error: PoseAnalyzerError | None) -> None:
        """Take no more frames, and drop those that wait for the detector."""
        self._drain(stream, error)
        self._leave(stream)
        self._end_if_done(stream)

    def _leave(self, stream: LiveStream) -> None:
        """Make place for another stream of that name."""
        with self._lock:
            if self._streams.get(stream.stream_id) is not stream:
                return
            del self._streams[stream.stream_id]
            waiting = self._mailbox.close(stream.stream_id)
            self._forgotten.append(stream.stream_id)
        self._tell_streams()
        self._drop(stream, "closed", len(waiting))

    def _end_if_done(self, stream: LiveStream) -> None:
        if not stream.is_closed or stream.ledger.counts().in_flight > 0:
            return
        self._leave(stream)
        with self._lock:
            is_first = stream in self._unended
            self._unended.discard(stream)
        if is_first:
            _tell_end(stream)

    def _drop(self, stream: LiveStream, cause: DropCause, n: int = 1) -> None:
        if n > 0:
            stream.ledger.drop(cause, n)
            self._observer.dropped(cause, n)
        self._end_if_done(stream)

    def _tell_streams(self) -> None:
        with self._lock:
            n_live = len(self._streams)
        self._observer.streams(n_live)


def _waiting(letters: Sequence[Letter[QueuedFrame]]) -> list[WaitingFrame]:
    """Return what the scheduler may choose from: not streams whose analysis is behind."""
    return [
        WaitingFrame(
            stream_id=letter.stream_id,
            number=letter.number,
            captured_s=letter.content.captured_s,
            since_s=letter.since_s,
            budget_s=config.budget_s,
            priority=config.priority,
            stale_s=math.inf if config.is_lossless else config.stale_s,
        )
        for letter in letters
        if len(letter.content.stream.lane.items) < _MOST_UNANALYSED
        for config in (letter.content.stream.config,)
    ]


def _numbers(frames: Sequence[WaitingFrame]) -> dict[int, str]:
    return {frame.number: frame.stream_id for frame in frames}


def _tell_end(stream: LiveStream) -> None:
    try:
        stream.end()
    except Exception:
        logger.exception("the client of stream %r failed at its end", stream.stream_id)


def _close_source(source: Iterable[Frame]) -> None:
    if isinstance(source, _Closable):
        # A generator that another thread is in cannot be closed; it ends with its next frame.
        with contextlib.suppress(ValueError):
            source.close()
