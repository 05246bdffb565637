"""Repetitions: excursions of a scale-free signal away from rest and back.

Counting is kept apart from judging: the counter knows no angle and no form. It follows the turning
points of the signal with a hysteresis that adapts to the athlete: at first an absolute share of
the body's size, later a share of the athlete's own repetitions. Shaking around one threshold
therefore never counts twice, a stop on the way neither ends nor splits a repetition, and a half
repetition among full ones is reported as partial.

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
from pose_analyzer.types import Rep, Stance


@dataclass(frozen=True, slots=True)
class RepCounterConfig:
    """Settings of `RepCounter`; all chosen by us, see reports/real_clips.md.

    Attributes
    ----------
    first_share : float
        Share of the exercise's smallest range that is an attempt before the athlete's usual range
        is known.
    attempt_share : float
        Share of the athlete's usual range that is an attempt: a repetition that turns back after
        30 % of the joint's travel moves the body by no more.
    noise : float
        Statures. A smaller excursion is never an attempt: keypoints wander that far by themselves.
    smooth_share : float
        Turning points are those of the mean over this share of the shortest repetition.
    turn_share : float
        Share of the excursion that must be given back before the far end counts as passed.
    sloppy_share : float
        Least share given back when the next repetition begins, or when the stream ends: less is a
        bounce in the same one.
    rest_share : float
        Share given back that counts as rest.
    away_share : float
        Least share of the travel that must be seen on the way away from rest: a clip that starts
        at the far end shows half a repetition.
    settle_s : float
        A repetition ends when the signal has come no closer to rest for this long.
    halt_s : float
        The same where it halts short of rest: a shorter stop is a pause on the way.
    rest_memory_s : float
        How long the lowest signal counts as the level of rest.
    step : float
        Statures that one ankle moves against the other within half a second in a step: walkers
        do 0.17 to 0.21 in the median, people who squat 0.05, or 0.1 where the feet are hidden.
    step_share : float
        An excursion with a larger share of steps is none where the feet stay planted; lower
        shares are those of a camera cut, or of feet put right.
    growth : float
        Who is this many times as large or as small in one half of an excursion as in the other
        comes nearer or goes away.
    ready_s : float
        The posture at the start of a cycle, or at the end of a lift, is the median over this
        long before and after.
    """

    first_share: float = 0.75
    attempt_share: float = 0.09
    noise: float = 0.01
    smooth_share: float = 0.4
    turn_share: float = 0.3
    sloppy_share: float = 0.45
    rest_share: float = 0.9
    away_share: float = 0.2
    settle_s: float = 0.15
    halt_s: float = 2.5
    rest_memory_s: float = 4.0
    step: float = 0.15
    step_share: float = 0.25
    growth: float = 1.25
    ready_s: float = 0.2


_UNKNOWN: Final = Stance()


class _Sample(NamedTuple):
    value: float
    time_s: float
    frame: int
    stance: Stance = _UNKNOWN


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
        self._window: deque[_Sample] = deque()
        self._path: deque[_Sample] = deque()
        self._turn = self._end = self._start = _Sample(math.nan, math.nan, -1)
        self._ended_s = -math.inf

    def update(
        self, signal: float, time_s: float, index: int, stance: Stance = _UNKNOWN
    ) -> tuple[Rep, ...]:
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
        stance : Stance, optional
            How the athlete stands. What is not seen speaks neither for nor against a repetition.
        """
        if math.isnan(signal):
            return ()
        seen = _Sample(signal, time_s, index, stance)
        self._remember(seen)
        now = self._smoothed(seen)
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
        if self._state == "back" and self._returned(self._end) >= self._config.sloppy_share:
            return self._emit(self._end)
        if self._state in {"away", "back"} and self._range() >= self._spec.min_range:
            if self._spec.counted == "lift":
                return self._emit(self._turn)
            end = self._path[-1]
            reps = () if self._walked(end) else (self._rep(end, is_partial=True),)
            self._rest_from(end)
            return reps
        return ()

    def _at_rest(self, now: _Sample) -> None:
        while self._rests and self._rests[-1].value >= now.value:
            self._rests.pop()
        self._rests.append(now)
        while now.time_s - self._rests[0].time_s > self._config.rest_memory_s:
            self._rests.popleft()
        if now.value - self._rests[0].value >= self._attempt():
            self._start, self._turn = self._rests[0], now
            self._state = "away"

    def _going_away(self, now: _Sample) -> tuple[Rep, ...]:
        if now.value > self._turn.value:
            self._turn = now
            return ()
        if now.time_s - self._start.time_s > self._spec.max_duration_s:
            self._rest_from(now)
            return ()
        given_back = self._turn.value - now.value
        turned = given_back >= max(self._config.turn_share * self._range(), 0.5 * self._attempt())
        if self._spec.counted == "lift":
            return self._lifting(now, turned=turned)
        if turned:
            self._state, self._end = "back", now
        return ()

    def _lifting(self, now: _Sample, *, turned: bool) -> tuple[Rep, ...]:
        """Count a lift that turns, or halts at the athlete's lockout or for long."""
        is_lockout = bool(self._ranges) and self._range() >= self._config.rest_share * self._usual()
        wait_s = 2.0 * self._config.settle_s if is_lockout else self._config.halt_s
        if turned or now.time_s - self._turn.time_s >= wait_s:
            return self._emit(self._turn)
        return ()

    def _coming_back(self, now: _Sample) -> tuple[Rep, ...]:
        if now.value < self._end.value:
            self._end = now
        returned = self._returned(self._end)
        halted_s = now.time_s - self._end.time_s
        risen = now.value - self._end.value
        near = max((1.0 - self._config.rest_share) * self._range(), 0.4 * self._attempt())
        if self._end.value - self._start.value <= near:
            if halted_s >= self._config.settle_s or risen > near:
                return self._emit(self._end)
        elif risen >= max(self._config.turn_share * self._range(), 0.5 * self._attempt()):
            if returned >= self._config.sloppy_share:
                return self._emit(self._end)
            self._state = "away"
            self._turn = max(self._turn, now)
        elif halted_s >= self._config.halt_s and returned >= self._config.sloppy_share:
            return self._emit(self._end)
        elif now.time_s - self._start.time_s > self._spec.max_duration_s:
            self._rest_from(now)
        return ()

    def _locked_out(self, now: _Sample) -> None:
        """After a lift: wait until the weight goes down again."""
        if now.value > self._turn.value:
            self._turn = now
        elif self._turn.value - now.value >= self._attempt():
            self._rest_from(now)

    def _smoothed(self, seen: _Sample) -> _Sample:
        """Return the mean of the last samples at the middle of their time."""
        window = self._window
        window.append(seen)
        while (
            seen.time_s - window[0].time_s > self._config.smooth_share * self._spec.min_duration_s
        ):
            window.popleft()
        n_samples = len(window)
        value = sum(one.value for one in window) / n_samples
        time_s = sum(one.time_s for one in window) / n_samples
        return _Sample(value, time_s, window[n_samples // 2].frame)

    def _remember(self, now: _Sample) -> None:
        self._path.append(now)
        while now.time_s - self._path[0].time_s > self._spec.max_duration_s:
            self._path.popleft()

    def _rest_from(self, sample: _Sample) -> None:
        self._state = "rest"
        self._rests.clear()
        self._rests.append(sample)

    def _usual(self) -> float:
        """Return the range of the athlete's last attempts; 0 before the first."""
        return statistics.median(self._ranges) if self._ranges else 0.0

    def _attempt(self) -> float:
        """Return the smallest excursion that is an attempt, for this athlete by now."""
        if not self._ranges:
            return self._config.first_share * self._spec.min_range
        return max(self._config.noise, self._config.attempt_share * self._usual())

    def _range(self) -> float:
        return self._turn.value - self._start.value

    def _returned(self, sample: _Sample) -> float:
        return (self._turn.value - sample.value) / self._range()

    def _emit(self, end: _Sample) -> tuple[Rep, ...]:
        """Return the finished repetition, if it is one, and go on from its end."""
        away, travel = self._range(), max(self._range(), self._turn.value - end.value)
        is_attempt = (
            travel >= self._attempt()
            and away >= self._config.away_share * travel
            and end.time_s - self._start.time_s >= self._spec.min_duration_s
            and not self._walked(end)
        )
        is_wide = travel >= self._spec.min_range
        is_deep = is_wide and travel >= self._spec.full_share * self._usual()
        is_full = is_attempt and is_deep and self._was_ready()
        rep = self._rep(end, is_partial=not is_full)
        if is_attempt and is_wide:
            # Partial ones too: who tires goes on with shallower repetitions.
            self._ranges.append(travel)
        if is_full:
            self.count = rep.number
        if self._spec.counted == "lift" and is_full:
            self._state = "locked"
        else:
            self._rest_from(end)
        return (rep,) if is_attempt else ()

    def _walked(self, end: _Sample) -> bool:
        """Return whether the feet, which should stay planted, walked during the excursion."""
        if self._spec.feet == "moving":
            return False
        stances = [one.stance for one in self._path if self._start.frame <= one.frame <= end.frame]
        moved = [one.stepping for one in stances if not math.isnan(one.stepping)]
        if sum(one > self._config.step for one in moved) > self._config.step_share * len(moved):
            return True
        sizes_px = [one.stature_px for one in stances if not math.isnan(one.stature_px)]
        half = len(sizes_px) // 2
        if half == 0:
            return False
        before_px, after_px = map(statistics.median, (sizes_px[:half], sizes_px[half:]))
        return max(before_px, after_px) > self._config.growth * min(before_px, after_px)

    def _was_ready(self) -> bool:
        """Return whether a cycle began, or a lift ended, in the ready posture, if it was seen."""
        middle_s = (self._turn if self._spec.counted == "lift" else self._start).time_s
        near = [
            one.stance.height
            for one in self._path
            if abs(one.time_s - middle_s) <= self._config.ready_s
        ]
        heights = [height for height in near if not math.isnan(height)]
        low, high = self._spec.ready
        # A glimpse of points that the picture cuts off is no measurement.
        return 2 * len(heights) <= len(near) or low <= statistics.median(heights) <= high

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
    # The levels are those of smoothed samples, which noise may keep these from reaching.
    highest = max(range(len(samples)), key=lambda i: samples[i].value)
    reached = next((i for i, one in enumerate(samples) if one.value >= high), highest)
    left = next((i for i in range(reached, 0, -1) if samples[i].value <= low), 0)
    core_s = samples[reached].time_s - samples[left].time_s
    lead_s = math.copysign(min(abs(core_s) * _LEAD_OF_CORE, _MAX_LEAD_S), core_s)
    return samples[left].time_s - lead_s, samples[reached].time_s + lead_s
