"""Where the frames of one stream went: nothing is lost silently."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pose_analyzer.serving.observer import DropCause


@dataclass(frozen=True, slots=True)
class StreamCounts:
    """The frames of a stream at one moment; ``pushed`` is the sum of all the others.

    Attributes
    ----------
    pushed : int
        Frames that the stream offered.
    delivered : int
        Frames whose results were given to the client, or wait for it.
    dropped : mapping of str to int
        By cause; causes that never happened are absent.
    in_flight : int
        Frames that wait for the detector, are in it, or wait for their analysis.
    """

    pushed: int
    delivered: int
    dropped: Mapping[DropCause, int]
    in_flight: int


class StreamLedger:
    """Counts the frames of one stream. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pushed = 0
        self._delivered = 0
        self._dropped: Counter[DropCause] = Counter()

    def push(self) -> None:
        """Count a frame that was offered."""
        with self._lock:
            self._pushed += 1

    def drop(self, cause: DropCause, n: int = 1) -> int:
        """Count frames that will not be analysed, and return how many: none twice."""
        with self._lock:
            n = min(n, self._in_flight())
            if n > 0:
                self._dropped[cause] += n
            return n

    def deliver(self, n_displaced: int = 0) -> None:
        """Count a result that was given on, and those that it pushed out of the client's slot."""
        with self._lock:
            self._delivered += 1 - n_displaced
            if n_displaced > 0:
                self._dropped["backpressure"] += n_displaced

    def counts(self) -> StreamCounts:
        """Return all counts, taken at one moment."""
        with self._lock:
            dropped = dict(self._dropped)
            return StreamCounts(self._pushed, self._delivered, dropped, self._in_flight())

    def _in_flight(self) -> int:
        return self._pushed - self._delivered - sum(self._dropped.values())
