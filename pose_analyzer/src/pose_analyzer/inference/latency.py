"""How long the calls of a detector take, in bounded memory."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

WINDOW_CALLS: Final = 4096
"""Calls remembered: 99 % of them leave 41 above, enough for a p99 (chosen by us)."""


class LatencyWindow:
    """Durations of the last calls.

    Parameters
    ----------
    size : int
        Most calls that are remembered; older ones are forgotten.

    Attributes
    ----------
    n_frames : int
        Frames of all calls, forgotten ones too.
    """

    def __init__(self, size: int = WINDOW_CALLS) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self.n_frames = 0
        self._calls_s: deque[float] = deque(maxlen=size)

    def add(self, seconds: float, n_frames: int) -> None:
        """Remember one call over ``n_frames`` frames."""
        self._calls_s.append(seconds)
        self.n_frames += n_frames

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the remembered calls in milliseconds; NaN before the first."""
        if not self._calls_s:
            return float("nan")
        return float(np.percentile(np.array(self._calls_s), percent)) * 1e3
