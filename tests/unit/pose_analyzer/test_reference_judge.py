"""ReferenceJudge: one detector a view, abstention, the personal mode, its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pose_analyzer.errors import ReferencesError
from pose_analyzer.form_anomaly_detector import FormAnomalyDetector
from pose_analyzer.reference_judge import ReferenceJudge, view_of
from pose_analyzer.synthetic import Camera, Fault, MotionSpec
from pose_analyzer.types import RepMotion

RepMotions = Callable[..., list[RepMotion]]
SIDE = Camera(yaw_deg=85.0)
RATE = 0.05


def squats(
    rep_motions: RepMotions, n_sets: int, seed: int, *faults: Fault, camera: Camera = SIDE
) -> list[RepMotion]:
    return [
        one
        for number in range(n_sets)
        for one in rep_motions(
            MotionSpec("squat", 3, seed=seed + number, variation=0.1, faults=faults),
            camera,
            noise_px=1.5,
            stature_m=1.5 + 0.05 * (number % 10),
        )
    ]


@pytest.fixture(scope="module")
def judge(rep_motions: RepMotions) -> ReferenceJudge:
    calibration = squats(rep_motions, 10, 100)
    whose = [index // 3 for index in range(len(calibration))]
    return ReferenceJudge.fit("squat", squats(rep_motions, 6, 0), calibration, whose, RATE)


def test_a_fault_is_unlike_the_references(judge: ReferenceJudge, rep_motions: RepMotions) -> None:
    found = [judge.judge(one) for one in squats(rep_motions, 3, 300, Fault("forward_knee", 0.8))]
    assert all(one.is_anomaly for one in found)
    assert found[0].joints[0][0] in {"shin_lean", "ankle", "trunk_lean", "hip", "hip_bend"}


def test_good_repetitions_are_like_the_references(
    judge: ReferenceJudge, rep_motions: RepMotions
) -> None:
    alarms = [judge.judge(one).is_anomaly for one in squats(rep_motions, 8, 500)]
    assert np.mean(alarms) <= 0.15


@pytest.mark.parametrize(
    ("yaw_deg", "view"), [(0.0, "front"), (30.0, "oblique"), (60.0, "side"), (90.0, "side")]
)
def test_each_yaw_has_one_view(yaw_deg: float, view: str) -> None:
    assert view_of(yaw_deg) == view


def test_abstains_where_it_cannot_tell(judge: ReferenceJudge, rep_motions: RepMotions) -> None:
    good = squats(rep_motions, 1, 0)[0]
    for change, reason in (
        ({"yaw_deg": np.nan}, "view is unknown"),
        ({"yaw_deg": 5.0}, "no references from the front; film side"),
        ({"confidence": 0.2 * good.confidence}, "too uncertain"),
        ({"confidence": 0.0 * good.confidence}, "too uncertain"),
        ({"time_s": good.time_s[:5]}, "shorter than 8 frames"),
    ):
        verdict = judge.judge(dataclasses.replace(good, **change))
        assert reason in verdict.abstained
        assert not verdict.is_anomaly


def test_a_saved_judge_judges_alike(
    judge: ReferenceJudge, rep_motions: RepMotions, tmp_path: Path
) -> None:
    judge.save(tmp_path)
    again = ReferenceJudge.load(tmp_path, "squat")
    one = squats(rep_motions, 1, 7)[0]
    assert again.views == judge.views == ("side",)
    assert again.judge(one).score == pytest.approx(judge.judge(one).score, rel=5e-3)


def test_own_repetitions_make_a_view_personal(
    judge: ReferenceJudge, rep_motions: RepMotions
) -> None:
    own = squats(rep_motions, 1, 40)[:2]
    verdict = judge.personalised(own, false_positive_rate=0.1).judge(own[0])
    assert verdict.threshold != judge.judge(own[0]).threshold


def test_own_repetitions_from_elsewhere_are_refused(
    judge: ReferenceJudge, rep_motions: RepMotions
) -> None:
    own = squats(rep_motions, 1, 40, camera=Camera(yaw_deg=0.0))
    with pytest.raises(ReferencesError, match=r"filmed from where the references were \(side\)"):
        judge.personalised(own)


def test_too_few_references_say_how_many(rep_motions: RepMotions) -> None:
    few = squats(rep_motions, 1, 0)
    with pytest.raises(ReferencesError, match="squat: at least 8 reference repetitions"):
        ReferenceJudge.fit("squat", few, few, false_positive_rate=RATE)


def test_a_view_is_not_left_out_for_one_useless_repetition(rep_motions: RepMotions) -> None:
    motions = squats(rep_motions, 10, 0)
    last = motions[-1]
    hidden = dataclasses.replace(
        last, keypoints=np.full_like(last.keypoints, np.nan), deg=np.full_like(last.deg, np.nan)
    )
    with pytest.raises(ReferencesError, match="squat from the side: calibration repetition 5 can"):
        ReferenceJudge.fit("squat", motions[:8], [*motions[8:12], hidden], false_positive_rate=0.2)


def test_without_a_rate_the_judge_ranks_what_it_could_judge(rep_motions: RepMotions) -> None:
    motions = squats(rep_motions, 4, 0)
    judge = ReferenceJudge.fit("squat", motions[:9], (), false_positive_rate=None)
    assert np.isfinite(judge.judge(motions[10]).score)
    assert "only ranks" in judge.judge(motions[10]).abstained
    short = dataclasses.replace(motions[10], time_s=motions[10].time_s[:5])
    assert np.isnan(judge.judge(short).score)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReferencesError, match="no anomaly model in"):
        ReferenceJudge.load(tmp_path, "squat")


def test_a_model_of_other_channels_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = [rng.normal(size=(30, 2)) for _ in range(30)]
    FormAnomalyDetector(("a", "b")).fit(good[:8], good[8:], RATE).save(
        tmp_path / "anomaly_side.npz"
    )
    with pytest.raises(ReferencesError, match="other channels"):
        ReferenceJudge.load(tmp_path, "squat")


def test_a_judge_needs_a_known_view(judge: ReferenceJudge) -> None:
    with pytest.raises(ValueError, match="at least one view"):
        ReferenceJudge("squat", {})
    with pytest.raises(ValueError, match="unknown view 'behind'"):
        ReferenceJudge("squat", {"behind": FormAnomalyDetector()})
    assert judge.exercise == "squat"
