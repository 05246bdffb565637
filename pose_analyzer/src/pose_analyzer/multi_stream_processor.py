"""Serves many live streams with one detector: the newest frame of each, in batches, by deadline.

::

    push, or a reader thread for each source ─► FrameMailbox ─► scheduling thread ─► detector
                  sink or ResultQueue ◄─ pipelines, each in order, in a few workers ◄─┘

A stream that dies, stalls or sends garbage leaves the others alone. Every frame is accounted for.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pose_analyzer.lifetime import Closing, join_threads
from pose_analyzer.serving.batch_runner import BatchDetector, BatchRunner
from pose_analyzer.serving.batch_scheduler import BatchScheduler, SchedulerConfig
from pose_analyzer.serving.frame_analyser import FrameAnalyser
from pose_analyzer.serving.frame_mailbox import FrameMailbox
from pose_analyzer.serving.guarded_observer import GuardedObserver
from pose_analyzer.serving.limits import require_whole
from pose_analyzer.serving.live_frame import require_frame, require_time
from pose_analyzer.serving.live_stream import (
    DetectedFrame,
    FramePipeline,
    LiveStream,
    QueuedFrame,
    Sink,
    StreamConfig,
)
from pose_analyzer.serving.observer import NO_OBSERVER, Observer
from pose_analyzer.serving.ordered_pool import Lane, OrderedPool
from pose_analyzer.serving.result_queue import ResultQueue
from pose_analyzer.serving.scheduling_loop import SchedulingLoop
from pose_analyzer.serving.source_readers import SourceReaders
from pose_analyzer.serving.stream_ledger import StreamCounts
from pose_analyzer.serving.stream_registry import StreamRegistry
from pose_analyzer.serving.stream_state import StreamState
from pose_analyzer.types import AnyFrame

logger = logging.getLogger(__name__)


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

    def __post_init__(self) -> None:
        require_whole("max_batch", self.max_batch, 1)
        require_whole("n_workers", self.n_workers, 1)
        if not self.idle_s > 0.0:
            raise ValueError(f"idle_s must be above 0, got {self.idle_s}")


class MultiStreamProcessor(Closing):
    """Analyses live streams with one detector. A context manager: leaving it closes it.

    Parameters
    ----------
    detector : BatchDetector
        Any pose detector that keeps nothing from frame to frame. Used by one thread; whoever made
        it closes it.
    config : ProcessorConfig, optional
        Sizes and times.
    observer : Observer, optional
        Is told stage times, drops, batches and streams. If it raises, that is logged once.
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
        self._clock = clock
        observer = GuardedObserver(observer)
        self._mailbox: FrameMailbox[QueuedFrame] = FrameMailbox()
        self._streams = StreamRegistry(self._mailbox, observer)
        self._analyser = FrameAnalyser(self._mailbox, self._streams, observer, clock)
        self._pool: OrderedPool[DetectedFrame] = OrderedPool(self._config.n_workers)
        self._loop = SchedulingLoop(
            mailbox=self._mailbox,
            streams=self._streams,
            runner=BatchRunner(detector, self._config.max_batch, clock),
            scheduler=BatchScheduler(self._config.scheduler),
            pool=self._pool,
            observer=observer,
            clock=clock,
            idle_s=self._config.idle_s,
        )
        self._readers = SourceReaders(self.push, self._streams, observer)
        self._streams.on_closed = self._let_go
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop.run, name="scheduler", daemon=True)
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
        lane: Lane[DetectedFrame] = Lane(self._analyser.analyse)
        results = ResultQueue(config.depth, on_taken=lambda: self._pool.wake(lane))
        target = results if sink is None else sink
        stream = LiveStream(stream_id, pipeline, config, self._clock(), target, lane)
        lane.may_run = lambda: stream.has_room or stream.is_stopped
        self._streams.add(stream)
        return results

    def push(self, stream_id: str, frame: AnyFrame, captured_s: float | None = None) -> bool:
        """Offer a frame. From any thread; waits only for a stream that loses none.

        Parameters
        ----------
        stream_id : str
            An open stream.
        frame : Frame or JpegFrame
            Its image is kept until it is analysed, and must not be changed. JPEG waits as it is,
            and is decoded with its batch. One whose time is not later than the last, or far ahead
            of it, is a bad frame; after some of these the stream follows its sender's new clock.
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
        TypeError, ValueError
            If it is no frame at all, or ``captured_s`` is no time; then nothing is counted.
        """
        require_frame(frame)
        if captured_s is not None:
            require_time("captured_s", captured_s)
        stream = self._streams.get(stream_id)
        stream.ledger.push()
        with stream.push_lock:
            admitted = stream.admit(frame, self._clock(), captured_s)
            cause = (
                self._streams.put(admitted, self._clock)
                if isinstance(admitted, QueuedFrame)
                else admitted
            )
        if cause is not None:
            self._streams.drop(stream, cause)
        return cause is None

    def attach(self, stream_id: str, source: Iterable[AnyFrame]) -> None:
        """Read a source into an open stream, in a thread of its own, at the source's pace.

        When it ends, the stream is closed after its last frame; when it raises, with that error.
        The source belongs to the stream from now on, and is closed with it.

        Parameters
        ----------
        stream_id : str
            An open stream.
        source : iterable of Frame or JpegFrame
            A camera, a network stream, a file. Its ``close``, if it has one, is called when it has
            ended or failed, or as soon as the stream is closed: then by another thread, and should
            end a read under way. The observer is told its ``decode_s``, if it has that: the seconds
            that decoding took.
        """
        self._readers.start(self._streams.get(stream_id), source)

    def close_stream(self, stream_id: str) -> None:
        """Close a stream and its source: what waits is dropped, what was detected is delivered.

        One whose source has ended is closed too, and does not wait for its last frames.
        """
        stream = self._streams.find(stream_id)
        if stream is not None:
            self._streams.close(stream, None)

    def stream_states(self) -> Sequence[StreamState]:
        """Return the open streams, in the order in which they were opened."""
        return [stream.state() for stream in self._streams.live()]

    def counts(self, stream_id: str) -> StreamCounts:
        """Return where the frames of an open stream went."""
        return self._streams.get(stream_id).ledger.counts()

    def set_max_fps(self, stream_id: str, max_fps: float | None) -> None:
        """Let at most so many frames a second through; the others are dropped as ``"vram"``."""
        if max_fps is not None and not max_fps > 0.0:
            raise ValueError(f"max_fps must be above 0, got {max_fps}; suspend the stream instead")
        self._streams.get(stream_id).max_fps = max_fps

    def suspend(self, stream_id: str) -> None:
        """Drop the frames of a stream, as ``"vram"``, and keep its state."""
        self._streams.get(stream_id).is_suspended = True

    def resume(self, stream_id: str) -> None:
        """End `suspend`."""
        self._streams.get(stream_id).is_suspended = False

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop. What was detected is delivered, every client is told the end, threads are joined.

        A client, a source or a pipeline may call it, too; its own thread goes on when it returns.

        Parameters
        ----------
        timeout_s : float
            At most so long in all. Whoever does not return by then, as a source from a read, is
            left behind, and named with its streams in the log.
        """
        end_s = time.monotonic() + timeout_s
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._streams.close_all()
        self._loop.is_stopped = True
        self._mailbox.wake()
        alive = join_threads([self._thread], end_s) + self._readers.join(end_s)
        alive += self._pool.close(end_s)
        self._loop.is_abandoned = True
        stuck = self._streams.give_up()
        if alive:
            names = f"{', '.join(alive)}; streams: {', '.join(stuck) or 'none'}"
            logger.error("still at work after %.1f s: %s", timeout_s, names)

    def _let_go(self, stream: LiveStream) -> None:
        self._readers.end(stream)
        self._pool.wake(stream.lane)
