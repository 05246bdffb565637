"""What a stretch of movement looks like, in numbers that know neither camera nor body size.

Heights and widths are shares of the athlete's stature, measured between body parts, so that
neither the place in the picture nor a slow camera matters; left and right may be exchanged. Which
parts rise and sink against which, how far and together with what, tells the exercises apart from
any side; joint angles as the camera sees them help from the side.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.ndimage import percentile_filter

from pose_analyzer.biomechanics import JointAngleCalculator, stature
from pose_analyzer.skeleton import JOINT_INDEX, KEYPOINT_INDEX, N_KEYPOINTS
from pose_analyzer.types import FloatArray

SAMPLE_S: Final = 1.0 / 15.0
"""Frames closer than this are skipped: no exercise here repeats faster than some 2 Hz."""
MIN_FRAMES: Final = 8
"""Fewer frames with a body make no movement (chosen by us)."""
_SIZE_S: Final = 3.0
"""Window in which the body's size is taken: longer than a limb points at the camera in one
repetition, shorter than a zoom (chosen by us)."""
_LOW, _MIDDLE, _HIGH = 4.0, 50.0, 96.0
"""Percentiles: the ends of a movement without its outliers (chosen by us)."""

_HEIGHTS: Final = (
    "trunk", "thigh", "shank", "leg", "head", "wrist_over_shoulder", "wrist_over_hip",
    "wrist_over_knee", "wrist_over_ankle", "elbow_over_shoulder", "shoulder_over_ankle",
    "higher_wrist", "lower_wrist",
)  # fmt: skip
_WIDTHS: Final = (
    "trunk_width", "leg_width", "ankles_apart", "ankles_apart_high", "knees_apart",
    "knees_apart_high", "wrists_apart", "ankles_dist",
)  # fmt: skip
_ANGLES: Final = (
    "straighter_knee", "bent_knee", "hip", "straighter_elbow", "bent_elbow", "trunk_lean",
)  # fmt: skip
_SIGNALS: Final = _HEIGHTS + _WIDTHS + _ANGLES
_SPEEDS: Final = ("leg", "trunk", "wrist_over_shoulder", "ankles_dist", "ankles_signed", "hip_x")
_PAIRS: Final = (
    ("leg", "trunk"),
    ("leg", "wrist_over_hip"),
    ("trunk", "thigh"),
    ("wrist_over_shoulder", "ankles_dist"),
    ("left_wrist", "right_wrist"),
    ("left_knee_high", "right_knee_high"),
    ("elbow_over_shoulder", "wrist_over_shoulder"),
    ("leg", "ankles_dist"),
)
_AT_BOTTOM: Final = (
    "ankles_dist", "ankles_apart", "ankles_apart_high", "knees_apart_high", "trunk",
    "trunk_width", "wrist_over_knee", "wrist_over_shoulder", "thigh", "straighter_knee",
    "bent_knee", "hip", "trunk_lean",
)  # fmt: skip
"""What is looked at where the hips are lowest over the ankles."""
_AT_REACH: Final = ("ankles_dist", "elbow_over_shoulder", "lower_wrist", "leg", "trunk")
"""What is looked at where a wrist is highest over the shoulders."""
_END_SHARE: Final = 0.15
"""Share of the time that counts as the bottom or the reach (chosen by us)."""
FEATURE_NAMES: Final = (
    *(f"{name}_{end}" for name in _SIGNALS for end in ("low", "middle", "high", "range")),
    *(f"{name}_speed" for name in _SPEEDS),
    *(f"{a}_with_{b}" for a, b in _PAIRS),
    *(f"{name}_at_bottom" for name in _AT_BOTTOM),
    *(f"{name}_at_reach" for name in _AT_REACH),
)
"""The features in order; F of them."""


def movement_features(time_s: FloatArray, keypoints: FloatArray) -> FloatArray:
    """Return what a stretch of one athlete's movement looks like.

    Parameters
    ----------
    time_s : array, shape (T,)
        Increasing.
    keypoints : array, shape (T, K, 2)
        Smoothed, pixels, y down; NaN where not seen. Not modified.

    Returns
    -------
    array, shape (F,)
        In the order of `FEATURE_NAMES`: the low end, middle, high end and range of each signal in
        statures or degrees, speeds in statures a second, correlations in [-1, 1]. NaN where the
        parts were not seen, or do not move enough to correlate; all NaN if fewer than
        `MIN_FRAMES` frames show a body.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if keypoints.shape != (time_s.shape[0], N_KEYPOINTS, 2):
        raise ValueError(
            f"keypoints must have shape ({time_s.shape[0]}, {N_KEYPOINTS}, 2), "
            f"got {keypoints.shape}"
        )
    rows = _sampled(time_s)
    time_s, keypoints = time_s[rows], keypoints[rows]
    size = stature(keypoints)
    seen = ~np.isnan(size)
    if np.count_nonzero(seen) < MIN_FRAMES:
        return np.full(len(FEATURE_NAMES), np.nan)
    time_s, keypoints = time_s[seen], keypoints[seen]
    size = _steady(size[seen], time_s)
    signals = _signals(keypoints, keypoints / size[:, None, None])
    low, middle, high = _percentiles(
        np.stack([signals[name] for name in _SIGNALS]), (_LOW, _MIDDLE, _HIGH)
    )
    bottom = _where(-signals["leg"], [signals[name] for name in _AT_BOTTOM])
    reach = _where(signals["higher_wrist"], [signals[name] for name in _AT_REACH])
    # The upper quartile of a speed is one that neither rests nor cuts dominate.
    steps = np.diff(np.stack([signals[name] for name in _SPEEDS]), axis=1)
    (speeds,) = _percentiles(np.abs(steps) / np.diff(time_s), (75.0,))
    shares = [_correlation(signals[a], signals[b]) for a, b in _PAIRS]
    ends = np.stack([low, middle, high, high - low], axis=1).ravel()
    return np.concatenate([ends, speeds, shares, bottom, reach])


def _sampled(time_s: FloatArray) -> list[int]:
    rows: list[int] = []
    last_s = -np.inf
    for row, now_s in enumerate(time_s.tolist()):
        if now_s - last_s >= 0.9 * SAMPLE_S:
            rows.append(row)
            last_s = now_s
    return rows


def _steady(size: FloatArray, time_s: FloatArray) -> FloatArray:
    """Return the size without the moments in which limbs point at the camera."""
    step_s = (time_s[-1] - time_s[0]) / (len(time_s) - 1)
    width = min(max(1, round(_SIZE_S / step_s)), 2 * len(size) - 1)
    return np.asarray(percentile_filter(size, 75, size=width, mode="nearest"))


def _signals(pixels: FloatArray, body: FloatArray) -> dict[str, FloatArray]:
    """Return every signal, shape (T,) each, from keypoints in pixels and in statures."""
    part = {
        name: body[:, [KEYPOINT_INDEX[f"left_{name}"], KEYPOINT_INDEX[f"right_{name}"]]]
        for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    }
    x = {name: points[..., 0] for name, points in part.items()}
    up = {name: -points[..., 1] for name, points in part.items()}
    mid_up = {name: _either(value) for name, value in up.items()}
    mid_x = {name: _either(value) for name, value in x.items()}
    wrists = up["wrist"] - mid_up["shoulder"][:, None]
    knees = up["hip"] - up["knee"]
    apart = {name: points[:, 0] - points[:, 1] for name, points in part.items()}
    signals = {
        "trunk": mid_up["shoulder"] - mid_up["hip"],
        "thigh": mid_up["hip"] - mid_up["knee"],
        "shank": mid_up["knee"] - mid_up["ankle"],
        "leg": mid_up["hip"] - mid_up["ankle"],
        "head": _head_up(body) - mid_up["shoulder"],
        "wrist_over_shoulder": mid_up["wrist"] - mid_up["shoulder"],
        "wrist_over_hip": mid_up["wrist"] - mid_up["hip"],
        "wrist_over_knee": mid_up["wrist"] - mid_up["knee"],
        "wrist_over_ankle": mid_up["wrist"] - mid_up["ankle"],
        "elbow_over_shoulder": mid_up["elbow"] - mid_up["shoulder"],
        "shoulder_over_ankle": mid_up["shoulder"] - mid_up["ankle"],
        "higher_wrist": np.fmax(wrists[:, 0], wrists[:, 1]),
        "lower_wrist": np.fmin(wrists[:, 0], wrists[:, 1]),
        "trunk_width": np.abs(mid_x["shoulder"] - mid_x["hip"]),
        "leg_width": np.abs(mid_x["hip"] - mid_x["ankle"]),
        "ankles_apart": np.abs(apart["ankle"][:, 0]),
        "ankles_apart_high": np.abs(apart["ankle"][:, 1]),
        "knees_apart": np.abs(apart["knee"][:, 0]),
        "knees_apart_high": np.abs(apart["knee"][:, 1]),
        "wrists_apart": np.abs(apart["wrist"][:, 0]),
        "ankles_dist": np.hypot(apart["ankle"][:, 0], apart["ankle"][:, 1]),
        "ankles_signed": apart["ankle"][:, 0],
        "hip_x": mid_x["hip"],
        "left_wrist": wrists[:, 0],
        "right_wrist": wrists[:, 1],
        "left_knee_high": knees[:, 0],
        "right_knee_high": knees[:, 1],
    }
    return signals | _angles(pixels)


def _angles(keypoints: FloatArray) -> dict[str, FloatArray]:
    deg = JointAngleCalculator().angles(keypoints)
    knee, elbow, hip = (
        deg[:, [JOINT_INDEX[f"left_{name}"], JOINT_INDEX[f"right_{name}"]]]
        for name in ("knee", "elbow", "hip")
    )
    return {
        "straighter_knee": np.fmax(knee[:, 0], knee[:, 1]),
        "bent_knee": np.fmin(knee[:, 0], knee[:, 1]),
        "hip": _either(hip),
        "straighter_elbow": np.fmax(elbow[:, 0], elbow[:, 1]),
        "bent_elbow": np.fmin(elbow[:, 0], elbow[:, 1]),
        "trunk_lean": deg[:, JOINT_INDEX["trunk_lean"]],
    }


def _head_up(body: FloatArray) -> FloatArray:
    """Return the height of the ears, or of the nose where no ear is seen."""
    ears = -body[:, [KEYPOINT_INDEX["left_ear"], KEYPOINT_INDEX["right_ear"]], 1]
    either = _either(ears)
    return np.where(np.isnan(either), -body[:, KEYPOINT_INDEX["nose"], 1], either)


def _either(sides: FloatArray) -> FloatArray:
    """Return the mean of the sides that are seen, shape (T, 2) -> (T,)."""
    left, right = sides[:, 0], sides[:, 1]
    mean = 0.5 * (left + right)
    return np.where(np.isnan(mean), np.where(np.isnan(left), right, left), mean)


def _percentiles(rows: FloatArray, wanted: tuple[float, ...]) -> list[FloatArray]:
    """Return percentiles over the numbers of each row, NaN where it has none.

    What `numpy.nanpercentile` gives, at a tenth of its time.
    """
    # Sorting puts NaN last, so the numbers are the first ones of each row.
    ordered = np.sort(rows, axis=1)
    last = np.maximum(np.count_nonzero(~np.isnan(rows), axis=1) - 1, 0)
    every = np.arange(len(rows))
    found = []
    for percent in wanted:
        place = last * (percent / 100.0)
        below = place.astype(np.intp)
        low, high = ordered[every, below], ordered[every, np.minimum(below + 1, last)]
        found.append(low + (place - below) * (high - low))
    return found


def _where(guide: FloatArray, signals: list[FloatArray]) -> FloatArray:
    """Return the middle of each signal over the moments in which the guide is highest."""
    (least,) = _percentiles(guide[None], (100.0 * (1.0 - _END_SHARE),))
    chosen = guide >= least
    if not chosen.any():
        return np.full(len(signals), np.nan)
    return _percentiles(np.stack(signals)[:, chosen], (50.0,))[0]


def _correlation(first: FloatArray, second: FloatArray) -> float:
    """Return how two signals go together; NaN where one of them hardly moves."""
    both = ~(np.isnan(first) | np.isnan(second))
    if np.count_nonzero(both) < MIN_FRAMES:
        return float("nan")
    first, second = first[both] - first[both].mean(), second[both] - second[both].mean()
    spread = float(np.sqrt(np.mean(first**2) * np.mean(second**2)))
    if min(np.mean(first**2), np.mean(second**2)) < _STILL**2:
        return float("nan")
    return float(np.mean(first * second)) / spread


_STILL: Final = 0.015
"""A signal with a smaller standard deviation, in statures, is noise (chosen by us)."""
