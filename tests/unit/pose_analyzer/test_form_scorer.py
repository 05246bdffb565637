"""FormScorer: totals, parts, invariances, views, faults, references, speed of one pose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from pose_analyzer.errors import ExerciseError, ReferencesError
from pose_analyzer.exercise_file import exercise_names, load_exercise
from pose_analyzer.form_reference import ReferenceCurves
from pose_analyzer.form_scorer import TECHNIQUE, FormScorer
from pose_analyzer.references import exercises_in, load_references, shipped_folder
from pose_analyzer.skeleton import JOINT_INDEX, JOINT_MIRROR, MIRROR, N_JOINTS
from pose_analyzer.synthetic import EXERCISES, Camera, Fault, MotionSpec
from pose_analyzer.types import FormScore, RepMotion, ScorePart

RepMotions = Callable[..., list[RepMotion]]
SIDE, FRONT = Camera(yaw_deg=90.0), Camera(yaw_deg=0.0)
SEEN_FROM = {
    "shallow_depth": SIDE,
    "forward_knee": SIDE,
    "rounded_back": SIDE,
    "hip_sag": SIDE,
    "knee_valgus": FRONT,
    "asymmetry": FRONT,
}


def part(score: FormScore, name: str) -> ScorePart:
    return next(one for one in score.parts if one.name == name)


def squats(rep_motions: RepMotions, camera: Camera = SIDE, **how: float) -> list[RepMotion]:
    return rep_motions(MotionSpec("squat", reps=4), camera, **how)


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("noise_px", [0.0, 2.5])
def test_good_repetitions_score_high_and_raise_no_fault(
    exercise: str, noise_px: float, rep_motions: RepMotions
) -> None:
    scorer = FormScorer(load_exercise(exercise))
    for camera in (SIDE, FRONT):
        for motion in rep_motions(MotionSpec(exercise, reps=4), camera, noise_px=noise_px):
            assert scorer.faults(motion) == ()
            total = scorer.score(motion).total
            assert total > 90.0 or (np.isnan(total) and exercise == "jumping_jack")


@pytest.mark.parametrize(
    ("exercise", "fault"),
    [
        *(("squat", name) for name in SEEN_FROM if name != "hip_sag"),
        *(("deadlift", name) for name in SEEN_FROM if name != "hip_sag"),
        *(
            ("lunge", name)
            for name in SEEN_FROM
            if name not in {"hip_sag", "asymmetry", "rounded_back"}
        ),
        ("push_up", "shallow_depth"),
        ("push_up", "hip_sag"),
        *((name, "shallow_depth") for name in ("overhead_press", "biceps_curl")),
        *((name, "asymmetry") for name in ("overhead_press", "biceps_curl", "jumping_jack")),
    ],
)
def test_a_clear_fault_is_named_and_costs_score(
    exercise: str, fault: str, rep_motions: RepMotions
) -> None:
    scorer = FormScorer(load_exercise(exercise))
    good = rep_motions(MotionSpec(exercise, reps=3), SEEN_FROM[fault], noise_px=2.0)
    bad = rep_motions(
        MotionSpec(exercise, reps=3, faults=(Fault(fault, 0.9),)), SEEN_FROM[fault], noise_px=2.0
    )
    for one, other in zip(good, bad, strict=True):
        assert fault in {found.name for found in scorer.faults(other)}
        assert scorer.score(other).total < scorer.score(one).total - 3.0


def test_a_fault_grows_with_its_severity(rep_motions: RepMotions) -> None:
    scorer = FormScorer(load_exercise("squat"))
    found = [
        {
            f.name: f
            for f in scorer.faults(rep_motions(MotionSpec("squat", 1, faults=(f,)), SIDE)[0])
        }
        for f in (Fault("shallow_depth", 0.5), Fault("shallow_depth", 0.8))
    ]
    mild, strong = (one["shallow_depth"] for one in found)
    assert 0.0 < mild.severity < strong.severity <= 1.0
    assert "limit 0.71 of standing" in mild.evidence


def test_a_fault_is_named_once_however_many_entries_see_it(rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("squat", 1, faults=(Fault("rushed_tempo", 1.0),)), SIDE)[0]
    after_slow = dataclasses.replace(motion, earlier_s=(3.0, 3.0))
    named = [one.name for one in FormScorer(load_exercise("squat")).faults(after_slow)]
    assert named.count("rushed_tempo") == 1


@pytest.mark.parametrize("name", ["half_rep", "pause"])
def test_faults_of_timing_show_from_the_side(name: str, rep_motions: RepMotions) -> None:
    fault = Fault(name, 0.8, reps=(1,))
    motion = rep_motions(MotionSpec("squat", 1, faults=(fault,)), SIDE, noise_px=2.0)[0]
    assert name in {found.name for found in FormScorer(load_exercise("squat")).faults(motion)}


def test_total_does_not_depend_on_stature(rep_motions: RepMotions) -> None:
    scorer = FormScorer(load_exercise("squat"))
    totals = [
        scorer.score(squats(rep_motions, Camera(yaw_deg=90.0, distance_m=20.0), stature_m=size)[0])
        for size in (1.5, 2.0)
    ]
    assert totals[0].total == pytest.approx(totals[1].total, abs=0.5)


def test_total_does_not_depend_on_scale_or_place_in_the_picture(rep_motions: RepMotions) -> None:
    scorer = FormScorer(load_exercise("squat"))
    motion = squats(rep_motions)[0]
    moved = dataclasses.replace(
        motion,
        keypoints=motion.keypoints * 0.5 + np.array([300.0, -40.0]),
        stature_px=motion.stature_px * 0.5,
    )
    assert scorer.score(moved).total == pytest.approx(scorer.score(motion).total, abs=1e-6)


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("yaw_deg", [0.0, 50.0, 90.0])
def test_exchanging_left_and_right_changes_neither_total_nor_faults(
    exercise: str, yaw_deg: float, rep_motions: RepMotions
) -> None:
    scorer = FormScorer(load_exercise(exercise))
    faults = (Fault("asymmetry", 0.7),)
    camera = Camera(yaw_deg=yaw_deg)
    motion = rep_motions(MotionSpec(exercise, reps=2, faults=faults), camera)[0]
    mirrored = dataclasses.replace(
        motion,
        keypoints=motion.keypoints[:, MIRROR] * np.array([-1.0, 1.0]),
        confidence=motion.confidence[:, MIRROR],
        deg=motion.deg[:, JOINT_MIRROR],
        sigma_deg=motion.sigma_deg[:, JOINT_MIRROR],
    )
    assert scorer.score(mirrored).total == pytest.approx(scorer.score(motion).total, nan_ok=True)
    names, others = ([f.name for f in scorer.faults(one)] for one in (motion, mirrored))
    assert names == others


def test_what_the_front_hides_is_not_judged_and_says_why(rep_motions: RepMotions) -> None:
    score = FormScorer(load_exercise("squat")).score(squats(rep_motions, FRONT)[0])
    depth = part(score, "depth")
    assert np.isnan(depth.score)
    assert depth.confidence == 0.0
    assert "film from the side" in depth.evidence
    assert score.confidence < 0.6


def test_what_the_side_hides_is_not_judged_and_says_why(rep_motions: RepMotions) -> None:
    scorer = FormScorer(load_exercise("overhead_press"))
    motion = rep_motions(MotionSpec("overhead_press", reps=1), SIDE)[0]
    assert "film from the front" in part(scorer.score(motion), "symmetry").evidence


def test_an_unknown_view_is_not_judged(rep_motions: RepMotions) -> None:
    motion = dataclasses.replace(squats(rep_motions)[0], yaw_deg=np.nan)
    score = FormScorer(load_exercise("squat")).score(motion)
    assert "view is unknown" in part(score, "depth").evidence


def test_angles_that_are_too_uncertain_are_not_judged(rep_motions: RepMotions) -> None:
    motion = squats(rep_motions)[0]
    unsure = dataclasses.replace(motion, sigma_deg=np.full_like(motion.sigma_deg, 30.0))
    score = FormScorer(load_exercise("squat")).score(unsure)
    assert np.isnan(part(score, "depth").score)
    assert "too uncertain" in part(score, "alignment").evidence


def test_nothing_seen_gives_no_total(rep_motions: RepMotions) -> None:
    motion = squats(rep_motions)[0]
    blind = dataclasses.replace(
        motion,
        keypoints=np.full_like(motion.keypoints, np.nan),
        confidence=np.zeros_like(motion.confidence),
        deg=np.full_like(motion.deg, np.nan),
        sigma_deg=np.full_like(motion.sigma_deg, np.nan),
        signal=np.full_like(motion.signal, np.nan),
        stature_px=np.nan,
    )
    for exercise in exercise_names():
        scorer = FormScorer(load_exercise(exercise))
        score = scorer.score(blind)
        assert np.isnan(score.total)
        assert score.confidence == 0.0
        assert all(one.evidence for one in score.parts)
        assert scorer.faults(blind) == ()


def test_a_joint_seen_for_half_of_the_frames_is_still_judged(rep_motions: RepMotions) -> None:
    motion = squats(rep_motions)[0]
    deg = motion.deg.copy()
    deg[::2, JOINT_INDEX["left_hip"]] = np.nan
    deg[:, JOINT_INDEX["left_shin_lean"]] = np.nan
    score = FormScorer(load_exercise("squat")).score(dataclasses.replace(motion, deg=deg))
    assert part(score, "alignment").score > 90.0


def test_depth_is_not_judged_when_the_far_end_was_not_seen(rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("overhead_press", reps=1), SIDE)[0]
    raised = motion.signal > 0.7 * motion.signal.max()
    deg = np.where(raised[:, None], np.nan, motion.deg)
    cropped = dataclasses.replace(motion, deg=deg)
    scorer = FormScorer(load_exercise("overhead_press"))
    assert np.isnan(part(scorer.score(cropped), "depth").score)
    assert "shallow_depth" not in {one.name for one in scorer.faults(cropped)}


def test_alignment_is_not_judged_when_no_joint_is_seen_often_enough(
    rep_motions: RepMotions,
) -> None:
    motion = squats(rep_motions)[0]
    deg = motion.deg.copy()
    deg[2:] = np.nan
    score = FormScorer(load_exercise("squat")).score(dataclasses.replace(motion, deg=deg))
    assert "too few frames" in part(score, "alignment").evidence


def test_feet_that_wander_cost_stability(rep_motions: RepMotions) -> None:
    motion = squats(rep_motions)[0]
    shaken = motion.keypoints.copy()
    shaken[:, :, 0] += 40.0 * np.sin(10.0 * motion.time_s)[:, None]
    score = FormScorer(load_exercise("squat")).score(dataclasses.replace(motion, keypoints=shaken))
    assert part(score, "stability").score < 70.0


def test_a_partial_repetition_is_not_judged_for_its_smoothness(rep_motions: RepMotions) -> None:
    scorer = FormScorer(load_exercise("squat"))
    motion = squats(rep_motions)[0]
    whole, cut = scorer.score(motion), scorer.score(motion, is_partial=True)
    assert part(whole, "smoothness").confidence > 0.9
    assert part(cut, "smoothness").confidence == 0.0
    assert "partial" in part(cut, "smoothness").evidence
    assert part(cut, "depth") == part(whole, "depth")


def test_the_total_is_the_mean_of_the_parts_by_weight_and_confidence(
    rep_motions: RepMotions,
) -> None:
    score = FormScorer(load_exercise("squat")).score(squats(rep_motions)[0])
    judged = [one for one in score.parts if one.confidence > 0.0]
    shares = np.array([one.weight * one.confidence for one in judged])
    expected = shares @ np.array([one.score for one in judged]) / shares.sum()
    assert score.total == pytest.approx(expected)
    assert score.parts[-1].name == TECHNIQUE


def test_a_pose_on_the_reference_scores_100_and_one_far_off_0() -> None:
    scorer = FormScorer(load_exercise("squat"))
    reference = scorer.curves.deg[0, 40]
    assert scorer.score_pose(reference, 0.4) == 100.0
    assert scorer.score_pose(reference + 60.0, 0.4, returning=True) == 0.0
    assert 0.0 < scorer.score_pose(reference + 25.0, 0.4) < 100.0


def test_a_pose_without_a_measured_joint_or_phase_has_no_score() -> None:
    scorer = FormScorer(load_exercise("squat"))
    assert np.isnan(scorer.score_pose(np.full(N_JOINTS, np.nan), 0.5))
    assert np.isnan(scorer.score_pose(np.zeros(N_JOINTS), np.nan))


def test_the_reference_runs_from_rest_to_turn() -> None:
    knee = JOINT_INDEX["left_knee"]
    goal = next(g for g in load_exercise("squat").goals if g.joint == "knee")
    curve = ReferenceCurves.from_goals([goal]).deg[0, :, knee]
    assert curve[0] == pytest.approx(goal.rest_deg)
    assert curve[-1] == pytest.approx(goal.turn_deg)
    assert np.all(np.diff(curve) < 0.0)


def test_a_fitted_scorer_judges_against_its_references(rep_motions: RepMotions) -> None:
    spec = load_exercise("squat")
    shallow = rep_motions(MotionSpec("squat", reps=4, depth=0.7), SIDE)
    fitted = FormScorer(spec).fit(shallow[:3])
    before, after = (part(one.score(shallow[3]), "depth") for one in (FormScorer(spec), fitted))
    assert before.score < 60.0
    assert after.score > 95.0
    assert part(fitted.score(shallow[3]), "alignment").score == 100.0
    goal = next(c.goal for c in fitted.spec.criteria if c.name == "depth")
    assert goal == pytest.approx(109.0, abs=3.0)


def test_fewer_than_three_references_are_refused(rep_motions: RepMotions) -> None:
    with pytest.raises(ReferencesError, match="3 reference repetitions are needed, got 2"):
        FormScorer(load_exercise("squat")).fit(squats(rep_motions)[:2])


def test_references_in_which_nothing_is_certain_are_refused(rep_motions: RepMotions) -> None:
    vague = [
        dataclasses.replace(motion, sigma_deg=np.full_like(motion.sigma_deg, 40.0))
        for motion in squats(rep_motions)
    ]
    with pytest.raises(ReferencesError, match="no joint is seen well enough"):
        FormScorer(load_exercise("squat")).fit(vague)


def test_fitting_keeps_a_goal_that_the_references_do_not_show(rep_motions: RepMotions) -> None:
    motions = [dataclasses.replace(one, deg=one.deg.copy()) for one in squats(rep_motions)]
    for motion in motions:
        motion.deg[:, [JOINT_INDEX["left_knee"], JOINT_INDEX["right_knee"]]] = np.nan
    spec = load_exercise("squat")
    fitted = FormScorer(spec).fit(motions)
    depths = [next(c for c in one.criteria if c.name == "depth") for one in (spec, fitted.spec)]
    assert depths[0] == depths[1]


def blind(motion: RepMotion) -> RepMotion:
    unseen = np.full_like(motion.keypoints, np.nan)
    return dataclasses.replace(motion, keypoints=unseen, deg=np.full_like(motion.deg, np.nan))


def first_frames(motion: RepMotion, n: int) -> RepMotion:
    names = ("time_s", "keypoints", "confidence", "deg", "sigma_deg", "signal")
    return dataclasses.replace(motion, **{name: getattr(motion, name)[:n] for name in names})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (blind, "reference 2 has no keypoints"),
        (lambda one: first_frames(one, 1), "reference 2 has 1 frame,"),
        (lambda one: first_frames(one, 0), "reference 2 has 0 frames"),
        (
            lambda one: dataclasses.replace(one, signal=0.0 * one.signal),
            "reference 2 does not move",
        ),
    ],
)
def test_a_reference_that_is_no_repetition_is_refused_by_its_number(
    spoil: Callable[[RepMotion], RepMotion], reason: str, rep_motions: RepMotions
) -> None:
    motions = squats(rep_motions)
    motions[1] = spoil(motions[1])
    with pytest.raises(ReferencesError, match=reason):
        FormScorer(load_exercise("squat")).fit(motions)


@pytest.mark.parametrize(
    ("exercise", "done"),
    [
        ("squat", "overhead_press"),
        ("squat", "jumping_jack"),
        ("push_up", "squat"),
        ("biceps_curl", "squat"),
    ],
)
def test_references_of_another_exercise_are_refused(
    exercise: str, done: str, rep_motions: RepMotions
) -> None:
    others = rep_motions(MotionSpec(done, reps=3), SIDE)
    with pytest.raises(ReferencesError, match="another exercise"):
        FormScorer(load_exercise(exercise)).fit(others)


@pytest.mark.parametrize("exercise", exercises_in(shipped_folder()))
def test_every_exercise_is_fitted_to_the_references_that_ship(exercise: str) -> None:
    motions = [one.motion for one in load_references(shipped_folder(), exercise)][:60]
    fitted = FormScorer(load_exercise(exercise)).fit(motions)
    totals = np.array([fitted.score(one).total for one in motions])
    assert np.median(totals[~np.isnan(totals)]) > 80.0


def test_references_from_the_front_say_nothing_of_depth(rep_motions: RepMotions) -> None:
    side, front = squats(rep_motions), squats(rep_motions, FRONT)
    alone, mixed = (FormScorer(load_exercise("squat")).fit(one) for one in (side, side + front))
    assert alone.spec.criteria == mixed.spec.criteria
    np.testing.assert_allclose(alone.curves.deg, mixed.curves.deg, atol=1.0)


def test_fitting_relaxes_stability_but_does_not_tighten_it(rep_motions: RepMotions) -> None:
    motions = squats(rep_motions)
    shaken = [dataclasses.replace(one, keypoints=one.keypoints.copy()) for one in motions]
    for motion in shaken:
        motion.keypoints[:, :, 0] += 40.0 * np.sin(10.0 * motion.time_s)[:, None]
    scorer = FormScorer(load_exercise("squat"))
    before = part(scorer.score(shaken[0]), "stability").score
    assert part(scorer.fit(shaken).score(shaken[0]), "stability").score > before + 20.0
    still = next(c for c in scorer.fit(motions).spec.criteria if c.name == "stability")
    assert still == next(c for c in scorer.spec.criteria if c.name == "stability")


def test_references_of_one_stature_judge_a_repetition_of_another(rep_motions: RepMotions) -> None:
    far = Camera(yaw_deg=90.0, distance_m=20.0)
    scorer = FormScorer(load_exercise("squat")).fit(squats(rep_motions, far, stature_m=1.5))
    totals = [
        scorer.score(squats(rep_motions, far, stature_m=size)[3]).total for size in (1.5, 2.0)
    ]
    assert totals[0] == pytest.approx(totals[1], abs=1.0)


def test_a_half_repetition_is_not_called_shallow_as_well(rep_motions: RepMotions) -> None:
    fault = Fault("half_rep", 0.6, reps=(1,))
    motion = rep_motions(MotionSpec("squat", 1, faults=(fault,)), SIDE)[0]
    assert [one.name for one in FormScorer(load_exercise("squat")).faults(motion)] == ["half_rep"]


def test_an_uneven_tempo_of_the_set_costs_the_repetition(rep_motions: RepMotions) -> None:
    scorer = FormScorer(load_exercise("squat"))
    motion = squats(rep_motions)[0]
    took_s = float(motion.time_s[-1] - motion.time_s[0])
    even, uneven = (
        dataclasses.replace(motion, earlier_s=(took_s, other_s, took_s, other_s))
        for other_s in (took_s, 2.0 * took_s)
    )
    assert scorer.score(uneven).total < scorer.score(even).total - 3.0
    assert "uneven_tempo" in {one.name for one in scorer.faults(uneven)}
    assert scorer.faults(even) == ()


@pytest.mark.parametrize("name", ["shallow_depth", "rushed_tempo"])
def test_the_score_falls_at_every_step_of_severity(name: str, rep_motions: RepMotions) -> None:
    scorer = FormScorer(load_exercise("squat"))
    totals = [
        scorer.score(
            rep_motions(MotionSpec("squat", 1, faults=(Fault(name, 0.25 * s),)), SIDE)[0]
        ).total
        for s in range(5)
    ]
    assert np.all(np.diff(totals) < 0.0)


def test_technique_says_from_where_to_see_the_other_faults(rep_motions: RepMotions) -> None:
    evidence = part(
        FormScorer(load_exercise("squat")).score(squats(rep_motions)[0]), TECHNIQUE
    ).evidence
    assert "no fault" in evidence
    assert "film from the front for knee valgus, asymmetry" in evidence


def test_an_unknown_measure_is_refused_when_the_scorer_is_made() -> None:
    spec = load_exercise("squat")
    fault = dataclasses.replace(spec.faults[0], measure="aura")
    with pytest.raises(ExerciseError, match=r"squat: faults\[0\].measure must be .*'aura'"):
        FormScorer(dataclasses.replace(spec, faults=(fault,)))


def test_a_limit_without_a_direction_is_refused_when_the_scorer_is_made() -> None:
    spec = load_exercise("squat")
    fault = dataclasses.replace(spec.faults[0], severe=spec.faults[0].limit)
    with pytest.raises(ExerciseError, match=r"squat: faults\[0\].severe must be other than"):
        FormScorer(dataclasses.replace(spec, faults=(fault,)))
    criterion = dataclasses.replace(spec.criteria[0], worst=spec.criteria[0].goal)
    with pytest.raises(ExerciseError, match=r"squat: criteria\[0\].worst must be other than"):
        FormScorer(dataclasses.replace(spec, criteria=(criterion,)))


def test_depth_that_should_be_large_is_judged_upwards(rep_motions: RepMotions) -> None:
    scorer = FormScorer(load_exercise("deadlift"))
    motions = rep_motions(MotionSpec("deadlift", reps=4), SIDE)
    assert "largest hip angle" in part(scorer.score(motions[0]), "depth").evidence
    assert part(scorer.fit(motions).score(motions[0]), "depth").score > 95.0
