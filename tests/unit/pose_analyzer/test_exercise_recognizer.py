"""exercise_recognizer: the packaged model, its file, and how sure it says it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from movement_variants import LABELS, stretch
from train_exercise_recognizer import TEST_SEED, train

from pose_analyzer.errors import ExerciseError
from pose_analyzer.exercise_recognizer import (
    ExerciseModel,
    ExerciseRecognizer,
    Recognition,
    packaged_model,
    recognize_exercise,
)
from pose_analyzer.movement_features import movement_features
from pose_analyzer.synthetic import EXERCISES, Athlete, Camera, MotionSpec, synthesize


@pytest.fixture(scope="module")
def tiny() -> ExerciseModel:
    """Return a model of a few stretches."""
    return train(each=12, n_trees=5)


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("yaw_deg", [15.0, 75.0])
def test_the_sets_of_the_synthetic_athlete_are_recognised(exercise: str, yaw_deg: float) -> None:
    truth = synthesize(Athlete(1.62), MotionSpec(exercise, reps=2), Camera(yaw_deg=yaw_deg))
    assert recognize_exercise(truth.time_s, truth.keypoints).name == exercise


@pytest.mark.parametrize("idle", ["stand", "walk"])
def test_who_stands_or_walks_does_no_exercise(idle: str) -> None:
    truth = synthesize(motion=MotionSpec(idle, reps=2), camera=Camera(yaw_deg=40.0))
    assert recognize_exercise(truth.time_s, truth.keypoints).name == "none"


def test_probabilities_are_ranked_and_sum_to_one() -> None:
    truth = synthesize(motion=MotionSpec("squat", reps=1))
    ranked = recognize_exercise(truth.time_s, truth.keypoints).ranked
    shares = [share for _, share in ranked]
    assert {name for name, _ in ranked} == set(LABELS)
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0)


def test_frame_by_frame_is_as_at_once_and_reset_forgets() -> None:
    truth = synthesize(motion=MotionSpec("deadlift", reps=1))
    recognizer = ExerciseRecognizer()
    for _ in range(2):
        for time_s, keypoints in zip(truth.time_s.tolist(), truth.keypoints, strict=True):
            recognizer.update(keypoints, time_s)
        assert recognizer.result() == recognize_exercise(truth.time_s, truth.keypoints)
        recognizer.reset()
        assert recognizer.result() == Recognition(())


def test_a_saved_model_says_the_same(tiny: ExerciseModel, tmp_path: Path) -> None:
    tiny.save(tmp_path / "model.npz")
    loaded = ExerciseModel.load(tmp_path / "model.npz")
    one = stretch("squat", np.random.default_rng(TEST_SEED))
    features = movement_features(one.time_s, one.keypoints)
    np.testing.assert_array_equal(loaded.probabilities(features), tiny.probabilities(features))


def test_the_packaged_model_agrees_with_what_is_trained(tiny: ExerciseModel) -> None:
    rng = np.random.default_rng(TEST_SEED)
    packaged = packaged_model()
    right = {"packaged": 0, "tiny": 0}
    for number, label in enumerate(LABELS):
        for _ in range(10):
            one = stretch(label, rng)
            features = movement_features(one.time_s, one.keypoints)
            right["packaged"] += int(packaged.probabilities(features).argmax()) == number
            right["tiny"] += int(tiny.probabilities(features).argmax()) == number
    assert packaged.labels.tolist() == list(LABELS)
    assert right["packaged"] >= 0.85 * 10 * len(LABELS)
    assert right["tiny"] >= 0.5 * 10 * len(LABELS)


def test_another_file_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, version=0)
    with pytest.raises(ExerciseError, match=r"model\.npz .*another version"):
        ExerciseModel.load(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ExerciseError, match=r"model\.npz holds no model"):
        ExerciseModel.load(path)
