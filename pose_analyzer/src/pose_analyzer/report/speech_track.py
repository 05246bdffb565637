"""Places spoken cues on a time line, as a recording that grows with the picture."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

LATEST_S: Final = 1.5
"""A cue that would begin later than this after its time is left out: by then another repetition
is under way (chosen by us; a fast repetition takes about as long)."""
_PAUSE_S: Final = 0.15

Int16Array = npt.NDArray[np.int16]


class SpeechTrack:
    """The voice of a clip, sample by sample; what was taken is forgotten.

    A cue begins at its time. While another is being spoken it waits for that one's end and a short
    pause; it is left out if it would begin more than `LATEST_S` late. One that is being spoken when
    the clip ends is spoken to its end.

    Parameters
    ----------
    rate_hz : int
        Samples a second.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._pause = round(_PAUSE_S * rate_hz)
        self._taken = 0
        self._end = -self._pause
        self._waiting: deque[tuple[int, Int16Array]] = deque()

    def add(self, time_s: float, speech: Int16Array) -> bool:
        """Speak at a time that was not taken yet; False if the cue is left out.

        Parameters
        ----------
        time_s : float
            When the cue is due, not before earlier ones.
        speech : int16 array, shape (N,)
            What is said. Kept until it was taken, not changed.
        """
        due = max(round(time_s * self._rate_hz), self._taken)
        start = max(due, self._end + self._pause)
        if start - due > LATEST_S * self._rate_hz:
            return False
        self._waiting.append((start, speech))
        self._end = start + len(speech)
        return True

    def take(self, until_s: float) -> Int16Array:
        """Return the samples from where the last call ended up to a time."""
        return self._take_to(round(until_s * self._rate_hz))

    def take_rest(self) -> Int16Array:
        """Return what is still to be said; empty if all was."""
        return self._take_to(self._end)

    def _take_to(self, end: int) -> Int16Array:
        samples = np.zeros(max(end - self._taken, 0), dtype=np.int16)
        for start, speech in self._waiting:
            first, last = max(start, self._taken), min(start + len(speech), end)
            if last > first:
                samples[first - self._taken : last - self._taken] = speech[
                    first - start : last - start
                ]
        self._taken = max(end, self._taken)
        while self._waiting and self._waiting[0][0] + len(self._waiting[0][1]) <= self._taken:
            self._waiting.popleft()
        return samples
