"""pipeline: the whole route on synthetic athletes, and what happens when they are not there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.skeleton import JOINT_INDEX
from pose_analyzer.synthetic import (
    Athlete,
    Camera,
    DetectorHabits,
    Fault,
    MotionSpec,
    Truth,
    detections_from_truth,
    synthesize,
)
from pose_analyzer.types import FrameAnalysis, PoseDetections, RepAnalysis

EXERCISES = ("squat", "push_up", "deadlift", "lunge", "overhead_press", "biceps_curl")
NOBODY = PoseDetections.empty()


def squats(reps: int = 3, yaw_deg: float = 90.0, faults: tuple[Fault, ...] = ()) -> Truth:
    return synthesize(Athlete(), MotionSpec("squat", reps=reps, faults=faults), Camera(yaw_deg))


def noisy(truth: Truth, noise_px: float = 3.0, seed: int = 0) -> list[PoseDetections]:
    return detections_from_truth(truth, noise_px=noise_px, rng=np.random.default_rng(seed))


def run(
    exercise: str, found: Sequence[PoseDetections], pipeline: StreamPipeline | None = None
) -> tuple[list[FrameAnalysis], list[RepAnalysis]]:
    pipeline = pipeline or StreamPipeline(load_exercise(exercise))
    frames = [pipeline.update(one, index, index / 30.0) for index, one in enumerate(found)]
    reps = [rep for frame in frames for rep in frame.finished]
    return frames, [*reps, *pipeline.finish()]


def full(reps: Sequence[RepAnalysis]) -> int:
    return sum(not one.rep.is_partial for one in reps)


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("yaw_deg", [0.0, 45.0, 90.0])
def test_every_repetition_is_counted_from_every_side(exercise: str, yaw_deg: float) -> None:
    truth = synthesize(Athlete(), MotionSpec(exercise, reps=4), Camera(yaw_deg))
    assert full(run(exercise, noisy(truth))[1]) == 4


@pytest.mark.parametrize("stature_m", [1.5, 2.0])
def test_the_count_does_not_depend_on_the_athlete(stature_m: float) -> None:
    truth = synthesize(Athlete(stature_m=stature_m), MotionSpec("squat", reps=3), Camera())
    assert full(run("squat", noisy(truth))[1]) == 3


def test_the_deepest_knee_of_a_repetition_is_the_true_one() -> None:
    truth = squats()
    _, reps = run("squat", noisy(truth))
    knee = JOINT_INDEX["left_knee"]
    assert reps[0].min_deg[knee] == pytest.approx(float(truth.deg[:, knee].min()), abs=3.0)


def test_good_squats_score_high_and_shallow_ones_lower() -> None:
    good = run("squat", noisy(squats()))[1]
    shallow = run("squat", noisy(squats(faults=(Fault("shallow_depth", 0.8),))))[1]
    assert min(one.score.total for one in good) > max(one.score.total for one in shallow) + 5.0
    assert "shallow_depth" in {fault.name for one in shallow for fault in one.faults}
    assert not any(one.faults for one in good)


def test_a_fault_that_stays_is_cued() -> None:
    frames, _ = run("squat", noisy(squats(reps=4, faults=(Fault("shallow_depth", 1.0),))))
    assert "shallow_depth" in {frame.cue.name for frame in frames if frame.cue is not None}


def test_the_count_rises_in_the_frame_that_finishes_a_repetition() -> None:
    frames, _ = run("squat", noisy(squats()))
    for before, after in itertools.pairwise(frames):
        assert after.rep_count - before.rep_count == full(after.finished)


def test_the_score_shown_is_that_of_the_last_full_repetition() -> None:
    frames, reps = run("squat", noisy(squats()))
    assert math.isnan(frames[0].score)
    assert frames[-1].score == reps[-1].score.total


def test_the_view_is_found_and_the_front_makes_angles_less_sure() -> None:
    side = run("squat", noisy(squats(yaw_deg=90.0)))[0][60].angles
    front = run("squat", noisy(squats(yaw_deg=0.0)))[0][60].angles
    assert side.yaw_deg > 65.0
    assert front.yaw_deg < 35.0
    assert side.sigma_deg[JOINT_INDEX["left_knee"]] < front.sigma_deg[JOINT_INDEX["left_knee"]]


def test_with_nobody_in_view_nothing_is_measured() -> None:
    frames, reps = run("squat", [NOBODY] * 30)
    assert reps == []
    assert frames[-1].pose.n_people == 0
    assert np.isnan(frames[-1].angles.deg).all()
    assert frames[-1].motion.phase == "unknown"
    assert frames[-1].rep_count == 0


def test_an_athlete_who_leaves_and_returns_goes_on_counting() -> None:
    found = noisy(squats(reps=2))
    _, reps = run("squat", [*found, *[NOBODY] * 90, *found])
    assert full(reps) == 4
    assert [one.rep.number for one in reps if not one.rep.is_partial] == [1, 2, 3, 4]


def test_a_camera_cut_within_a_repetition_is_counted_and_not_smoothed_over() -> None:
    truth = squats()
    found = noisy(truth, noise_px=1.0)
    cut = int(np.argmax(truth.travel)) + 6
    moved = [
        replace(one, keypoints=one.keypoints + 600.0, boxes=one.boxes + 600.0)
        for one in found[cut:]
    ]
    _, reps = run("squat", [*found[:cut], *moved])
    assert full(reps) == 3
    knee = JOINT_INDEX["left_knee"]
    for one in reps:
        assert one.min_deg[knee] > float(truth.deg[:, knee].min()) - 6.0


@pytest.mark.parametrize("gap_s", [2.0, 5.0])
def test_a_repetition_that_hides_tells_how_little_of_it_was_seen(gap_s: float) -> None:
    truth = squats(reps=1)
    found = noisy(truth)
    turn = int(np.argmax(truth.travel))
    _, reps = run("squat", [*found[:turn], *[NOBODY] * int(gap_s * 30), *found[-30:]])
    (rep,) = reps
    shown_s = rep.rep.duration_s - gap_s
    assert rep.seen == pytest.approx(shown_s / rep.rep.duration_s, abs=0.15)
    assert math.isnan(rep.score.total) == (rep.seen < 0.4)


def test_an_unknown_yaw_is_no_warning_and_no_number() -> None:
    def one_sided(one: PoseDetections) -> PoseDetections:
        confidence = one.confidence.copy()
        confidence[:, 2::2] = 0.0
        return replace(one, confidence=confidence, world_m=None)

    _, reps = run("squat", [one_sided(one) for one in noisy(squats())])
    assert len(reps) == 3
    assert math.isnan(reps[0].yaw_deg)


def test_dropouts_outliers_and_swaps_do_not_change_the_count() -> None:
    truth = squats(reps=5)
    habits = DetectorHabits(outlier_rate=0.01, swap_rate=0.02, gaps_s=((3.0, 3.2),))
    found = detections_from_truth(
        truth, noise_px=3.0, dropout=0.05, rng=np.random.default_rng(1), habits=habits
    )
    assert full(run("squat", found)[1]) == 5


def test_a_bystander_is_not_the_athlete() -> None:
    athlete = squats(reps=3)
    bystander = synthesize(
        Athlete(), MotionSpec("squat", reps=3, x_m=-1.4, y_m=-1.5, seed=9), Camera(90.0)
    )
    found = detections_from_truth([athlete, bystander], noise_px=2.0, rng=np.random.default_rng(0))
    frames, reps = run("squat", found)
    assert frames[30].pose.n_people == 2
    assert full(reps) == 3


def test_a_single_frame_and_no_frame_at_all_give_no_repetition() -> None:
    assert run("squat", noisy(squats())[:1])[1] == []
    assert run("squat", [])[1] == []


def test_time_that_stands_still_is_refused() -> None:
    pipeline = StreamPipeline(load_exercise("squat"))
    pipeline.update(NOBODY, 0, 0.0)
    with pytest.raises(ValueError, match="time"):
        pipeline.update(NOBODY, 1, 0.0)


def test_reset_equals_new() -> None:
    found = noisy(squats())
    pipeline = StreamPipeline(load_exercise("squat"))
    run("squat", found, pipeline)
    pipeline.reset()
    again, again_reps = run("squat", found, pipeline)
    fresh, fresh_reps = run("squat", found)
    np.testing.assert_array_equal(
        np.stack([frame.angles.deg for frame in again]),
        np.stack([frame.angles.deg for frame in fresh]),
    )
    assert [one.rep for one in again_reps] == [one.rep for one in fresh_reps]
    # As text, because NaN equals nothing.
    assert [repr(one.score) for one in again_reps] == [repr(one.score) for one in fresh_reps]
    assert pipeline.rep_count == 3


@pytest.mark.parametrize(
    ("exercise", "joint", "best_yaw_deg"), [("jumping_jack", "shoulder", 0), ("squat", "knee", 90)]
)
def test_an_angle_is_surer_from_the_view_that_shows_its_plane(
    exercise: str, joint: str, best_yaw_deg: int
) -> None:
    sigma = {}
    for yaw_deg in (0, 90):
        truth = synthesize(motion=MotionSpec(exercise, reps=1), camera=Camera(yaw_deg=yaw_deg))
        pipeline = StreamPipeline(load_exercise(exercise))
        found = detections_from_truth(truth, habits=DetectorHabits(has_world=True))[:5]
        analyses = [pipeline.update(one, i, i / 30.0) for i, one in enumerate(found)]
        sigma[yaw_deg] = analyses[-1].angles.sigma_deg[JOINT_INDEX[f"left_{joint}"]]
    assert sigma[best_yaw_deg] < 0.7 * sigma[90 - best_yaw_deg]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_stop_is_part_of_a_repetition_and_a_half_one_is_partial(exercise: str) -> None:
    faults = (Fault("pause", 1.0, reps=(2,)), Fault("half_rep", 1.0, reps=(3,)))
    truth = synthesize(Athlete(), MotionSpec(exercise, reps=4, faults=faults), Camera(yaw_deg=45.0))
    reps = run(exercise, noisy(truth, noise_px=2.5))[1]
    assert [one.rep.is_partial for one in reps] == [False, False, True, False]


@pytest.mark.parametrize("other", ["walk", "stand", "calf_raise"])
@pytest.mark.parametrize("yaw_deg", [0.0, 45.0, 90.0])
@pytest.mark.parametrize("pitch_deg", [0.0, 25.0])
def test_who_walks_stands_or_raises_the_heels_does_not_squat(
    other: str, yaw_deg: float, pitch_deg: float
) -> None:
    camera = Camera(yaw_deg=yaw_deg, pitch_deg=pitch_deg)
    truth = synthesize(Athlete(), MotionSpec(other, reps=4), camera)
    assert full(run("squat", noisy(truth, noise_px=4.0))[1]) == 0
