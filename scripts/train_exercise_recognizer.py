"""Train the recogniser of exercises on the synthetic athlete alone.

    python scripts/train_exercise_recognizer.py [--each N] [--out FILE]

writes pose_analyzer/src/pose_analyzer/exercise_model.npz. The same seed gives the same file. No
real clip is read.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from movement_variants import LABELS, NONE, stretch
from scipy.optimize import minimize_scalar
from sklearn.ensemble import RandomForestClassifier

from pose_analyzer.exercise_recognizer import MODEL_FILE, ExerciseModel
from pose_analyzer.movement_features import movement_features
from pose_analyzer.types import FloatArray, IntArray

ROOT: Final = Path(__file__).resolve().parents[1]
OUT: Final = ROOT / "pose_analyzer/src/pose_analyzer" / MODEL_FILE
N_TREES: Final = 50
TRAINING_SEED, CALIBRATION_SEED, TEST_SEED = 1, 2, 3


def samples(each: int, seed: int) -> tuple[FloatArray, IntArray]:
    """Return features (N, F) and label numbers (N,).

    Of no exercise there are three times as many: it is the most varied.
    """
    rng = np.random.default_rng(seed)
    features, labels = [], []
    for number, label in enumerate(LABELS):
        for _ in range(each * (3 if label == NONE else 1)):
            one = stretch(label, rng)
            found = movement_features(one.time_s, one.keypoints)
            if not np.isnan(found).all():
                features.append(found)
                labels.append(number)
    return np.array(features), np.array(labels, dtype=np.intp)


def train(each: int, n_trees: int = N_TREES) -> ExerciseModel:
    """Return a model of ``each`` stretches of every exercise, calibrated on other ones."""
    forest = RandomForestClassifier(
        n_trees, max_leaf_nodes=100, min_samples_leaf=3, max_features=20, random_state=0
    )
    forest.fit(*samples(each, TRAINING_SEED))
    plain = _arrays(forest, 1.0)
    features, labels = samples(max(10, each // 4), CALIBRATION_SEED)
    shares = np.array([plain.probabilities(row) for row in features])

    def loss(sharpness: float) -> float:
        powered = shares**sharpness
        chosen = powered[np.arange(len(labels)), labels] / powered.sum(axis=1)
        return -float(np.log(chosen).mean())

    best = minimize_scalar(loss, bounds=(0.5, 4.0), method="bounded").x
    return _arrays(forest, float(best))


def _arrays(forest: RandomForestClassifier, sharpness: float) -> ExerciseModel:
    """Return the forest's nodes as arrays, one tree after the other."""
    trees = [one.tree_ for one in forest.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
    feature = np.concatenate([tree.feature for tree in trees])
    own = np.arange(len(feature))
    left, right = (
        np.concatenate(
            [getattr(tree, name) + root for tree, root in zip(trees, roots, strict=True)]
        )
        for name in ("children_left", "children_right")
    )
    is_leaf = feature < 0
    share = np.concatenate([tree.value[:, 0, :] for tree in trees])
    share = np.where(is_leaf[:, None], share / share.sum(axis=1, keepdims=True), 0.0)
    return ExerciseModel(
        labels=np.array(LABELS),
        roots=roots.astype(np.int16),
        feature=np.where(is_leaf, -1, feature).astype(np.int16),
        threshold=_rounded_down(np.concatenate([tree.threshold for tree in trees])),
        left=np.where(is_leaf, own, left).astype(np.int16),
        right=np.where(is_leaf, own, right).astype(np.int16),
        missing_left=np.concatenate([tree.missing_go_to_left for tree in trees]).astype(bool),
        share=np.round(255.0 * share).astype(np.uint8),
        sharpness=np.array(sharpness),
    )


def _rounded_down(threshold: FloatArray) -> FloatArray:
    """Return float32 thresholds that part float32 values as the float64 ones do."""
    single = threshold.astype(np.float32)
    return np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single)


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--each", type=int, default=1000, help="stretches of each exercise")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    model = train(args.each)
    model.save(args.out)
    print(f"wrote {args.out} ({args.out.stat().st_size / 1000:.0f} kB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
