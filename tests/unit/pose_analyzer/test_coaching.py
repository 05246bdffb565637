"""Coach: when a cue is due, cool-downs, priority, praise, silence, reset."""

from __future__ import annotations

import numpy as np
import pytest

from pose_analyzer.coaching import PARTIAL_FAULT, Coach, CoachConfig
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.skeleton import N_JOINTS, N_KEYPOINTS
from pose_analyzer.types import Anomaly, Cue, Fault, FormScore, Rep, RepAnalysis, RepMotion

SPEC = load_exercise("squat")
CUES = {fault.name: fault.cue for fault in SPEC.faults}
PRAISE = {fault.name: fault.praise for fault in SPEC.faults}


def fault(name: str = "shallow_depth", severity: float = 0.5, confidence: float = 0.9) -> Fault:
    return Fault(name, severity, confidence, "seen")


def rep(
    *faults: Fault,
    yaw_deg: float = 85.0,
    seen: float = 1.0,
    duration_s: float = 2.0,
    is_partial: bool = False,
    total: float = 90.0,
) -> RepAnalysis:
    return RepAnalysis(
        rep=Rep(1, 0.0, 0.5 * duration_s, duration_s, 0, 30, 60, 0.2, is_partial),
        motion=RepMotion(
            time_s=np.array([0.0, duration_s]),
            keypoints=np.full((2, N_KEYPOINTS, 2), np.nan),
            confidence=np.zeros((2, N_KEYPOINTS)),
            deg=np.full((2, N_JOINTS), np.nan),
            sigma_deg=np.full((2, N_JOINTS), np.nan),
            signal=np.zeros(2),
            turn_idx=1,
            yaw_deg=yaw_deg,
            stature_px=np.nan,
        ),
        min_deg=np.full(N_JOINTS, np.nan),
        max_deg=np.full(N_JOINTS, np.nan),
        yaw_deg=yaw_deg,
        seen=seen,
        score=FormScore(total, 0.9, ()),
        faults=faults,
        anomaly=Anomaly(False, np.nan, np.nan, (), "none"),
    )


def said(reps: list[RepAnalysis], every_s: float = 5.0, spec: ExerciseSpec = SPEC) -> list[str]:
    """Return the names of the cues for a set, an empty text for silence."""
    coach = Coach(spec)
    cues = [coach.update(every_s * (i + 1), [one]) for i, one in enumerate(reps)]
    return ["" if cue is None else cue.name for cue in cues]


def test_a_mild_fault_is_spoken_of_at_its_second_showing() -> None:
    assert said([rep(fault()), rep(fault())]) == ["", "shallow_depth"]


def test_two_of_the_last_three_are_enough_but_the_latest_must_show_it() -> None:
    assert said([rep(fault()), rep(), rep(fault())]) == ["", "", "shallow_depth"]
    assert said([rep(fault()), rep(), rep(), rep(fault())]) == ["", "", "", ""]


def test_a_severe_fault_is_spoken_of_at_once() -> None:
    assert said([rep(fault(severity=0.9))]) == ["shallow_depth"]


def test_the_cue_carries_text_time_and_priority_of_the_exercise_file() -> None:
    cue = Coach(SPEC).update(7.5, [rep(fault(severity=1.0))])
    priority = next(f.priority for f in SPEC.faults if f.name == "shallow_depth")
    assert cue == Cue(7.5, "shallow_depth", CUES["shallow_depth"], priority)


def test_the_more_urgent_fault_is_spoken_of_first() -> None:
    both = rep(fault(severity=1.0), fault("rounded_back", severity=0.9))
    assert said([both, both, both]) == ["rounded_back", "shallow_depth", ""]


@pytest.mark.parametrize("every_s", [2.0, 4.0])
def test_the_same_cue_waits_for_time_and_for_repetitions(every_s: float) -> None:
    config = CoachConfig()
    coach = Coach(SPEC)
    spoken = [i for i in range(40) if coach.update(every_s * i, [rep(fault(severity=0.9))])]
    gaps = np.diff(spoken)
    assert len(spoken) > 2
    assert np.all(gaps >= config.repeat_reps)
    assert np.all(gaps * every_s >= config.repeat_s)


def test_cues_of_any_kind_keep_a_distance() -> None:
    both = rep(fault(severity=1.0), fault("rounded_back", severity=0.9))
    assert said([both, both], every_s=1.0) == ["rounded_back", ""]


def test_an_unsure_fault_is_not_spoken_of() -> None:
    assert said([rep(fault(confidence=0.2))] * 3) == ["", "", ""]


def test_a_repetition_that_was_hardly_seen_is_ignored() -> None:
    assert said([rep(fault(), seen=0.3)] * 3) == ["", "", ""]


def test_a_fault_that_the_exercise_does_not_know_is_ignored() -> None:
    assert said([rep(fault("moonwalk", severity=1.0))]) == [""]


def test_nothing_is_said_between_repetitions() -> None:
    coach = Coach(SPEC)
    coach.update(1.0, [rep(fault())])
    assert coach.update(10.0, []) is None


def test_a_corrected_fault_is_praised_once_after_two_clean_repetitions() -> None:
    bad = rep(fault(severity=0.9))
    assert said([bad, rep(), rep(), rep(), rep()]) == ["shallow_depth", "", "praise", "", ""]
    coach = Coach(SPEC)
    cues = [coach.update(5.0 * i, [one]) for i, one in enumerate([bad, rep(), rep()])]
    assert cues[-1] is not None
    assert cues[-1].text == PRAISE["shallow_depth"]


def test_a_fault_that_comes_back_is_not_praised() -> None:
    bad = rep(fault(severity=0.5))
    assert "praise" not in said([bad, bad, rep(), bad, rep(), bad])


@pytest.mark.parametrize(
    "hidden",
    [rep(yaw_deg=5.0), rep(yaw_deg=np.nan), rep(total=np.nan), rep(seen=0.1)],
)
def test_a_repetition_that_could_not_show_the_fault_earns_no_praise(hidden: RepAnalysis) -> None:
    bad = rep(fault("forward_knee", severity=0.9))
    assert said([bad, hidden, hidden, hidden])[1:] == ["", "", ""]


def test_repetitions_cut_short_are_spoken_of() -> None:
    cut = rep(is_partial=True)
    coach = Coach(SPEC)
    cue = coach.update(3.0, [cut])
    assert cue is not None
    assert (cue.name, cue.text) == (PARTIAL_FAULT, CUES[PARTIAL_FAULT])


def test_a_half_repetition_is_not_spoken_of_from_where_it_does_not_show() -> None:
    lunge = load_exercise("lunge")
    seen_from = {
        yaw_deg: said([rep(yaw_deg=yaw_deg, is_partial=True)], spec=lunge)[0]
        for yaw_deg in (85.0, 5.0, np.nan)
    }
    assert list(seen_from.values()) == [PARTIAL_FAULT, "", ""]


def test_praise_holds_for_a_fault_that_any_view_shows() -> None:
    pause = rep(fault("pause", severity=0.9), yaw_deg=np.nan)
    assert said([pause, rep(yaw_deg=np.nan), rep(yaw_deg=np.nan)])[-1] == "praise"


def test_reset_equals_a_new_coach() -> None:
    used = Coach(SPEC)
    for i in range(6):
        used.update(float(5 * i), [rep(fault(severity=0.9), duration_s=1.0 + i)])
    used.reset()
    fresh = Coach(SPEC)
    sets = [rep(fault(severity=0.9)), rep(), rep(duration_s=3.0), rep(fault())]
    for i, one in enumerate(sets):
        assert used.update(5.0 * i, [one]) == fresh.update(5.0 * i, [one])


@pytest.mark.parametrize("exercise", ["squat", "overhead_press"])
def test_cues_are_short_enough_to_be_spoken(exercise: str) -> None:
    for one in load_exercise(exercise).faults:
        assert len(one.cue.split()) <= 8
        assert len(one.praise.split()) <= 8
