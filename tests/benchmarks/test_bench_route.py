"""Guards the cost of the route after the detector: angles, and everything per person and frame.

The bars are 30 µs for the angles and 0.5 ms for the whole route. The best of many runs is
compared, because other work on the machine can only make a run slower.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from pose_analyzer.biomechanics import JointAngleCalculator
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.synthetic import Camera, MotionSpec, detections_from_truth, synthesize
from pose_analyzer.types import PoseDetections

BLOCK = 20


@pytest.fixture(scope="module")
def squats() -> list[PoseDetections]:
    truth = synthesize(motion=MotionSpec("squat", reps=3), camera=Camera(yaw_deg=60.0))
    return detections_from_truth(truth, noise_px=3.0, rng=np.random.default_rng(0))


def test_all_angles_of_a_body_take_at_most_30_microseconds(squats: list[PoseDetections]) -> None:
    calculator, body = JointAngleCalculator(), squats[0].keypoints[0]
    shortest_s = np.inf
    for _ in range(2000):
        started = time.perf_counter()
        calculator.angles(body)
        shortest_s = min(shortest_s, time.perf_counter() - started)
    assert 1e6 * shortest_s <= 30.0


def test_the_route_takes_at_most_half_a_millisecond_a_frame(squats: list[PoseDetections]) -> None:
    pipeline = StreamPipeline(load_exercise("squat"))
    blocks_s = []
    for first in range(0, len(squats) - BLOCK, BLOCK):
        started = time.perf_counter()
        for index in range(first, first + BLOCK):
            pipeline.update(squats[index], index, index / 30.0)
        blocks_s.append(time.perf_counter() - started)
    assert 1e3 * min(blocks_s) / BLOCK <= 0.5
