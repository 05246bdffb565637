"""Repetitions of the synthetic athlete as the judges of form receive them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.signal import savgol_filter

from pose_analyzer.biomechanics import JointAngleCalculator, angle_sigma, camera_yaw, stature
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.skeleton import KEYPOINT_INDEX
from pose_analyzer.synthetic import Athlete, Camera, MotionSpec, Truth, synthesize
from pose_analyzer.types import FloatArray, RepMotion

RepMotions = Callable[..., list[RepMotion]]


def _spans(truth: Truth) -> list[tuple[float, float, float]]:
    """Return start, far end and end of each repetition, as the exercise's signal has them."""
    if load_exercise(truth.exercise).signal.counted == "cycle":
        return [(rep.start_s, rep.turn_s, rep.end_s) for rep in truth.reps]
    pairs = zip(truth.reps[:-1], truth.reps[1:], strict=True)
    return [(a.turn_s, 0.5 * (a.end_s + b.start_s), b.turn_s) for a, b in pairs]


def _signal(truth: Truth, keypoints: FloatArray, stature_px: float) -> FloatArray:
    spec = load_exercise(truth.exercise).signal
    moving, resting = (
        keypoints[:, [KEYPOINT_INDEX[name] for name in names], 1].mean(axis=1)
        for names in (spec.moving, spec.resting)
    )
    return np.asarray((1.0 if spec.rest == "high" else -1.0) * (moving - resting) / stature_px)


def _rep_motions(
    motion: MotionSpec, camera: Camera, *, noise_px: float = 0.0, stature_m: float = 1.75
) -> list[RepMotion]:
    """Return the repetitions of a set; noise is smoothed over 9 frames, as a pipeline would."""
    truth = synthesize(Athlete(stature_m=stature_m), motion, camera)
    keypoints = truth.keypoints.copy()
    if noise_px > 0.0:
        rng = np.random.default_rng(motion.seed)
        keypoints += rng.normal(0.0, noise_px, keypoints.shape)
        keypoints = savgol_filter(keypoints, 9, 2, axis=0)
    confidence = np.where(truth.visible, 0.95, 0.6)
    stature_px = float(np.median(stature(keypoints)))
    yaw_deg = float(np.median(camera_yaw(keypoints, np.full(truth.n_frames, stature_px))))
    signal = _signal(truth, keypoints, stature_px)
    deg = JointAngleCalculator().angles(keypoints)
    size, yaw = np.full(truth.n_frames, stature_px), np.full(truth.n_frames, yaw_deg)
    sigma_deg = np.where(np.isnan(deg), np.nan, angle_sigma(keypoints, confidence, yaw, size))
    motions = []
    for start_s, turn_s, end_s in _spans(truth):
        rows = np.flatnonzero((truth.time_s >= start_s) & (truth.time_s <= end_s))
        motions.append(
            RepMotion(
                time_s=truth.time_s[rows],
                keypoints=keypoints[rows],
                confidence=confidence[rows],
                deg=deg[rows],
                sigma_deg=sigma_deg[rows],
                signal=signal[rows],
                turn_idx=int(np.searchsorted(truth.time_s[rows], turn_s)),
                yaw_deg=yaw_deg,
                stature_px=stature_px,
            )
        )
    return motions


@pytest.fixture(scope="session")
def rep_motions() -> RepMotions:
    """Return a maker: ``rep_motions(motion, camera, noise_px=0.0, stature_m=1.75)``."""
    return _rep_motions
