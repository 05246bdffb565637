"""Decoding YOLO outputs: hand-built tensors, overlaps, the edge of the picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pose_analyzer.inference.decode import (
    box_iou,
    decode_yolo_pose,
    fade_outside,
    people_in_picture,
    suppress_overlaps,
)
from pose_analyzer.inference.preprocess import Letterbox
from pose_analyzer.skeleton import N_COCO, N_KEYPOINTS

N_ANCHORS = 20


def column(
    x: float, score: float, width: float = 40.0, visibility: float = 0.9
) -> npt.NDArray[np.float32]:
    """Return one anchor's 56 values: a person at (x, 100), keypoints in a row from its centre."""
    keypoints = np.stack(
        [x + np.arange(N_COCO), np.full(N_COCO, 100.0), np.full(N_COCO, visibility)], axis=1
    )
    head = np.array([x, 100.0, width, 80.0, score])
    return np.concatenate([head, keypoints.ravel()], dtype=np.float32)


def raw_output(*columns: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a raw output of one picture with the given anchors among silent ones."""
    output = np.zeros((1, 56, N_ANCHORS), dtype=np.float32)
    for place, values in enumerate(columns):
        output[0, :, 3 * place + 1] = values
    return output


def test_reads_box_score_and_keypoints() -> None:
    (people,) = decode_yolo_pose(raw_output(column(200.0, 0.8)), 0.25)
    np.testing.assert_allclose(people.boxes, [[180.0, 60.0, 220.0, 140.0]])
    np.testing.assert_allclose(people.scores, [0.8], rtol=1e-6)
    np.testing.assert_allclose(people.keypoints[0, 3], [203.0, 100.0])
    np.testing.assert_allclose(people.confidence[0], 0.9, rtol=1e-6)


def test_the_best_person_comes_first() -> None:
    (people,) = decode_yolo_pose(raw_output(column(100.0, 0.4), column(500.0, 0.9)), 0.25)
    np.testing.assert_allclose(people.scores, [0.9, 0.4], rtol=1e-6)
    np.testing.assert_allclose(people.keypoints[:, 0, 0], [500.0, 100.0])


def test_a_person_found_twice_is_kept_once_with_the_better_score() -> None:
    (people,) = decode_yolo_pose(raw_output(column(100.0, 0.6), column(101.0, 0.7)), 0.25)
    np.testing.assert_allclose(people.scores, [0.7], rtol=1e-6)


def test_a_person_at_the_threshold_is_left_out() -> None:
    (people,) = decode_yolo_pose(raw_output(column(100.0, 0.25)), 0.25)
    assert len(people.scores) == 0
    assert people.keypoints.shape == (0, N_COCO, 2)


def test_a_batch_equals_its_pictures_one_by_one() -> None:
    one = raw_output(column(100.0, 0.6))
    two = raw_output(column(300.0, 0.5), column(50.0, 0.9))
    batch = decode_yolo_pose(np.concatenate([one, two]), 0.25)
    alone = decode_yolo_pose(one, 0.25) + decode_yolo_pose(two, 0.25)
    for people, expected in zip(batch, alone, strict=True):
        np.testing.assert_array_equal(people.keypoints, expected.keypoints)
        np.testing.assert_array_equal(people.boxes, expected.boxes)


def test_a_half_precision_output_is_read_too() -> None:
    (people,) = decode_yolo_pose(raw_output(column(200.0, 0.8)).astype(np.float16), 0.25)
    np.testing.assert_allclose(people.boxes, [[180.0, 60.0, 220.0, 140.0]])


def test_an_end_to_end_output_needs_no_overlap_test() -> None:
    keypoints = column(200.0, 0.8)[5:]
    row = np.concatenate([[180.0, 60.0, 220.0, 140.0, 0.8, 0.0], keypoints])
    output = np.zeros((1, 300, 57), dtype=np.float32)
    output[0, 0] = row
    output[0, 1] = row
    (people,) = decode_yolo_pose(output, 0.25)
    (expected,) = decode_yolo_pose(raw_output(column(200.0, 0.8)), 0.25)
    assert len(people.scores) == 2
    np.testing.assert_allclose(people.boxes[0], expected.boxes[0])
    np.testing.assert_allclose(people.keypoints[0], expected.keypoints[0])


@pytest.mark.parametrize("shape", [(1, 84, 8400), (1, 44, 8400), (8400,)])
def test_another_networks_output_is_refused(shape: tuple[int, ...]) -> None:
    columns = np.zeros(shape, dtype=np.float32)
    if shape == (1, 84, 8400):
        columns = columns[:, :55]
    with pytest.raises(ValueError, match="17 COCO keypoints"):
        decode_yolo_pose(columns, 0.25)


def test_overlap_of_known_boxes() -> None:
    boxes = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
    expected = [[1.0, 1.0 / 3.0, 0.0], [1.0 / 3.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(box_iou(boxes), expected)


def test_a_removed_box_removes_nobody() -> None:
    chain = np.array([[0.0, 0.0, 10.0, 1.0], [3.0, 0.0, 13.0, 1.0], [6.0, 0.0, 16.0, 1.0]])
    np.testing.assert_array_equal(suppress_overlaps(chain, 0.5), [0, 2])


def test_no_box_is_no_row() -> None:
    assert suppress_overlaps(np.empty((0, 4)), 0.5).shape == (0,)


def test_people_come_back_in_pixels_of_the_picture_without_feet() -> None:
    box = Letterbox.fit((1080, 1920, 3), 640, 640)
    (people,) = decode_yolo_pose(raw_output(column(320.0, 0.8)), 0.25)
    found = people_in_picture(people, box)
    expected = (np.array([323.0, 100.0]) - (0, 140)) * 3.0
    np.testing.assert_allclose(found.keypoints[0, 3] - expected, 0.0, atol=1e-9)
    assert np.isnan(found.keypoints[0, N_COCO:]).all()
    np.testing.assert_array_equal(found.confidence[0, N_COCO:], 0.0)
    assert found.world_m is None


def test_boxes_are_cut_at_the_edge_of_the_picture() -> None:
    (people,) = decode_yolo_pose(raw_output(column(5.0, 0.8)), 0.25)
    found = people_in_picture(people, Letterbox.fit((640, 640, 3), 640, 640))
    np.testing.assert_allclose(found.boxes, [[0.0, 60.0, 25.0, 140.0]])


def test_a_point_inside_keeps_its_confidence() -> None:
    keypoints, confidence = fade_outside(
        np.array([[0.0, 0.0], [200.0, 100.0]]), np.array([0.7, 0.8]), (100, 200, 3)
    )
    np.testing.assert_array_equal(keypoints, [[0.0, 0.0], [200.0, 100.0]])
    np.testing.assert_array_equal(confidence, [0.7, 0.8])


def test_a_point_just_outside_keeps_its_place_and_loses_its_confidence() -> None:
    points = np.array([[-2.0, 50.0], [100.0, 104.0], [-20.0, 50.0]])
    keypoints, confidence = fade_outside(points, np.ones(3), (100, 200, 3))
    np.testing.assert_array_equal(keypoints, points)
    np.testing.assert_allclose(confidence, [0.5, 0.0, 0.0])


@pytest.mark.parametrize("point", [(-60.0, 50.0), (10.0, 160.0), (np.nan, np.nan)])
def test_a_point_far_outside_or_no_number_was_not_measured(point: tuple[float, float]) -> None:
    keypoints, confidence = fade_outside(np.array([point]), np.ones(1), (100, 200, 3))
    assert np.isnan(keypoints).all()
    assert confidence[0] == 0.0


def test_arrays_have_the_package_shape_when_nobody_is_there() -> None:
    (people,) = decode_yolo_pose(raw_output(), 0.25)
    found = people_in_picture(people, Letterbox.fit((10, 10, 3), 640, 640))
    assert found.n_people == 0
    assert found.keypoints.shape == (0, N_KEYPOINTS, 2)
