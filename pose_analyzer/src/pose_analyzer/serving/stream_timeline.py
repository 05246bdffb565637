"""The times of one stream's frames, kept on one line though its sender's clock jumps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pose_analyzer.live_source import LEAST_STEP_S

MOST_AHEAD_S: Final = 60.0
"""A frame may be so much further ahead of the last than passed on the clock of arrival. A file may
be sent faster than it was taken, but no two of its frames are a minute apart (chosen by us)."""
MOST_LATE_S: Final = 1.0
"""A frame so much older than the last is late, or sent again; if the sender's clock was set back by
so little it catches up soon (chosen by us)."""
N_TO_CONFIRM: Final = 3
"""So many frames in a row that fit each other, but not those before, show that the sender's clock
was set anew; fewer may be glitches (chosen by us)."""


@dataclass(slots=True)
class StreamTimeline:
    """Tells frames whose time is wrong from a sender that began anew.

    A time that is not later than the last, or that is ahead of it by `MOST_AHEAD_S` more than has
    passed, is wrong. After `N_TO_CONFIRM` wrong ones in a row that fit each other, not counting
    late ones, the stream goes on with the last of these, later by as much as has passed: time
    never jumps.

    Pure: the time of arrival is given, and does not go back.
    """

    _offset_s: float = 0.0
    _last_s: float = math.nan
    _last_arrived_s: float = math.nan
    _wrong_s: float = math.nan
    _wrong_arrived_s: float = math.nan
    _n_wrong: int = 0

    def place(self, time_s: float, now_s: float) -> float | None:
        """Return where a frame stands on the line of its stream.

        Parameters
        ----------
        time_s : float
            Its own time in seconds, finite.
        now_s : float
            When it arrived.

        Returns
        -------
        float or None
            Seconds, strictly increasing, as sent unless the sender's clock was set anew; None if
            its time is wrong.
        """
        placed_s = time_s + self._offset_s
        passed_s = now_s - self._last_arrived_s
        if not (math.isnan(self._last_s) or _fits(placed_s - self._last_s, passed_s)):
            is_late = -MOST_LATE_S <= placed_s - self._last_s <= 0.0
            if is_late or not self._is_confirmed(time_s, now_s):
                return None
            placed_s = self._last_s + max(passed_s, LEAST_STEP_S)
            self._offset_s = placed_s - time_s
        self._last_s, self._last_arrived_s = placed_s, now_s
        self._n_wrong = 0
        return placed_s

    def _is_confirmed(self, time_s: float, now_s: float) -> bool:
        """Return whether a time that is wrong follows enough others of its kind."""
        goes_on = _fits(time_s - self._wrong_s, now_s - self._wrong_arrived_s)
        self._n_wrong = self._n_wrong + 1 if goes_on and self._n_wrong > 0 else 1
        self._wrong_s, self._wrong_arrived_s = time_s, now_s
        return self._n_wrong >= N_TO_CONFIRM


def _fits(step_s: float, passed_s: float) -> bool:
    """Return whether a frame may follow another."""
    return 0.0 < step_s <= passed_s + MOST_AHEAD_S
