"""What the scheduling thread does: form a batch, have it detected, hand it on, again.

A batch with JPEG is detected in another thread; meanwhile the next is decoded, just in time.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pose_analyzer.errors import StreamIdleError
from pose_analyzer.inference.jpeg import ReadyFrame
from pose_analyzer.serving.batch_runner import BatchRunner
from pose_analyzer.serving.batch_scheduler import BatchScheduler, WaitingFrame
from pose_analyzer.serving.decode_ahead import DecodeAhead
from pose_analyzer.serving.frame_mailbox import FrameMailbox, Letter, Look
from pose_analyzer.serving.hand_over import HandOver
from pose_analyzer.serving.live_stream import DetectedFrame, QueuedFrame
from pose_analyzer.serving.observer import Observer
from pose_analyzer.serving.ordered_pool import OrderedPool
from pose_analyzer.serving.stream_registry import StreamRegistry
from pose_analyzer.types import JpegFrame

logger = logging.getLogger(__name__)

MOST_UNANALYSED: Final = 4
"""Frames of one stream between detector and analysis; with more its next frame has to wait."""
_IDLE_CHECK_S: Final = 1.0
_AFTER_ERROR_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Batch:
    """Frames on their way to the detector.

    Attributes
    ----------
    queued : list of QueuedFrame
        Those that could be decoded.
    frames : list of ReadyFrame
        Their pictures.
    most : int
        How many it could have been.
    decode_s : float
        How long decoding took.
    """

    queued: list[QueuedFrame]
    frames: list[ReadyFrame]
    most: int
    decode_s: float

    @property
    def holds_jpeg(self) -> bool:
        """Whether any of its frames came as JPEG."""
        return any(isinstance(each.frame, JpegFrame) for each in self.queued)


@dataclass(slots=True)
class SchedulingLoop:
    """Moves frames from the mailbox through the detector to the workers.

    Attributes
    ----------
    mailbox, streams, runner, scheduler, pool, observer
        What it moves them between, and whom it tells.
    clock : callable
        Monotonic seconds.
    idle_s : float
        A stream that sent nothing for so long is closed.
    is_stopped : bool
        Set by another thread, which then wakes the mailbox.
    is_abandoned : bool
        Set when nobody waits for the batch under way any more.
    """

    mailbox: FrameMailbox[QueuedFrame]
    streams: StreamRegistry
    runner: BatchRunner
    scheduler: BatchScheduler
    pool: OrderedPool[DetectedFrame]
    observer: Observer
    clock: Callable[[], float]
    idle_s: float = math.inf
    is_stopped: bool = False
    is_abandoned: bool = False
    _checked_s: float = field(default=-math.inf)
    _ahead: DecodeAhead = field(default_factory=DecodeAhead)
    _ran: deque[tuple[_Batch, float]] = field(default_factory=deque)
    _detecting: HandOver = field(init=False)

    def __post_init__(self) -> None:
        self._detecting = HandOver("detector", on_free=self.mailbox.wake)

    def run(self) -> None:
        """Go on until stopped, and finish what is under way."""
        self._serve()
        self._detecting.close()
        self.runner.close()

    def _serve(self) -> None:
        while True:
            look = self.mailbox.look()
            if self.is_stopped:
                return
            try:
                wait_s = self.step(look)
            except Exception:
                logger.exception("the scheduler failed; it goes on")
                wait_s = _AFTER_ERROR_S
            if wait_s > 0.0:
                self.mailbox.wait_for_change(
                    look.version, wait_s if math.isfinite(wait_s) else None
                )

    def step(self, look: Look[QueuedFrame]) -> float:
        """Do what is best now; return how long to wait before looking again, 0 for at once."""
        now_s, most = self.clock(), self.runner.max_batch
        self._learn()
        self._keep_up(look, now_s)
        if self._detecting.is_busy:
            n_files = sum(isinstance(each.content.frame, JpegFrame) for each in look.waiting)
            early_s = self._ahead.begin_s(min(n_files, most)) - now_s
            if early_s > 0.0:
                return early_s
        decision = self.scheduler.decide(_waiting(look.waiting), now_s, most)
        for letter in self.mailbox.take(_numbers(decision.stale)):
            self.streams.drop(letter.content.stream, "stale")
        if decision.run:
            self._detect(self.mailbox.take(_numbers(decision.run), or_newer=True), most)
            return 0.0
        wait_s = decision.wait_until_s - now_s
        return min(wait_s, _IDLE_CHECK_S) if math.isfinite(self.idle_s) else wait_s

    def _learn(self) -> None:
        """Take how long the batches took that came back since."""
        while self._ran:
            batch, took_s = self._ran.popleft()
            n_frames = len(batch.frames)
            self.scheduler.ran(n_frames, batch.decode_s + took_s)
            if batch.holds_jpeg:
                self._ahead.ran(n_frames, took_s)

    def _keep_up(self, look: Look[QueuedFrame], now_s: float) -> None:
        live = self.streams.live()
        names = {stream.stream_id for stream in live}
        for name, arrived_s in look.arrivals:
            if name in names:
                self.scheduler.arrived(name, arrived_s)
        while self.streams.left:
            self.scheduler.forget(self.streams.left.popleft())
        if now_s - self._checked_s < _IDLE_CHECK_S:
            return
        self._checked_s = now_s
        for stream in live:
            silent_s = now_s - stream.last_sign_s
            if silent_s > self.idle_s:
                message = (
                    f"stream {stream.stream_id!r} sent no frame for {silent_s:.0f} s and was "
                    "closed; open it again"
                )
                self.streams.close(stream, StreamIdleError(message))

    def _detect(self, letters: Sequence[Letter[QueuedFrame]], most: int) -> None:
        if not letters:
            return
        started_s = self.clock()
        for letter in letters:
            self.observer.stage("queue", started_s - letter.arrived_s)
        batch = self._decoded([letter.content for letter in letters], most)
        if batch.holds_jpeg:
            self._detecting.start(partial(self._finish, batch))
            self._ahead.started(len(batch.frames), self.clock())
        elif batch.frames:
            # Another thread would only cost time: there was nothing to decode.
            self._detecting.wait()
            self._finish(batch)

    def _decoded(self, queued: Sequence[QueuedFrame], most: int) -> _Batch:
        """Return a batch without what could not be decoded."""
        started_s = self.clock()
        frames = self.runner.decode([each.frame for each in queued])
        batch = _Batch([], [], most, self.clock() - started_s)
        n_files = sum(isinstance(each.frame, JpegFrame) for each in queued)
        for each, frame in zip(queued, frames, strict=True):
            if frame is None:
                self.streams.drop(each.stream, "bad_frame")
            else:
                batch.queued.append(each)
                batch.frames.append(frame)
        if batch.holds_jpeg:
            self.observer.stage("decode", batch.decode_s)
            self._ahead.decoded(n_files, batch.decode_s)
        return batch

    def _finish(self, batch: _Batch) -> None:
        """Have a batch detected, and hand it on to the workers."""
        started_s = self.clock()
        result = self.runner.run(batch.frames)
        took_s = self.clock() - started_s
        if self.is_abandoned:
            return
        if result.is_clean:
            self._ran.append((batch, took_s))
        self.observer.stage("infer", took_s)
        self.observer.batch(len(batch.frames), batch.most)
        for queued, detections in zip(batch.queued, result.detections, strict=True):
            if detections is None:
                self.streams.drop(queued.stream, "failed")
            else:
                self.pool.submit(queued.stream.lane, DetectedFrame(queued, detections))


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
        if len(letter.content.stream.lane.items) < MOST_UNANALYSED
        for config in (letter.content.stream.config,)
    ]


def _numbers(frames: Sequence[WaitingFrame]) -> dict[int, str]:
    return {frame.number: frame.stream_id for frame in frames}
