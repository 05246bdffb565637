"""Guards the cost of tracking and smoothing a frame on one core.

The bars, medians on a quiet core, are 60 µs for one person, 3 times that for sixteen, and 100 µs
for the tracker; `scripts/smoothing_report.py` measures them. Here other work may slow a run, so the
absolute guards are three times as wide and the relative one compares runs that alternate.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from pose_analyzer.kalman_smoother import KalmanSmoother
from pose_analyzer.pose_tracker import PoseTracker
from pose_analyzer.skeleton import N_COCO, N_KEYPOINTS
from pose_analyzer.types import PoseDetections, TrackedPose

N_FRAMES = 800
WARM_UP = 200
CI_SLACK = 3.0


def people(count: int, *, feet: bool = True) -> list[PoseDetections]:
    """Return frames of people who move, with the noise of a detector."""
    rng = np.random.default_rng(count)
    body = rng.uniform([0.0, 0.0], [200.0, 800.0], (count, N_KEYPOINTS, 2))
    body[..., 0] += 400.0 * np.arange(count)[:, None]
    frames = []
    for index in range(N_FRAMES):
        keypoints = body + rng.normal(0.0, 3.0, body.shape)
        keypoints[..., 1] += 60.0 * np.sin(index / 10.0)
        boxes = np.concatenate([keypoints.min(1), keypoints.max(1)], axis=1)
        if not feet:
            keypoints[:, N_COCO:] = np.nan
        confidence = np.where(np.isnan(keypoints[..., 0]), 0.0, 0.9)
        frames.append(PoseDetections(keypoints, confidence, boxes, np.full(count, 0.9)))
    return frames


def tracked(frames: list[PoseDetections]) -> list[TrackedPose]:
    return [
        TrackedPose(
            np.arange(one.n_people),
            one.keypoints,
            one.confidence,
            one.boxes,
            np.zeros(one.confidence.shape, dtype=np.bool_),
            np.full(one.keypoints.shape, np.nan),
            0,
        )
        for one in frames
    ]


def best_median_us(*calls: Callable[[int], object]) -> list[float]:
    """Return the time of each call, frame by frame in turn: the best median of blocks of 50.

    Other work comes in bursts and can only make a block slower.
    """
    durations = np.empty((N_FRAMES, len(calls)))
    for index in range(N_FRAMES):
        for column, call in enumerate(calls):
            started = time.perf_counter()
            call(index)
            durations[index, column] = time.perf_counter() - started
    blocks = durations[WARM_UP:].reshape(-1, 50, len(calls))
    return [float(value) for value in 1e6 * np.median(blocks, axis=1).min(axis=0)]


def smoothing(poses: list[TrackedPose]) -> Callable[[int], object]:
    smoother = KalmanSmoother()
    return lambda index: smoother.update(poses[index], index / 30.0)


@pytest.mark.parametrize("feet", [True, False])
def test_smoothing_one_person_is_cheap(feet: bool) -> None:
    (cost,) = best_median_us(smoothing(tracked(people(1, feet=feet))))
    assert cost <= 60.0 * CI_SLACK


def test_sixteen_people_cost_at_most_three_times_one() -> None:
    one, many = best_median_us(smoothing(tracked(people(1))), smoothing(tracked(people(16))))
    assert many <= 3.0 * one


def test_tracking_one_person_is_cheap() -> None:
    frames, tracker = people(1), PoseTracker()
    (cost,) = best_median_us(lambda index: tracker.update(frames[index], index / 30.0))
    assert cost <= 100.0 * CI_SLACK
