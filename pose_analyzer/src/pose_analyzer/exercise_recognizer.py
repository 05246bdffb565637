"""Which exercise is being done, and how sure that is.

A forest of decision trees [1]_ reads the features of `movement_features`. It learned from the
synthetic athlete alone, see ``scripts/train_exercise_recognizer.py`` and
reports/exercise_recognition.md; the trees are packaged as plain arrays.

References
----------
.. [1] L. Breiman, "Random Forests", Machine Learning 45, 2001.
.. [2] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks",
   ICML 2017: one exponent on all probabilities, fitted on held-out data.
"""

from __future__ import annotations

import importlib.resources
import math
import zipfile
from collections import deque
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from pose_analyzer.errors import ExerciseError
from pose_analyzer.movement_features import FEATURE_NAMES, movement_features
from pose_analyzer.skeleton import N_KEYPOINTS
from pose_analyzer.types import FloatArray, IntArray

NONE: Final = "none"
"""What is recognised where no exercise is done."""
SURE: Final = 0.7
"""From this probability on a recognition is sure (chosen by us)."""
LIKELY: Final = 0.5
"""An exercise that is not likelier than all else together is not named (chosen by us)."""
WATCHED_S: Final = 30.0
"""How much of a clip is looked at (chosen by us: a set has begun by then)."""
MODEL_VERSION: Final = 1
_WHOLE: Final = 255.0
_LEAST_SHARE: Final = 1e-3
"""No label is impossible: the least share of the trees' votes (chosen by us)."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """What the athlete seems to do.

    Attributes
    ----------
    ranked : tuple of (str, float)
        All exercises and ``"none"`` with their probabilities, the likeliest first; empty if
        nobody was seen long enough.
    """

    ranked: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        """The likeliest; ``"none"`` if nobody was seen or no exercise is likelier than the rest."""
        return self.ranked[0][0] if self.probability > LIKELY else NONE

    @property
    def probability(self) -> float:
        """Of the likeliest, in [0, 1]; NaN if nobody was seen."""
        return self.ranked[0][1] if self.ranked else math.nan

    @property
    def is_sure(self) -> bool:
        """Whether the likeliest is likely enough to go on without asking."""
        return self.probability >= SURE

    @property
    def guesses(self) -> str:
        """The three likeliest as text: ``"squat 62 %, lunge 21 %, none 9 %"``."""
        return ", ".join(
            f"{name.replace('_', ' ')} {probability:.0%}".replace("%", " %")
            for name, probability in self.ranked[:3]
        )


@dataclass(frozen=True, slots=True)
class ExerciseModel:
    """A forest as arrays; M nodes of all trees, C labels.

    Attributes
    ----------
    labels : str array, shape (C,)
        What can be recognised.
    roots : int array
        First node of each tree.
    feature : int array, shape (M,)
        Which feature a node asks for; -1 at a leaf.
    threshold : float32 array, shape (M,)
        A value of at most this goes left.
    left, right : int array, shape (M,)
        The next nodes; a leaf's are itself.
    missing_left : bool array, shape (M,)
        Where NaN goes.
    share : uint8 array, shape (M, C)
        Shares of the labels at a leaf, in parts of 255.
    sharpness : float array, shape ()
        The exponent that makes the mean shares probabilities [2]_.
    """

    labels: IntArray
    roots: IntArray
    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    missing_left: IntArray
    share: FloatArray
    sharpness: FloatArray

    def probabilities(self, features: FloatArray) -> FloatArray:
        """Return the probability of each label, shape (C,), from features of shape (F,)."""
        values = features.astype(np.float32)
        node = self.roots
        while True:
            asked = values[self.feature[node]]
            is_left = np.where(
                np.isnan(asked), self.missing_left[node], asked <= self.threshold[node]
            )
            following = np.where(is_left, self.left[node], self.right[node])
            if np.array_equal(following, node):
                break
            node = following
        votes = np.maximum(self.share[node].mean(axis=0) / _WHOLE, _LEAST_SHARE) ** self.sharpness
        return np.asarray(votes / votes.sum())

    def save(self, path: Path) -> None:
        """Write a file that `load` reads: plain arrays, nothing pickled."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        with path.open("wb") as file:
            np.savez_compressed(
                file, version=MODEL_VERSION, features=np.array(FEATURE_NAMES), **arrays
            )

    @classmethod
    def load(cls, path: Path) -> ExerciseModel:
        """Read a model.

        Raises
        ------
        ExerciseError
            If the file is missing, damaged, or made for other features.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                if (
                    int(data["version"]) != MODEL_VERSION
                    or tuple(data["features"]) != FEATURE_NAMES
                ):
                    raise ExerciseError(
                        f"{path} was made for another version; "
                        "run scripts/run train-exercise-recognizer"
                    )
                return cls(**{field.name: data[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as exc:
            raise ExerciseError(f"{path} holds no model of the exercises: {exc}") from exc


@lru_cache(maxsize=1)
def packaged_model() -> ExerciseModel:
    """Return the model that comes with the package."""
    return ExerciseModel.load(Path(str(importlib.resources.files("pose_analyzer"))) / MODEL_FILE)


MODEL_FILE: Final = "exercise_model.npz"


def recognize_exercise(
    time_s: FloatArray, keypoints: FloatArray, model: ExerciseModel | None = None
) -> Recognition:
    """Return which exercise a stretch of movement is.

    Parameters
    ----------
    time_s : array, shape (T,)
        Increasing.
    keypoints : array, shape (T, K, 2)
        Of the athlete: smoothed, pixels, NaN where not seen.
    model : ExerciseModel, optional
        The packaged one if left out.
    """
    features = movement_features(time_s, keypoints)
    if np.isnan(features).all():
        return Recognition(())
    model = packaged_model() if model is None else model
    found = zip(model.labels.tolist(), model.probabilities(features).tolist(), strict=True)
    return Recognition(tuple(sorted(found, key=lambda pair: -pair[1])))


class ExerciseRecognizer:
    """Watches keypoints frame by frame; the last `WATCHED_S` seconds count.

    Parameters
    ----------
    model : ExerciseModel, optional
        The packaged one if left out.
    """

    def __init__(self, model: ExerciseModel | None = None) -> None:
        self._model = model
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a new object."""
        self._seen: deque[tuple[float, FloatArray]] = deque()

    def update(self, keypoints: FloatArray, time_s: float) -> None:
        """Take the athlete's keypoints of one more frame, shape (K, 2)."""
        self._seen.append((time_s, keypoints))
        while self._seen[0][0] < time_s - WATCHED_S:
            self._seen.popleft()

    def result(self) -> Recognition:
        """Return what the frames so far look like; some milliseconds of work."""
        time_s = np.array([time_s for time_s, _ in self._seen])
        keypoints = np.array([one for _, one in self._seen]).reshape(-1, N_KEYPOINTS, 2)
        return recognize_exercise(time_s, keypoints, self._model)
