"""Smoothing forward and backward in time: the Rauch-Tung-Striebel pass over finished movements."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from pose_analyzer.keypoint_filter import FilterBank
from pose_analyzer.motion_model import (
    MIN_SIZE_PX,
    BodyScale,
    KalmanConfig,
    make_step,
    measurement_variance,
)
from pose_analyzer.types import BoolArray, FloatArray, IntArray

_ROUNDING_S: Final = 1e-9
_FULL: Final[IntArray] = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]], dtype=np.intp)
"""Where the packed covariance stands in the full matrix."""


class _Past(NamedTuple):
    """What the backward pass needs of one step of the forward pass."""

    transition: FloatArray
    predicted: FloatArray
    predicted_covariance: FloatArray
    state: FloatArray
    covariance: FloatArray
    linked: BoolArray
    measured: BoolArray


def smooth_clip(
    times: FloatArray,
    keypoints: FloatArray,
    confidence: FloatArray,
    size_px: float | None,
    config: KalmanConfig,
) -> FloatArray:
    """Return the keypoints of one person smoothed in both directions.

    See `KalmanSmoother.smooth`, which is this with `config` fixed to its two-way jerk.
    """
    _check_clip(times, keypoints, confidence)
    if len(times) == 0:
        return keypoints.copy()
    measured = np.where((confidence > 0.0)[..., None], keypoints, np.nan)
    size = max(_clip_size(measured) if size_px is None else size_px, MIN_SIZE_PX)
    past = _forward(times, measured, confidence, BodyScale([size], config), config)
    smoothed = _backward(past)
    smoothed[_unbridged(past, times, config.max_gap_s)] = np.nan
    return smoothed


def _forward(
    times: FloatArray,
    measured: FloatArray,
    confidence: FloatArray,
    scale: BodyScale,
    config: KalmanConfig,
) -> list[_Past]:
    """Filter a clip of one person and keep every step."""
    bank = FilterBank(1, measured.shape[1], config)
    variance = measurement_variance(confidence[:, None], scale)
    past = []
    for index in range(len(times)):
        # The length of the first step means nothing: there is no state yet.
        step = make_step(float(times[index] - times[index - 1]) if index else 1.0, config)
        bank.expire(step.dt_s)
        bank.predict(step, scale)
        predicted, predicted_covariance = bank.state.copy(), bank.covariance.copy()
        point, noise = measured[index, None], variance[index]
        accepted = bank.correct(point, noise, step, scale)
        if accepted is None:
            accepted = np.ones(bank.level.shape, dtype=np.bool_)
        started = bank.bridge(accepted, point, noise, scale)
        linked = ~np.isnan(bank.level)
        if started is not None:
            linked &= ~started
        past.append(
            _Past(
                step.transition,
                predicted[:, 0],
                predicted_covariance[:, 0],
                bank.state[:, 0].copy(),
                bank.covariance[:, 0].copy(),
                linked[0],
                accepted[0],
            )
        )
    return past


def _backward(past: list[_Past]) -> FloatArray:
    """Return the positions of the Rauch-Tung-Striebel pass, shape (T, K, 2)."""
    states = np.stack([np.moveaxis(one.state, 0, 1) for one in past])
    smoothed = states.copy()
    if len(past) > 1:
        linked = np.stack([one.linked for one in past[1:]])
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
