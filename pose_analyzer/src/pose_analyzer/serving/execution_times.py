"""How long the detector takes for a batch of each size, learned from the batches that ran."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from typing import Final

_WEIGHT: Final = 0.2
"""Of the newest time in the moving mean: a step is followed within some ten batches (chosen by us,
see reports/scheduler_simulation.md)."""
_MEDIAN_OF: Final = 3
"""Times whose median enters the mean, so that one outlier (a page fault, a clock that changed)
leaves no trace."""
_COMMON_WEIGHT: Final = 0.75
"""Share of a change that all other sizes take part in: a machine that others use, too, slows down
for every size, and one that did not run lately must not look cheap for it. Less than all, so that
a size that was measured in a bad moment does not spoil the others for ever (chosen by us)."""
_LEAST_PROVEN: Final = 2
_SOONER: Final = 0.6
"""A batch is cut if what leaves is done in this share of the time (chosen by us, as above)."""


class ExecutionTimes:
    """The time of a batch by its size: a moving mean for each size, straight lines between them.

    A size beyond the largest seen costs so much more as the line through all of them says. While
    only one size was seen, larger ones are taken to cost the same, so that they are tried and then
    known. When one size becomes slower or faster, the others are taken to follow.
    """

    def __init__(self) -> None:
        self._recent_s: dict[int, deque[float]] = {}
        self._mean_s: dict[int, float] = {}
        self._line: tuple[float, float] | None = None

    def add(self, n_frames: int, seconds: float) -> None:
        """Take how long a batch took.

        Parameters
        ----------
        n_frames : int
            At least 1.
        seconds : float
            Not negative.
        """
        if n_frames < 1:
            raise ValueError(f"n_frames must be at least 1, got {n_frames}")
        if not (math.isfinite(seconds) and seconds >= 0.0):
            raise ValueError(f"seconds must be finite and not negative, got {seconds}")
        recent = self._recent_s.setdefault(n_frames, deque(maxlen=_MEDIAN_OF))
        recent.append(seconds)
        typical_s = statistics.median_low(recent)
        before_s = self._mean_s.get(n_frames, 0.0)
        if len(recent) < _MEDIAN_OF or before_s <= 0.0:
            self._mean_s[n_frames] = typical_s
        else:
            change = _WEIGHT * (typical_s / before_s - 1.0)
            for size in self._mean_s:
                self._mean_s[size] *= 1.0 + (1.0 if size == n_frames else _COMMON_WEIGHT) * change
        self._line = None

    @property
    def most_proven(self) -> int:
        """The largest size that ran some times; 0 before."""
        return max(self._proven(), default=0)

    @property
    def most_to_try(self) -> int:
        """Twice the largest proven size, so that unknown sizes are entered slowly."""
        return max(1, 2 * self.most_proven)

    def n_runs(self, n_frames: int) -> int:
        """Return how often a size ran, counted up to three."""
        return len(self._recent_s.get(n_frames, ()))

    def seconds(self, n_frames: int) -> float:
        """Return the expected time of a batch; 0 before anything ran, so that nobody waits.

        A size that ran once or twice is not taken to cost more than proven smaller batches one
        after the other: its first time may be that of a kernel being chosen.
        """
        if n_frames in self._mean_s:
            if self.n_runs(n_frames) == _MEDIAN_OF:
                return self._mean_s[n_frames]
            smaller_s = [
                n_frames / size * self._mean_s[size] for size in self._proven() if size < n_frames
            ]
            return min([self._mean_s[n_frames], *smaller_s])
        if not self._mean_s:
            return 0.0
        below = max((size for size in self._mean_s if size < n_frames), default=None)
        above = min((size for size in self._mean_s if size > n_frames), default=None)
        if below is None and above is not None:
            # A smaller batch than any seen takes at most as long as the smallest.
            return self._mean_s[above]
        if below is not None and above is not None:
            share = (n_frames - below) / (above - below)
            return (1.0 - share) * self._mean_s[below] + share * self._mean_s[above]
        frame_s, _ = self._fit()
        largest = max(self._mean_s)
        return self._mean_s[largest] + frame_s * (n_frames - largest)

    def efficient_size(self, most: int, tolerance: float) -> int:
        """Return how many frames a batch should have at most.

        That is ``most``, unless smaller batches are nearly as cheap for a frame and done much
        sooner: on a CPU, where frames leave best one by one.

        Parameters
        ----------
        most : int
            The largest batch allowed, at least 1.
        tolerance : float
            By what share a frame may cost more in the smaller batch, not negative.
        """
        frame_s, batch_s = self._fit()
        if len(self._proven()) < _LEAST_PROVEN:
            return most
        whole_s = batch_s + frame_s * most
        for size in range(1, most):
            part_s = batch_s + frame_s * size
            if part_s * most <= (1.0 + tolerance) * whole_s * size and part_s <= _SOONER * whole_s:
                return size
        return most

    def _proven(self) -> list[int]:
        """Return the sizes that ran some times."""
        return [size for size, recent in self._recent_s.items() if len(recent) == _MEDIAN_OF]

    def _fit(self) -> tuple[float, float]:
        """Return what a frame more costs, and a batch without frames; never negative.

        The line through all sizes that ran some times, or through all while these are too few, by
        the median of the slopes between pairs: one size with a wrong time does not turn it (H.
        Theil, A rank-invariant method of linear and polynomial regression analysis, 1950).
        """
        if self._line is None:
            proven = self._proven()
            sizes = sorted(proven if len(proven) >= _LEAST_PROVEN else self._mean_s)
            slopes = [
                (self._mean_s[right] - self._mean_s[left]) / (right - left)
                for left, right in itertools.combinations(sizes, 2)
            ]
            frame_s = max(0.0, statistics.median(slopes)) if slopes else 0.0
            rest_s = [self._mean_s[size] - frame_s * size for size in sizes]
            self._line = frame_s, max(0.0, statistics.median(rest_s)) if rest_s else 0.0
        return self._line
