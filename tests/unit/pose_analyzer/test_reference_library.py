"""What a repetition is compared with: shipped references, and the athlete's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import pose_analyzer.reference_library as library
from pose_analyzer.errors import ReferencesError
from pose_analyzer.reference_judge import ReferenceJudge
from pose_analyzer.reference_library import own_judge, shipped_judge
from pose_analyzer.references import ReferenceClip, load_clips, save_clips
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


def clips(
    rep_motions: RepMotions, n: int, quality: str = "good", n_reps: int = 3, yaw_deg: float = 85.0
) -> list[ReferenceClip]:
    """Return clips of another camera distance and athlete each."""
    found = []
    for number in range(n):
        motions = rep_motions(
            MotionSpec("squat", n_reps, seed=number, variation=0.1),
            Camera(yaw_deg=yaw_deg),
            noise_px=1.5,
        )
        name = f"clip {number} at {yaw_deg:.0f}"
        found.append(ReferenceClip(name, quality, "me", "my own", "mediapipe", tuple(motions)))
    return found


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


def test_own_clips_are_the_measure(rep_motions: RepMotions, tmp_path: Path) -> None:
    save_clips(tmp_path, "squat", clips(rep_motions, 8))
    judge = own_judge("squat", tmp_path, 0.2)
    assert judge.views == ("side",)
    assert not judge.judge(squats(rep_motions, 1, 300)[1]).is_anomaly
    faulty = rep_motions(
        MotionSpec("squat", 2, faults=(Fault("forward_knee", 0.8),)),
        Camera(yaw_deg=85.0),
        noise_px=1.5,
    )
    assert all(judge.judge(one).is_anomaly for one in faulty)
    again = own_judge("squat", tmp_path / "squat", 0.2)
    assert again.judge(faulty[0]) == judge.judge(faulty[0])


def test_no_clip_lies_on_both_sides(
    rep_motions: RepMotions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_clips(tmp_path, "squat", clips(rep_motions, 8) + clips(rep_motions, 3, yaw_deg=0.0))
    made = load_clips(tmp_path, "squat")
    given: list[tuple[list[RepMotion], list[RepMotion], list[str]]] = []
    monkeypatch.setattr(
        ReferenceJudge, "fit", lambda _, *three_and_rate: given.append(three_and_rate[:3])
    )
    own_judge("squat", tmp_path, 0.2)
    references, calibration, names = given[0]
    assert len(references) == 3 * 6
    assert len(calibration) == 5
    starts = {clip.video_id: {float(one.signal[0]) for one in clip.motions} for clip in made}
    for motion, name in zip(calibration, names, strict=True):
        assert float(motion.signal[0]) in starts[name]
    assert not {float(one.signal[0]) for one in references} & set().union(
        *(starts[name] for name in names)
    )


def test_too_few_own_clips_say_how_many_it_takes_and_which_rate_would_do(
    rep_motions: RepMotions, tmp_path: Path
) -> None:
    save_clips(tmp_path, "squat", clips(rep_motions, 6, n_reps=6))
    with pytest.raises(
        ReferencesError,
        match=r"rate of 0\.01 takes 198 good clips .* 0 from the front, .* 6 from the side; .* "
        r"--false-positive-rate 0\.25$",
    ):
        own_judge("squat", tmp_path)
    assert own_judge("squat", tmp_path, 0.25).views == ("side",)


def test_clips_of_too_few_repetitions_say_how_many_it_takes(
    rep_motions: RepMotions, tmp_path: Path
) -> None:
    save_clips(tmp_path, "squat", clips(rep_motions, 4, n_reps=3))
    with pytest.raises(ReferencesError, match="hold 6 of the 8 good repetitions"):
        own_judge("squat", tmp_path, 0.4)


def test_faulty_repetitions_are_no_measure(rep_motions: RepMotions, tmp_path: Path) -> None:
    save_clips(tmp_path, "squat", clips(rep_motions, 2, "faulty"))
    with pytest.raises(ReferencesError, match=r"0 from the side; .* references build$"):
        own_judge("squat", tmp_path, 0.5)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_outside_0_to_1_is_refused(rate: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"in \(0, 1\)"):
        own_judge("squat", tmp_path, rate)
