"""What can be measured of one repetition: depth, leans, alignment, symmetry, tempo.

Each measure is a pure function of a `RepMotion` and has a name, so that an exercise file can set
limits on it. Angles, ratios of lengths and seconds only: nothing depends on stature, limb
lengths, the scale of the picture or where the athlete stands in it. From the side the better
seen side of the body is read; exchanging left and right changes no measure.

References
----------
.. [1] F. R. Noyes, S. D. Barber-Westin, C. Fleckenstein, C. Walsh, J. West, "The Drop-Jump
   Screening Test: Difference in Lower Limb Control by Gender and Effect of Neuromuscular
   Training in Female Athletes", American Journal of Sports Medicine 33(2), 2005.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from pose_analyzer.rep_geometry import (
    SIDE_ROWS,
    SIDES,
    Side,
    angle_confidence,
    extreme,
    joint_columns,
    joint_curve,
    median_seen,
    phase_times,
    sides_to_read,
    signal_fraction,
)
from pose_analyzer.skeleton import JOINT_INDEX, KEYPOINT_INDEX
from pose_analyzer.types import BoolArray, FloatArray, RepMotion

_DEEP_FRACTION: Final = 0.5
_SEEN_SHARE: Final = 0.5
_PAUSE_FROM: Final = 0.15
_PAUSE_TO: Final = 0.90
_PAUSE_BAND: Final = 0.06
_PERSPECTIVE_SHARE: Final = 0.01
_TRUNK_LEAN: Final = JOINT_INDEX["trunk_lean"]
_SIDED_JOINTS: Final = ("shoulder", "elbow", "hip", "knee", "ankle", "shin_lean")


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


SET_TEMPO_SPREAD: Final = "set_tempo_spread"
"""The measure that only a set has, not a repetition."""
UNMEASURED: Final = Measured(float("nan"), 0.0)
Measure: TypeAlias = Callable[[RepMotion], Measured]


def measure(name: str, motion: RepMotion) -> Measured:
    """Return the named measure of a repetition.

    Raises
    ------
    ValueError
        If there is no measure of that name; the message lists those that exist.
    """
    function = MEASURES.get(name)
    if function is None:
        raise ValueError(f"unknown measure {name!r}; known measures: {', '.join(sorted(MEASURES))}")
    return function(motion)


def _rows(*names: str) -> list[int]:
    return [KEYPOINT_INDEX[name] for name in names]


def _deep(motion: RepMotion) -> BoolArray:
    """Return the frames in the far half of the travel."""
    with np.errstate(invalid="ignore"):
        return np.asarray(signal_fraction(motion) >= _DEEP_FRACTION)


def _seen_enough(curve: FloatArray, wanted: BoolArray) -> bool:
    return bool(wanted.any() and np.mean(~np.isnan(curve[wanted])) >= _SEEN_SHARE)


def _angle_extreme(motion: RepMotion, joint: str, *, largest: bool) -> Measured:
    """Return the smallest or largest angle of a joint."""
    curve, sigma_deg = joint_curve(motion, joint)
    return _angle_value(extreme(curve, largest=largest), curve, sigma_deg)


def _angle_range(motion: RepMotion, joint: str) -> Measured:
    """Return the excursion of a joint in degrees."""
    curve, sigma_deg = joint_curve(motion, joint)
    value = extreme(curve, largest=True) - extreme(curve, largest=False)
    return _angle_value(value, curve, sigma_deg)


def _angle_value(value: float, curve: FloatArray, sigma_deg: float) -> Measured:
    confidence = angle_confidence(sigma_deg)
    if np.isnan(value) or confidence == 0.0 or np.isnan(curve).mean() > _SEEN_SHARE:
        return UNMEASURED
    return Measured(value, confidence)


def _angle_difference(motion: RepMotion, joint: str) -> Measured:
    """Return the median absolute difference of left and right in the far half, in degrees.

    The camera turns both sides alike only from the front or the back, so the exercise file
    limits the yaw; the uncertainty of each angle by itself does not matter.
    """
    left, right = joint_columns(joint)
    difference = np.abs(motion.deg[:, left] - motion.deg[:, right])
    deep = _deep(motion)
    if not _seen_enough(difference, deep):
        return UNMEASURED
    confidence = np.minimum(*(motion.confidence[:, SIDE_ROWS[side]].mean() for side in SIDES))
    return Measured(median_seen(difference[deep]), float(confidence))


def _knee_separation_ratio(motion: RepMotion) -> Measured:
    """Return the distance of the knees in distances of the ankles, where the legs are bent.

    Below 1 the knees are inside the feet, below 0 they have crossed. After the normalised knee
    separation of [1]_, but against the ankles, which stand still in a squat. The tenth percentile
    of the frames in which the hips are in the lower half of their travel.
    """
    rows = _rows("left_knee", "right_knee", "left_ankle", "right_ankle")
    x = motion.keypoints[:, rows, 0]
    ankles = median_seen(x[:, 2] - x[:, 3])
    knees = x[:, 0] - x[:, 1]
    low = _hips_low(motion)
    # Feet closer than a tenth of a shank: no stance whose width could be a measure.
    shank = median_seen(_distance(motion, "left_knee", "left_ankle"))
    if not abs(ankles) > 0.1 * shank or not _seen_enough(knees, low):
        return UNMEASURED
    ratio = knees[low] / ankles
    value = float(np.percentile(ratio[~np.isnan(ratio)], 10.0))
    return Measured(value, _points_confidence(motion, rows))


def _hips_low(motion: RepMotion) -> BoolArray:
    """Return the frames in which the hips are in the lower half of their travel."""
    rows = _rows("left_hip", "right_hip", "left_ankle", "right_ankle")
    y = motion.keypoints[:, rows, 1]
    height = y[:, 2] + y[:, 3] - y[:, 0] - y[:, 1]
    # fmin and fmax leave out the frames in which a point was not seen.
    middle = 0.5 * (np.fmin.reduce(height) + np.fmax.reduce(height))
    with np.errstate(invalid="ignore"):
        return np.asarray(height <= middle)


def _front_shin_lean_deg(motion: RepMotion) -> Measured:
    """Return how far the shin of the leg in front leans forward at most, from the side.

    For a split stance, where the rear shin always leans. The face tells which way is forward.
    """
    x, y = motion.keypoints[..., 0], motion.keypoints[..., 1]
    nose, *shoulders = _rows("nose", "left_shoulder", "right_shoulder")
    facing = np.sign(median_seen(x[:, nose] - x[:, shoulders].mean(axis=1)))
    ankles = [facing * median_seen(x[:, row]) for row in _rows("left_ankle", "right_ankle")]
    if np.isnan(ankles).any():
        return UNMEASURED
    side = SIDES[int(np.argmax(ankles))]
    knee, ankle = _rows(f"{side}_knee", f"{side}_ankle")
    lean = np.degrees(np.arctan2(facing * (x[:, knee] - x[:, ankle]), y[:, ankle] - y[:, knee]))
    value = extreme(lean, largest=True)
    if np.isnan(value):
        return UNMEASURED
    return Measured(value, _points_confidence(motion, [knee, ankle]))


def _distance(motion: RepMotion, first: str, second: str) -> FloatArray:
    points = motion.keypoints[:, _rows(first, second)]
    return np.asarray(np.sqrt(np.square(points[:, 0] - points[:, 1]).sum(axis=-1)))


def _points_confidence(motion: RepMotion, rows: list[int]) -> float:
    return float(motion.confidence[:, rows].mean(axis=0).min())


def _over_sides(one_side: Callable[[RepMotion, Side], Measured], motion: RepMotion) -> Measured:
    """Return the mean over the sides to read of a measure of one side."""
    found = [one_side(motion, side) for side in sides_to_read(motion)]
    seen = [item for item in found if not np.isnan(item.value)]
    if not seen:
        return UNMEASURED
    return Measured(
        float(np.mean([item.value for item in seen])),
        float(np.mean([item.confidence for item in seen])),
    )


def _knee_past_toe(motion: RepMotion, side: Side) -> Measured:
    """Return how far the knee passes the toe, in shank lengths; negative behind it."""
    rows = _rows(f"{side}_knee", f"{side}_big_toe", f"{side}_heel", f"{side}_ankle")
    x = motion.keypoints[:, rows, 0]
    forward = np.sign(median_seen(x[:, 1] - np.where(np.isnan(x[:, 2]), x[:, 3], x[:, 2])))
    shank = extreme(_distance(motion, f"{side}_knee", f"{side}_ankle"), largest=True)
    past = extreme(forward * (x[:, 0] - x[:, 1]), largest=True)
    if np.isnan(past) or not shank > 0.0:
        return UNMEASURED
    return Measured(past / shank, _points_confidence(motion, rows[:2]))


def _hip_sag_deg(motion: RepMotion, side: Side) -> Measured:
    """Return how far the hip hangs below the line from shoulder to ankle; negative above it.

    180 degrees minus the included angle shoulder-hip-ankle, median of the far half.
    """
    rows = _rows(f"{side}_shoulder", f"{side}_hip", f"{side}_ankle")
    shoulder, hip, ankle = (motion.keypoints[:, row] for row in rows)
    deep = _deep(motion)
    first, second = hip - shoulder, ankle - hip
    # Pixels grow downward: walking from shoulder to ankle, a hip below the line makes a turn
    # whose sign depends on the walking direction, which the sign of x takes out.
    turn = np.degrees(
        np.arctan2(
            first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0], (first * second).sum(axis=1)
        )
    )
    sag = -np.sign(ankle[:, 0] - shoulder[:, 0]) * turn
    if not _seen_enough(sag, deep):
        return UNMEASURED
    return Measured(median_seen(sag[deep]), _points_confidence(motion, rows))


def _back_rounding_deg(motion: RepMotion, side: Side) -> Measured:
    """Return by how much the spine seems to bend where the trunk leans most.

    Keypoints have no spine. But two halves that bend by b draw the shoulder nearer to the hip,
    to cos(b/2) of the straight length: read where the lean is in its upper eighth, against where
    it is in its lower. A percent is taken off for perspective. From elsewhere than the side a lean
    alone shortens the line, and lifting the shoulder blades does too: hence half the confidence.
    """
    rows = _rows(f"{side}_shoulder", f"{side}_hip")
    lean = motion.deg[:, _TRUNK_LEAN]
    length = _distance(motion, f"{side}_shoulder", f"{side}_hip")
    seen = ~(np.isnan(lean) | np.isnan(length))
    if seen.mean() < _SEEN_SHARE:
        return UNMEASURED
    ordered = np.sort(lean[seen])
    upright, leaning = ordered[ordered.size // 8], ordered[-1 - ordered.size // 8]
    straight = np.median(length[seen & (lean <= upright)])
    share = np.median(length[seen & (lean >= leaning)]) / straight + _PERSPECTIVE_SHARE
    bend_deg = 2.0 * np.degrees(np.arccos(np.clip(share, 0.0, 1.0)))
    return Measured(float(bend_deg), 0.5 * _points_confidence(motion, rows))


def _wrist_height(motion: RepMotion, side: Side) -> Measured:
    """Return how far the wrist rises above the shoulder, in statures."""
    rows = _rows(f"{side}_shoulder", f"{side}_wrist")
    y = motion.keypoints[:, rows, 1]
    highest = extreme(y[:, 0] - y[:, 1], largest=True) / motion.stature_px
    if np.isnan(highest):
        return UNMEASURED
    return Measured(highest, _points_confidence(motion, rows))


def _hip_shift(motion: RepMotion) -> Measured:
    """Return how far the hips travel sideways over the feet, in hip widths."""
    rows = _rows("left_hip", "right_hip", "left_ankle", "right_ankle")
    x = motion.keypoints[:, rows, 0]
    offset = 0.5 * (x[:, 0] + x[:, 1] - x[:, 2] - x[:, 3])
    return _swing(offset, abs(median_seen(x[:, 0] - x[:, 1])), _points_confidence(motion, rows))


def _height_difference(motion: RepMotion, part: str) -> Measured:
    """Return by how much the height of one side over the other changes, in statures.

    The change, because a tilted camera looks like a constant difference.
    """
    rows = _rows(f"left_{part}", f"right_{part}")
    difference = motion.keypoints[:, rows[0], 1] - motion.keypoints[:, rows[1], 1]
    return _swing(difference, motion.stature_px, _points_confidence(motion, rows))


def _swing(curve: FloatArray, unit: float, confidence: float) -> Measured:
    """Return the range of a curve without its outer twentieths, in a unit of length."""
    seen = curve[~np.isnan(curve)]
    if not unit > 0.0 or seen.size < max(3.0, _SEEN_SHARE * curve.size):
        return UNMEASURED
    low, high = np.percentile(seen, [5.0, 95.0])
    return Measured(float(high - low) / unit, confidence)


def _phase_time(motion: RepMotion, part: int) -> Measured:
    return _time_value(phase_times(motion)[part], motion)


def _tempo_ratio(motion: RepMotion) -> Measured:
    """Return the time of the way back in times of the way there."""
    away, _, back = phase_times(motion)
    return _time_value(back / away if away > 0.0 else float("nan"), motion)


def _pause_s(motion: RepMotion) -> Measured:
    """Return the longest standstill on the way there or back, in seconds.

    A standstill stays within 6 % of the travel. Near rest (up to 15 % of the travel) and near the
    far end (from 90 %) one may wait.
    """
    fraction = signal_fraction(motion)
    with np.errstate(invalid="ignore"):
        on_way = (fraction > _PAUSE_FROM) & (fraction < _PAUSE_TO)
    travel, time_s = fraction.tolist(), motion.time_s.tolist()
    longest, first = 0.0, 0
    for last, moving in enumerate(on_way.tolist()):
        if not moving:
            first = last + 1
            continue
        while max(travel[first : last + 1]) - min(travel[first : last + 1]) > _PAUSE_BAND:
            first += 1
        longest = max(longest, time_s[last] - time_s[first])
    return _time_value(longest if on_way.any() else float("nan"), motion)


def _set_tempo_spread(_motion: RepMotion) -> Measured:
    """Return nothing: how even the tempo of a set is shows over several repetitions.

    It has a name here so that an exercise file can set its limits; `coaching.Coach` judges it as
    the logarithm of a repetition's duration over the median of those before it.
    """
    return UNMEASURED


def _time_value(value: float, motion: RepMotion) -> Measured:
    """Return a time with the share of frames in which the signal was seen as confidence."""
    if np.isnan(value):
        return UNMEASURED
    return Measured(value, float(np.mean(~np.isnan(motion.signal))))


def _registry() -> dict[str, Measure]:
    measures: dict[str, Measure] = {
        "knee_separation_ratio": _knee_separation_ratio,
        "knee_past_toe": partial(_over_sides, _knee_past_toe),
        "hip_sag_deg": partial(_over_sides, _hip_sag_deg),
        "back_rounding_deg": partial(_over_sides, _back_rounding_deg),
        "wrist_height": partial(_over_sides, _wrist_height),
        "front_shin_lean_deg": _front_shin_lean_deg,
        "hip_shift": _hip_shift,
        "tempo_away_s": partial(_phase_time, part=0),
        "hold_s": partial(_phase_time, part=1),
        "tempo_back_s": partial(_phase_time, part=2),
        "tempo_ratio": _tempo_ratio,
        "pause_s": _pause_s,
        SET_TEMPO_SPREAD: _set_tempo_spread,
    }
    for part in ("shoulder", "hip", "knee", "wrist", "elbow"):
        measures[f"{part}_height_difference"] = partial(_height_difference, part=part)
    for joint in (*_SIDED_JOINTS, "trunk_lean"):
        measures[f"smallest_{joint}_deg"] = partial(_angle_extreme, joint=joint, largest=False)
        measures[f"largest_{joint}_deg"] = partial(_angle_extreme, joint=joint, largest=True)
        measures[f"{joint}_range_deg"] = partial(_angle_range, joint=joint)
    for joint in _SIDED_JOINTS:
        measures[f"{joint}_difference_deg"] = partial(_angle_difference, joint=joint)
    return measures


MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(_registry())
"""Every measure by name. ``smallest_``, ``largest_``, ``_range_`` and ``_difference_`` exist for
each joint."""
