"""How one athlete moves: the repetition signal, its phase, angular velocities, body size in time.

The signal is body displacement scaled by the body's own size: the height of the points that move
(hips in a squat) over the points that rest (ankles), in statures. It shows every repetition from
any side, where a joint angle in the picture does not: from the front a knee angle hardly changes.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from pose_analyzer.exercises import SignalSpec
from pose_analyzer.skeleton import KEYPOINT_INDEX, N_JOINTS
from pose_analyzer.types import BoolArray, FloatArray, IntArray, Motion, Stance


@dataclass(frozen=True, slots=True)
class TemporalConfig:
    """Settings of `TemporalAnalyzer`; all chosen by us, see reports/real_clips.md.

    Attributes
    ----------
    stature_rise_s, stature_fall_s : float
        Time constants of the body size. A projected body is never longer than the real one, so
        the size follows growth at once and shrinking slowly.
    drift_s : float
        Time constant with which the signal returns to the absolute height after points came and
        went.
    max_gap_s : float
        After a longer time unseen the signal starts anew.
    max_rate : float
        Statures a second that no body moves at (a throwing hand reaches about 6): a faster step
        is a cut in the picture or a swapped person, and is not compared.
    phase_rate : float
        Statures a second below which the body counts as not moving.
    envelope_s : float
        Time constant with which the remembered extremes of the signal close in.
    step_s : float
        A step shows in where the ankles stand to each other now and this long ago.
    """

    stature_rise_s: float = 0.25
    stature_fall_s: float = 3.0
    drift_s: float = 2.0
    max_gap_s: float = 1.0
    max_rate: float = 7.0
    phase_rate: float = 0.06
    envelope_s: float = 20.0
    step_s: float = 0.5


class TemporalAnalyzer:
    """Turn smoothed keypoints into a `Motion`, frame by frame.

    Parameters
    ----------
    signal : SignalSpec
        Which points move against which.
    config : TemporalConfig, optional
        Time constants.

    Attributes
    ----------
    stature_px : float
        The body's standing height in pixels, followed over time; NaN before it was seen.
    """

    def __init__(self, signal: SignalSpec, config: TemporalConfig | None = None) -> None:
        self._config = config or TemporalConfig()
        self._moving = _indices(signal.moving)
        self._ankles = _indices(("left_ankle", "right_ankle"))
        self._resting = _indices(signal.resting)
        # Image y grows downward. The signal grows away from rest.
        self._sign = 1.0 if signal.rest == "high" else -1.0
        self._min_range = signal.min_range
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a new object."""
        self.stature_px = math.nan
        self._time_s = math.nan
        self._seen_s = math.nan
        self._heights: FloatArray | None = None
        self._deg: FloatArray | None = None
        self._signal = math.nan
        self._low = math.nan
        self._high = math.nan
        self._height = math.nan
        self._strides: deque[tuple[float, float, float]] = deque()

    def update(
        self, keypoints: FloatArray, deg: FloatArray, stature_px: float, time_s: float
    ) -> Motion:
        """Return the motion after one more frame.

        Parameters
        ----------
        keypoints : array, shape (K, 2)
            Smoothed, pixels; NaN where not seen.
        deg : array, shape (J,)
            Angles of the same frame; NaN where not measured.
        stature_px : float
            What this frame's segments imply, see `biomechanics.stature`; NaN if too few are seen.
        time_s : float
            Later than in the call before.

        Returns
        -------
        Motion
            All NaN and phase ``"unknown"`` where the moving points are not seen.

        Raises
        ------
        ValueError
            If the time does not increase.
        """
        if time_s <= self._time_s:
            raise ValueError(f"time must increase, got {time_s} s after {self._time_s} s")
        dt_s = time_s - self._time_s
        self._time_s = time_s
        self._follow_stature(stature_px, dt_s)
        before = self._signal
        signal = self._follow_signal(keypoints[:, 1], dt_s, time_s)
        rate = (signal - before) / dt_s
        deg_s = np.full(N_JOINTS, np.nan) if self._deg is None else (deg - self._deg) / dt_s
        self._deg = deg
        phase = self._phase(signal, rate, dt_s)
        stance = Stance(self._height, self._stepping(keypoints, time_s), self.stature_px)
        return Motion(signal, rate, phase, deg_s, stance)

    def interrupt(self) -> None:
        """Tell that the next keypoints belong to another person or picture: do not compare."""
        self._heights = None
        self._deg = None
        self._strides.clear()

    def unseen(self, time_s: float) -> Motion:
        """Return the motion of a frame without the athlete: nothing is measured."""
        self.interrupt()
        self._time_s = time_s
        return Motion(math.nan, math.nan, "unknown", np.full(N_JOINTS, np.nan))

    def _follow_stature(self, stature_px: float, dt_s: float) -> None:
        if math.isnan(stature_px):
            return
        if math.isnan(self.stature_px):
            self.stature_px = stature_px
            return
        growing = stature_px > self.stature_px
        constant_s = self._config.stature_rise_s if growing else self._config.stature_fall_s
        self.stature_px += (stature_px - self.stature_px) * -math.expm1(-dt_s / constant_s)

    def _follow_signal(self, y_px: FloatArray, dt_s: float, time_s: float) -> float:
        """Return the signal: moved by what the points seen twice did, drawn to the true height.

        The height itself would jump whenever a point appears or vanishes; differences of the
        points that both frames show do not. A static camera is assumed while nothing that rests
        is seen.
        """
        self._height = math.nan
        seen = ~np.isnan(y_px)
        moving = self._moving[seen[self._moving]]
        if moving.size == 0 or math.isnan(self.stature_px):
            self._heights = None
            return math.nan
        resting = self._resting[seen[self._resting]]
        absolute = math.nan
        if resting.size:
            absolute = self._sign * (y_px[moving].mean() - y_px[resting].mean()) / self.stature_px
        # One side alone is no measure: a foot that the picture cuts off is guessed somewhere.
        both_sides = moving.size == self._moving.size and resting.size == self._resting.size
        if both_sides:
            self._height = -self._sign * float(absolute)
        if math.isnan(self._signal) or time_s - self._seen_s > self._config.max_gap_s:
            self._signal = 0.0 if math.isnan(absolute) else float(absolute)
        elif self._heights is not None:
            step = y_px - self._heights
            common = ~np.isnan(step)
            moved = _mean_of(step, self._moving, common) - _mean_of(step, self._resting, common)
            moved *= self._sign / self.stature_px
            if abs(moved) <= self._config.max_rate * dt_s:
                self._signal += moved
            if both_sides:
                pull = -math.expm1(-dt_s / self._config.drift_s)
                self._signal += float(absolute - self._signal) * pull
        self._heights = y_px.copy()
        self._seen_s = time_s
        return self._signal

    def _stepping(self, keypoints: FloatArray, time_s: float) -> float:
        """Return by how much the way from one ankle to the other changed, in statures."""
        left, right = keypoints[self._ankles].tolist()
        x_px, y_px = left[0] - right[0], left[1] - right[1]
        if math.isnan(x_px):
            return math.nan
        strides = self._strides
        strides.append((time_s, x_px, y_px))
        while time_s - strides[0][0] > self._config.step_s:
            strides.popleft()
        before_s, before_x, before_y = strides[0]
        if time_s - before_s < 0.5 * self._config.step_s:
            return math.nan
        return math.hypot(x_px - before_x, y_px - before_y) / self.stature_px

    def _phase(self, signal: float, rate: float, dt_s: float) -> str:
        if math.isnan(signal):
            return "unknown"
        if math.isnan(self._low) or math.isnan(rate):
            self._low = self._high = signal
            return "rest"
        leak = -math.expm1(-dt_s / self._config.envelope_s) * (self._high - self._low)
        self._low = min(signal, self._low + leak)
        self._high = max(signal, self._high - leak)
        if rate > self._config.phase_rate:
            return "away"
        if rate < -self._config.phase_rate:
            return "back"
        far = signal - self._low > max(0.5 * (self._high - self._low), 0.5 * self._min_range)
        return "turn" if far else "rest"


def _indices(names: tuple[str, ...]) -> IntArray:
    return np.array([KEYPOINT_INDEX[name] for name in names], dtype=np.intp)


def _mean_of(values: FloatArray, rows: IntArray, valid: BoolArray) -> float:
    """Return the mean of the valid rows, 0 if there is none."""
    chosen = rows[valid[rows]]
    return float(values[chosen].mean()) if chosen.size else 0.0
