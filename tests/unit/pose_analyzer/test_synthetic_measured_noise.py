"""The measured noise of a detector, drawn for motions that were not measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose_analyzer.skeleton import MIRROR
from pose_analyzer.synthetic import (
    Camera,
    MeasuredNoise,
    MotionSpec,
    Truth,
    measured_detections,
    synthesize,
)
from pose_analyzer.synthetic.measured_noise import NoiseClip, pack, unpack
from pose_analyzer.types import FloatArray

NOISE = MeasuredNoise.load("mediapipe")


def squats(yaw_deg: float = 90.0) -> Truth:
    return synthesize(motion=MotionSpec("squat", reps=3), camera=Camera(yaw_deg=yaw_deg))


def drawn(truth: Truth, seed: int) -> FloatArray:
    draw = NOISE.draw(truth, np.random.default_rng(seed))
    return draw.shift_px / truth.stature_px[:, None, None]


def rms(values: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.nanmean(np.square(values), axis=(0, 2))))


@pytest.fixture(scope="module")
def side_view() -> tuple[FloatArray, list[FloatArray]]:
    """Return what was measured near the side view of squats, and draws for it."""
    bank = [
        clip.error[..., :2]
        for clip in NOISE.clips
        if clip.exercise == "squat" and clip.yaw_deg >= 70.0
    ]
    truth = squats()
    return np.concatenate(bank), [drawn(truth, seed) for seed in range(20)]


def test_draws_are_as_large_as_what_was_measured_at_every_keypoint(
    side_view: tuple[FloatArray, list[FloatArray]],
) -> None:
    bank, draws = side_view
    ratio = rms(np.concatenate(draws)) / rms(bank)
    assert ratio == pytest.approx(np.ones_like(ratio), abs=0.35)


def test_draws_step_from_frame_to_frame_as_what_was_measured(
    side_view: tuple[FloatArray, list[FloatArray]],
) -> None:
    bank, draws = side_view
    steps = np.concatenate([np.diff(draw, axis=0) for draw in draws])
    ratio = rms(steps).mean() / rms(np.diff(bank, axis=0)).mean()
    assert 0.75 < ratio < 1.33


def test_the_error_changes_slowly(side_view: tuple[FloatArray, list[FloatArray]]) -> None:
    """White noise of this size would step by its own size times the root of two."""
    _, draws = side_view
    for draw in draws:
        assert rms(np.diff(draw, axis=0)).mean() < 0.5 * rms(draw).mean()


def test_one_seed_gives_the_same_noise_and_another_gives_other() -> None:
    truth = squats()
    assert np.array_equal(drawn(truth, 1), drawn(truth, 1))
    assert not np.array_equal(drawn(truth, 1), drawn(truth, 2))


def test_the_right_side_has_the_mirrored_noise_of_the_left() -> None:
    left, right = drawn(squats(60.0), 3), drawn(squats(-60.0), 3)
    mirrored = right[:, MIRROR] * [-1.0, 1.0]
    assert mirrored == pytest.approx(left)


@pytest.mark.parametrize("exercise", ["walk", "stand"])
def test_an_exercise_that_was_not_measured_gets_noise_too(exercise: str) -> None:
    truth = synthesize(motion=MotionSpec(exercise, reps=1))
    assert np.isfinite(drawn(truth, 0)).all()


def test_detections_are_truth_plus_noise_with_the_measured_confidence() -> None:
    truth = squats()
    draw = NOISE.draw(truth, np.random.default_rng(5))
    found = measured_detections(truth, NOISE, np.random.default_rng(5))
    seen = [index for index, one in enumerate(found) if one.n_people == 1]
    assert len(seen) >= 0.9 * truth.n_frames
    keypoints = np.stack([found[index].keypoints[0] for index in seen])
    expected = (truth.keypoints + draw.shift_px)[seen]
    inside = ~np.isnan(keypoints)
    assert keypoints[inside] == pytest.approx(expected[inside])
    assert all(found[i].confidence[0].max() <= draw.confidence[i].max() for i in seen)


def test_a_packed_clip_comes_back_within_its_resolution(tmp_path: Path) -> None:
    clip = NOISE.clips[0]
    pack((clip,), tmp_path / "noise.npz")
    (back,) = unpack(tmp_path / "noise.npz")
    assert (back.exercise, back.yaw_deg) == (clip.exercise, clip.yaw_deg)
    assert np.array_equal(back.missed, clip.missed)
    assert back.error == pytest.approx(clip.error, abs=2e-3, nan_ok=True)


def test_a_detector_that_was_not_measured_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="there is: mediapipe"):
        MeasuredNoise.load("guess")


def test_noise_without_a_whole_repetition_is_refused() -> None:
    rest = NOISE.clips[0]
    still = np.zeros_like(rest.attempt)
    with pytest.raises(ValueError, match="whole repetition"):
        MeasuredNoise(
            (NoiseClip("squat", 0.0, rest.travel, still, still, rest.error, rest.missed),)
        )
