"""temporal_analyzer: the repetition signal, its continuity, phases, rates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pose_analyzer.exercises import SignalSpec
from pose_analyzer.skeleton import KEYPOINT_INDEX, N_JOINTS, N_KEYPOINTS
from pose_analyzer.temporal_analyzer import TemporalAnalyzer
from pose_analyzer.types import FloatArray, Motion

FPS = 30.0
STATURE_PX = 800.0
SQUAT = SignalSpec(
    moving=("left_hip", "right_hip"),
    resting=("left_ankle", "right_ankle"),
    rest="high",
    counted="cycle",
    min_range=0.08,
    full_share=0.5,
    min_duration_s=0.5,
    max_duration_s=12.0,
    source="test",
)
NO_ANGLES = np.full(N_JOINTS, np.nan)


def body(hip_drop_px: float, shift_px: float = 0.0) -> FloatArray:
    """Return hips 400 px over the ankles, less the drop; all moved by a shift."""
    points = np.full((N_KEYPOINTS, 2), np.nan)
    for side, x in (("left", 40.0), ("right", -40.0)):
        points[KEYPOINT_INDEX[f"{side}_hip"]] = x, 500.0 + hip_drop_px + shift_px
        points[KEYPOINT_INDEX[f"{side}_ankle"]] = x, 900.0 + shift_px
    return points


def squat_drop(time_s: float) -> float:
    """Return the drop of the hips: one squat of 200 px in two seconds."""
    return 100.0 * (1.0 - math.cos(math.pi * time_s)) if time_s < 2.0 else 0.0


def run(bodies: list[FloatArray], stature_px: float = STATURE_PX) -> list[Motion]:
    analyzer = TemporalAnalyzer(SQUAT)
    return [
        analyzer.update(points, NO_ANGLES, stature_px, index / FPS)
        for index, points in enumerate(bodies)
    ]


def signals(motions: list[Motion]) -> FloatArray:
    return np.array([motion.signal for motion in motions])


def test_the_signal_is_the_drop_of_the_hips_in_statures() -> None:
    drops = [squat_drop(index / FPS) for index in range(75)]
    signal = signals(run([body(drop) for drop in drops]))
    np.testing.assert_allclose(signal - signal[0], np.array(drops) / STATURE_PX, atol=1e-12)


def test_the_signal_does_not_depend_on_the_size_of_the_picture() -> None:
    bodies = [body(squat_drop(index / FPS)) for index in range(75)]
    half = run([0.5 * points for points in bodies], 0.5 * STATURE_PX)
    np.testing.assert_allclose(signals(half), signals(run(bodies)), atol=1e-12)


def test_a_moving_camera_does_not_move_the_signal() -> None:
    still = signals(run([body(squat_drop(index / FPS)) for index in range(75)]))
    panned = signals(run([body(squat_drop(i / FPS), shift_px=3.0 * i) for i in range(75)]))
    np.testing.assert_allclose(panned, still, atol=1e-12)


def test_a_hip_that_vanishes_and_returns_makes_no_jump() -> None:
    bodies = [body(squat_drop(index / FPS)) for index in range(75)]
    whole = signals(run([points.copy() for points in bodies]))
    for points in bodies:
        points[KEYPOINT_INDEX["left_hip"], 1] += 60.0
    for points in bodies[20:40]:
        points[KEYPOINT_INDEX["left_hip"]] = np.nan
    steps = np.diff(signals(run(bodies))) - np.diff(whole)
    assert np.abs(steps).max() < 0.004


def test_without_resting_points_a_static_camera_is_assumed() -> None:
    drops = [squat_drop(index / FPS) for index in range(75)]
    bodies = [body(drop) for drop in drops]
    for points in bodies:
        points[[KEYPOINT_INDEX["left_ankle"], KEYPOINT_INDEX["right_ankle"]]] = np.nan
    np.testing.assert_allclose(signals(run(bodies)), np.array(drops) / STATURE_PX, atol=1e-12)


def test_without_moving_points_or_a_size_nothing_is_measured() -> None:
    hidden = body(0.0)
    hidden[[KEYPOINT_INDEX["left_hip"], KEYPOINT_INDEX["right_hip"]]] = np.nan
    for motion in (*run([hidden]), *run([body(0.0)], stature_px=math.nan)):
        assert math.isnan(motion.signal)
        assert motion.phase == "unknown"


def test_after_a_long_absence_the_signal_starts_at_the_true_height() -> None:
    hidden = np.full((N_KEYPOINTS, 2), np.nan)
    motions = run([body(0.0)] * 10 + [hidden] * 45 + [body(200.0)] * 2)
    assert motions[-1].signal - motions[0].signal == pytest.approx(200.0 / STATURE_PX)


def test_after_a_short_absence_the_signal_goes_on() -> None:
    hidden = np.full((N_KEYPOINTS, 2), np.nan)
    motions = run([body(0.0)] * 10 + [hidden] * 5 + [body(0.0)] * 5)
    assert motions[-1].signal == pytest.approx(motions[0].signal, abs=1e-9)


def test_the_phases_follow_the_movement() -> None:
    standing, down = [body(0.0)] * 15, [body(200.0)] * 15
    descend = [body(squat_drop(index / FPS)) for index in range(30)]
    motions = run([*standing, *descend, *down, *descend[::-1], *standing])
    assert [motions[at].phase for at in (10, 30, 55, 75, 100)] == [
        "rest",
        "away",
        "turn",
        "back",
        "rest",
    ]


def test_the_rate_is_that_of_the_signal() -> None:
    motions = run([body(4.0 * index) for index in range(10)])
    assert motions[-1].signal_per_s == pytest.approx(4.0 * FPS / STATURE_PX)
    assert math.isnan(motions[0].signal_per_s)


def test_angular_velocities_are_degrees_a_second() -> None:
    analyzer = TemporalAnalyzer(SQUAT)
    analyzer.update(body(0.0), np.full(N_JOINTS, 90.0), STATURE_PX, 0.0)
    motion = analyzer.update(body(0.0), np.full(N_JOINTS, 93.0), STATURE_PX, 0.1)
    np.testing.assert_allclose(motion.deg_s, 30.0)


def test_the_size_grows_at_once_and_shrinks_slowly() -> None:
    analyzer = TemporalAnalyzer(SQUAT)
    for index in range(60):
        analyzer.update(body(0.0), NO_ANGLES, 800.0 if index == 0 else 400.0, index / FPS)
    assert 550.0 < analyzer.stature_px < 700.0
    for index in range(60, 90):
        analyzer.update(body(0.0), NO_ANGLES, 800.0, index / FPS)
    assert analyzer.stature_px > 790.0


def test_another_person_is_not_compared_with_the_one_before() -> None:
    analyzer = TemporalAnalyzer(SQUAT)
    before = analyzer.update(body(0.0), NO_ANGLES, STATURE_PX, 0.0)
    analyzer.interrupt()
    after = analyzer.update(body(0.0, shift_px=300.0) + 0.0, NO_ANGLES, STATURE_PX, 0.1)
    assert after.signal == pytest.approx(before.signal)
    assert np.isnan(after.deg_s).all()


def test_a_cut_in_the_picture_is_no_movement() -> None:
    motions = run([body(0.0)] * 10 + [body(300.0)] * 3)
    assert np.abs(np.diff(signals(motions))).max() < 0.01


def test_a_frame_without_the_athlete_is_unknown() -> None:
    motion = TemporalAnalyzer(SQUAT).unseen(0.0)
    assert math.isnan(motion.signal)
    assert motion.phase == "unknown"


def test_time_that_stands_still_is_refused() -> None:
    analyzer = TemporalAnalyzer(SQUAT)
    analyzer.update(body(0.0), NO_ANGLES, STATURE_PX, 1.0)
    with pytest.raises(ValueError, match="time must increase"):
        analyzer.update(body(0.0), NO_ANGLES, STATURE_PX, 1.0)


def test_reset_equals_new() -> None:
    bodies = [body(squat_drop(index / FPS)) for index in range(75)]
    analyzer = TemporalAnalyzer(SQUAT)
    for index, points in enumerate(bodies):
        analyzer.update(points, NO_ANGLES, STATURE_PX, index / FPS)
    analyzer.reset()
    again = [
        analyzer.update(points, NO_ANGLES, STATURE_PX, index / FPS)
        for index, points in enumerate(bodies)
    ]
    np.testing.assert_array_equal(signals(again), signals(run(bodies)))


def test_a_moving_camera_or_a_squat_is_no_stepping() -> None:
    bodies = [body(squat_drop(index / FPS), shift_px=9.0 * index) for index in range(60)]
    stepping = [motion.stance.stepping for motion in run(bodies)]
    assert np.nanmax(stepping) == pytest.approx(0.0, abs=1e-12)


def test_stepping_is_how_far_one_ankle_moved_against_the_other_in_half_a_second() -> None:
    bodies = [body(0.0) for _ in range(60)]
    for index, points in enumerate(bodies):
        points[KEYPOINT_INDEX["left_ankle"], 0] += 8.0 * index
    stepping = [motion.stance.stepping for motion in run(bodies)]
    assert stepping[-1] == pytest.approx(15 * 8.0 / STATURE_PX)
    assert math.isnan(stepping[0])


def test_the_height_of_a_stance_needs_all_its_points() -> None:
    whole, half = body(80.0), body(80.0)
    half[KEYPOINT_INDEX["left_ankle"]] = np.nan
    heights = [motion.stance.height for motion in run([whole, half])]
    assert heights[0] == pytest.approx(320.0 / STATURE_PX)
    assert math.isnan(heights[1])
