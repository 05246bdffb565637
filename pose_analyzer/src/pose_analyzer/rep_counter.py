"""Repetitions: excursions of a scale-free signal away from rest and back.

Counting is kept apart from judging: the counter knows no angle and no form. It follows the turning
points of the signal with a hysteresis that adapts to the athlete: at first an absolute share of
the body's size, later a share of the athlete's own repetitions. Shaking around one threshold
therefore never counts twice, and a half repetition among full ones is reported as partial.

References
----------
.. [1] T. Flash, N. Hogan, "The coordination of arm movements: an experimentally confirmed
   mathematical model", Journal of Neuroscience 5(7), 1985 (position 10u³ - 15u⁴ + 6u⁵).
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from pose_analyzer.exercises import SignalSpec
from pose_analyzer.types import Rep


@dataclass(frozen=True, slots=True)
class RepCounterConfig:
    """Settings of `RepCounter`; all chosen by us, see reports/real_clips.md.

    Attributes
    ----------
    leave_share : float
        Share of the smallest range that must be left behind before rest counts as left.
    turn_share : float
        Share of the excursion that must be given back before the far end counts as passed.
    back_share : float
        Share of the excursion that must be given back before the repetition can end.
    finish_share : float
        The same at the end of the stream, where nothing can settle: a repetition that is more
        than half way back is full.
    sloppy_share : float
        Least share given back when the next repetition begins: less is a bounce in the same one.
    full_share : float
        A repetition smaller than this share of the athlete's usual range is partial.
    attempt_share : float
        An excursion smaller than this share of the smallest range is not even partial.
    away_share : float
        Least share of the travel that must be seen on the way away from rest: a clip that starts
        at the far end shows half a repetition.
    rest_share : float
        Share given back that counts as rest.
    settle_s : float
        A repetition ends when the signal has come no closer to rest for this long, or for four
        times as long where it halts short of rest.
    rest_memory_s : float
        How long the lowest signal counts as the level of rest.
    """

    leave_share: float = 0.5
    turn_share: float = 0.3
    back_share: float = 0.7
    finish_share: float = 0.5
    sloppy_share: float = 0.45
    full_share: float = 0.5
    rest_share: float = 0.9
    attempt_share: float = 0.75
    away_share: float = 0.2
    settle_s: float = 0.15
    rest_memory_s: float = 4.0


class _Sample(NamedTuple):
    value: float
    time_s: float
    frame: int


_LEAD_OF_CORE: Final = 0.2468 / (1.0 - 2.0 * 0.2468)
"""Time of the first tenth of a minimum-jerk stroke [1]_ over that of its middle eight tenths."""
_MAX_LEAD_S: Final = 0.5
"""A stroke with a pause in it has a long core and no longer ends for it (chosen by us)."""

_State = Literal["rest", "away", "back", "locked"]


class RepCounter:
    """Count the repetitions of one athlete.

    Parameters
    ----------
    signal : SignalSpec
        Smallest range, durations, and whether a cycle or a lift counts.
    config : RepCounterConfig, optional
        Hysteresis.

    Attributes
    ----------
    count : int
        Full repetitions so far.

    Examples
    --------
    Feed ``update(signal, time_s, index)`` every frame and call ``finish()`` at the end.
    """

    def __init__(self, signal: SignalSpec, config: RepCounterConfig | None = None) -> None:
        self._spec = signal
        self._config = config or RepCounterConfig()
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a new object."""
        self.count = 0
        self._state: _State = "rest"
        self._ranges: deque[float] = deque(maxlen=5)
        self._rests: deque[_Sample] = deque()
        self._path: deque[_Sample] = deque()
        self._turn = self._end = self._start = _Sample(math.nan, math.nan, -1)
        self._ended_s = -math.inf

    def update(self, signal: float, time_s: float, index: int) -> tuple[Rep, ...]:
        """Return the repetitions that this frame finished: none or one.

        Parameters
        ----------
        signal : float
            Displacement in statures, larger = further from rest. NaN (not seen) is skipped: a
            repetition may hide for a moment.
        time_s : float
            Increasing.
        index : int
            The frame.
        """
        if math.isnan(signal):
            return ()
        now = _Sample(signal, time_s, index)
        self._remember(now)
        if self._state == "rest":
            self._at_rest(now)
            return ()
        if self._state == "away":
            return self._going_away(now)
        if self._state == "back":
            return self._coming_back(now)
        self._locked_out(now)
        return ()

    def finish(self) -> tuple[Rep, ...]:
        """Return the repetition that the end of the stream leaves open, if any.

        One that has come back far enough is full, any other is partial.
        """
        if self._state == "back" and self._returned(self._end) >= self._config.finish_share:
            return self._emit(self._end)
        if self._state in {"away", "back"} and self._range() >= self._spec.min_range:
            if self._spec.counted == "lift":
                return self._emit(self._turn)
            rep = self._rep(self._path[-1], is_partial=True)
            self._rest_from(self._path[-1])
            return (rep,)
        return ()

    def _at_rest(self, now: _Sample) -> None:
        while self._rests and self._rests[-1].value >= now.value:
            self._rests.pop()
        self._rests.append(now)
        while now.time_s - self._rests[0].time_s > self._config.rest_memory_s:
            self._rests.popleft()
        if now.value - self._rests[0].value >= self._config.leave_share * self._smallest():
            self._start, self._turn = self._rests[0], now
            self._state = "away"

    def _going_away(self, now: _Sample) -> tuple[Rep, ...]:
        if now.value > self._turn.value:
            self._turn = now
            return ()
        if now.time_s - self._start.time_s > self._spec.max_duration_s:
            self._rest_from(now)
            return ()
        turned = self._returned(now) >= self._config.turn_share and self._gave_back(now)
        if self._spec.counted == "lift":
            return self._lifting(now, turned=turned)
        if turned:
            self._state, self._end = "back", now
        return ()

    def _lifting(self, now: _Sample, *, turned: bool) -> tuple[Rep, ...]:
        """Count a lift that halts or turns high enough; give up one that turns before."""
        halted = now.time_s - self._turn.time_s >= 2.0 * self._config.settle_s
        lasted = self._turn.time_s - self._start.time_s >= self._spec.min_duration_s
        if (halted or turned) and lasted and self._range() >= self._smallest():
            return self._emit(self._turn)
        if turned:
            self._rest_from(now)
        return ()

    def _coming_back(self, now: _Sample) -> tuple[Rep, ...]:
        if now.value < self._end.value:
            self._end = now
        returned = self._returned(self._end)
        risen = now.value - self._end.value
        settled = now.time_s - self._end.time_s >= self._settling_s(returned)
        if returned >= self._config.back_share and (settled or risen > 0.1 * self._range()):
            return self._emit(self._end)
        if risen >= self._config.turn_share * self._range():
            if returned >= self._config.sloppy_share:
                return self._emit(self._end)
            self._state = "away"
            self._turn = max(self._turn, now)
        elif now.time_s - self._start.time_s > self._spec.max_duration_s:
            self._rest_from(now)
        return ()

    def _settling_s(self, returned: float) -> float:
        """Return how long to wait for more: a halt short of rest may be a pause on the way."""
        short_of_rest = returned < self._config.rest_share
        return (4.0 if short_of_rest else 1.0) * self._config.settle_s

    def _locked_out(self, now: _Sample) -> None:
        """After a lift: wait until the weight has gone down again."""
        if now.value > self._turn.value:
            self._turn = now
        elif self._returned(now) >= 0.5:
            self._rest_from(now)

    def _remember(self, now: _Sample) -> None:
        self._path.append(now)
        while now.time_s - self._path[0].time_s > self._spec.max_duration_s:
            self._path.popleft()

    def _rest_from(self, sample: _Sample) -> None:
        self._state = "rest"
        self._rests.clear()
        self._rests.append(sample)

    def _smallest(self) -> float:
        """Return the smallest excursion that is an attempt, for this athlete by now."""
        if not self._ranges:
            return self._spec.min_range
        usual = statistics.median(self._ranges)
        return max(self._spec.min_range, 0.6 * self._config.full_share * usual)

    def _range(self) -> float:
        return self._turn.value - self._start.value

    def _returned(self, sample: _Sample) -> float:
        return (self._turn.value - sample.value) / self._range()

    def _gave_back(self, now: _Sample) -> bool:
        """Return whether the way back is more than shaking."""
        floor = 0.5 * self._config.leave_share * self._spec.min_range
        return self._turn.value - now.value >= floor

    def _emit(self, end: _Sample) -> tuple[Rep, ...]:
        """Return the finished repetition, if it is one, and go on from its end."""
        away, travel = self._range(), max(self._range(), self._turn.value - end.value)
        usual = statistics.median(self._ranges) if self._ranges else 0.0
        config, smallest = self._config, self._spec.min_range
        in_time = end.time_s - self._start.time_s >= self._spec.min_duration_s
        is_attempt = in_time and (
            travel >= max(config.attempt_share * smallest, 0.5 * config.full_share * usual)
            and away >= config.away_share * travel
        )
        is_full = is_attempt and travel >= max(smallest, config.full_share * usual)
        rep = self._rep(end, is_partial=not is_full)
        if is_full:
            self._ranges.append(travel)
            self.count = rep.number
        if self._spec.counted == "lift":
            self._state = "locked"
        else:
            self._rest_from(end)
        return (rep,) if is_attempt else ()

    def _rep(self, end: _Sample, *, is_partial: bool) -> Rep:
        path = [one for one in self._path if self._start.frame <= one.frame <= end.frame]
        away = [one for one in path if one.frame <= self._turn.frame]
        back = [one for one in reversed(path) if one.frame >= self._turn.frame]
        start_s, reached_s = _stroke(away, self._start.value, self._turn.value)
        end_s, left_s = _stroke(back, end.value, self._turn.value)
        now_s = self._path[-1].time_s
        start_s = max(start_s, self._ended_s, self._path[0].time_s)
        end_s, reached_s = min(end_s, end.time_s), min(reached_s, now_s)
        if len(back) == 1:
            end_s = left_s = reached_s
        turn_s = 0.5 * (reached_s + left_s)
        self._ended_s = end_s
        return Rep(
            number=0 if is_partial else self.count + 1,
            start_s=start_s,
            turn_s=turn_s,
            end_s=end_s,
            start_index=self._frame_at(start_s),
            turn_index=self._frame_at(turn_s),
            end_index=self._frame_at(end_s),
            range=max(self._range(), self._turn.value - end.value),
            is_partial=is_partial,
            hold_s=max(left_s - reached_s, 0.0),
        )

    def _frame_at(self, time_s: float) -> int:
        return min(self._path, key=lambda one: abs(one.time_s - time_s)).frame


def _stroke(samples: list[_Sample], rest: float, far: float) -> tuple[float, float]:
    """Return when a stroke from rest to the far end began and ended, in seconds.

    Its ends drown in noise, so its core between 10 % and 90 % of the way is taken and extended as
    a minimum-jerk stroke extends [1]_. The samples run from rest to the far end, backward in time
    for the way back.
    """
    low, high = rest + 0.1 * (far - rest), far - 0.1 * (far - rest)
    reached = next(i for i, one in enumerate(samples) if one.value >= high)
    left = next((i for i in range(reached, 0, -1) if samples[i].value <= low), 0)
    core_s = samples[reached].time_s - samples[left].time_s
    lead_s = math.copysign(min(abs(core_s) * _LEAD_OF_CORE, _MAX_LEAD_S), core_s)
    return samples[left].time_s - lead_s, samples[reached].time_s + lead_s
