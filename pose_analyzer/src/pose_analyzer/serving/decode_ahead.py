"""When to decode the next batch while one is detected: just in time, and not sooner.

A frame that is decoded waits for the detector and grows old, and a newer one can no longer replace
it. Decoding that ends when the detector is free costs nobody anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pose_analyzer.serving.execution_times import ExecutionTimes


@dataclass(slots=True)
class DecodeAhead:
    """Learns how long batches are decoded and detected, and tells when to begin with the next."""

    _decoding: ExecutionTimes = field(default_factory=ExecutionTimes)
    _detecting: ExecutionTimes = field(default_factory=ExecutionTimes)
    _free_s: float = -math.inf
    _n_files: int = 0

    def decoded(self, n_files: int, seconds: float) -> None:
        """Take how long so many files, at least 1, were decoded."""
        self._decoding.add(n_files, seconds)
        self._n_files = n_files

    def ran(self, n_frames: int, seconds: float) -> None:
        """Take how long a batch was detected."""
        self._detecting.add(n_frames, seconds)

    def started(self, n_frames: int, now_s: float) -> None:
        """Take that the detector began with a batch."""
        self._free_s = now_s + self._detecting.seconds(n_frames)

    def begin_s(self, n_files: int) -> float:
        """Return when to begin with the next batch, while so many files wait.

        The batch is expected to have as many of them as the one before, or all that wait.
        """
        n_next = min(n_files, self._n_files)
        return self._free_s - (self._decoding.seconds(n_next) if n_next > 0 else 0.0)
