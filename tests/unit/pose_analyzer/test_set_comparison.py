"""SetComparison: a repetition against the earlier ones of its set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pose_analyzer.set_comparison import MIN_EARLIER_REPS, SetComparison
from pose_analyzer.skeleton import JOINT_NAMES
from pose_analyzer.synthetic import Camera, Fault, MotionSpec
from pose_analyzer.types import FloatArray, RepMotion

RepMotions = Callable[..., list[RepMotion]]
SIDE = Camera(yaw_deg=90.0)
JOINTS = ("elbow", "hip", "knee")


def bend(rng: np.random.Generator, knee_deg: float = 80.0) -> FloatArray:
    """Return a repetition of three joints, shape (T, 3): T, size and timing vary."""
    phase = np.linspace(0.0, 1.0, int(rng.integers(45, 90))) ** rng.uniform(0.9, 1.1)
    wave = np.sin(np.pi * phase)[:, None] ** 2
    size = np.array([10.0, 90.0, knee_deg]) * rng.uniform(0.95, 1.05, 3)
    return np.asarray(175.0 - size * wave + rng.normal(0.0, 1.0, wave.shape))


def bends(n: int, seed: int = 0, knee_deg: float = 80.0) -> list[FloatArray]:
    rng = np.random.default_rng(seed)
    return [bend(rng, knee_deg) for _ in range(n)]


def test_a_set_needs_five_earlier_repetitions() -> None:
    detector = SetComparison(JOINTS)
    reasons = [detector.judge(one).abstained for one in bends(7)]
    assert reasons[2] == "needs 5 earlier repetitions, has 2"
    assert all(reasons[:MIN_EARLIER_REPS])
    assert not any(reasons[MIN_EARLIER_REPS:])


def test_a_repetition_unlike_the_others_of_its_set_is_an_anomaly() -> None:
    detector = SetComparison(JOINTS)
    for one in bends(8):
        assert not detector.judge(one).is_anomaly
    verdict = detector.judge(bends(1, seed=5, knee_deg=30.0)[0])
    assert verdict.is_anomaly
    assert verdict.joints[0][0] == "knee"
    assert not detector.judge(bends(1, seed=6)[0]).is_anomaly


def test_a_set_that_is_long_remembers_only_its_latest() -> None:
    detector = SetComparison(JOINTS)
    for one in [*bends(30), *bends(25, seed=1, knee_deg=30.0)]:
        detector.judge(one)
    assert not detector.judge(bends(1, seed=2, knee_deg=30.0)[0]).is_anomaly


def test_rest_before_or_after_a_repetition_is_not_compared() -> None:
    detector = SetComparison(JOINTS)
    for one in bends(8):
        detector.judge(one)
    one = bends(1, seed=6)[0]
    padded = np.concatenate((np.repeat(one[:1], 20, axis=0), one, np.repeat(one[-1:], 40, axis=0)))
    assert not detector.judge(padded).is_anomaly


def test_a_repetition_without_movement_can_be_judged() -> None:
    detector = SetComparison(JOINTS)
    verdicts = [detector.judge(np.full((40, 3), 90.0)) for _ in range(7)]
    assert verdicts[-1].abstained == ""
    assert not verdicts[-1].is_anomaly


def test_equal_repetitions_are_no_anomaly() -> None:
    detector = SetComparison(JOINTS)
    same = bends(1)[0]
    verdicts = [detector.judge(same) for _ in range(8)]
    assert not any(verdict.is_anomaly for verdict in verdicts)


def test_a_repetition_that_was_not_seen_is_not_judged_nor_remembered() -> None:
    detector = SetComparison(JOINTS)
    for one in bends(3):
        detector.judge(one)
    assert "no joint" in detector.judge(np.full((40, 3), np.nan)).abstained
    assert detector.judge(bends(1, seed=3)[0]).abstained.endswith("has 3")


def test_repetitions_that_share_no_joint_cannot_be_compared() -> None:
    detector = SetComparison(JOINTS)
    for one in bends(6):
        one[:, 2] = np.nan
        detector.judge(one)
    other = bends(1, seed=4)[0]
    other[:, :2] = np.nan
    assert detector.judge(other).abstained.endswith("has 0")


def test_reset_equals_a_new_detector() -> None:
    used, fresh = SetComparison(JOINTS), SetComparison(JOINTS)
    for one in bends(9, seed=8, knee_deg=20.0):
        used.judge(one)
    used.reset()
    for one in bends(8):
        mine, theirs = used.judge(one), fresh.judge(one)
        assert (mine.joints, mine.abstained) == (theirs.joints, theirs.abstained)
        assert mine.score == pytest.approx(theirs.score, nan_ok=True)


@pytest.mark.parametrize("exercise", ["squat", "push_up", "biceps_curl"])
def test_a_half_repetition_stands_out_of_a_synthetic_set(
    exercise: str, rep_motions: RepMotions
) -> None:
    fault = Fault("half_rep", 0.6, reps=(9,))
    motions = rep_motions(MotionSpec(exercise, reps=10, faults=(fault,)), SIDE, noise_px=2.5)
    detector = SetComparison()
    verdicts = [detector.judge(one.deg) for one in motions]
    assert [i for i, verdict in enumerate(verdicts) if verdict.is_anomaly] == [8]
    assert dict(verdicts[8].joints).keys() <= set(JOINT_NAMES)
