"""pose_tracker: identities, the athlete, the detector gate, exchanged sides."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pose_analyzer.pose_tracker import PoseTracker, SwapConfig, TrackerConfig
from pose_analyzer.skeleton import KEYPOINT_INDEX, MIRROR, N_KEYPOINTS
from pose_analyzer.types import FloatArray, PoseDetections, TrackedPose

DATA = Path(
    os.environ.get("POSE_EVAL_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")
)
FPS = 30.0


def front_view(x: float = 500.0, y: float = 200.0, height: float = 800.0) -> FloatArray:
    """Return a standing person facing the camera, shape (K, 2)."""
    relative = {
        "nose": (0.0, 0.07),
        "eye": (0.015, 0.06),
        "ear": (0.03, 0.07),
        "shoulder": (0.11, 0.18),
        "elbow": (0.15, 0.36),
        "wrist": (0.16, 0.51),
        "hip": (0.08, 0.48),
        "knee": (0.09, 0.72),
        "ankle": (0.10, 0.95),
        "heel": (0.10, 0.97),
        "big_toe": (0.12, 1.0),
    }
    points = np.empty((N_KEYPOINTS, 2))
    for name, index in KEYPOINT_INDEX.items():
        dx, dy = relative[name.removeprefix("left_").removeprefix("right_")]
        side = 1.0 if name.startswith("left_") else -1.0
        points[index] = x + side * dx * height, y + dy * height
    return points


def detections(
    *people: FloatArray, confidence: float = 0.9, box_confidence: float = 0.9
) -> PoseDetections:
    keypoints = np.stack(people)
    boxes = np.concatenate([np.nanmin(keypoints, 1), np.nanmax(keypoints, 1)], axis=1)
    seen = np.isfinite(keypoints).all(-1)
    return PoseDetections(
        keypoints, np.where(seen, confidence, 0.0), boxes, np.full(len(people), box_confidence)
    )


def athlete_id(pose: TrackedPose) -> int | None:
    return None if pose.athlete_idx is None else int(pose.track_ids[pose.athlete_idx])


def run(tracker: PoseTracker, frames: list[PoseDetections], start: int = 0) -> list[TrackedPose]:
    return [tracker.update(one, (start + index) / FPS) for index, one in enumerate(frames)]


def limb(*parts: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([name.split("_", 1)[-1] in parts for name in KEYPOINT_INDEX])


def exchanged(person: FloatArray, *parts: str) -> FloatArray:
    points = limb(*parts) if parts else np.ones(N_KEYPOINTS, dtype=np.bool_)
    return np.where(points[:, None], person[MIRROR], person)


def test_one_person_keeps_one_id_and_its_keypoints_unchanged() -> None:
    people = [front_view(x=500.0 + 8.0 * index) for index in range(30)]
    poses = run(PoseTracker(), [detections(person) for person in people])
    for person, pose in zip(people, poses, strict=True):
        assert pose.track_ids.tolist() == [0]
        assert pose.athlete_idx == 0
        np.testing.assert_array_equal(pose.keypoints[0], person)
        assert np.isnan(pose.velocity_px_s).all()
        assert not pose.predicted.any()


def test_nobody_gives_no_rows_and_no_athlete() -> None:
    pose = PoseTracker().update(PoseDetections.empty(), 0.0)
    assert pose.n_people == 0
    assert pose.athlete_idx is None


def test_unsure_and_infinite_keypoints_are_not_measured() -> None:
    one = detections(front_view())
    one.confidence[0, :2] = 0.29
    one.keypoints[0, 3] = np.inf
    pose = PoseTracker().update(one, 0.0)
    assert np.isnan(pose.keypoints[0, [0, 1, 3]]).all()
    assert (pose.confidence[0, [0, 1, 3]] == 0.0).all()
    assert np.isfinite(pose.keypoints[0, 4:]).all()
    assert np.isinf(one.keypoints[0, 3]).all()


@pytest.mark.parametrize("box_confidence", [0.05, float("nan")])
def test_a_box_without_confidence_is_nobody(box_confidence: float) -> None:
    frame = detections(front_view(), box_confidence=box_confidence)
    assert PoseTracker().update(frame, 0.0).n_people == 0


def test_too_few_keypoints_are_nobody() -> None:
    person = np.full((N_KEYPOINTS, 2), np.nan)
    person[:2] = 100.0, 120.0
    assert PoseTracker().update(detections(person), 0.0).n_people == 0


@pytest.mark.parametrize("box", [(np.nan,) * 4, (5.0, 5.0, 5.0, 5.0), (9.0, 9.0, 1.0, 1.0)])
def test_a_box_that_is_none_is_taken_from_the_keypoints(box: tuple[float, ...]) -> None:
    person = front_view()
    frame = detections(person)
    frame.boxes[0] = box
    pose = PoseTracker().update(frame, 0.0)
    np.testing.assert_array_equal(pose.boxes[0], [*person.min(0), *person.max(0)])


def test_two_detections_of_one_body_are_one_person() -> None:
    person = front_view()
    frame = detections(person + 3.0, person)
    frame.box_confidence[:] = 0.6, 0.9
    pose = PoseTracker().update(frame, 0.0)
    assert pose.n_people == 1
    np.testing.assert_array_equal(pose.keypoints[0], person)


def test_crossing_people_keep_their_ids_whatever_the_order_of_the_detections() -> None:
    rng = np.random.default_rng(0)
    tracker = PoseTracker()
    walked = []
    for index in range(60):
        people = (front_view(x=300.0 + 12.0 * index), front_view(1000.0 - 10.0 * index, 150.0, 700))
        order = rng.permutation(2)
        pose = tracker.update(detections(*(people[i] for i in order)), index / FPS)
        assert pose.track_ids.tolist() == [0, 1]
        walked.append(pose.keypoints[:, 0, 0])
    steps = np.diff(np.stack(walked), axis=0)
    assert sorted(np.unique(steps.round(6)).tolist()) == [-10.0, 12.0]
    assert (np.ptp(steps, axis=0) < 1e-6).all()


def test_a_person_found_again_within_a_second_keeps_the_id() -> None:
    tracker = PoseTracker()
    run(tracker, [detections(front_view())] * 10)
    for index in range(10, 34):
        tracker.update(PoseDetections.empty(), index / FPS)
    pose = tracker.update(detections(front_view(x=560.0)), 34 / FPS)
    assert pose.track_ids.tolist() == [0]


def test_a_person_back_after_longer_is_a_new_track_and_the_athlete() -> None:
    tracker = PoseTracker()
    run(tracker, [detections(front_view())] * 10)
    pose = tracker.update(detections(front_view()), 9 / FPS + 1.01)
    assert pose.track_ids.tolist() == [1]
    assert pose.athlete_idx == 0


def test_a_missed_person_keeps_a_row_without_keypoints_for_a_moment() -> None:
    tracker = PoseTracker()
    run(tracker, [detections(front_view())] * 5)
    gap = run(tracker, [PoseDetections.empty()] * 10, start=5)
    rows = [pose.n_people for pose in gap]
    assert rows == [1] * 7 + [0] * 3
    assert np.isnan(gap[0].keypoints).all()
    assert (gap[0].confidence == 0.0).all()
    assert np.isfinite(gap[0].boxes).all()
    assert athlete_id(gap[0]) == 0
    assert athlete_id(gap[9]) is None


def test_a_ghost_of_one_frame_leaves_no_row() -> None:
    tracker = PoseTracker()
    run(tracker, [detections(front_view())])
    assert tracker.update(PoseDetections.empty(), 0.1).n_people == 0


def test_an_unsure_detection_continues_a_track_but_begins_none() -> None:
    weak = detections(front_view(), box_confidence=0.2)
    tracker = PoseTracker()
    assert tracker.update(weak, 0.0).n_people == 0
    tracker.update(detections(front_view()), 0.1)
    assert tracker.update(weak, 0.2).track_ids.tolist() == [0]


def test_sure_detections_choose_their_track_before_unsure_ones() -> None:
    person = front_view()
    tracker = PoseTracker()
    tracker.update(detections(person), 0.0)
    frame = detections(person + np.array([0.0, 2.0]), person + np.array([70.0, 0.0]))
    frame.box_confidence[:] = 0.2, 0.9
    tracker = PoseTracker(TrackerConfig(duplicate_similarity=1.0))
    tracker.update(detections(person), 0.0)
    pose = tracker.update(frame, 0.1)
    assert pose.track_ids.tolist() == [0]
    np.testing.assert_array_equal(pose.keypoints[0], person + np.array([70.0, 0.0]))


def test_boxes_decide_where_few_keypoints_are_common() -> None:
    person = front_view()
    upper, lower = person.copy(), person.copy()
    upper[11:] = np.nan
    lower[:11] = np.nan
    box = np.array([*person.min(0), *person.max(0)])
    frames = [detections(upper), detections(lower)]
    for frame in frames:
        frame.boxes[0] = box
    poses = run(PoseTracker(), frames)
    assert poses[1].track_ids.tolist() == [0]


def test_a_jump_of_the_keypoints_within_the_same_box_keeps_the_id() -> None:
    person = front_view()
    upside_down = person.copy()
    upside_down[:, 1] = person[:, 1].max() + person[:, 1].min() - person[:, 1]
    poses = run(PoseTracker(), [detections(person), detections(upside_down)])
    assert poses[1].track_ids.tolist() == [0]


def test_ids_are_never_used_again() -> None:
    tracker = PoseTracker()
    seen = []
    for index in range(5):
        seen += tracker.update(detections(front_view()), 2.0 * index).track_ids.tolist()
    assert seen == [0, 1, 2, 3, 4]


def test_the_larger_person_is_the_athlete() -> None:
    pose = PoseTracker().update(
        detections(front_view(x=300.0, height=400.0), front_view(x=1200.0)), 0.0
    )
    assert pose.athlete_idx is not None
    assert np.ptp(pose.keypoints[pose.athlete_idx, :, 1]) > 700.0


def test_a_passer_by_does_not_become_the_athlete_but_a_lasting_one_does() -> None:
    athlete, other = front_view(x=300.0, height=500.0), front_view(x=1300.0, height=1000.0)
    tracker = PoseTracker()
    alone = run(tracker, [detections(athlete)] * 60)
    crowded = run(tracker, [detections(athlete, other)] * 240, start=60)
    first = athlete_id(alone[-1])
    ids = [athlete_id(pose) for pose in crowded]
    assert ids[:60] == [first] * 60
    assert ids[-1] != first
    # No way back and forth.
    assert sum(a != b for a, b in pairwise(ids)) == 1


def test_a_rival_of_similar_size_never_takes_over() -> None:
    tracker = PoseTracker()
    run(tracker, [detections(front_view(x=300.0))] * 10)
    poses = run(
        tracker, [detections(front_view(x=300.0), front_view(x=1300.0, height=950.0))] * 300, 10
    )
    assert {athlete_id(pose) for pose in poses} == {0}


def test_a_rival_who_falls_back_must_begin_anew() -> None:
    config = TrackerConfig(athlete_constant_s=0.05, takeover_s=0.5)
    small, large = front_view(x=300.0, height=500.0), front_view(x=1300.0, height=900.0)
    shrunk = front_view(x=1300.0, height=600.0)
    tracker = PoseTracker(config)
    run(tracker, [detections(small)] * 5)
    frames = ([detections(small, large)] * 12 + [detections(small, shrunk)] * 8) * 3
    assert {athlete_id(pose) for pose in run(tracker, frames, 5)} == {0}


def test_after_a_camera_cut_the_athlete_is_back_within_the_bridge() -> None:
    tracker = PoseTracker()
    run(tracker, [detections(front_view(x=300.0, height=600.0))] * 30)
    after = run(tracker, [detections(front_view(x=1500.0, y=50.0, height=900.0))] * 20, 30)
    assert after[0].track_ids.tolist() == [0, 1]
    assert athlete_id(after[-1]) == 1
    assert sum(athlete_id(pose) != 1 for pose in after) <= 9


def test_a_small_stranger_does_not_inherit_from_an_unseen_athlete() -> None:
    tracker = PoseTracker()
    run(tracker, [detections(front_view(x=300.0))] * 30)
    stranger = detections(front_view(x=1500.0, height=300.0))
    assert {athlete_id(pose) for pose in run(tracker, [stranger] * 25, 32)} <= {0, None}


@pytest.mark.parametrize(
    "parts",
    [
        (),
        ("elbow", "wrist"),
        ("shoulder", "elbow", "wrist"),
        ("knee", "ankle", "heel", "big_toe"),
        ("hip", "knee", "ankle", "heel", "big_toe"),
    ],
)
def test_exchanged_sides_are_put_back_and_counted_once(parts: tuple[str, ...]) -> None:
    person = front_view()
    tracker = PoseTracker()
    frames = [detections(person)] * 10 + [detections(exchanged(person, *parts))] * 5
    poses = run(tracker, [*frames, *frames[:10]])
    for pose in poses:
        np.testing.assert_array_equal(pose.keypoints[0], person)
    assert tracker.n_swaps == 1


def test_confidence_and_world_landmarks_move_with_their_side() -> None:
    person = front_view()
    plain, swapped = detections(person), detections(exchanged(person))
    weights = np.linspace(0.5, 0.9, N_KEYPOINTS)[None]
    world = np.arange(N_KEYPOINTS * 3, dtype=np.float64).reshape(1, N_KEYPOINTS, 3)
    tracker = PoseTracker()
    first = PoseDetections(plain.keypoints, weights, plain.boxes, plain.box_confidence, world)
    second = PoseDetections(
        swapped.keypoints,
        weights[:, MIRROR],
        swapped.boxes,
        swapped.box_confidence,
        world[:, MIRROR],
    )
    poses = run(tracker, [first, second])
    np.testing.assert_array_equal(poses[1].confidence, weights)
    assert poses[1].world_m is not None
    np.testing.assert_array_equal(poses[1].world_m, world)


def test_sides_that_lie_together_are_left_as_they_are() -> None:
    narrow = front_view()
    narrow[:, 0] = 500.0 + 0.1 * (narrow[:, 0] - 500.0)
    tracker = PoseTracker()
    poses = run(tracker, [detections(narrow), detections(exchanged(narrow))])
    np.testing.assert_array_equal(poses[1].keypoints[0], exchanged(narrow))
    assert tracker.n_swaps == 0


def test_legs_that_cross_in_a_real_stride_are_not_exchanged() -> None:
    legs = limb("knee", "ankle", "heel", "big_toe")
    side = np.array([1.0 if name.startswith("left") else -1.0 for name in KEYPOINT_INDEX])
    rng = np.random.default_rng(3)
    tracker = PoseTracker()
    for index in range(90):
        person = front_view()
        person[legs, 0] = 500.0 + 180.0 * side[legs] * np.cos(2.0 * np.pi * index / 45.0)
        person += rng.normal(0.0, 3.0, person.shape)
        pose = tracker.update(detections(person), index / FPS)
        np.testing.assert_array_equal(pose.keypoints[0], person)
    assert tracker.n_swaps == 0


def test_an_athlete_who_turned_round_is_believed_after_half_a_second() -> None:
    person = front_view()
    turned = exchanged(person)
    tracker = PoseTracker()
    run(tracker, [detections(person)] * 10)
    poses = run(tracker, [detections(turned)] * 60, start=10)
    as_detected = [bool(np.array_equal(pose.keypoints[0], turned)) for pose in poses]
    believed = as_detected.index(True)
    assert believed == pytest.approx(0.5 * FPS, abs=1)
    # Never back: one change, no oscillation.
    assert all(as_detected[believed:])
    assert tracker.n_swaps == 1


def test_sides_are_put_back_across_a_short_gap_but_not_across_a_long_one() -> None:
    person = front_view()
    for gap, expected in ((5, person), (20, exchanged(person))):
        tracker = PoseTracker()
        run(tracker, [detections(person)] * 5)
        pose = tracker.update(detections(exchanged(person)), (4 + gap) / FPS)
        assert pose.track_ids.tolist() == [0]
        np.testing.assert_array_equal(pose.keypoints[0], expected)


def test_a_limb_hidden_for_some_frames_is_still_put_back() -> None:
    person = front_view()
    hidden = person.copy()
    hidden[limb("elbow", "wrist")] = np.nan
    tracker = PoseTracker()
    frames = [detections(person)] * 3 + [detections(hidden)] * 4
    run(tracker, frames)
    pose = tracker.update(detections(exchanged(person, "elbow", "wrist")), len(frames) / FPS)
    np.testing.assert_array_equal(pose.keypoints[0], person)


def test_a_limb_that_jumps_elsewhere_is_not_taken_for_its_mirror_image() -> None:
    person = front_view()
    jumped = person.copy()
    jumped[KEYPOINT_INDEX["left_wrist"]] = person[KEYPOINT_INDEX["right_wrist"]] + 30.0
    tracker = PoseTracker()
    poses = run(tracker, [detections(person)] * 5 + [detections(jumped)])
    np.testing.assert_array_equal(poses[-1].keypoints[0], jumped)
    assert tracker.n_swaps == 0


def test_legs_are_put_back_where_the_arms_are_never_seen() -> None:
    person = front_view()
    person[limb("elbow", "wrist")] = np.nan
    tracker = PoseTracker()
    poses = run(tracker, [detections(person), detections(exchanged(person))])
    np.testing.assert_array_equal(poses[1].keypoints[0, 13:], person[13:])


def test_swaps_of_people_who_left_stay_counted() -> None:
    person = front_view()
    tracker = PoseTracker()
    run(tracker, [detections(person), detections(exchanged(person)), detections(person)])
    tracker.update(PoseDetections.empty(), 10.0)
    assert tracker.n_swaps == 1


def test_reset_equals_new() -> None:
    rng = np.random.default_rng(1)
    frames = [detections(front_view() + rng.normal(0.0, 3.0, (N_KEYPOINTS, 2))) for _ in range(20)]
    used = PoseTracker()
    run(used, [detections(exchanged(front_view())), *frames])
    used.reset()
    for a, b in zip(run(used, frames), run(PoseTracker(), frames), strict=True):
        np.testing.assert_array_equal(a.track_ids, b.track_ids)
        np.testing.assert_array_equal(a.keypoints, b.keypoints)
    assert used.n_swaps == 0


@pytest.mark.parametrize("time_s", [1.0, 0.5, float("nan"), float("inf")])
def test_time_must_increase(time_s: float) -> None:
    tracker = PoseTracker()
    tracker.update(detections(front_view()), 1.0)
    with pytest.raises(ValueError, match="time_s must increase"):
        tracker.update(detections(front_view()), time_s)


@pytest.mark.parametrize(
    "wrong", [{"min_confidence": 1.5}, {"max_lost_s": 0.0}, {"takeover_ratio": float("inf")}]
)
def test_wrong_settings_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrackerConfig(**wrong)  # type: ignore[arg-type]


def test_wrong_swap_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="ratio"):
        SwapConfig(ratio=1.0)


def test_a_real_clip_with_a_camera_cut_has_an_athlete_before_and_after() -> None:
    path = DATA / "keypoints" / "squat_12.npz"
    if not path.exists():
        pytest.skip("the evaluation data is not here")
    clip = np.load(path)
    tracker = PoseTracker()
    athletes = []
    for index, (points, box) in enumerate(zip(clip["kpts"], clip["box"], strict=True)):
        keypoints = np.full((1, N_KEYPOINTS, 2), np.nan)
        confidence = np.zeros((1, N_KEYPOINTS))
        keypoints[0, :17], confidence[0, :17] = points[:, :2], points[:, 2]
        frame = PoseDetections(keypoints, confidence, box[None, :4], box[4:])
        athletes.append(athlete_id(tracker.update(frame, index / float(clip["fps"]))))
    assert athletes[0] is not None
    assert all(one is not None for one in athletes[20:])
