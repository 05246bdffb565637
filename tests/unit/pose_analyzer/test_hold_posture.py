"""In position is who holds a plank, from the side or obliquely, whichever way the head points."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest

from pose_analyzer.biomechanics import stature
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.form_measures import measure
from pose_analyzer.hold_posture import HoldPosture
from pose_analyzer.skeleton import KEYPOINT_INDEX, KEYPOINT_NAMES, N_JOINTS
from pose_analyzer.synthetic import Camera, Fault, MotionSpec, synthesize
from pose_analyzer.types import FloatArray, RepMotion

DATA = (
    Path(os.environ.get("POSE_EVAL_DATA", "shared/data"))
    / "datasets/exercise_correction/plank_model__test.csv"
)


def posture() -> HoldPosture:
    spec = load_exercise("plank").hold
    assert spec is not None
    return HoldPosture(spec)


def departures(keypoints: FloatArray, yaw_deg: float, fps: float = 30.0) -> FloatArray:
    one = posture()
    size_px = float(np.median(stature(keypoints)))
    return np.array(
        [one.update(points, size_px, yaw_deg, i / fps) for i, points in enumerate(keypoints)]
    )


def filmed(exercise: str, yaw_deg: float, *faults: Fault, heading_deg: float = 0.0) -> FloatArray:
    motion = MotionSpec(exercise, 1, faults=faults, heading_deg=heading_deg)
    return synthesize(motion=motion, camera=Camera(yaw_deg=yaw_deg)).keypoints


@pytest.mark.parametrize("yaw_deg", [45.0, 70.0, 90.0])
@pytest.mark.parametrize("fault", ["", "hip_sag", "hip_pike"])
def test_a_plank_is_in_position_even_if_its_form_is_bad(yaw_deg: float, fault: str) -> None:
    faults = (Fault(fault),) if fault else ()
    assert departures(filmed("plank", yaw_deg, *faults), yaw_deg).max() < 1.0


def test_the_way_the_head_points_and_the_size_do_not_matter() -> None:
    keypoints = filmed("plank", 90.0)
    mirrored = keypoints * np.array([-0.5, 0.5])
    np.testing.assert_allclose(departures(mirrored, 90.0), departures(keypoints, 90.0))


@pytest.mark.parametrize("exercise", ["stand", "squat", "deadlift", "lunge", "jumping_jack"])
def test_who_stands_is_not_in_position(exercise: str) -> None:
    assert departures(filmed(exercise, 90.0), 90.0).min() > 1.0


def test_a_push_up_is_too_fast_to_be_a_hold() -> None:
    keypoints = filmed("push_up", 90.0)
    assert departures(keypoints[20:100], 90.0).max() > 1.0
    assert departures(np.repeat(keypoints[:1], 40, axis=0), 90.0).max() < 1.0


def test_who_merely_lies_is_not_in_position() -> None:
    keypoints = filmed("plank", 90.0)[:30]
    for side in ("left", "right"):
        shoulder, elbow = (KEYPOINT_INDEX[f"{side}_{part}"] for part in ("shoulder", "elbow"))
        keypoints[:, elbow, 1] = keypoints[:, shoulder, 1]
    assert departures(keypoints, 90.0).min() > 1.0


@pytest.mark.parametrize("yaw_deg", [0.0, 20.0, math.nan])
def test_from_the_front_nothing_is_measured(yaw_deg: float) -> None:
    assert np.isnan(departures(filmed("plank", 0.0), yaw_deg)).all()


def test_one_side_is_enough_and_none_is_not_measured() -> None:
    keypoints = filmed("plank", 90.0)
    hidden = [row for row, name in enumerate(KEYPOINT_NAMES) if name.startswith("right_")]
    keypoints[:, hidden] = np.nan
    assert departures(keypoints, 90.0).max() < 1.0
    keypoints[:, KEYPOINT_INDEX["left_ankle"]] = np.nan
    assert np.isnan(departures(keypoints, 90.0)).all()


def test_reset_is_as_new() -> None:
    keypoints = filmed("plank", 90.0)
    one = posture()
    first = [one.update(points, 500.0, 90.0, float(i)) for i, points in enumerate(keypoints[:5])]
    one.reset()
    again = [one.update(points, 500.0, 90.0, float(i)) for i, points in enumerate(keypoints[:5])]
    assert again == first


def _labelled(path: Path) -> dict[str, FloatArray]:
    """Return the keypoints of each label: shares of the picture, which is taken as 16:9."""
    rows: dict[str, list[FloatArray]] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            points = np.full((len(KEYPOINT_NAMES), 2), np.nan)
            for index, name in enumerate(KEYPOINT_NAMES):
                if f"{name}_x" in row:
                    points[index] = 16.0 * float(row[f"{name}_x"]), 9.0 * float(row[f"{name}_y"])
            rows.setdefault(row["label"], []).append(points)
    return {label: np.array(points) for label, points in rows.items()}


@pytest.mark.skipif(not DATA.is_file(), reason="needs the labelled planks")
def test_labelled_frames_are_in_order_low_correct_high() -> None:
    sag_deg = {}
    for label, keypoints in _labelled(DATA).items():
        n_frames = len(keypoints)
        motion = RepMotion(
            time_s=np.arange(n_frames) / 30.0,
            keypoints=keypoints,
            confidence=np.ones(keypoints.shape[:2]),
            deg=np.full((n_frames, N_JOINTS), np.nan),
            sigma_deg=np.full((n_frames, N_JOINTS), np.nan),
            signal=np.zeros(n_frames),
            turn_idx=0,
            yaw_deg=math.nan,
            stature_px=math.nan,
        )
        sag_deg[label] = measure("held_hip_sag_deg", motion).value
    assert sag_deg["L"] > sag_deg["C"] > sag_deg["H"]
