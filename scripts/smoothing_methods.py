"""The ways to smooth keypoints that `smoothing_report` compares, each over many noise samples.

A method takes the noisy keypoints of R independent samples of one clip, shape (T, R, K, 2), and
returns them smoothed, of the same shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from pose_analyzer.kalman_smoother import KalmanSmoother
from pose_analyzer.types import FloatArray, TrackedPose


@dataclass(frozen=True, slots=True)
class Clip:
    """One true clip and its noisy samples.

    Attributes
    ----------
    time_s : array, shape (T,)
        From 0.
    truth : array, shape (T, K, 2)
        Pixels.
    noisy : array, shape (T, R, K, 2)
        Pixels; NaN in a gap.
    boxes : array, shape (T, 4)
        Of the true keypoints.
    """

    time_s: FloatArray
    truth: FloatArray
    noisy: FloatArray
    boxes: FloatArray

    @property
    def fps(self) -> float:
        """Frames a second."""
        return float(1.0 / (self.time_s[1] - self.time_s[0]))

    def pose(self, index: int) -> TrackedPose:
        """Return one frame, every sample as a person."""
        points = self.noisy[index]
        people, n_points = points.shape[:2]
        confidence = np.where(np.isnan(points[..., 0]), 0.0, 1.0)
        return TrackedPose(
            np.arange(people),
            points,
            confidence,
            np.tile(self.boxes[index], (people, 1)),
            np.zeros((people, n_points), dtype=np.bool_),
            np.full(points.shape, np.nan),
            0,
        )


@dataclass(frozen=True, slots=True)
class OneEuro:
    """The 1 € filter, all points at once, on speeds relative to the body.

    Attributes
    ----------
    min_cutoff_hz, beta, derivative_cutoff_hz : float
        As in the paper; `beta` for speeds in body sizes/s.

    References
    ----------
    .. [1] G. Casiez, N. Roussel, D. Vogel, "1 € Filter: A Simple Speed-based Low-pass Filter for
       Noisy Input in Interactive Systems", CHI 2012.
    """

    min_cutoff_hz: float
    beta: float
    derivative_cutoff_hz: float = 1.0

    def __call__(self, clip: Clip) -> FloatArray:
        """Return the samples smoothed; a gap holds the last value."""
        sizes = np.hypot(clip.boxes[:, 2] - clip.boxes[:, 0], clip.boxes[:, 3] - clip.boxes[:, 1])
        result = np.empty_like(clip.noisy)
        result[0] = value = previous = clip.noisy[0]
        speed = np.zeros_like(value)
        for index in range(1, len(clip.time_s)):
            dt_s = float(clip.time_s[index] - clip.time_s[index - 1])
            seen = ~np.isnan(clip.noisy[index])
            measured = np.where(seen, clip.noisy[index], previous)
            raw_speed = (measured - previous) / (dt_s * sizes[index])
            speed = speed + _share(self.derivative_cutoff_hz, dt_s) * (raw_speed - speed)
            share = _share(self.min_cutoff_hz + self.beta * np.abs(speed), dt_s)
            value = np.where(seen, value + share * (measured - value), value)
            result[index], previous = value, measured
        return result


def raw(clip: Clip) -> FloatArray:
    """Return the samples as they are."""
    return clip.noisy


def kalman(clip: Clip) -> FloatArray:
    """Return what a live stream shows: each frame knows only those before it."""
    smoother = KalmanSmoother()
    frames = [
        smoother.update(clip.pose(index), float(at)).keypoints
        for index, at in enumerate(clip.time_s)
    ]
    return np.stack(frames)


def two_way(clip: Clip) -> FloatArray:
    """Return what a finished repetition is judged by: smoothed in both directions."""
    smoother = KalmanSmoother()
    confidence = np.where(np.isnan(clip.noisy[..., 0]), 0.0, 1.0)
    samples = [
        smoother.smooth(clip.time_s, clip.noisy[:, one], confidence[:, one])
        for one in range(clip.noisy.shape[1])
    ]
    return np.stack(samples, axis=1)


Method = Callable[[Clip], FloatArray]
MEDIAPIPE_ONE_EURO: Final = OneEuro(min_cutoff_hz=0.1, beta=40.0)
"""The values of MediaPipe's pose_landmark_filtering graph."""


def _share(cutoff_hz: FloatArray | float, dt_s: float) -> FloatArray:
    return np.asarray(1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * dt_s)))
