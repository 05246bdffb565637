"""What can be measured of the body's shape in one repetition: sag, rounding, knees, shifts.

Pure functions of a `RepMotion`, named in `form_measures.MEASURES`. Ratios of lengths and angles
only: nothing depends on stature, limb lengths or the scale of the picture; exchanging left and
right changes no measure.

References
----------
.. [1] F. R. Noyes, S. D. Barber-Westin, C. Fleckenstein, C. Walsh, J. West, "The Drop-Jump
   Screening Test: Difference in Lower Limb Control by Gender and Effect of Neuromuscular
   Training in Female Athletes", American Journal of Sports Medicine 33(2), 2005.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from pose_analyzer.rep_geometry import (
    SEEN_SHARE,
    SIDES,
    UNMEASURED,
    Measured,
    Side,
    change_over,
    extreme,
    far_half,
    median_seen,
    seen_enough,
    sides_to_read,
    signal_fraction,
)
from pose_analyzer.skeleton import JOINT_INDEX, KEYPOINT_INDEX
from pose_analyzer.types import BoolArray, FloatArray, IntArray, RepMotion

_TRUNK_LEAN: Final = JOINT_INDEX["trunk_lean"]
_ROUNDING_CONFIDENCE: Final = 0.6
_FAR_END: Final = 0.8


def knee_separation_ratio(motion: RepMotion) -> Measured:
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
    if not abs(ankles) > 0.1 * shank or not seen_enough(knees, low):
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


def front_shin_lean_deg(motion: RepMotion) -> Measured:
    """Return how far the shin of the leg in front leans forward at the far end, from the side.

    For a split stance, where the rear shin always leans. The face tells which way is forward. The
    median from 80 % of the travel on: detectors exchange the two legs there for single frames.
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
    with np.errstate(invalid="ignore"):
        far = signal_fraction(motion) >= _FAR_END
    if not seen_enough(lean, far):
        return UNMEASURED
    return Measured(median_seen(lean[far]), _points_confidence(motion, [knee, ankle]))


def over_sides(one_side: Callable[[RepMotion, Side], Measured], motion: RepMotion) -> Measured:
    """Return the mean over the sides to read of a measure of one side."""
    found = [one_side(motion, side) for side in sides_to_read(motion)]
    seen = [item for item in found if not np.isnan(item.value)]
    if not seen:
        return UNMEASURED
    return Measured(
        float(np.mean([item.value for item in seen])),
        float(np.mean([item.confidence for item in seen])),
    )


def knee_past_toe(motion: RepMotion, side: Side) -> Measured:
    """Return how far the knee passes the toe, in shank lengths; negative behind it."""
    rows = _rows(f"{side}_knee", f"{side}_big_toe", f"{side}_heel", f"{side}_ankle")
    x = motion.keypoints[:, rows, 0]
    forward = np.sign(median_seen(x[:, 1] - np.where(np.isnan(x[:, 2]), x[:, 3], x[:, 2])))
    shank = extreme(_distance(motion, f"{side}_knee", f"{side}_ankle"), largest=True)
    past = extreme(forward * (x[:, 0] - x[:, 1]), largest=True)
    if np.isnan(past) or not shank > 0.0:
        return UNMEASURED
    return Measured(past / shank, _points_confidence(motion, rows[:2]))


def hip_sag_deg(motion: RepMotion, side: Side) -> Measured:
    """Return how far the hip hangs below the line from shoulder to ankle; negative above it.

    180 degrees minus the included angle shoulder-hip-ankle, median of the far half.
    """
    return _sag(motion, side, far_half(motion))


def held_hip_sag_deg(motion: RepMotion, side: Side) -> Measured:
    """Return the same over the whole of a hold, which has no far half."""
    return _sag(motion, side, np.ones(motion.time_s.shape, dtype=np.bool_))


def _sag(motion: RepMotion, side: Side, wanted: BoolArray) -> Measured:
    """Return the median sag of the hip in the wanted frames."""
    rows = _rows(f"{side}_shoulder", f"{side}_hip", f"{side}_ankle")
    shoulder, hip, ankle = (motion.keypoints[:, row] for row in rows)
    first, second = hip - shoulder, ankle - hip
    # Pixels grow downward: walking from shoulder to ankle, a hip below the line makes a turn
    # whose sign depends on the walking direction, which the sign of x takes out.
    turn = np.degrees(
        np.arctan2(
            first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0], (first * second).sum(axis=1)
        )
    )
    sag = -np.sign(ankle[:, 0] - shoulder[:, 0]) * turn
    if not seen_enough(sag, wanted):
        return UNMEASURED
    return Measured(median_seen(sag[wanted]), _points_confidence(motion, rows))


def back_rounding_deg(motion: RepMotion) -> Measured:
    """Return by how much the spine seems to bend on the way from upright to the deepest lean.

    Keypoints have no spine. But two halves that bend by b draw the shoulders nearer to the hips,
    to cos(b/2) of the straight length: read from how the length of the trunk goes with the square
    of the way from its upright to its leaning end, as a bend that grows on that way makes it.
    Negative if the trunk seems to grow longer. An arch shortens it just as well: the two cannot
    be told apart. From elsewhere than the side a lean alone shortens the trunk, and lifting the
    shoulder blades does too: hence six tenths of the confidence.
    """
    rows = _rows("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    points = motion.keypoints[:, rows]
    trunk = 0.5 * (points[:, 0] + points[:, 1] - points[:, 2] - points[:, 3])
    length = np.sqrt(np.square(trunk).sum(axis=-1))
    fraction = signal_fraction(motion)
    leaning = change_over(motion.deg[:, _TRUNK_LEAN], fraction)
    way = np.square(fraction if leaning > 0.0 else 1.0 - fraction)
    change = change_over(length, way)
    if np.isnan(change) or np.isnan(leaning):
        return UNMEASURED
    seen = ~(np.isnan(length) | np.isnan(way))
    upright = length[seen].mean() - change * way[seen].mean()
    bend_deg = 2.0 * np.degrees(np.arccos(np.clip(1.0 - abs(change) / upright, 0.0, 1.0)))
    value = float(-np.sign(change) * bend_deg)
    return Measured(value, _ROUNDING_CONFIDENCE * float(motion.confidence[:, rows].mean()))


def wrist_height(motion: RepMotion) -> Measured:
    """Return how far the wrists rise above the shoulders, in statures.

    That of the higher wrist: one that stays lower is a fault of symmetry, not of depth.
    """
    best = UNMEASURED
    for side in sides_to_read(motion):
        rows = _rows(f"{side}_shoulder", f"{side}_wrist")
        y = motion.keypoints[:, rows, 1]
        highest = extreme(y[:, 0] - y[:, 1], largest=True) / motion.stature_px
        if highest > best.value or (np.isnan(best.value) and not np.isnan(highest)):
            best = Measured(highest, _points_confidence(motion, rows))
    return best


def hip_shift(motion: RepMotion) -> Measured:
    """Return how far the hips travel sideways over the feet, in hip widths."""
    rows = _rows("left_hip", "right_hip", "left_ankle", "right_ankle")
    x = motion.keypoints[:, rows, 0]
    offset = 0.5 * (x[:, 0] + x[:, 1] - x[:, 2] - x[:, 3])
    width = abs(median_seen(x[:, 0] - x[:, 1]))
    return _change(offset, signal_fraction(motion), width, _points_confidence(motion, rows))


def height_difference(motion: RepMotion, part: str) -> Measured:
    """Return by how much the height of one side over the other changes, in statures.

    The change, because a tilted camera looks like a constant difference: that from rest to the far
    half of the travel, where an arm that lags behind is lower on the whole way.
    """
    rows = _rows(f"left_{part}", f"right_{part}")
    difference = motion.keypoints[:, rows[0], 1] - motion.keypoints[:, rows[1], 1]
    way = np.minimum(2.0 * signal_fraction(motion), 1.0)
    return _change(difference, way, motion.stature_px, _points_confidence(motion, rows))


def _change(curve: FloatArray, way: FloatArray, unit: float, confidence: float) -> Measured:
    """Return the size of a curve's change along a way, in a unit of length."""
    change = change_over(curve, way)
    if np.isnan(change) or not unit > 0.0:
        return UNMEASURED
    return Measured(abs(change) / unit, confidence)


def resting_wander(motion: RepMotion, resting: IntArray) -> Measured:
    """Return the RMS wander of keypoints that should rest, in percent of stature."""
    points = motion.keypoints[:, resting]
    seen = ~np.isnan(points)
    count = seen.sum(axis=0)
    used = count[:, 0] >= max(1.0, SEEN_SHARE * len(points))
    if not used.any() or not motion.stature_px > 0.0:
        return UNMEASURED
    middle = np.where(seen, points, 0.0).sum(axis=0) / np.maximum(count, 1)
    squares = np.square(np.where(seen, points - middle, 0.0)).sum(axis=0)[used]
    wander_px = float(np.sqrt((squares / count[used]).sum(axis=-1).mean()))
    confidence = float(motion.confidence[:, resting].mean(axis=0)[used].mean())
    return Measured(100.0 * wander_px / motion.stature_px, confidence)


def _rows(*names: str) -> list[int]:
    return [KEYPOINT_INDEX[name] for name in names]


def _distance(motion: RepMotion, first: str, second: str) -> FloatArray:
    points = motion.keypoints[:, _rows(first, second)]
    return np.asarray(np.sqrt(np.square(points[:, 0] - points[:, 1]).sum(axis=-1)))


def _points_confidence(motion: RepMotion, rows: list[int]) -> float:
    return float(motion.confidence[:, rows].mean(axis=0).min())
