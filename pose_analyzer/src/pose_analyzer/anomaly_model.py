"""What a `FormAnomalyDetector` has learned, as plain arrays.

References
----------
.. [1] F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation Forest", ICDM 2008.
.. [2] O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance
   matrices", Journal of Multivariate Analysis 88(2), 2004 (shrinkage; the share is fixed here).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from pose_analyzer.errors import ReferencesError
from pose_analyzer.isolation_forest import IsolationForest
from pose_analyzer.time_warping import warped_attribution, warped_distances
from pose_analyzer.types import FloatArray, IntArray

N_PHASES: Final = 40
"""Rows of a repetition when it is compared: 0.1 s of a repetition of 4 s."""

_N_NEAREST: Final = 5
_BAND_SHARE: Final = 0.1
_N_TREES: Final = 100
_SEED: Final = 20080
_N_STRETCHES: Final = 5
N_FEATURES: Final = _N_STRETCHES + 1
"""Of each channel: the mean of each stretch, and its spread."""
_USUAL_ISOLATION: Final = 0.5
_SHRINKAGE: Final = 0.3
"""Of the features' covariance towards a sphere: there are more features than references."""
_WHITENED_WEIGHT: Final = 0.5
_LEAST_SPREAD_SHARE: Final = 0.01
_LEAST_SEEN: Final = 0.5


def _no_curves() -> FloatArray:
    return np.empty((0, 0, 0))


@dataclass(frozen=True, slots=True)
class AnomalyModel:
    """References, their spread, a forest and a threshold.

    Attributes
    ----------
    offset : array, shape (D,)
        The mean of each channel over the references; NaN where it is not used.
    spread : array, shape (D,)
        How much the references differ at the same phase, one standard deviation in the unit of
        each channel; NaN for a channel that fewer than half of them show, which is not used.
    curves : array, shape (N, P, D)
        The references from their offset, in units of their spread, of single precision.
    filling : array, shape (F,)
        The median of each feature of the references, for a repetition that does not show it.
    centre : array, shape (F,)
        The mean of each feature.
    precision : array, shape (F, F)
        The inverse of the features' shrunk covariance, over the number of features.
    forest : IsolationForest
        Grown on the references.
    threshold : float
        The score above which a repetition is an anomaly.
    false_positive_rate : float
        What it was calibrated to.
    calibration : array, shape (C, P, D)
        The calibration repetitions, scaled and rounded as the references.
    calibration_scores : array, shape (C,)
        Their scores against the references.
    athletes : int array, shape (C,)
        Whose they are; empty if unknown.
    own_weight : float
        Of the athlete's own repetitions in the score, in [0, 1].
    """

    offset: FloatArray
    spread: FloatArray
    curves: FloatArray
    filling: FloatArray
    centre: FloatArray
    precision: FloatArray
    forest: IsolationForest
    threshold: float = math.nan
    false_positive_rate: float = math.nan
    calibration: FloatArray = field(default_factory=_no_curves)
    calibration_scores: FloatArray = field(default_factory=lambda: np.empty(0))
    athletes: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    own_weight: float = 0.0

    @classmethod
    def learned(cls, references: Sequence[FloatArray], floors: FloatArray) -> AnomalyModel:
        """Return the model of phase-normalised references, arrays of shape (P, D)."""
        stack = np.stack(references)
        is_seen = ~np.isnan(stack).any(axis=1)
        used = is_seen.mean(axis=0) >= _LEAST_SEEN
        if not used.any():
            raise ReferencesError(
                "no channel was seen in half of the references; film the whole body"
            )
        offset, spread = np.full((2, stack.shape[2]), np.nan)
        for column in np.flatnonzero(used):
            seen = stack[is_seen[:, column], :, column]
            least = max(float(floors[column]), _LEAST_SPREAD_SHARE * float(seen.std()), 1e-12)
            spread[column] = max(float(seen.std(axis=0).mean()), least)
            offset[column] = seen.mean()
        curves = kept((stack - offset) / spread)
        forest = IsolationForest.learned(_filled_features(curves)[0], _N_TREES, _SEED)
        return cls.restored(offset, spread, curves, forest)

    @classmethod
    def restored(
        cls, offset: FloatArray, spread: FloatArray, curves: FloatArray, forest: IsolationForest
    ) -> AnomalyModel:
        """Return the model with these attributes; the others follow from them."""
        features, filling = _filled_features(curves)
        whitening = _whitening(features, float((~np.isnan(spread)).mean()))
        return cls(offset, spread, curves, filling, *whitening, forest)

    @property
    def radius(self) -> int:
        """Rows that the warping path may stray from the diagonal (Sakoe-Chiba band)."""
        return max(1, round(_BAND_SHARE * self.curves.shape[1]))

    def scaled(self, curves: FloatArray) -> FloatArray:
        """Return curves from the references' offset in units of their spread.

        NaN in channels that are not used.
        """
        return np.asarray((curves - self.offset) / self.spread)

    def missing_share(self, scaled: FloatArray) -> float:
        """Return the share of the references' channels that a repetition does not show."""
        wanted = ~np.isnan(self.spread)
        return float(np.isnan(scaled[:, wanted]).any(axis=0).mean())

    def distances(self, scaled: FloatArray) -> FloatArray:
        """Return the warped distance to each reference, shape (N,)."""
        return warped_distances(scaled, self.curves, self.radius)

    def score(self, scaled: FloatArray, distances: FloatArray) -> float:
        """Return the nonconformity: about 2 for a usual repetition, without an upper end.

        Three terms, each in its natural unit. The root mean square deviation along the warping
        path, mean over the five nearest references, in standard deviations. The isolation over
        that of a usual sample [1]_. And half of the Mahalanobis distance of the means of the five
        fifths of each channel and its spread, which sees small but consistent deviations; its
        covariance is shrunk by 0.3 towards a sphere [2]_. Weights and shrinkage are chosen by us,
        see reports/form_scoring_validation.md.
        """
        nearest = np.sort(distances[~np.isnan(distances)])[:_N_NEAREST]
        deviation = float(nearest.mean()) / math.sqrt(len(scaled)) if nearest.size else 0.0
        features = _features(scaled)
        filled = np.where(np.isnan(features), self.filling, features)
        away = filled - self.centre
        whitened = math.sqrt(max(float(away @ self.precision @ away), 0.0))
        isolation = self.forest.score(filled) / _USUAL_ISOLATION
        return deviation + isolation + _WHITENED_WEIGHT * whitened

    def attribution(
        self, scaled: FloatArray, others: FloatArray, distances: FloatArray
    ) -> FloatArray:
        """Return each channel's share in the difference from the nearest other, shape (D,)."""
        if np.isnan(distances).all():
            return np.zeros(len(self.spread))
        return warped_attribution(scaled, others[int(np.nanargmin(distances))], self.radius)


def kept(scaled: FloatArray) -> FloatArray:
    """Return scaled curves as a file keeps them, of single precision.

    What was learned is rounded before it is used, so that a stored model judges to the bit as it
    did before; from the offset, a rounding error is far below what a camera sees.
    """
    return scaled.astype(np.float32).astype(np.float64)


def _features(curves: FloatArray) -> FloatArray:
    """Return the mean of each fifth of each channel and its spread, shape (6 D,)."""
    stretches = [part.mean(axis=0) for part in np.array_split(curves, _N_STRETCHES)]
    return np.concatenate((*stretches, curves.std(axis=0)))


def _filled_features(curves: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the features of all references without NaN, (N, F), and what fills them, (F,)."""
    features = np.stack([_features(one) for one in curves])
    filling = np.array(
        [np.median(c[~np.isnan(c)]) if (~np.isnan(c)).any() else 0.0 for c in features.T]
    )
    return np.where(np.isnan(features), filling, features), filling


def _whitening(features: FloatArray, used_share: float) -> tuple[FloatArray, FloatArray]:
    """Return the centre and the precision over the number of features that are used."""
    n_used = used_share * features.shape[1]
    covariance = np.cov(features.T)
    mean_variance = float(np.trace(covariance)) / n_used
    sphere = max(mean_variance, 1e-12) * np.eye(features.shape[1])
    precision = np.linalg.inv((1.0 - _SHRINKAGE) * covariance + _SHRINKAGE * sphere)
    return features.mean(axis=0), precision / n_used
