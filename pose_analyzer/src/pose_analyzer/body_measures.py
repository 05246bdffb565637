"""What can be measured of trunk and arms in one repetition: sag, rounding, heights, wander.

Pure functions of a `RepMotion`, named in `form_measures.MEASURES`. Ratios of lengths and angles
only: nothing depends on stature, limb lengths or the scale of the picture; exchanging left and
right changes no measure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from pose_analyzer.rep_geometry import (
    SEEN_SHARE,
    UNMEASURED,
    Measured,
    Side,
    change_over,
    extreme,
    far_half,
    median_seen,
    seen_at_turn,
    seen_enough,
    sides_to_read,
    signal_fraction,
)
from pose_analyzer.skeleton import JOINT_INDEX, KEYPOINT_INDEX
from pose_analyzer.types import BoolArray, FloatArray, IntArray, RepMotion

_TRUNK_LEAN: Final = JOINT_INDEX["trunk_lean"]
_ROUNDING_CONFIDENCE: Final = 0.6
_LEAST_YAW_DEG: Final = 45.0
_ELBOW_ERROR: Final = 0.02
"""Statures; chosen by us on other synthetic athletes than are judged: of true tilts of .02 to .07,
elbows differ by up to .02, of mistaken arms by .08 to .11."""


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
    rows = rows_of(f"{side}_shoulder", f"{side}_hip", f"{side}_ankle")
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
    return Measured(median_seen(sag[wanted]), points_confidence(motion, rows))


def back_rounding_deg(motion: RepMotion) -> Measured:
    """Return by how much the spine seems to bend on the way from upright to the deepest lean.

    Keypoints have no spine. But two halves that bend by b draw the shoulders nearer to the hips,
    to cos(b/2) of the straight length: read from how the length of the trunk goes with the square
    of the way from its upright to its leaning end, as a bend that grows on that way makes it.
    Negative if the trunk seems to grow longer. An arch shortens it just as well: the two cannot
    be told apart. Off the side a lean alone shortens the trunk in the picture: what of it points
    away from the camera is added by the yaw. Lifting the shoulder blades shortens it too: hence
    six tenths of the confidence.
    """
    rows = rows_of("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    points = motion.keypoints[:, rows]
    trunk = 0.5 * (points[:, 0] + points[:, 1] - points[:, 2] - points[:, 3])
    facing = np.sin(np.radians(max(motion.yaw_deg, _LEAST_YAW_DEG)))
    length = np.hypot(trunk[:, 0] / facing, trunk[:, 1])
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

    That of the higher wrist: one that stays lower is a fault of symmetry, not of depth. Raised
    hands leave the picture, and what is left of the way then only looks short: the wrist must be
    seen at the far end.
    """
    best = UNMEASURED
    for side in sides_to_read(motion):
        rows = rows_of(f"{side}_shoulder", f"{side}_wrist")
        y = motion.keypoints[:, rows, 1]
        height = y[:, 0] - y[:, 1]
        if not seen_at_turn(height, motion):
            continue
        highest = extreme(height, largest=True) / motion.stature_px
        if highest > best.value or (np.isnan(best.value) and not np.isnan(highest)):
            best = Measured(highest, points_confidence(motion, rows))
    return best


def height_difference(motion: RepMotion, part: str) -> Measured:
    """Return by how much the height of one side over the other changes, in statures.

    The change, because a tilted camera looks like a constant difference: that from rest to the far
    half of the travel, where an arm that lags behind is lower on the whole way.
    """
    rows = rows_of(f"left_{part}", f"right_{part}")
    difference = motion.keypoints[:, rows[0], 1] - motion.keypoints[:, rows[1], 1]
    return _change_from_rest(motion, difference, rows)


def arm_height_difference(motion: RepMotion) -> Measured:
    """Return by how much the height of one arm over the other changes, in statures.

    The wrist counts twice, the elbow once: an arm that lags behind is lower at both, and both are
    not mistaken together (chosen by us, see reports/form_scoring_validation.md).
    """
    wrists, elbows = rows_of("left_wrist", "right_wrist"), rows_of("left_elbow", "right_elbow")
    y = motion.keypoints[..., 1]
    difference = 2.0 * (y[:, wrists[0]] - y[:, wrists[1]]) + y[:, elbows[0]] - y[:, elbows[1]]
    return _change_from_rest(motion, difference / 3.0, [*wrists, *elbows])


def shoulder_tilt(motion: RepMotion) -> Measured:
    """Return by how much the shoulders tilt over hands that stay, in statures.

    Between a shoulder that sinks and a hand that stays an elbow sinks less. Where the elbows
    change their heights against each other by clearly more than the shoulders, the detector has
    mistaken an arm, and the tilt is not measured.
    """
    tilt, elbows = height_difference(motion, "shoulder"), height_difference(motion, "elbow")
    if elbows.value > tilt.value + _ELBOW_ERROR:
        return UNMEASURED
    return tilt


def _change_from_rest(motion: RepMotion, curve: FloatArray, rows: list[int]) -> Measured:
    """Return the change from rest to the far half, in statures; sure frames of the rows count more.

    A hand before the body is taken for another place now and then, and the detector is then unsure.
    """
    way = np.minimum(2.0 * signal_fraction(motion), 1.0)
    change = change_over(curve, way, motion.confidence[:, rows].min(axis=1))
    return _sized(change, motion.stature_px, points_confidence(motion, rows))


def change_in(curve: FloatArray, way: FloatArray, unit: float, confidence: float) -> Measured:
    """Return the size of a curve's change along a way, in a unit of length."""
    return _sized(change_over(curve, way), unit, confidence)


def _sized(change: float, unit: float, confidence: float) -> Measured:
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


def rows_of(*names: str) -> list[int]:
    """Return the rows of keypoints by name."""
    return [KEYPOINT_INDEX[name] for name in names]


def distance(motion: RepMotion, first: str, second: str) -> FloatArray:
    """Return the distance of two keypoints in each frame, in pixels, shape (T,)."""
    points = motion.keypoints[:, rows_of(first, second)]
    return np.asarray(np.sqrt(np.square(points[:, 0] - points[:, 1]).sum(axis=-1)))


def points_confidence(motion: RepMotion, rows: list[int]) -> float:
    """Return the confidence in the least certain of the keypoints, by its mean over the frames."""
    return float(motion.confidence[:, rows].mean(axis=0).min())
