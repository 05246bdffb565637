"""How often a stream sends, and when its next frame can be expected."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Sequence
from typing import Final

_MOST_STAMPS: Final = 64
_LEAST_STAMPS: Final = 16
_GAP_S: Final = 2.0
"""Counted over a span of 16 to 64 arrivals, anew after a gap of 2 s. A mean of single gaps, or the
rate that a camera announces, is misled by cameras that stop for half a second at a key frame and
then catch up (roboflow inference, collection policy, 2026)."""


class ArrivalRate:
    """The arrivals of one stream, or of all together.

    Parameters
    ----------
    most_stamps : int
        Arrivals that are remembered.
    """

    def __init__(self, most_stamps: int = _MOST_STAMPS) -> None:
        self._stamps_s: deque[float] = deque(maxlen=most_stamps)
        self._gaps_s: list[float] = []

    def add(self, time_s: float) -> None:
        """Take that a frame arrived; times do not decrease."""
        if self._stamps_s and time_s - self._stamps_s[-1] > _GAP_S:
            self._stamps_s.clear()
        self._stamps_s.append(time_s)
        self._gaps_s = []

    @property
    def fps(self) -> float:
        """Frames a second; NaN until enough arrived, or if all came at once."""
        period_s = self.period_s
        return 1.0 / period_s if period_s > 0.0 else math.nan

    @property
    def period_s(self) -> float:
        """Mean time between two frames; NaN until enough arrived."""
        if len(self._stamps_s) < _LEAST_STAMPS:
            return math.nan
        return (self._stamps_s[-1] - self._stamps_s[0]) / (len(self._stamps_s) - 1)

    def remaining_s(self, now_s: float) -> Sequence[float]:
        """Return how long it may take until the next arrival, given that it is not here yet.

        Returns
        -------
        sequence of float
            Seconds from now, increasing, each as likely as the others: what is left of the gaps
            seen. Empty until enough arrived, and once it is later than it ever was: then nobody
            should wait for it.
        """
        if len(self._stamps_s) < _LEAST_STAMPS:
            return ()
        if not self._gaps_s:
            pairs = itertools.pairwise(self._stamps_s)
            gaps_s = sorted(later - sooner for sooner, later in pairs)
            # The next gap is longer than all of these once in so many times, and then by some.
            self._gaps_s = [*gaps_s, 2.0 * gaps_s[-1] - gaps_s[len(gaps_s) // 2]]
        since_s = now_s - self._stamps_s[-1]
        first_idx = bisect.bisect_right(self._gaps_s, since_s)
        return [gap_s - since_s for gap_s in self._gaps_s[first_idx:]]
