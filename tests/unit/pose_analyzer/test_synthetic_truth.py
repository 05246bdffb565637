"""Truth files, and the detections made from a truth."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pose_analyzer.errors import VideoError
from pose_analyzer.skeleton import KEYPOINT_INDEX, MIRROR, N_COCO
from pose_analyzer.synthetic import (
    LOOKS,
    Athlete,
    Camera,
    DetectorHabits,
    Fault,
    MotionSpec,
    Truth,
    detections_from_truth,
    load_truth,
    save_truth,
    synthesize,
)
from pose_analyzer.types import FloatArray, PoseDetections


@pytest.fixture(scope="module")
def truth() -> Truth:
    return synthesize(
        Athlete(1.62, look=LOOKS[1]),
        MotionSpec("squat", reps=3, faults=(Fault("knee_valgus", 0.4, (2,)),), seed=3),
        Camera(yaw_deg=40.0),
    )


def stacked(detections: list[PoseDetections]) -> FloatArray:
    return np.stack([frame.keypoints[0] for frame in detections])


def test_a_truth_comes_back_from_its_files(truth: Truth, tmp_path: Path) -> None:
    save_truth(truth, tmp_path / "clip.mp4")
    again = load_truth(tmp_path / "clip.mp4")
    for field in dataclasses.fields(Truth):
        one, other = getattr(truth, field.name), getattr(again, field.name)
        same = np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other
        assert same, field.name


def test_truth_files_stand_beside_the_clip_and_nothing_else(truth: Truth, tmp_path: Path) -> None:
    save_truth(truth, tmp_path / "clip.mp4")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"clip.truth.npz", "clip.truth.json"}


def test_arrays_are_stored_without_pickle(truth: Truth, tmp_path: Path) -> None:
    arrays, _ = save_truth(truth, tmp_path / "clip.mp4")
    with np.load(arrays, allow_pickle=False) as stored:
        assert stored["points_m"].shape == truth.points_m.shape


def test_a_missing_truth_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="has no truth beside it"):
        load_truth(tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"reps": 3', '"repz": 3'),
        ('"reps": 3', '"reps": "3"'),
        ('"stature_m": 1.62', '"stature_m": 0.01'),
        ('"left_big_toe"', '"left_toe"'),
        ("{", "["),
    ],
)
def test_a_broken_truth_is_refused(truth: Truth, tmp_path: Path, old: str, new: str) -> None:
    _, header = save_truth(truth, tmp_path / "clip.mp4")
    header.write_text(header.read_text().replace(old, new, 1))
    with pytest.raises(VideoError, match=r"clip\.truth\.json"):
        load_truth(tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    "text", ["[]", '{"athlete": 1}', "no json"], ids=["list", "missing keys", "text"]
)
def test_another_json_is_no_truth(truth: Truth, tmp_path: Path, text: str) -> None:
    _, header = save_truth(truth, tmp_path / "clip.mp4")
    header.write_text(text)
    with pytest.raises(VideoError, match="no truth file of this version"):
        load_truth(tmp_path / "clip.mp4")


def test_a_colour_of_two_numbers_is_refused(truth: Truth, tmp_path: Path) -> None:
    _, header = save_truth(truth, tmp_path / "clip.mp4")
    data = json.loads(header.read_text())
    data["athlete"]["look"]["skin"] = [1, 2]
    header.write_text(json.dumps(data))
    with pytest.raises(VideoError, match="skin must have 3 entries, got 2"):
        load_truth(tmp_path / "clip.mp4")


def test_a_list_is_needed_where_a_list_belongs(truth: Truth, tmp_path: Path) -> None:
    _, header = save_truth(truth, tmp_path / "clip.mp4")
    data = json.loads(header.read_text())
    data["phases"] = 4
    header.write_text(json.dumps(data))
    with pytest.raises(VideoError, match="phases must be a list, got 4"):
        load_truth(tmp_path / "clip.mp4")


def test_arrays_of_another_length_are_refused(truth: Truth) -> None:
    with pytest.raises(ValueError, match="deg must have shape"):
        dataclasses.replace(truth, deg=truth.deg[1:])


def test_boxes_hold_the_visible_keypoints(truth: Truth) -> None:
    low, high = truth.boxes[:, None, :2], truth.boxes[:, None, 2:]
    assert np.all((truth.keypoints >= low) & (truth.keypoints <= high))


def test_a_box_outside_the_picture_is_not_measured() -> None:
    far = synthesize(motion=MotionSpec("stand", reps=1, x_m=50.0), camera=Camera(yaw_deg=90.0))
    assert np.isnan(far.boxes).all()


def test_perfect_detections_are_the_truth(truth: Truth) -> None:
    detections = detections_from_truth(truth)
    assert len(detections) == truth.n_frames
    assert np.array_equal(stacked(detections), truth.keypoints)
    assert np.all(detections[0].confidence == 0.9)


def test_noise_has_the_wanted_size(truth: Truth) -> None:
    rng = np.random.default_rng(5)
    error = stacked(detections_from_truth(truth, noise_px=3.0, rng=rng)) - truth.keypoints
    assert error.std() == pytest.approx(3.0, rel=0.03)
    assert abs(error.mean()) < 0.1


def test_the_same_seed_gives_the_same_detections(truth: Truth) -> None:
    first, second = (
        stacked(detections_from_truth(truth, 2.0, dropout=0.1, rng=np.random.default_rng(9)))
        for _ in range(2)
    )
    assert np.array_equal(first, second, equal_nan=True)


def test_lost_keypoints_are_nan_with_confidence_zero(truth: Truth) -> None:
    detections = detections_from_truth(truth, dropout=0.2)
    is_lost = np.isnan(stacked(detections)).any(axis=-1)
    confidence = np.stack([frame.confidence[0] for frame in detections])
    assert is_lost.mean() == pytest.approx(0.2, abs=0.02)
    assert np.array_equal(is_lost, confidence == 0.0)


def test_outliers_leap_far_and_keep_their_confidence(truth: Truth) -> None:
    detections = detections_from_truth(truth, habits=DetectorHabits(outlier_rate=0.05))
    leap = np.linalg.norm(stacked(detections) - truth.keypoints, axis=-1)
    assert np.mean(leap > 0.0) == pytest.approx(0.05, abs=0.01)
    assert leap[leap > 0.0].min() >= 60.0


def test_swapped_frames_exchange_left_and_right(truth: Truth) -> None:
    swapped = stacked(detections_from_truth(truth, habits=DetectorHabits(swap_rate=1.0)))
    assert np.array_equal(swapped, truth.keypoints[:, MIRROR])


def test_nobody_is_found_in_a_gap(truth: Truth) -> None:
    detections = detections_from_truth(truth, habits=DetectorHabits(gaps_s=((1.0, 2.0),)))
    counts = np.array([frame.n_people for frame in detections])
    in_gap = (truth.time_s >= 1.0) & (truth.time_s < 2.0)
    assert np.array_equal(counts == 0, in_gap)


def test_a_detector_without_feet_leaves_them_out(truth: Truth) -> None:
    keypoints = stacked(detections_from_truth(truth, habits=DetectorHabits(has_feet=False)))
    assert np.isnan(keypoints[:, N_COCO:]).all()
    assert not np.isnan(keypoints[:, :N_COCO]).any()


def test_hidden_keypoints_may_be_less_sure(truth: Truth) -> None:
    detections = detections_from_truth(truth, habits=DetectorHabits(hidden_confidence=0.5))
    confidence = np.stack([frame.confidence[0] for frame in detections])
    assert np.allclose(confidence, np.where(truth.visible, 0.9, 0.45))


def test_world_landmarks_are_metric_and_in_camera_axes(truth: Truth) -> None:
    frame = detections_from_truth(truth, habits=DetectorHabits(has_world=True))[0]
    assert frame.world_m is not None
    head = frame.world_m[0, KEYPOINT_INDEX["nose"]]
    assert head[1] < -0.5
    shank = frame.world_m[0, KEYPOINT_INDEX["left_knee"]]
    shank = shank - frame.world_m[0, KEYPOINT_INDEX["left_ankle"]]
    assert np.linalg.norm(shank) == pytest.approx(0.246 * 1.62)


def test_several_people_come_in_one_frame(truth: Truth) -> None:
    other = synthesize(motion=MotionSpec("stand", reps=1, y_m=-1.0), camera=truth.camera)
    detections = detections_from_truth([truth, other])
    assert detections[0].n_people == 2
    assert detections[-1].n_people == 1


def test_keypoints_outside_the_picture_are_not_found() -> None:
    close = synthesize(
        motion=MotionSpec(reps=1), camera=Camera(yaw_deg=0.0, distance_m=1.2, aim_height_m=1.6)
    )
    frame = detections_from_truth(close)[0]
    assert np.isnan(frame.keypoints[0, KEYPOINT_INDEX["left_ankle"]]).all()
    assert frame.confidence[0, KEYPOINT_INDEX["left_ankle"]] == 0.0


def test_impossible_noise_is_refused(truth: Truth) -> None:
    with pytest.raises(ValueError, match="noise_px"):
        detections_from_truth(truth, noise_px=-1.0)
    with pytest.raises(ValueError, match="dropout"):
        detections_from_truth(truth, dropout=2.0)
    with pytest.raises(ValueError, match="at least one person"):
        detections_from_truth([])
    with pytest.raises(ValueError, match="swap_rate"):
        DetectorHabits(swap_rate=-0.1)
