"""The synthetic athlete does what it is told, and keeps its bones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pose_analyzer.skeleton import EDGE_NAMES, JOINT_INDEX, JOINT_NAMES, KEYPOINT_INDEX
from pose_analyzer.synthetic import (
    BYSTANDERS,
    EXERCISES,
    FAULT_NAMES,
    FAULTS_OF,
    HOLDS,
    Athlete,
    Fault,
    MotionSpec,
    Proportions,
    Tempo,
    Truth,
    minimum_jerk,
    parse_fault,
    synthesize,
)
from pose_analyzer.types import FloatArray

ANY = (*EXERCISES, *HOLDS, *BYSTANDERS)
TRIPLES = {
    "shoulder": ("elbow", "shoulder", "hip"),
    "elbow": ("shoulder", "elbow", "wrist"),
    "hip": ("shoulder", "hip", "knee"),
    "knee": ("hip", "knee", "ankle"),
    "ankle": ("knee", "ankle", "big_toe"),
}


def point(truth: Truth, name: str) -> FloatArray:
    return truth.joints_m[:, KEYPOINT_INDEX[name]]


def angle(truth: Truth, name: str) -> FloatArray:
    return truth.deg[:, JOINT_INDEX[name]]


def by_cosine_rule(truth: Truth, joint: str) -> FloatArray:
    """Return an included angle from three side lengths, in another way than the package does."""
    side, _, name = joint.partition("_")
    first, vertex, second = (point(truth, f"{side}_{part}") for part in TRIPLES[name])
    a, b = np.linalg.norm(first - vertex, axis=-1), np.linalg.norm(second - vertex, axis=-1)
    c = np.linalg.norm(first - second, axis=-1)
    cosine = np.clip((a**2 + b**2 - c**2) / (2.0 * a * b), -1.0, 1.0)
    return np.asarray(np.degrees(np.arccos(cosine)))


def turn(truth: Truth) -> int:
    """Return the frame of the farthest travel."""
    return int(truth.travel.argmax())


def squat(*faults: Fault, reps: int = 3, exercise: str = "squat") -> Truth:
    return synthesize(motion=MotionSpec(exercise, reps=reps, faults=faults))


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_commanded_angle_is_the_angle_of_the_joints(exercise: str) -> None:
    truth = synthesize(motion=MotionSpec(exercise, reps=3))
    for joint in truth.commanded_joints:
        measured = angle(truth, joint) if joint == "trunk_lean" else by_cosine_rule(truth, joint)
        assert np.abs(measured - truth.commanded_deg).max() < 0.01


@pytest.mark.parametrize("exercise", ANY)
def test_published_angles_agree_with_the_cosine_rule(exercise: str) -> None:
    truth = synthesize(motion=MotionSpec(exercise, reps=2))
    for joint in JOINT_NAMES:
        if "lean" not in joint:
            assert np.abs(angle(truth, joint) - by_cosine_rule(truth, joint)).max() < 0.01


def test_leans_are_measured_from_the_vertical() -> None:
    truth = squat()
    shin = point(truth, "left_knee") - point(truth, "left_ankle")
    from_vertical = np.degrees(np.arccos(shin[:, 2] / np.linalg.norm(shin, axis=-1)))
    assert np.allclose(angle(truth, "left_shin_lean"), from_vertical, atol=1e-6)


@pytest.mark.parametrize("exercise", ANY)
def test_bones_keep_their_length(exercise: str) -> None:
    faults = tuple(Fault(name) for name in FAULTS_OF[exercise])
    truth = synthesize(motion=MotionSpec(exercise, reps=3, faults=faults))
    for first, second in EDGE_NAMES:
        if {first.partition("_")[2], second.partition("_")[2]} == {"shoulder", "hip"}:
            continue  # The spine between them bends.
        length = np.linalg.norm(point(truth, first) - point(truth, second), axis=-1)
        assert np.ptp(length) < 1e-9, (first, second)


def test_segments_are_the_published_shares_of_stature() -> None:
    truth = synthesize(Athlete(stature_m=2.0))
    shank = np.linalg.norm(point(truth, "left_knee") - point(truth, "left_ankle"), axis=-1)
    thigh = np.linalg.norm(point(truth, "left_knee") - point(truth, "left_hip"), axis=-1)
    assert np.allclose(shank, 0.492)
    assert np.allclose(thigh, 0.490)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_angles_do_not_depend_on_stature(exercise: str) -> None:
    motion = MotionSpec(exercise, reps=1)
    small, tall = synthesize(Athlete(1.4), motion), synthesize(Athlete(2.1), motion)
    assert np.allclose(small.deg, tall.deg, atol=1e-6)


def test_other_proportions_change_the_angles_that_are_not_commanded() -> None:
    motion = MotionSpec("squat", reps=1)
    usual = synthesize(motion=motion)
    long_legs = synthesize(Athlete(proportions=Proportions(thigh=0.28)), motion)
    assert np.allclose(angle(usual, "left_knee"), angle(long_legs, "left_knee"), atol=1e-6)
    assert abs(angle(usual, "left_hip") - angle(long_legs, "left_hip")).max() > 0.01


@pytest.mark.parametrize("exercise", EXERCISES)
def test_nothing_sinks_into_the_floor(exercise: str) -> None:
    faults = tuple(Fault(name) for name in FAULTS_OF[exercise])
    truth = synthesize(motion=MotionSpec(exercise, reps=1, faults=faults))
    assert truth.points_m[..., 2].min() > 0.0


@pytest.mark.parametrize("exercise", ["squat", "deadlift", "overhead_press", "biceps_curl"])
def test_planted_feet_do_not_move(exercise: str) -> None:
    truth = squat(Fault("asymmetry"), exercise=exercise)
    for name in ("left_ankle", "right_ankle", "left_heel", "right_big_toe"):
        assert np.ptp(point(truth, name), axis=0).max() < 1e-12


def test_minimum_jerk_starts_and_ends_at_rest() -> None:
    step = 1e-4
    u = np.arange(0.0, 1.0 + step, step)
    way = minimum_jerk(u)
    speed = np.gradient(way, step)
    acceleration = np.gradient(speed, step)
    assert (way[0], way[-1]) == (0.0, pytest.approx(1.0))
    assert abs(speed[[0, -1]]).max() < 1e-3
    assert abs(acceleration[[1, -2]]).max() < 0.05
    assert speed.max() == pytest.approx(1.875, abs=1e-3)
    assert np.allclose(way, 1.0 - way[::-1])


def test_tempo_sets_when_repetitions_start_turn_and_end() -> None:
    tempo = Tempo(away_s=2.0, turn_s=0.4, back_s=1.0, rest_s=0.5, lead_s=1.5)
    truth = synthesize(motion=MotionSpec(reps=2, tempo=tempo, variation=0.0))
    first, second = truth.reps
    assert (first.start_s, first.turn_s, first.end_s) == pytest.approx((1.5, 3.7, 4.9))
    assert second.start_s == pytest.approx(5.4)
    assert truth.time_s[-1] == pytest.approx(8.8 + 1.5, abs=1.0 / 30.0)


def test_phases_and_repetitions_follow_each_other() -> None:
    truth = squat(reps=2)
    phases = [name for name, _ in itertools.groupby(truth.phase_names)]
    assert phases == ["rest", "away", "turn", "back"] * 2 + ["rest"]
    assert [number for number, _ in itertools.groupby(truth.attempt.tolist())] == [0, 1, 0, 2, 0]
    assert truth.rep_count == 2
    assert np.all((truth.attempt == 0) == (truth.phase == 0))


@pytest.mark.parametrize("depth", [0.4, 0.7, 1.0])
def test_depth_scales_the_travel(depth: float) -> None:
    truth = synthesize(motion=MotionSpec("squat", reps=1, depth=depth, variation=0.0))
    assert truth.travel.max() == pytest.approx(depth)
    assert angle(truth, "left_knee").min() == pytest.approx(175.0 - 95.0 * depth)


def test_the_seed_decides_the_variation() -> None:
    one, same, other = (synthesize(motion=MotionSpec(reps=3, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.points_m, same.points_m)
    assert one.reps[-1].end_s != other.reps[-1].end_s


def test_a_fault_of_one_repetition_leaves_the_others_unchanged() -> None:
    clean = squat()
    faulty = squat(Fault("shallow_depth", 1.0, reps=(2,)))
    depths = [(a.depth, b.depth) for a, b in zip(clean.reps, faulty.reps, strict=True)]
    assert [a == b for a, b in depths] == [True, False, True]
    assert [rep.faults for rep in faulty.reps] == [(), ("shallow_depth",), ()]


@pytest.mark.parametrize("name", FAULT_NAMES)
def test_severity_zero_is_no_fault(name: str) -> None:
    exercise = next(key for key, allowed in FAULTS_OF.items() if name in allowed)
    clean, none = squat(exercise=exercise), squat(Fault(name, 0.0), exercise=exercise)
    assert np.array_equal(clean.points_m, none.points_m)
    assert all(rep.faults == () for rep in none.reps)


@pytest.mark.parametrize(
    "name", ["knee_valgus", "forward_knee", "rounded_back", "hip_sag", "asymmetry"]
)
def test_faults_of_posture_grow_from_rest_and_with_severity(name: str) -> None:
    exercise = next(key for key, allowed in FAULTS_OF.items() if name in allowed)
    clean = squat(exercise=exercise)
    shifts = []
    for severity in (0.3, 0.6, 1.0):
        faulty = squat(Fault(name, severity), exercise=exercise)
        shift = np.linalg.norm(faulty.joints_m - clean.joints_m, axis=-1)
        assert shift[clean.phase == 0].max() < 1e-12
        shifts.append(shift.max())
    assert 0.01 < shifts[0] < shifts[1] < shifts[2]


def test_knee_valgus_brings_the_knees_together_and_keeps_their_angle() -> None:
    clean, faulty = squat(), squat(Fault("knee_valgus"))

    def gap(truth: Truth) -> float:
        at = turn(truth)
        return float(point(truth, "left_knee")[at, 1] - point(truth, "right_knee")[at, 1])

    assert gap(faulty) < gap(clean) - 0.15
    assert np.allclose(angle(clean, "left_knee"), angle(faulty, "left_knee"), atol=1e-6)


def test_forward_knee_leans_the_shin_and_keeps_the_knee_angle() -> None:
    clean, faulty = squat(), squat(Fault("forward_knee"))
    lean = angle(faulty, "left_shin_lean") - angle(clean, "left_shin_lean")
    assert lean[turn(clean)] == pytest.approx(16.0, abs=1.5)
    assert np.allclose(angle(clean, "left_knee"), angle(faulty, "left_knee"), atol=1e-6)


def test_rounded_back_shortens_the_trunk_and_keeps_its_lean() -> None:
    clean, faulty = squat(exercise="deadlift"), squat(Fault("rounded_back"), exercise="deadlift")

    def trunk(truth: Truth) -> FloatArray:
        return np.asarray(
            np.linalg.norm(point(truth, "left_shoulder") - point(truth, "left_hip"), axis=-1)
        )

    assert trunk(faulty)[turn(faulty)] < 0.93 * trunk(clean)[turn(clean)]
    assert np.allclose(angle(clean, "trunk_lean"), angle(faulty, "trunk_lean"), atol=1e-6)


def test_hip_sag_lowers_the_hips_and_keeps_the_elbows() -> None:
    clean, faulty = squat(exercise="push_up"), squat(Fault("hip_sag"), exercise="push_up")
    at = turn(clean)
    assert point(faulty, "left_hip")[at, 2] < point(clean, "left_hip")[at, 2] - 0.05
    assert np.allclose(angle(clean, "left_elbow"), angle(faulty, "left_elbow"), atol=1e-6)


@pytest.mark.parametrize(
    ("exercise", "joint"),
    [
        ("biceps_curl", "elbow"),
        ("overhead_press", "elbow"),
        ("squat", "knee"),
        ("push_up", "elbow"),
    ],
)
def test_asymmetry_is_the_difference_between_the_sides(exercise: str, joint: str) -> None:
    def difference(truth: Truth) -> float:
        return float(abs(angle(truth, f"left_{joint}") - angle(truth, f"right_{joint}")).max())

    assert difference(squat(exercise=exercise)) < 1e-6
    assert difference(squat(Fault("asymmetry"), exercise=exercise)) > 3.0


def test_uneven_tempo_alternates_slow_and_fast() -> None:
    durations = np.array([rep.end_s - rep.start_s for rep in squat(Fault("uneven_tempo")).reps])
    clean = np.array([rep.end_s - rep.start_s for rep in squat().reps])
    assert np.all((durations > 1.4 * clean) == [True, False, True])
    assert durations[1] < 0.7 * clean[1]


def test_half_reps_are_not_counted_and_are_much_smaller() -> None:
    truth = squat(Fault("half_rep"), reps=5)
    assert [rep.is_partial for rep in truth.reps] == [False, False, True, False, False]
    assert [rep.number for rep in truth.reps] == [1, 2, 0, 3, 4]
    assert truth.rep_count == 4
    assert truth.reps[2].depth < 0.35


def test_a_pause_stops_half_way_back() -> None:
    truth = squat(Fault("pause", 1.0, reps=(1,)))
    still = (np.abs(np.diff(truth.travel)) < 1e-12) & (truth.travel[1:] > 0.1)
    is_back = truth.phase[1:] == 3
    assert np.count_nonzero(still & is_back) == pytest.approx(60, abs=2)
    half = 0.5 * truth.reps[0].depth
    assert truth.travel[1:][still & is_back] == pytest.approx(half)


def test_each_frame_names_the_faults_of_its_repetition() -> None:
    truth = squat(Fault("knee_valgus", 0.6, reps=(2,)), Fault("pause"))
    middle = {number: int(np.flatnonzero(truth.attempt == number)[5]) for number in (1, 2)}
    assert truth.faults_at(0) == ()
    assert truth.faults_at(middle[1]) == ()
    assert truth.faults_at(middle[2]) == ("knee_valgus", "pause")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("knee_valgus", Fault("knee_valgus", 1.0)),
        ("knee-valgus:0.6", Fault("knee_valgus", 0.6)),
        ("half_rep:1:3,7", Fault("half_rep", 1.0, (3, 7))),
        ("pause::2", Fault("pause", 1.0, (2,))),
    ],
)
def test_faults_are_read_from_text(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("knee_vlagus", "known faults: shallow_depth, knee_valgus"),
        ("pause:much", "write NAME, NAME:SEVERITY or NAME:SEVERITY:REPS"),
        ("pause:1.5", r"severity of pause must be in \[0, 1\], got 1.5"),
        ("pause:1:0", "count from 1"),
    ],
)
def test_faults_that_cannot_be_read_say_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_fault(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exercise": "sqaut"}, "unknown exercise 'sqaut'; known exercises: squat, push_up"),
        ({"reps": -1}, "reps"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"depth": 2.0}, "depth"),
        ({"variation": 0.9}, "variation"),
        ({"exercise": "biceps_curl", "faults": (Fault("hip_sag"),)}, "it can show: shallow_depth"),
    ],
)
def test_impossible_motions_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MotionSpec(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{"away_s": 0.0}, {"rest_s": -1.0}])
def test_impossible_tempos_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="_s"):
        Tempo(**values)


def test_impossible_bodies_are_refused() -> None:
    with pytest.raises(ValueError, match="stature_m"):
        Athlete(stature_m=17.5)
    with pytest.raises(ValueError, match="girth"):
        Athlete(girth=0.0)
    with pytest.raises(ValueError, match="thigh must be a fraction"):
        Proportions(thigh=0.43 * 1.75 * 2)


@pytest.mark.parametrize("exercise", ["lunge", "push_up"])
def test_a_body_that_cannot_do_the_exercise_is_refused(exercise: str) -> None:
    odd = Athlete(proportions=Proportions(shank=0.06, thigh=0.06, trunk=0.06))
    with pytest.raises(ValueError, match="proportions"):
        synthesize(odd, MotionSpec(exercise))


def test_bystanders_repeat_nothing_and_take_as_long_as_a_set() -> None:
    walker, athlete = squat(exercise="walk"), squat()
    assert (walker.reps, walker.rep_count) == ((), 0)
    assert walker.n_frames == athlete.n_frames
    assert np.ptp(walker.joints_m[:, 0, 0]) > 2.0


def test_place_and_heading_move_the_whole_body() -> None:
    at_origin = synthesize(motion=MotionSpec(reps=1))
    moved = synthesize(motion=MotionSpec(reps=1, x_m=1.0, y_m=-2.0, heading_deg=90.0))
    turned = np.stack(
        [-at_origin.joints_m[..., 1], at_origin.joints_m[..., 0], at_origin.joints_m[..., 2]], -1
    )
    assert np.allclose(moved.joints_m, turned + np.array([1.0, -2.0, 0.0]))
    assert np.allclose(moved.deg, at_origin.deg)


def test_a_calf_raise_lifts_heels_and_hips_alike_off_planted_toes() -> None:
    truth = synthesize(motion=MotionSpec("calf_raise", reps=2))
    ankle, hip, toe = (point(truth, f"left_{name}") for name in ("ankle", "hip", "big_toe"))
    assert np.ptp(ankle[:, 2]) > 0.05
    assert np.ptp(hip[:, 2] - ankle[:, 2]) < 1e-9
    assert np.ptp(toe[:, 2]) < 0.02
