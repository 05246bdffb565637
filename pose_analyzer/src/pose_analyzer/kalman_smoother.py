"""Keypoints without jitter: one Kalman filter for each keypoint of each person.

A point at rest is held still, a moving one is followed: the process noise of each filter follows
what the point does. Short gaps are bridged by prediction, longer ones are NaN. Finished movements
are smoothed forward and backward in time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from pose_analyzer.keypoint_filter import FilterBank
from pose_analyzer.motion_model import (
    BodyScale,
    KalmanConfig,
    Step,
    held_sizes,
    make_step,
    measurement_variance,
)
from pose_analyzer.skeleton import N_KEYPOINTS
from pose_analyzer.two_way_smoother import smooth_clip
from pose_analyzer.types import FloatArray, TrackedPose

__all__ = ["KalmanConfig", "KalmanSmoother"]

_MAX_STEPS: Final = 256
"""Steps of different length that are kept; a steady camera has a few dozen by rounding."""
_ROUNDING_S: Final = 1e-9
_SIZE_STEP: Final = 0.02
"""A body's size is taken as unchanged within this share: noise of the box is not growth."""


class _Absent(NamedTuple):
    """A person who was not in the last frame."""

    time_s: float
    bank: FilterBank
    row: int
    held_px: float
    used_px: float


class KalmanSmoother:
    """Smooth the keypoints of everybody, frame by frame or as a whole.

    Parameters
    ----------
    config : KalmanConfig, optional
        Noise, gate and gaps.

    Notes
    -----
    Constant acceleration driven by white jerk, one covariance for both coordinates. The
    measurement variance is that of `KalmanConfig.noise_size` divided by the squared confidence.
    The jerk is raised between its level at rest and in motion by the speed of the point, and by
    innovations that keep their direction, which noise does not. A measurement outside the
    chi-square gate is taken as a gap; the gate is wide enough for any human acceleration, and
    after `KalmanConfig.max_rejected` rejections in a row the point starts anew where it is seen.
    State belongs to a track id: nothing is ever smoothed from one person to another.

    References
    ----------
    .. [1] Y. Bar-Shalom, X. R. Li, T. Kirubarajan, "Estimation with Applications to Tracking and
       Navigation", 2001, sections 5.4, 6.2.3 and 11.2.
    .. [2] H. E. Rauch, F. Tung, C. T. Striebel, "Maximum likelihood estimates of linear dynamic
       systems", AIAA Journal 3(8), 1965.

    Examples
    --------
    >>> smoother = KalmanSmoother(KalmanConfig(max_gap_s=0.2))
    >>> points = np.zeros((3, 1, 2)) + np.array([[[0.0]], [[1.0]], [[2.0]]])
    >>> smoother.smooth(np.array([0.0, 0.1, 0.2]), points, np.ones((3, 1)), 100.0).shape
    (3, 1, 2)
    """

    def __init__(self, config: KalmanConfig | None = None) -> None:
        self.config = KalmanConfig() if config is None else config
        jerk = self.config.two_way_jerk
        self._two_way = replace(
            self.config,
            adaptive=False,
            still_jerk=0.5 * jerk,
            moving_jerk=jerk,
            fast_jerk=2.0 * jerk,
        )
        self._steps: dict[float, Step] = {}
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a new object."""
        self._time_s: float | None = None
        self._ids: list[int] = []
        self._bank = FilterBank(0, N_KEYPOINTS, self.config)
        self._held_px: list[float] = []
        self._used_px: list[float] = []
        self._scale: BodyScale | None = None
        self._absent: dict[int, _Absent] = {}
        self._whole = False

    def update(self, pose: TrackedPose, time_s: float) -> TrackedPose:
        """Return the pose of one frame with its keypoints smoothed.

        Parameters
        ----------
        pose : TrackedPose
            As tracked. NaN or zero confidence = not measured. Not modified.
        time_s : float
            Of the frame, larger than that of the frame before.

        Returns
        -------
        TrackedPose
            The same people with smoothed ``keypoints``, with ``velocity_px_s``, and ``predicted``
            where a gap or a rejected measurement was bridged; ``confidence`` is 0 there. NaN where
            a gap is longer than `KalmanConfig.max_gap_s`.

        Raises
        ------
        ValueError
            If the time does not increase, or one id stands in two rows.
        """
        step = self._step_to(time_s)
        ids = pose.track_ids.tolist()
        if ids != self._ids:
            self._align(ids, time_s - step.dt_s)
        self._time_s = time_s
        if not ids:
            return pose
        scale = self._scale_of(pose.boxes, step.dt_s)
        bank, measured, confidence = self._bank, pose.keypoints, pose.confidence
        if not (self._whole and step.dt_s <= self.config.max_gap_s):
            bank.expire(step.dt_s)
        bank.predict(step, scale)
        if np.count_nonzero(confidence) < confidence.size:
            measured = np.where((confidence > 0.0)[..., None], measured, np.nan)
        variance = measurement_variance(confidence, scale)
        accepted = bank.correct(measured, variance, step, scale)
        if accepted is None:
            if not self._whole:
                bank.unseen_s.fill(0.0)
                bank.rejected.fill(0)
            self._whole = True
            predicted, confidence = np.zeros(confidence.shape, dtype=np.bool_), pose.confidence
        else:
            bank.bridge(accepted, measured, variance, scale)
            predicted = ~accepted
            # Only a number equals itself: what has no state is not predicted.
            predicted &= bank.level == bank.level
            self._whole = not np.count_nonzero(predicted)
            if not self._whole:
                bank.coast(predicted, step)
            confidence = np.where(accepted, pose.confidence, 0.0)
        return TrackedPose(
            pose.track_ids,
            bank.state[0].copy(),
            confidence,
            pose.boxes,
            predicted,
            bank.state[1].copy(),
            pose.athlete_idx,
            pose.world_m,
        )

    def smooth(
        self,
        times: FloatArray,
        keypoints: FloatArray,
        confidence: FloatArray,
        size_px: float | None = None,
    ) -> FloatArray:
        """Return a finished movement smoothed forward and backward in time [2]_.

        Does not touch the state of `update`.

        Parameters
        ----------
        times : array, shape (T,)
            Seconds, increasing.
        keypoints : array, shape (T, K, 2)
            One person, as measured, in pixels; NaN = not measured.
        confidence : array, shape (T, K)
            In [0, 1]; 0 = not measured.
        size_px : float, optional
            Size of the body; if left out, the largest diagonal of the keypoints' box.

        Returns
        -------
        array, shape (T, K, 2)
            Pixels. Gaps up to `KalmanConfig.max_gap_s` between two measurements are bridged;
            longer ones, and what is before the first and after the last measurement, are NaN.

        Raises
        ------
        ValueError
            If the shapes do not fit or the times do not increase.
        """
        return smooth_clip(times, keypoints, confidence, size_px, self._two_way)

    def _step_to(self, time_s: float) -> Step:
        last_s = self._time_s
        if last_s is None:
            # Nothing has a state yet, so the length of the first step means nothing.
            last_s = time_s - 1.0
        dt_s = time_s - last_s
        if not 0.0 < dt_s < np.inf:
            raise ValueError(f"time_s must increase: got {time_s} after {self._time_s}")
        return self._step(dt_s)

    def _step(self, dt_s: float) -> Step:
        step = self._steps.get(dt_s)
        if step is None:
            if len(self._steps) >= _MAX_STEPS:
                self._steps.clear()
            step = self._steps[dt_s] = make_step(dt_s, self.config)
        return step

    def _scale_of(self, boxes: FloatArray, dt_s: float) -> BodyScale:
        """Return the scale of the bodies, made anew only where a size has changed noticeably."""
        self._held_px = held_sizes(boxes, self._held_px, dt_s)
        used = [
            now if abs(now - before) > _SIZE_STEP * before else before
            for now, before in zip(self._held_px, self._used_px, strict=True)
        ]
        if self._scale is None or used != self._used_px:
            self._used_px, self._scale = used, BodyScale(used, self.config)
        return self._scale

    def _align(self, ids: list[int], before_s: float) -> None:
        """Bring the rows of the bank into the order of `ids`; keep who is away for a gap."""
        if len(set(ids)) != len(ids):
            raise ValueError(f"track_ids must all be different, got {ids}")
        for row, one in enumerate(self._ids):
            self._absent[one] = _Absent(
                before_s, self._bank, row, self._held_px[row], self._used_px[row]
            )
        bank = FilterBank(len(ids), N_KEYPOINTS, self.config)
        held_px, used_px = [0.0] * len(ids), [0.0] * len(ids)
        oldest_s = before_s - self.config.max_gap_s - _ROUNDING_S
        for row, one in enumerate(ids):
            known = self._absent.pop(one, None)
            if known is not None and known.time_s >= oldest_s:
                held_px[row], used_px[row] = known.held_px, known.used_px
                bank.copy_row(row, self._caught_up(known, before_s), 0)
        self._absent = {one: kept for one, kept in self._absent.items() if kept.time_s >= oldest_s}
        self._bank, self._ids, self._whole = bank, ids, False
        self._held_px, self._used_px, self._scale = held_px, used_px, None

    def _caught_up(self, known: _Absent, time_s: float) -> FilterBank:
        """Return one absent person alone, predicted to `time_s`."""
        bank = FilterBank(1, N_KEYPOINTS, self.config)
        bank.copy_row(0, known.bank, known.row)
        if time_s > known.time_s:
            dt_s = time_s - known.time_s
            bank.predict(self._step(dt_s), BodyScale([known.used_px], self.config))
            bank.unseen_s += dt_s
        return bank
