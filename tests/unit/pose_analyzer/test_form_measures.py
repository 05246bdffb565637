"""form_measures and rep_geometry: values on motions we built, invariances, NaN."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from pose_analyzer.biomechanics import JointAngleCalculator
from pose_analyzer.form_measures import MEASURES, measure, measure_label, unbroken_time_s
from pose_analyzer.rep_geometry import (
    angle_confidence,
    change_over,
    extreme,
    joint_curve,
    phase_times,
    sides_to_read,
    signal_fraction,
)
from pose_analyzer.skeleton import JOINT_INDEX, KEYPOINT_INDEX, N_JOINTS, N_KEYPOINTS
from pose_analyzer.smoothness import sparc
from pose_analyzer.synthetic import Camera, Fault, MotionSpec, minimum_jerk
from pose_analyzer.types import FloatArray, RepMotion

RepMotions = Callable[..., list[RepMotion]]
SIDE, FRONT = Camera(yaw_deg=90.0), Camera(yaw_deg=0.0)


def built(points: dict[str, FloatArray], signal: FloatArray, yaw_deg: float = 90.0) -> RepMotion:
    """Return a repetition with the given paths in pixels; all else is unseen."""
    n = len(signal)
    keypoints = np.full((n, N_KEYPOINTS, 2), np.nan)
    for name, path in points.items():
        keypoints[:, KEYPOINT_INDEX[name]] = path
    seen = ~np.isnan(keypoints[..., 0])
    return RepMotion(
        time_s=np.arange(n) / 30.0,
        keypoints=keypoints,
        confidence=np.where(seen, 1.0, 0.0),
        deg=JointAngleCalculator().angles(keypoints),
        sigma_deg=np.full((n, N_JOINTS), 3.0),
        signal=signal,
        turn_idx=int(np.nanargmax(signal)),
        yaw_deg=yaw_deg,
        stature_px=700.0,
    )


def stroke(n: int = 31) -> FloatArray:
    """Return a way there and back, shape (2 n - 1,)."""
    there = minimum_jerk(np.linspace(0.0, 1.0, n))
    return np.concatenate((there, there[-2::-1]))


def test_an_unknown_measure_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown measure 'aura'; known measures: .*pause_s"):
        measure("aura", built({}, stroke()))


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_nothing_seen_is_not_measured(name: str) -> None:
    blind = dataclasses.replace(built({}, stroke()), signal=np.full(61, np.nan), stature_px=np.nan)
    found = measure(name, blind)
    assert np.isnan(found.value)
    assert found.confidence == 0.0


@pytest.mark.parametrize("name", sorted(MEASURES))
@pytest.mark.parametrize("n", [1, 2])
def test_a_motion_of_one_or_two_frames_does_not_fail(name: str, n: int) -> None:
    motion = built({"left_hip": np.zeros((n, 2))}, np.linspace(0.0, 0.1, n))
    assert np.isnan(measure(name, motion).value) or measure(name, motion).confidence >= 0.0


@pytest.mark.parametrize("name", sorted(MEASURES))
@pytest.mark.parametrize("camera", [SIDE, FRONT])
def test_no_measure_depends_on_scale_or_place(
    name: str, camera: Camera, rep_motions: RepMotions
) -> None:
    motion = rep_motions(MotionSpec("squat", reps=1), camera)[0]
    moved = dataclasses.replace(
        motion,
        keypoints=2.0 * motion.keypoints + np.array([50.0, -70.0]),
        stature_px=2.0 * motion.stature_px,
    )
    first, second = measure(name, motion), measure(name, moved)
    assert second.value == pytest.approx(first.value, nan_ok=True, abs=1e-9)
    assert second.confidence == first.confidence


def test_depth_range_and_lean_are_those_of_the_motion(rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("squat", reps=1, variation=0.0), SIDE)[0]
    assert measure("smallest_knee_deg", motion).value == pytest.approx(80.0, abs=2.0)
    assert measure("largest_knee_deg", motion).value == pytest.approx(175.0, abs=2.0)
    assert measure("knee_range_deg", motion).value == pytest.approx(95.0, abs=2.0)
    assert measure("largest_trunk_lean_deg", motion).value == pytest.approx(40.0, abs=2.0)
    assert measure("largest_shin_lean_deg", motion).value == pytest.approx(30.0, abs=2.0)
    assert measure("smallest_knee_deg", motion).confidence > 0.8


def test_a_camera_off_the_front_shifts_no_weight(rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("squat", 1), Camera(yaw_deg=20.0))[0]
    assert measure("weight_shift", motion).value < 0.14


@pytest.mark.parametrize("yaw_deg", [70.0, 80.0, 90.0])
def test_a_flat_back_is_flat_from_beside_the_side(yaw_deg: float, rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("squat", 1), Camera(yaw_deg=yaw_deg))[0]
    assert measure("back_rounding_deg", motion).value < 32.5


def test_wrists_that_leave_the_picture_have_no_height(rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("overhead_press", 1), FRONT)[0]
    hidden = motion.keypoints.copy()
    hidden[motion.turn_idx + 1 : motion.turn_idx + 30] = np.nan
    cut = dataclasses.replace(motion, keypoints=hidden)
    assert measure("wrist_height", motion).confidence > 0.5
    assert measure("wrist_height", cut).confidence == 0.0


def test_rushing_is_told_by_the_repetitions_before(rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("squat", 1), SIDE)[0]
    took_s = float(motion.time_s[-1] - motion.time_s[0])
    slow = dataclasses.replace(motion, earlier_s=(2.0 * took_s, 2.0 * took_s))
    assert measure("time_of_earlier", slow).value == pytest.approx(0.5)
    assert measure("time_of_earlier", motion).confidence == 0.0


@pytest.mark.parametrize(
    ("exercise", "fault", "name", "camera"),
    [
        ("squat", "knee_valgus", "knee_separation_ratio", FRONT),
        ("squat", "asymmetry", "weight_shift", FRONT),
        ("squat", "asymmetry", "weight_shift", Camera(yaw_deg=20.0)),
        ("lunge", "knee_valgus", "front_knee_inward", FRONT),
        ("lunge", "shallow_depth", "lowest_hip_height", SIDE),
        ("squat", "forward_knee", "largest_shin_lean_deg", SIDE),
        ("squat", "forward_knee", "knee_past_toe", SIDE),
        ("squat", "rounded_back", "back_rounding_deg", SIDE),
        ("lunge", "forward_knee", "front_shin_lean_deg", SIDE),
        ("lunge", "forward_knee", "front_shin_lean_deg", Camera(yaw_deg=-90.0)),
        ("push_up", "hip_sag", "hip_sag_deg", SIDE),
        ("push_up", "hip_sag", "hip_sag_deg", Camera(yaw_deg=-90.0)),
        ("push_up", "asymmetry", "shoulder_tilt", FRONT),
        ("overhead_press", "asymmetry", "wrist_height_difference", FRONT),
        ("overhead_press", "asymmetry", "arm_height_difference", FRONT),
        ("overhead_press", "shallow_depth", "wrist_height", FRONT),
        ("biceps_curl", "asymmetry", "wrist_height_difference", FRONT),
        ("jumping_jack", "asymmetry", "shoulder_difference_deg", FRONT),
    ],
)
def test_the_measure_follows_the_severity_of_its_fault(
    exercise: str, fault: str, name: str, camera: Camera, rep_motions: RepMotions
) -> None:
    values = [
        measure(name, rep_motions(MotionSpec(exercise, 1, faults=(Fault(fault, s),)), camera)[0])
        for s in (0.0, 0.5, 1.0)
    ]
    steps = np.diff([found.value for found in values])
    falling = name in {"knee_separation_ratio", "wrist_height"}
    assert np.all(steps < 0.0 if falling else steps > 0.0)


def test_elbows_that_contradict_a_tilt_leave_it_unmeasured() -> None:
    sinking, still = 300.0 + 35.0 * stroke(), np.full(61, 300.0)
    path = {
        "left_shoulder": np.stack((np.full(61, 400.0), sinking), axis=1),
        "right_shoulder": np.stack((np.full(61, 560.0), still), axis=1),
        "left_elbow": np.stack((np.full(61, 380.0), 0.5 * (sinking + 420.0)), axis=1),
        "right_elbow": np.stack((np.full(61, 580.0), still + 60.0), axis=1),
    }
    assert measure("shoulder_tilt", built(path, stroke(), 0.0)).value == pytest.approx(
        35 / 700, rel=0.2
    )
    path["left_elbow"] = np.stack((np.full(61, 380.0), 360.0 + 80.0 * stroke()), axis=1)
    assert np.isnan(measure("shoulder_tilt", built(path, stroke(), 0.0)).value)


def test_exchanged_knees_make_no_front_shin_lean(rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("lunge", 1), SIDE)[0]
    keypoints = motion.keypoints.copy()
    rows = [KEYPOINT_INDEX["left_knee"], KEYPOINT_INDEX["right_knee"]]
    span = slice(motion.turn_idx - 2, None)
    keypoints[span, rows] = keypoints[span, rows[::-1]]
    keypoints[motion.turn_idx - 3, rows] = keypoints[motion.turn_idx - 3, rows].mean(axis=0)
    exchanged = measure("front_shin_lean_deg", dataclasses.replace(motion, keypoints=keypoints))
    expected = measure("front_shin_lean_deg", motion).value
    assert exchanged.value < expected + 2.0


def test_unsure_frames_hardly_make_one_hand_higher() -> None:
    low, high = np.full(61, 500.0), 500.0 - 200.0 * stroke()
    mistaken = high.copy()
    mistaken[25:36] = 430.0
    path = {"left_wrist": np.stack((low, high), axis=1)}
    path["right_wrist"] = np.stack((low, mistaken), axis=1)
    sure = built(path, stroke(), 0.0)
    confidence = sure.confidence.copy()
    confidence[25:36, KEYPOINT_INDEX["right_wrist"]] = 0.1
    unsure = dataclasses.replace(sure, confidence=confidence)
    name = "wrist_height_difference"
    assert measure(name, unsure).value < 0.5 * measure(name, sure).value


def test_a_repetition_that_stood_still_tells_nothing_of_the_tempo() -> None:
    there = minimum_jerk(np.linspace(0.0, 1.0, 31))
    back = 0.5 * (1.0 - minimum_jerk(np.linspace(0.0, 1.0, 25)))
    for still_s, is_told in ((0.1, True), (1.5, False)):
        still = np.full(round(30 * still_s), 0.5)
        motion = built({}, np.concatenate((there, 1.0 - 0.5 * there, still, back)))
        among = dataclasses.replace(motion, earlier_s=(2.5, 2.5))
        assert np.isnan(unbroken_time_s(motion)) != is_told
        for name in ("set_tempo_spread", "time_of_earlier"):
            assert np.isnan(measure(name, among).value) != is_told


@pytest.mark.parametrize("facing", [1.0, -1.0])
@pytest.mark.parametrize("drop_px", [-40.0, 0.0, 60.0])
def test_hip_sag_is_positive_below_the_line_whichever_way_the_body_lies(
    facing: float, drop_px: float
) -> None:
    n = 61
    path = {
        "left_shoulder": np.tile([0.0, 0.0], (n, 1)),
        "left_hip": np.tile([facing * 200.0, drop_px], (n, 1)),
        "left_ankle": np.tile([facing * 400.0, 0.0], (n, 1)),
    }
    found = measure("hip_sag_deg", built(path, stroke()))
    assert found.value == pytest.approx(2.0 * np.degrees(np.arctan(drop_px / 200.0)))


def test_knees_over_the_ankles_have_a_ratio_of_one_and_crossed_knees_a_negative_one() -> None:
    n = 61

    def legs(knees_px: float) -> dict[str, FloatArray]:
        return {
            f"{side}_{part}": np.column_stack((np.full(n, sign * half), y))
            for side, sign in (("left", 1.0), ("right", -1.0))
            for part, half, y in (
                ("hip", 40.0, 100.0 + 80.0 * stroke()),
                ("knee", knees_px, np.full(n, 300.0)),
                ("ankle", 50.0, np.full(n, 470.0)),
            )
        }

    ratios = [
        measure("knee_separation_ratio", built(legs(x), stroke(), 0.0)).value for x in (50.0, -10.0)
    ]
    assert ratios == pytest.approx([1.0, -0.2])


def test_knee_past_toe_needs_a_toe_and_counts_from_it_in_shanks() -> None:
    n = 61
    path = {
        "left_ankle": np.tile([0.0, 400.0], (n, 1)),
        "left_knee": np.column_stack((130.0 * stroke(), np.full(n, 400.0))),
        "left_heel": np.tile([-20.0, 420.0], (n, 1)),
        "left_big_toe": np.tile([80.0, 420.0], (n, 1)),
    }
    # The frames beside the turn hardly differ: the mean of three is the extreme to a percent.
    assert measure("knee_past_toe", built(path, stroke())).value == pytest.approx(
        50 / 130, rel=0.01
    )
    del path["left_big_toe"]
    assert np.isnan(measure("knee_past_toe", built(path, stroke())).value)


@pytest.mark.parametrize("pause_s", [0.5, 1.5])
def test_a_pause_on_the_way_is_as_long_as_it_was(pause_s: float) -> None:
    there = minimum_jerk(np.linspace(0.0, 1.0, 31))
    still = np.full(round(30 * pause_s), 0.5)
    back = 0.5 * (1.0 - minimum_jerk(np.linspace(0.0, 1.0, 25)))
    signal = np.concatenate((there, 1.0 - 0.5 * there, still, back))
    found = measure("pause_s", built({}, signal))
    assert found.value == pytest.approx(pause_s, abs=0.5)
    assert found.value > pause_s


@pytest.mark.parametrize("noise", [0.0, 0.04])
def test_a_pause_is_one_though_keypoints_tremble_and_hide(noise: float) -> None:
    half = minimum_jerk(np.linspace(0.0, 1.0, 16)) / 2.0
    signal = np.concatenate((half, np.full(36, 0.5), 0.5 + half, 1.0 - 2.0 * half))
    signal += noise * np.sin(2.0 * np.pi * 2.5 * np.arange(signal.size) / 30.0)
    signal[30:34] = np.nan
    assert measure("pause_s", built({}, signal)).value > 1.2


def test_what_hides_for_long_is_no_pause() -> None:
    signal = np.concatenate((stroke()[:25], np.full(40, np.nan), stroke()[36:]))
    assert not measure("pause_s", built({}, signal)).value > 0.3


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0])
def test_the_faster_way_is_timed_from_rest_to_rest(seconds: float) -> None:
    away = minimum_jerk(np.linspace(0.0, 1.0, round(30 * seconds) + 1))
    back = minimum_jerk(np.linspace(1.0, 0.0, 91))
    signal = np.concatenate((np.zeros(20), away, np.ones(10), back, np.zeros(20)))
    rng = np.random.default_rng(0)
    noisy = signal + 0.01 * rng.standard_normal(signal.size)
    for one in (built({}, signal), built({}, signal[::-1])):
        assert measure("fastest_way_s", one).value == pytest.approx(seconds, abs=0.01)
    assert measure("fastest_way_s", built({}, noisy)).value == pytest.approx(seconds, rel=0.12)


def test_waiting_at_the_far_end_or_at_rest_is_no_pause() -> None:
    there = minimum_jerk(np.linspace(0.0, 1.0, 31))
    signal = np.concatenate((np.zeros(60), there, np.ones(60), there[::-1], np.zeros(60)))
    motion = built({}, signal)
    assert measure("pause_s", motion).value < 0.15
    assert measure("hold_s", motion).value == pytest.approx(2.4, abs=0.2)


def test_tempo_is_that_of_the_motion_without_rest() -> None:
    away, back = (minimum_jerk(np.linspace(0.0, 1.0, n)) for n in (61, 31))
    motion = built({}, np.concatenate((np.zeros(40), away, 1.0 - back, np.zeros(40))))
    # 3 % to 97 % of a minimum-jerk stroke take 70 % of its time.
    assert measure("tempo_away_s", motion).value == pytest.approx(1.4, abs=0.1)
    assert measure("tempo_back_s", motion).value == pytest.approx(0.7, abs=0.1)
    assert measure("tempo_ratio", motion).value == pytest.approx(0.5, abs=0.06)


def test_a_repetition_without_its_way_back_has_no_time_for_it() -> None:
    times = phase_times(built({}, minimum_jerk(np.linspace(0.0, 1.0, 31))))
    assert times[0] > 0.0
    assert np.isnan(times[2])


def test_a_signal_that_does_not_travel_has_no_fraction() -> None:
    assert np.isnan(signal_fraction(built({}, np.ones(9)))).all()


def test_the_tempo_of_a_set_takes_three_repetitions_to_tell() -> None:
    motion = built({}, stroke())
    assert np.isnan(measure("set_tempo_spread", motion).value)
    second = dataclasses.replace(motion, earlier_s=(2.0,))
    assert np.isnan(measure("set_tempo_spread", second).value)


@pytest.mark.parametrize(
    ("earlier_s", "spread"),
    [((2.0, 2.0), 0.0), ((4.0, 2.0, 4.0), np.log(2.0)), ((2.0, 9.9, 2.0, 2.0, 2.0, 2.0), 0.0)],
)
def test_the_tempo_spread_is_the_mean_change_of_log_duration(
    earlier_s: tuple[float, ...], spread: float
) -> None:
    motion = dataclasses.replace(built({}, stroke()), earlier_s=earlier_s)
    assert measure("set_tempo_spread", motion).value == pytest.approx(spread)


def test_a_measure_has_words_and_a_unit() -> None:
    assert measure_label("smallest_knee_deg") == ("smallest knee", " deg")
    assert measure_label("wrist_height_difference") == ("wrist height difference", " statures")
    assert measure_label("tempo_ratio") == ("tempo ratio", "")


def test_a_change_over_the_travel_averages_noise_and_leaves_out_what_was_not_seen() -> None:
    way = stroke()
    curve = 5.0 + 3.0 * way
    curve[::3] = np.nan
    assert change_over(curve, way) == pytest.approx(3.0)
    assert np.isnan(change_over(np.full(61, np.nan), way))
    assert np.isnan(change_over(curve, np.ones(61)))


def test_the_side_facing_the_camera_is_read(rep_motions: RepMotions) -> None:
    spec = MotionSpec("squat", reps=1)
    assert sides_to_read(rep_motions(spec, SIDE)[0]) == ("left",)
    assert sides_to_read(rep_motions(spec, Camera(yaw_deg=-90.0))[0]) == ("right",)
    assert sides_to_read(rep_motions(spec, FRONT)[0]) == ("left", "right")


def test_both_sides_are_read_when_neither_is_seen_better(rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("squat", reps=1), SIDE)[0]
    equal = dataclasses.replace(motion, confidence=np.full_like(motion.confidence, 0.9))
    assert sides_to_read(equal) == ("left", "right")
    curve, _ = joint_curve(equal, "knee")
    knees = equal.deg[:, [JOINT_INDEX["left_knee"], JOINT_INDEX["right_knee"]]]
    np.testing.assert_allclose(curve, knees.mean(axis=1))


def test_an_extreme_leaves_out_what_was_not_seen() -> None:
    curve = np.array([5.0, 4.0, 3.0, np.nan, -99.0, np.nan, 3.0, 2.0, 4.0])
    assert extreme(curve, largest=False) == pytest.approx(3.0)
    assert extreme(curve, largest=True) == pytest.approx(4.0)
    assert np.isnan(extreme(np.array([1.0, 2.0]), largest=True))


def test_confidence_falls_with_uncertainty_and_ends() -> None:
    values = [angle_confidence(sigma) for sigma in (0.0, 5.0, 15.0, 20.1, np.nan)]
    assert values[0] == 1.0
    assert values[1] > values[2] == 0.5
    assert values[3:] == [0.0, 0.0]


def test_a_minimum_jerk_stroke_is_smooth_at_any_speed_and_frame_rate() -> None:
    found = []
    for seconds, fps in ((0.8, 30.0), (1.6, 30.0), (1.6, 60.0)):
        time_s = np.arange(0.0, seconds, 1.0 / fps)
        found.append(sparc(minimum_jerk(time_s / seconds), time_s))
    np.testing.assert_allclose(found, -1.45, atol=0.1)


def test_smoothness_is_the_arc_length_of_the_spectrum_as_its_authors_define_it() -> None:
    # Equations of Balasubramanian et al. (2015), integrated directly instead of by an FFT.
    time_s = np.linspace(0.0, 1.0, 2001)
    speed = 30.0 * time_s**2 * (1.0 - time_s) ** 2
    hertz = np.linspace(0.0, 10.0, 2001)
    waves = np.exp(-2j * np.pi * hertz[:, None] * time_s) * speed
    magnitude = np.abs(waves.sum(axis=1))
    magnitude /= magnitude[0]
    last = np.flatnonzero(magnitude >= 0.05)[-1]
    expected = -np.hypot(1.0 / last, np.diff(magnitude[: last + 1])).sum()
    frames_s = np.arange(0.0, 1.0 + 1e-9, 1.0 / 120.0)
    assert sparc(minimum_jerk(frames_s), frames_s) == pytest.approx(expected, abs=0.02)
    assert expected == pytest.approx(-1.41, abs=0.05)


def test_a_stop_on_the_way_is_less_smooth() -> None:
    half = 0.5 * minimum_jerk(np.linspace(0.0, 1.0, 25))
    stopped = np.concatenate((half, np.full(20, 0.5), 0.5 + half))
    time_s = np.arange(len(stopped)) / 30.0
    assert sparc(stopped, time_s) < -2.0


def test_trembling_makes_a_slow_movement_no_less_smooth_than_a_fast_one() -> None:
    found = []
    for seconds in (1.0, 3.0):
        time_s = np.arange(0.0, seconds, 1.0 / 30.0)
        trembling = 0.01 * np.sin(2.0 * np.pi * 5.0 * time_s)
        found.append(sparc(minimum_jerk(time_s / seconds) + trembling, time_s))
    assert found[1] > found[0] - 0.1


def test_smoothness_bridges_gaps_and_needs_enough_frames_and_movement() -> None:
    time_s = np.arange(45) / 30.0
    position = minimum_jerk(time_s / 1.5)
    gappy = position.copy()
    gappy[10:12] = np.nan
    assert sparc(gappy, time_s) == pytest.approx(sparc(position, time_s), abs=0.1)
    assert np.isnan(sparc(position[:7], time_s[:7]))
    assert np.isnan(sparc(np.ones(45), time_s))
