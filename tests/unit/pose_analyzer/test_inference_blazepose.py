"""BlazePose landmarks as keypoints: the table, pixels, boxes, people found twice."""

from __future__ import annotations

import numpy as np
import pytest

from pose_analyzer.inference.blazepose import (
    LANDMARK_OF_KEYPOINT,
    LANDMARK_ROWS,
    N_LANDMARKS,
    Landmarks,
    landmark_detections,
)
from pose_analyzer.skeleton import KEYPOINT_INDEX, KEYPOINT_NAMES, N_KEYPOINTS

SHAPE = (1000, 2000, 3)


def landmarks(*centres: float, confidence: float = 0.9) -> Landmarks:
    """Return people whose landmarks lie on a grid right of the given x, as shares."""
    grid = np.stack(np.divmod(np.arange(N_LANDMARKS), 6), axis=1) / 50.0
    points = np.array([grid + np.array([x, 0.3]) for x in centres]).reshape(-1, N_LANDMARKS, 2)
    world = np.arange(len(centres) * N_LANDMARKS * 3.0).reshape(-1, N_LANDMARKS, 3)
    return Landmarks(points, np.full(points.shape[:2], confidence), world)


def test_every_keypoint_has_its_own_landmark() -> None:
    assert set(LANDMARK_OF_KEYPOINT) == set(KEYPOINT_NAMES)
    assert len(set(LANDMARK_ROWS.tolist())) == N_KEYPOINTS


@pytest.mark.model
def test_the_table_agrees_with_mediapipes_own_names() -> None:
    from mediapipe.python.solutions.pose import PoseLandmark

    theirs = {
        mark.name.lower().replace("foot_index", "big_toe"): mark.value for mark in PoseLandmark
    }
    assert {name: theirs[name] for name in KEYPOINT_NAMES} == LANDMARK_OF_KEYPOINT


def test_shares_become_pixels_of_the_frame() -> None:
    given = landmarks(0.2)
    found = landmark_detections(given, SHAPE)
    knee = found.keypoints[0, KEYPOINT_INDEX["left_knee"]]
    np.testing.assert_allclose(knee, given.points[0, 25] * (2000.0, 1000.0))


def test_metric_landmarks_follow_the_same_rows() -> None:
    given = landmarks(0.2)
    found = landmark_detections(given, SHAPE)
    assert found.world_m is not None
    toe = found.world_m[0, KEYPOINT_INDEX["right_big_toe"]]
    np.testing.assert_array_equal(toe, given.world_m[0, 32])


def test_the_box_is_the_smallest_around_the_points_inside() -> None:
    found = landmark_detections(landmarks(0.2), SHAPE)
    low, high = found.keypoints[0].min(axis=0), found.keypoints[0].max(axis=0)
    np.testing.assert_allclose(found.boxes[0], [*low, *high])


def test_points_outside_do_not_widen_the_box() -> None:
    given = landmarks(0.2)
    given.points[0, 31] = (0.3, 1.1)
    found = landmark_detections(given, SHAPE)
    assert found.boxes[0, 3] < 1000.0
    assert found.confidence[0, KEYPOINT_INDEX["left_big_toe"]] == 0.0
    assert np.isfinite(found.keypoints[0, KEYPOINT_INDEX["left_big_toe"]]).all()


def test_the_most_confident_person_comes_first() -> None:
    given = landmarks(0.1, 0.6)
    given.confidence[0] *= 0.5
    found = landmark_detections(given, SHAPE)
    np.testing.assert_allclose(found.box_confidence, [0.9, 0.45])
    assert found.boxes[0, 0] > found.boxes[1, 0]
    assert found.world_m is not None
    np.testing.assert_array_equal(found.world_m[0], given.world_m[1][LANDMARK_ROWS])


def test_a_person_found_twice_is_kept_once() -> None:
    assert landmark_detections(landmarks(0.2, 0.201, 0.6), SHAPE).n_people == 2


def test_a_person_wholly_outside_is_nobody() -> None:
    assert landmark_detections(landmarks(1.2), SHAPE).n_people == 0


def test_nobody_is_an_empty_result_of_full_shape() -> None:
    found = landmark_detections(landmarks(), SHAPE)
    assert found.n_people == 0
    assert found.keypoints.shape == (0, N_KEYPOINTS, 2)
