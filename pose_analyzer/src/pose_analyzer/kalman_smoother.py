"""Keypoints without jitter: one Kalman filter for each keypoint of each person.

A point at rest is held still, a moving one is followed: the process noise of each filter follows
what the point does. Short gaps are bridged by prediction, longer ones are NaN. Finished movements
are smoothed forward and backward in time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from pose_analyzer.keypoint_filter import (
    MIN_SIZE_PX,
    BodyScale,
    FilterBank,
    KalmanConfig,
    Step,
    held_sizes,
    make_step,
)
from pose_analyzer.skeleton import N_KEYPOINTS
from pose_analyzer.types import BoolArray, FloatArray, IntArray, TrackedPose

__all__ = ["KalmanConfig", "KalmanSmoother"]

_MAX_STEPS: Final = 256
"""Steps of different length that are kept; a steady camera has a few dozen by rounding."""
_ROUNDING_S: Final = 1e-9
_MIN_CONFIDENCE: Final = 0.05
"""Keeps the variance of an unsure measurement finite; the gate of the tracker is far above."""
_FULL: Final[IntArray] = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]], dtype=np.intp)
"""Where the packed covariance stands in the full matrix."""


class _Absent(NamedTuple):
    """A person who was not in the last frame."""

    time_s: float
    bank: FilterBank
    row: int
    size_px: float


class _Past(NamedTuple):
    """What the backward pass needs of one step of the forward pass."""

    transition: FloatArray
    predicted: FloatArray
    predicted_covariance: FloatArray
    state: FloatArray
    covariance: FloatArray
    linked: BoolArray
    measured: BoolArray


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
        self._steps: dict[float, Step] = {}
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a new object."""
        self._time_s: float | None = None
        self._ids: list[int] = []
        self._bank = FilterBank(0, N_KEYPOINTS, self.config)
        self._size_px: list[float] = []
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
        self._size_px = held_sizes(pose.boxes, self._size_px, step.dt_s)
        scale = BodyScale(self._size_px, self.config)
        bank, measured, confidence = self._bank, pose.keypoints, pose.confidence
        if not (self._whole and step.dt_s <= self.config.max_gap_s):
            _expire(bank, step.dt_s)
        bank.predict(step, scale)
        if not confidence.all():
            measured = np.where((confidence > 0.0)[..., None], measured, np.nan)
            confidence = np.maximum(confidence, _MIN_CONFIDENCE)
        variance = scale.variance / (confidence * confidence)
        accepted = bank.correct(measured, variance, step, scale)
        self._whole = accepted is None
        if accepted is None:
            predicted, confidence = np.zeros(confidence.shape, dtype=np.bool_), pose.confidence
        else:
            accepted, _ = _bridge(bank, accepted, measured, variance, scale)
            predicted = ~accepted & ~np.isnan(bank.state[0, ..., 0])
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
        _check_clip(times, keypoints, confidence)
        if len(times) == 0:
            return keypoints.copy()
        seen = confidence > 0.0
        measured = np.where(seen[..., None], keypoints, np.nan)
        size = max(_clip_size(measured) if size_px is None else size_px, MIN_SIZE_PX)
        variance = BodyScale([size], self.config).variance / (
            np.maximum(confidence, _MIN_CONFIDENCE) ** 2
        )
        bank = FilterBank(1, keypoints.shape[1], self.config)
        past = _forward(times, measured, variance, bank, size)
        smoothed = _backward(past)
        smoothed[_unbridged(past, times, self.config.max_gap_s)] = np.nan
        return smoothed

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

    def _align(self, ids: list[int], before_s: float) -> None:
        """Bring the rows of the bank into the order of `ids`; keep who is away for a gap."""
        if len(set(ids)) != len(ids):
            raise ValueError(f"track_ids must all be different, got {ids}")
        for row, one in enumerate(self._ids):
            self._absent[one] = _Absent(before_s, self._bank, row, self._size_px[row])
        bank = FilterBank(len(ids), N_KEYPOINTS, self.config)
        sizes = [0.0] * len(ids)
        oldest_s = before_s - self.config.max_gap_s - _ROUNDING_S
        for row, one in enumerate(ids):
            known = self._absent.pop(one, None)
            if known is not None and known.time_s >= oldest_s:
                sizes[row] = known.size_px
                bank.copy_row(row, self._caught_up(known, before_s), 0)
        self._absent = {one: kept for one, kept in self._absent.items() if kept.time_s >= oldest_s}
        self._bank, self._ids, self._size_px, self._whole = bank, ids, sizes, False

    def _caught_up(self, known: _Absent, time_s: float) -> FilterBank:
        """Return one absent person alone, predicted to `time_s`."""
        bank = FilterBank(1, N_KEYPOINTS, self.config)
        bank.copy_row(0, known.bank, known.row)
        if time_s > known.time_s:
            dt_s = time_s - known.time_s
            bank.predict(self._step(dt_s), BodyScale([known.size_px], self.config))
            bank.unseen_s += dt_s
        return bank


def _expire(bank: FilterBank, dt_s: float) -> None:
    """Let the gaps grow by `dt_s` and drop what has not been measured for too long."""
    bank.unseen_s += dt_s
    lost = bank.unseen_s > bank.config.max_gap_s + _ROUNDING_S
    # Only a number equals itself: what is NaN was dropped before.
    lost &= bank.level == bank.level
    if lost.any():
        bank.forget(lost)


def _bridge(
    bank: FilterBank,
    accepted: BoolArray,
    measured: FloatArray,
    variance: FloatArray,
    scale: BodyScale,
) -> tuple[BoolArray, BoolArray | None]:
    """Count rejections and start filters anew where they have no state or are refuted.

    Returns which measurements are used, and which of them started a filter (None for none).
    """
    np.copyto(bank.unseen_s, 0.0, where=accepted)
    np.copyto(bank.rejected, 0, where=accepted)
    refused = np.isfinite(measured[..., 0] + measured[..., 1])
    refused &= ~accepted
    if not refused.any():
        return accepted, None
    bank.rejected[refused] += 1
    started = refused & (
        np.isnan(bank.state[0, ..., 0]) | (bank.rejected >= bank.config.max_rejected)
    )
    # What was rejected may be the begin of a fast motion: be ready to follow it.
    np.copyto(bank.level, 1.0, where=refused)
    if started.any():
        bank.start(started, measured, variance, scale)
    return accepted | started, started


def _forward(
    times: FloatArray, measured: FloatArray, variance: FloatArray, bank: FilterBank, size_px: float
) -> list[_Past]:
    """Filter a clip of one person and keep every step."""
    config, scale = bank.config, BodyScale([size_px], bank.config)
    past = []
    for index in range(len(times)):
        step = make_step(float(times[index] - times[index - 1]) if index else 1.0, config)
        _expire(bank, step.dt_s)
        bank.predict(step, scale)
        predicted, predicted_covariance = bank.state, bank.covariance.copy()
        bank.state = predicted.copy()
        point, noise = measured[index, None], variance[index, None]
        accepted = bank.correct(point, noise, step, scale)
        if accepted is None:
            accepted = np.ones(bank.level.shape, dtype=np.bool_)
        accepted, started = _bridge(bank, accepted, point, noise, scale)
        linked = ~np.isnan(bank.level[0])
        if started is not None:
            linked &= ~started[0]
        past.append(
            _Past(
                step.transition,
                predicted[:, 0],
                predicted_covariance[:, 0],
                bank.state[:, 0],
                bank.covariance[:, 0].copy(),
                linked,
                accepted[0],
            )
        )
    return past


def _backward(past: list[_Past]) -> FloatArray:
    """Return the positions of the Rauch-Tung-Striebel pass, shape (T, K, 2) [2]_."""
    states = np.stack([np.moveaxis(one.state, 0, 1) for one in past])
    linked = np.stack([one.linked for one in past[1:]]) if len(past) > 1 else np.empty((0,))
    smoothed = states.copy()
    if len(past) > 1:
        transition = np.stack([one.transition for one in past[1:]])[:, None]
        filtered = np.stack([one.covariance[_FULL].transpose(2, 0, 1) for one in past[:-1]])
        ahead = np.stack([one.predicted_covariance[_FULL].transpose(2, 0, 1) for one in past[1:]])
        # Where the chain is broken nothing flows back; any regular matrix will do.
        ahead[~linked] = np.eye(3)
        gain = np.swapaxes(np.linalg.solve(ahead, transition @ filtered), -1, -2)
        for index in range(len(past) - 2, -1, -1):
            ahead_state = np.moveaxis(past[index + 1].predicted, 0, 1)
            back = states[index] + gain[index] @ (smoothed[index + 1] - ahead_state)
            np.copyto(smoothed[index], back, where=linked[index][:, None, None])
    return smoothed[:, :, 0]


def _unbridged(past: list[_Past], times: FloatArray, max_gap_s: float) -> BoolArray:
    """Return where nothing was measured and no short gap between two measurements is bridged."""
    measured = np.stack([one.measured for one in past])
    linked = np.stack([one.linked for one in past])
    n_frames = len(times)
    frame = np.arange(n_frames)[:, None]
    before = np.maximum.accumulate(np.where(measured, frame, -1), axis=0)
    after = np.minimum.accumulate(np.where(measured, frame, n_frames)[::-1], axis=0)[::-1]
    inside = (before >= 0) & (after < n_frames)
    before, after = np.where(inside, before, 0), np.where(inside, after, 0)
    short = times[after] - times[before] <= max_gap_s + _ROUNDING_S
    continued = np.take_along_axis(linked, after, axis=0)
    bridged: BoolArray = inside & short & continued
    return ~(measured | bridged)


def _check_clip(times: FloatArray, keypoints: FloatArray, confidence: FloatArray) -> None:
    shape = keypoints.shape
    if keypoints.ndim != 3 or shape[2] != 2 or times.shape != shape[:1]:
        raise ValueError(
            f"times (T,) and keypoints (T, K, 2) must fit, got {times.shape} and {shape}"
        )
    if confidence.shape != shape[:2]:
        raise ValueError(f"confidence must have shape {shape[:2]}, got {confidence.shape}")
    if not (np.diff(times) > 0.0).all():
        raise ValueError("times must increase from frame to frame")


def _clip_size(keypoints: FloatArray) -> float:
    """Return the largest diagonal of the box of the keypoints; 0 if there is none."""
    with np.errstate(invalid="ignore"):
        # fmax and fmin pass over NaN, and stay silent where there is nothing else.
        extent = np.fmax.reduce(keypoints, axis=1) - np.fmin.reduce(keypoints, axis=1)
    diagonal = np.hypot(extent[:, 0], extent[:, 1])
    return float(np.fmax.reduce(diagonal, initial=0.0))
