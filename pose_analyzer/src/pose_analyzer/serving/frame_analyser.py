"""What a worker does with a detected frame: analyse it, and give the result to the client."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pose_analyzer.serving.frame_mailbox import FrameMailbox
from pose_analyzer.serving.live_stream import DetectedFrame, LiveStream, QueuedFrame
from pose_analyzer.serving.observer import Observer
from pose_analyzer.serving.result_queue import LiveResult
from pose_analyzer.serving.scheduling_loop import MOST_UNANALYSED
from pose_analyzer.serving.stream_registry import StreamRegistry

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class FrameAnalyser:
    """Analyses the frames of all streams, each by the pipeline of its stream.

    Attributes
    ----------
    mailbox : FrameMailbox
        Woken when a stream that had too many frames here may send its next.
    streams : StreamRegistry
        Is told what was dropped, and which streams failed.
    observer : Observer
        Is told stage times and displaced results.
    clock : callable
        Monotonic seconds.
    """

    mailbox: FrameMailbox[QueuedFrame]
    streams: StreamRegistry
    observer: Observer
    clock: Callable[[], float]

    def analyse(self, detected: DetectedFrame) -> None:
        """Analyse a frame; called in the order of each stream, by one thread at a time."""
        queued = detected.queued
        stream, frame = queued.stream, queued.frame
        if len(stream.lane.items) >= MOST_UNANALYSED - 1:
            self.mailbox.wake()
        if stream.is_failed or (stream.is_stopped and not stream.has_room):
            self.streams.drop(stream, "closed")
            return
        started_s = self.clock()
        try:
            analysis = stream.pipeline.update(detected.detections, frame.index, queued.time_s)
        except Exception as exc:  # noqa: BLE001 - its client is told
            self._fail(stream, f"its analysis of frame {frame.index}", exc)
            return
        done_s = self.clock()
        result = LiveResult(stream.stream_id, frame, analysis, queued.captured_s, done_s)
        try:
            n_displaced = stream.deliver(result)
        except Exception as exc:  # noqa: BLE001 - it is logged
            self._fail(stream, "its client", exc)
            return
        if n_displaced is None:
            return
        self.observer.stage("analyse", done_s - started_s)
        self.observer.stage("end_to_end", done_s - queued.captured_s)
        if n_displaced > 0:
            self.observer.dropped("backpressure", n_displaced)
        self.streams.end_if_done(stream)

    def _fail(self, stream: LiveStream, what: str, exc: Exception) -> None:
        logger.error("stream %r ends: %s failed", stream.stream_id, what, exc_info=exc)
        stream.is_failed = True
        self.streams.close(stream, stream.failure(what, exc))
        self.streams.drop(stream, "failed")
