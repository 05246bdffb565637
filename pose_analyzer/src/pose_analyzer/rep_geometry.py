"""What every judge of a repetition starts from: its travel, its better seen side, its curves.

Pure functions of a `RepMotion` and of plain curves; NaN frames are left out, never filled.

References
----------
.. [1] T. Flash, N. Hogan, "The coordination of arm movements: an experimentally confirmed
   mathematical model", Journal of Neuroscience 5(7), 1985 (position 10u³ - 15u⁴ + 6u⁵).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from pose_analyzer.skeleton import JOINT_INDEX, KEYPOINT_INDEX
from pose_analyzer.types import BoolArray, FloatArray, RepMotion

Side: TypeAlias = str
SIDES: Final = ("left", "right")

SIGMA_LIMIT_DEG: Final = 20.0
"""An angle less certain than this is not judged (chosen by us, see reports/form_scoring.md)."""
SIGMA_HALF_DEG: Final = 15.0
"""The uncertainty at which the confidence in an angle is one half (chosen by us, as above)."""

_NEAR_SIDE_YAW_DEG: Final = 40.0
_NEAR_SIDE_MARGIN: Final = 0.05
_MOVING_FROM: Final = 0.03
_CORE_FROM: Final = 0.1
_CORE_SHARE: Final = 0.5064
"""Share of a minimum-jerk stroke's time [1]_ that it takes from 10 % to 90 % of its travel."""
SIDE_ROWS: Final = {
    side: [
        KEYPOINT_INDEX[f"{side}_{part}"] for part in ("shoulder", "elbow", "hip", "knee", "ankle")
    ]
    for side in SIDES
}
"""The keypoints by which `sides_to_read` tells the better seen side."""


SEEN_SHARE: Final = 0.5
"""Of the frames that a measure reads this share must be seen (chosen by us, as above)."""
_DEEP_FRACTION: Final = 0.5


@dataclass(frozen=True, slots=True)
class Measured:
    """One measured value.

    Attributes
    ----------
    value : float
        In the unit of the measure; NaN if it could not be measured.
    confidence : float
        In [0, 1]; 0 where the value is NaN.
    """

    value: float
    confidence: float


UNMEASURED: Final = Measured(float("nan"), 0.0)
Measure: TypeAlias = Callable[[RepMotion], Measured]


def signal_fraction(motion: RepMotion) -> FloatArray:
    """Return how far each frame is on the way from rest (0) to the far end (1), shape (T,).

    Relative to the travel of this repetition; NaN where the signal is, and everywhere if the
    signal does not travel at all.
    """
    low, high = np.fmin.reduce(motion.signal), np.fmax.reduce(motion.signal)
    if not high > low:
        return np.full(motion.signal.shape, np.nan)
    return np.asarray((motion.signal - low) / (high - low), dtype=np.float64)


def sides_to_read(motion: RepMotion) -> tuple[Side, ...]:
    """Return the side that faces the camera, or both where no side is seen better.

    From near the front both sides are read; further round the side whose keypoints have more
    confidence, because the far one is hidden by the body and only guessed by a detector.
    """
    if not motion.yaw_deg > _NEAR_SIDE_YAW_DEG:
        return SIDES
    left, right = (float(motion.confidence[:, SIDE_ROWS[side]].mean()) for side in SIDES)
    if abs(left - right) < _NEAR_SIDE_MARGIN:
        return SIDES
    return ("left",) if left > right else ("right",)


def joint_curve(motion: RepMotion, joint: str) -> tuple[FloatArray, float]:
    """Return one joint's angle over the repetition and its typical uncertainty.

    Parameters
    ----------
    motion : RepMotion
        The repetition.
    joint : str
        A name without side (``"knee"``, then the sides of `sides_to_read` are averaged) or a
        sideless angle (``"trunk_lean"``).

    Returns
    -------
    array, shape (T,)
        Degrees; NaN where not measured.
    float
        Mean standard deviation in degrees; NaN if never measured.
    """
    columns = joint_columns(joint, () if joint in JOINT_INDEX else sides_to_read(motion))
    sigma_deg = motion.sigma_deg[:, columns]
    seen = sigma_deg[~np.isnan(sigma_deg)]
    typical = float(seen.mean()) if seen.size else float("nan")
    if len(columns) == 1:
        return motion.deg[:, columns[0]], typical
    return mean_of_seen(motion.deg[:, columns]), typical


def joint_columns(joint: str, sides: tuple[Side, ...] = SIDES) -> list[int]:
    """Return the columns of a sideless joint name among `skeleton.JOINT_NAMES`."""
    if joint in JOINT_INDEX:
        return [JOINT_INDEX[joint]]
    return [JOINT_INDEX[f"{side}_{joint}"] for side in sides]


def far_half(motion: RepMotion) -> BoolArray:
    """Return the frames in the far half of the travel."""
    with np.errstate(invalid="ignore"):
        return np.asarray(signal_fraction(motion) >= _DEEP_FRACTION)


def seen_enough(curve: FloatArray, wanted: BoolArray) -> bool:
    """Tell whether the curve was seen in half of the wanted frames, and there are any."""
    return bool(wanted.any() and np.mean(~np.isnan(curve[wanted])) >= SEEN_SHARE)


def seen_at_turn(curve: FloatArray, motion: RepMotion) -> bool:
    """Tell whether the curve was seen in half of the frames before the far end, and of those after.

    A tenth of the repetition each: where the far end itself was not seen, it seems to be at the
    last frame that was.
    """
    turn, margin = min(motion.turn_idx, len(curve) - 1), len(curve) // 10
    sides = curve[max(turn - margin, 0) : turn + 1], curve[turn : turn + margin + 1]
    return all(np.isnan(side).mean() <= SEEN_SHARE for side in sides)


def change_over(curve: FloatArray, way: FloatArray, weight: FloatArray | None = None) -> float:
    """Return by how much a curve changes while ``way`` goes from 0 to 1, by least squares.

    Every frame counts, so the noise of single frames averages out; by its weight if there is one.
    NaN where fewer than half of the frames were seen, or the way does not change.
    """
    seen = ~(np.isnan(curve) | np.isnan(way))
    if seen.sum() < max(3.0, SEEN_SHARE * curve.size):
        return float("nan")
    share = np.ones(int(seen.sum())) if weight is None else weight[seen]
    if not share.sum() > 0.0:
        return float("nan")
    from_mean = way[seen] - np.average(way[seen], weights=share)
    spread = float(share @ np.square(from_mean))
    return float((share * from_mean) @ curve[seen]) / spread if spread > 0.0 else float("nan")


def angle_confidence(sigma_deg: float) -> float:
    """Return the confidence in an angle of this uncertainty: 1 if exact, 0 past the limit."""
    if not sigma_deg <= SIGMA_LIMIT_DEG:
        return 0.0
    return 1.0 / (1.0 + (sigma_deg / SIGMA_HALF_DEG) ** 2)


def mean_of_seen(columns: FloatArray) -> FloatArray:
    """Return the mean of the values that are not NaN in each row, (T, N) -> (T,)."""
    seen = ~np.isnan(columns)
    count = seen.sum(axis=1)
    total = np.where(seen, columns, 0.0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def median_seen(values: FloatArray) -> float:
    """Return the median of the values that are not NaN; NaN if there is none."""
    seen = values[~np.isnan(values)]
    return float(np.median(seen)) if seen.size else float("nan")


def centred_mean(values: FloatArray, half: int) -> FloatArray:
    """Return the mean of each value and ``half`` neighbours on each side, fewer near the ends.

    As many on one side as on the other: a straight slope stays what it was.
    """
    row = np.arange(values.size)
    reach = np.minimum(np.minimum(row, row[::-1]), half)
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((total[row + reach + 1] - total[row - reach]) / (2 * reach + 1))


def extreme(curve: FloatArray, *, largest: bool) -> float:
    """Return the smallest or largest value of the curve, each averaged with its neighbours.

    One noisy frame moves a mean of three by a third. NaN where fewer than three frames in a
    row were seen.
    """
    if curve.size < 3:
        return float("nan")
    smooth = (curve[:-2] + curve[1:-1] + curve[2:]) / 3.0
    # fmin and fmax leave out the frames that were not seen.
    return float(np.fmax.reduce(smooth) if largest else np.fmin.reduce(smooth))


def phase_times(motion: RepMotion) -> tuple[float, float, float]:
    """Return the seconds on the way to the far end, at it, and on the way back.

    The way runs between 3 % and 97 % of the travel, so that standing at rest before or after
    does not count. NaN for a part that the repetition does not show.
    """
    time_s, fraction, reach, depart = _travel(motion, 1.0 - _MOVING_FROM)
    if not time_s.size:
        return (float("nan"),) * 3
    before = np.flatnonzero(fraction[: reach + 1] <= _MOVING_FROM)
    after = np.flatnonzero(fraction[depart:] <= _MOVING_FROM)
    away = time_s[reach] - time_s[before[-1]] if before.size else np.nan
    back = time_s[depart + after[0]] - time_s[depart] if after.size else np.nan
    return float(away), float(time_s[depart] - time_s[reach]), float(back)


def stroke_times(motion: RepMotion) -> tuple[float, float]:
    """Return the seconds of the ways to the far end and back, from rest to rest.

    The ends of a way drown in noise: the time between 10 % and 90 % of the travel is taken, between
    frames as well, and extended as a minimum-jerk stroke extends it [1]_. NaN for a way that the
    repetition does not show.
    """
    time_s, fraction, reach, depart = _travel(motion, 1.0 - _CORE_FROM)
    if not time_s.size:
        return (float("nan"),) * 2
    away = _core_s(time_s[: reach + 1], fraction[: reach + 1])
    # Backward in time the way back runs to the far end as well.
    back = _core_s(-time_s[depart:][::-1], fraction[depart:][::-1])
    return away / _CORE_SHARE, back / _CORE_SHARE


def _travel(motion: RepMotion, far: float) -> tuple[FloatArray, FloatArray, int, int]:
    """Return times and travel of the frames seen, and the first and last of them that are far.

    Empty where fewer than three were seen.
    """
    fraction = signal_fraction(motion)
    seen = np.flatnonzero(~np.isnan(fraction))
    if seen.size < 3:
        return np.empty(0), np.empty(0), 0, 0
    top = np.flatnonzero(fraction[seen] >= far)
    return motion.time_s[seen], fraction[seen], int(top[0]), int(top[-1])


def _core_s(time_s: FloatArray, fraction: FloatArray) -> float:
    """Return the seconds from 10 % to 90 % of the travel, which only the last frame has reached."""
    low = np.flatnonzero(fraction <= _CORE_FROM)
    if not low.size or low[-1] == fraction.size - 1:
        return float("nan")
    left = int(low[-1])
    begin_s = np.interp(_CORE_FROM, fraction[left : left + 2], time_s[left : left + 2])
    end_s = np.interp(1.0 - _CORE_FROM, fraction[-2:], time_s[-2:])
    return float(end_s - begin_s)
