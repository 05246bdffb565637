"""What a client gets of its stream, and the bounded slot in which it waits for a slow one."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pose_analyzer.errors import PoseAnalyzerError
from pose_analyzer.types import AnyFrame, FrameAnalysis

_MOST_FINISHED: Final = 32
"""Repetitions carried on from results that a client did not take; a minute of fast ones."""


@dataclass(frozen=True, slots=True)
class LiveResult:
    """The analysis of one frame of a live stream.

    Attributes
    ----------
    stream_id : str
        Whose it is.
    frame : Frame or JpegFrame
        The frame itself, as it was pushed, so that the skeleton can be drawn on the picture that
        it belongs to.
    analysis : FrameAnalysis
        What is known after it. Its ``time_s`` is that of the frame, or later if the sender's clock
        was set anew since the stream was opened.
    captured_s, done_s : float
        When it was captured and when the analysis was done, on the clock of the processor.
    """

    stream_id: str
    frame: AnyFrame
    analysis: FrameAnalysis
    captured_s: float
    done_s: float


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The last event of a live stream.

    Attributes
    ----------
    stream_id : str
        Which ended.
    error : PoseAnalyzerError or None
        Why; None if its source ended or it was closed as asked.
    """

    stream_id: str
    error: PoseAnalyzerError | None


class ResultQueue:
    """Results of one stream for one client, the oldest displaced when there are too many.

    What must not be lost goes on with the next result: the repetitions that a displaced result
    finished and its cue.

    Parameters
    ----------
    depth : int
        Results that may wait, at least 1.
    on_taken : callable, optional
        Called, by the client's thread, after a result was taken.
    """

    def __init__(self, depth: int = 1, on_taken: Callable[[], None] | None = None) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        self._depth = depth
        self._on_taken = on_taken
        self._results: deque[LiveResult] = deque()
        self._end: StreamEnd | None = None
        self._changed = threading.Condition()

    @property
    def has_room(self) -> bool:
        """Whether a result could be put without displacing one."""
        with self._changed:
            return len(self._results) < self._depth

    @property
    def is_ended(self) -> bool:
        """Whether the stream has ended and all its results were taken."""
        with self._changed:
            return self._end is not None and not self._results

    def put(self, result: LiveResult) -> int:
        """Leave a result and return how many it displaced. Never waits."""
        with self._changed:
            displaced = self._results.popleft() if len(self._results) >= self._depth else None
            self._results.append(result)
            if displaced is not None:
                self._results[0] = _carrying_on(displaced, self._results[0])
            self._changed.notify_all()
            return 0 if displaced is None else 1

    def end(self, end: StreamEnd) -> None:
        """Say that nothing more will come."""
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def take(self, timeout_s: float | None = None) -> LiveResult | None:
        """Return the oldest result.

        Parameters
        ----------
        timeout_s : float, optional
            How long to wait for one; without limit by default.

        Returns
        -------
        LiveResult or None
            None if none came in time, or the stream has ended.

        Raises
        ------
        PoseAnalyzerError
            What the stream ended with, once all its results were taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._results or self._end is not None, timeout_s)
            result = self._results.popleft() if self._results else None
            error = self._end.error if self._end is not None else None
        if result is None and error is not None:
            raise error
        if result is not None and self._on_taken is not None:
            self._on_taken()
        return result

    def __iter__(self) -> Iterator[LiveResult]:
        """Return the results until the stream ends; raises what it ended with."""
        while (result := self.take()) is not None:
            yield result


def _carrying_on(displaced: LiveResult, heir: LiveResult) -> LiveResult:
    """Return the next result with what must not be lost of the displaced one."""
    lost, kept = displaced.analysis, heir.analysis
    finished = (lost.finished + kept.finished)[-_MOST_FINISHED:]
    analysis = dataclasses.replace(kept, finished=finished, cue=kept.cue or lost.cue)
    return dataclasses.replace(heir, analysis=analysis)
