"""Whether the body is in the position of a hold, as one number.

From the side or obliquely a body that lies along its line in space does so in the picture; from the
front the line points at the camera and nothing can be measured.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

import numpy as np

from pose_analyzer.exercises import HoldSpec
from pose_analyzer.rep_geometry import SIDES
from pose_analyzer.skeleton import KEYPOINT_INDEX
from pose_analyzer.types import FloatArray, IntArray

_SPEED_S: Final = 0.5
"""The speed is that over this time: keypoints tremble from frame to frame (chosen by us)."""


class _Seen(NamedTuple):
    time_s: float
    line: FloatArray


class HoldPosture:
    """Follows how far the body is out of the position of a hold.

    Parameters
    ----------
    spec : HoldSpec
        The position and its limits.
    """

    def __init__(self, spec: HoldSpec) -> None:
        self._spec = spec
        self._line = _rows(spec.line)
        self._raised, self._support = _rows((spec.raised,)), _rows((spec.support,))
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a new object."""
        self._seen: deque[_Seen] = deque()

    def update(
        self, keypoints: FloatArray, stature_px: float, yaw_deg: float, time_s: float
    ) -> float:
        """Return how far the body is out of position after one more frame.

        Parameters
        ----------
        keypoints : array, shape (K, 2)
            Smoothed, pixels; NaN where not seen.
        stature_px : float
            The body's standing height in pixels; NaN if unknown.
        yaw_deg : float
            Of the camera, 0 front, 90 side; NaN if unknown.
        time_s : float
            Increasing.

        Returns
        -------
        float
            In shares of the limits, the largest of them: up to 1 is in position. NaN where it
            cannot be measured: no side is seen from end to end, the size is unknown, or the view
            is from too near the front or unknown.
        """
        line = keypoints[self._line]
        speed = self._speed(line, stature_px, time_s) / self._spec.max_speed
        if not yaw_deg >= self._spec.min_yaw_deg or math.isnan(stature_px):
            return math.nan
        first, middle, last = np.moveaxis(line, 1, 0)
        along, before, after = last - first, middle - first, last - middle
        slope_deg = np.degrees(np.arctan2(np.abs(along[:, 1]), np.abs(along[:, 0])))
        cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
        bend_deg = np.degrees(np.arctan2(np.abs(cross), (before * after).sum(axis=-1)))
        # Image y grows downward.
        height_px = keypoints[self._support, 1] - keypoints[self._raised, 1]
        height = _mean_seen(height_px[:, 0]) / stature_px
        posture = max(
            _mean_seen(slope_deg) / self._spec.max_slope_deg,
            _mean_seen(bend_deg) / self._spec.max_bend_deg,
        )
        lies = 2.0 - height / self._spec.min_raise
        # A hidden elbow, or no earlier frame, does not hide the position: fmax leaves NaN out.
        others = float(np.fmax(lies, speed))
        return posture if math.isnan(posture) else float(np.fmax(posture, others))

    def _speed(self, line: FloatArray, stature_px: float, time_s: float) -> float:
        """Return the speed of the fastest part, over its points seen now and half a second ago."""
        self._seen.append(_Seen(time_s, line))
        while time_s - self._seen[0].time_s > _SPEED_S:
            self._seen.popleft()
        then = self._seen[0]
        if time_s <= then.time_s:
            return math.nan
        moved = np.moveaxis(line - then.line, 1, 0)
        ways = [math.hypot(_mean_seen(one[:, 0]), _mean_seen(one[:, 1])) for one in moved]
        return float(np.fmax.reduce(ways)) / (time_s - then.time_s) / stature_px


def _rows(parts: tuple[str, ...]) -> IntArray:
    """Return the keypoints of body parts, shape (2, P): left and right."""
    return np.array(
        [[KEYPOINT_INDEX[f"{side}_{part}"] for part in parts] for side in SIDES], dtype=np.intp
    )


def _mean_seen(values: FloatArray) -> float:
    """Return the mean of the values that are not NaN; NaN if there is none."""
    seen = values[~np.isnan(values)]
    return float(seen.mean()) if seen.size else math.nan
