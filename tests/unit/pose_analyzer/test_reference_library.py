"""What a repetition is compared with: shipped references, and the athlete's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import pose_analyzer.reference_library as library
from pose_analyzer.errors import ReferencesError
from pose_analyzer.reference_judge import ReferenceJudge
from pose_analyzer.reference_library import own_judge, shipped_judge
from pose_analyzer.references import ReferenceClip, save_clips
from pose_analyzer.synthetic import Camera, Fault, MotionSpec
from pose_analyzer.types import RepMotion

RepMotions = Callable[..., list[RepMotion]]


def squats(rep_motions: RepMotions, n_sets: int, seed: int) -> list[RepMotion]:
    return [
        one
        for number in range(n_sets)
        for one in rep_motions(
            MotionSpec("squat", 3, seed=seed + number, variation=0.1),
            Camera(yaw_deg=85.0),
            noise_px=1.5,
        )
    ]


def clip(motions: list[RepMotion], quality: str = "good") -> ReferenceClip:
    return ReferenceClip("mine", quality, "me", "my own", "mediapipe", tuple(motions))


@pytest.fixture
def shipped(rep_motions: RepMotions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ship a judge of squats from the side."""
    calibration = squats(rep_motions, 8, 50)
    whose = [index // 3 for index in range(len(calibration))]
    judge = ReferenceJudge.fit("squat", squats(rep_motions, 4, 0), calibration, whose, 0.05)
    folder = tmp_path / "shipped"
    (folder / "squat").mkdir(parents=True)
    judge.save(folder / "squat")
    monkeypatch.setattr(library, "shipped_folder", lambda: folder)
    return folder


@pytest.mark.usefixtures("shipped")
def test_what_is_shipped_is_found() -> None:
    judge = shipped_judge("squat")
    assert judge is not None
    assert judge.views == ("side",)
    assert shipped_judge("deadlift") is None


def test_own_repetitions_are_the_measure(rep_motions: RepMotions, tmp_path: Path) -> None:
    save_clips(tmp_path, "squat", [clip(squats(rep_motions, 14, 90))])
    judge = own_judge("squat", tmp_path, 0.05)
    assert not judge.judge(squats(rep_motions, 1, 300)[1]).is_anomaly
    faulty = rep_motions(
        MotionSpec("squat", 2, faults=(Fault("forward_knee", 0.8),)),
        Camera(yaw_deg=85.0),
        noise_px=1.5,
    )
    assert all(judge.judge(one).is_anomaly for one in faulty)


def test_too_few_own_repetitions_say_how_many_it_takes(
    rep_motions: RepMotions, tmp_path: Path
) -> None:
    save_clips(tmp_path, "squat", [clip(squats(rep_motions, 8, 90))])
    with pytest.raises(ReferencesError, match="at least 99 calibration repetitions, got 12"):
        own_judge("squat", tmp_path)


def test_faulty_repetitions_are_no_measure(rep_motions: RepMotions, tmp_path: Path) -> None:
    save_clips(tmp_path, "squat", [clip(squats(rep_motions, 1, 90), "faulty")])
    with pytest.raises(ReferencesError, match=r"at least 8 reference repetitions .* got 0"):
        own_judge("squat", tmp_path)
