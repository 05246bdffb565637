"""What a repetition is compared by: its course as curves that no body size and no mirror changes.

Each channel is one curve over the repetition. Angles in degrees; lengths in hundredths of stature
or of the length they are compared with (``travel`` is the repetition signal, from any side); speed
in hundredths of the travel a second. From the side
the better seen side of the body is read; what tells left from right is taken without its sign. A
channel that the camera cannot show is NaN throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from pose_analyzer.rep_geometry import (
    SIGMA_LIMIT_DEG,
    joint_curve,
    mean_of_seen,
    median_seen,
    sides_to_read,
    signal_fraction,
)
from pose_analyzer.skeleton import KEYPOINT_INDEX
from pose_analyzer.types import FloatArray, RepMotion

_JOINTS: Final = ("shoulder", "elbow", "hip", "knee", "ankle", "shin_lean", "trunk_lean")
_TILTED: Final = ("shoulder", "hip", "wrist")
CHANNELS: Final = (
    *_JOINTS,
    "hip_bend",
    "head_bend",
    "trunk_length",
    "knee_separation",
    "hip_shift",
    *(f"{part}_tilt" for part in _TILTED),
    "travel",
    "speed",
)
"""Names of the columns, D = 17."""
FLOORS: Final = np.array(
    [*[3.0] * 7, 3.0, 6.0, 2.0, 8.0, 8.0, *[1.0] * len(_TILTED), 1.5, 15.0], dtype=np.float64
)
"""Differences of good repetitions below this are measurement, not form (chosen by us, see
reports/form_scoring_validation.md); shape (D,)."""

_SIDE_FROM_DEG: Final = 55.0
_FRONT_TO_DEG: Final = 45.0
_START_SHARE: Final = 0.1


def form_channels(motion: RepMotion) -> FloatArray:
    """Return the curves of a repetition, shape (T, D), in the order of `CHANNELS`.

    NaN where a point was not seen, and throughout for what this view cannot show: an angle less
    certain than `rep_geometry.SIGMA_LIMIT_DEG`, the bends of body and head and the length of the
    trunk from nearer the front than 55 degrees of yaw, and what compares left with right from
    further round than 45 degrees.
    """
    columns = [_angle(motion, joint) for joint in _JOINTS]
    unseen = np.full(len(motion.time_s), np.nan)
    if motion.yaw_deg >= _SIDE_FROM_DEG:
        columns += [
            _bend(motion, "shoulder", "hip", "ankle"),
            _bend(motion, "ear", "shoulder", "hip"),
        ]
        columns.append(_trunk_length(motion))
    else:
        columns += [unseen] * 3
    if motion.yaw_deg <= _FRONT_TO_DEG:
        columns += [_knee_separation(motion), _hip_shift(motion)]
        columns += [_tilt(motion, part) for part in _TILTED]
    else:
        columns += [unseen] * (2 + len(_TILTED))
    columns += [100.0 * (motion.signal - np.fmin.reduce(motion.signal)), _speed(motion)]
    return np.stack(columns, axis=1)


def _angle(motion: RepMotion, joint: str) -> FloatArray:
    curve, sigma_deg = joint_curve(motion, joint)
    return curve if sigma_deg <= SIGMA_LIMIT_DEG else np.full_like(curve, np.nan)


def _points(motion: RepMotion, names: Sequence[str]) -> FloatArray:
    return motion.keypoints[:, [KEYPOINT_INDEX[name] for name in names]]


def _bend(motion: RepMotion, first: str, middle: str, last: str) -> FloatArray:
    """Return the turn at a point in degrees, positive towards the belly or the chest.

    The toes or the face, whichever is seen, tell the front from the back.
    """
    turns = []
    for side in sides_to_read(motion):
        points = _points(motion, [f"{side}_{part}" for part in (first, middle, last)])
        u, v = points[:, 1] - points[:, 0], points[:, 2] - points[:, 1]
        turns.append(
            np.degrees(np.arctan2(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0], (u * v).sum(axis=1)))
        )
    return _facing(motion) * mean_of_seen(np.stack(turns, axis=1))


def _facing(motion: RepMotion) -> float:
    """Return the turning sense that is forward: of the face about the shoulders, seen from hips."""
    nose, *rest = np.moveaxis(
        _points(motion, ("nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip")), 1, 0
    )
    shoulder, hip = mean_points(rest[:2]), mean_points(rest[2:])
    up, ahead = shoulder - hip, nose - shoulder
    return float(np.sign(median_seen(up[:, 0] * ahead[:, 1] - up[:, 1] * ahead[:, 0])))


def mean_points(points: Sequence[FloatArray]) -> FloatArray:
    """Return the mean of the points that were seen in each frame, shape (T, 2)."""
    x, y = (mean_of_seen(np.stack([one[:, axis] for one in points], axis=1)) for axis in (0, 1))
    return np.stack((x, y), axis=1)


def _trunk_length(motion: RepMotion) -> FloatArray:
    """Return the distance from shoulder to hip, in percent of its upper end in this repetition.

    A bent spine draws them together; a lean alone does not while the camera is at the side.
    """
    lengths = []
    for side in sides_to_read(motion):
        shoulder, hip = np.moveaxis(_points(motion, (f"{side}_shoulder", f"{side}_hip")), 1, 0)
        lengths.append(np.hypot(*(shoulder - hip).T))
    length = mean_of_seen(np.stack(lengths, axis=1))
    seen = length[~np.isnan(length)]
    return 100.0 * length / np.percentile(seen, 90.0) if seen.size else length


def _knee_separation(motion: RepMotion) -> FloatArray:
    """Return the distance of the knees in percent of that of the ankles; negative if crossed."""
    x = _points(motion, ("left_knee", "right_knee", "left_ankle", "right_ankle"))[..., 0]
    ankles = median_seen(x[:, 2] - x[:, 3])
    shank = median_seen(np.hypot(*_shank(motion).T))
    if not abs(ankles) > 0.1 * shank:
        return np.full(len(x), np.nan)
    return np.asarray(100.0 * (x[:, 0] - x[:, 1]) / ankles)


def _shank(motion: RepMotion) -> FloatArray:
    knee, ankle = np.moveaxis(_points(motion, ("left_knee", "left_ankle")), 1, 0)
    return np.asarray(knee - ankle)


def _hip_shift(motion: RepMotion) -> FloatArray:
    """Return how far the hips have moved sideways over the feet, in percent of the hip width."""
    x = _points(motion, ("left_hip", "right_hip", "left_ankle", "right_ankle"))[..., 0]
    width = abs(median_seen(x[:, 0] - x[:, 1]))
    offset = 0.5 * (x[:, 0] + x[:, 1] - x[:, 2] - x[:, 3])
    return _from_start(offset, 100.0 / width if width > 0.0 else np.nan)


def _tilt(motion: RepMotion, part: str) -> FloatArray:
    """Return by how much one side has risen over the other, in percent of stature."""
    y = _points(motion, (f"left_{part}", f"right_{part}"))[..., 1]
    return _from_start(y[:, 0] - y[:, 1], 100.0 / motion.stature_px)


def _from_start(curve: FloatArray, scale: float) -> FloatArray:
    """Return the change since the start, positive where it is largest: mirrored is the same."""
    first = median_seen(curve[: max(3, int(_START_SHARE * len(curve)))])
    change = (curve - first) * scale
    seen = change[~np.isnan(change)]
    if not seen.size:
        return change
    sign = -1.0 if seen[np.argmax(np.abs(seen))] < 0.0 else 1.0
    return np.asarray(sign * change)


def _speed(motion: RepMotion) -> FloatArray:
    """Return how fast the way is covered, in percent of the travel a second, without a sign."""
    fraction = signal_fraction(motion)
    if len(fraction) < 3:
        return np.full(len(fraction), np.nan)
    return np.asarray(100.0 * np.abs(np.gradient(fraction, motion.time_s)))
