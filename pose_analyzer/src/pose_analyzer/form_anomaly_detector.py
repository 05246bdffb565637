"""Repetitions that differ from good ones, or from the others of the same set.

`FormAnomalyDetector` knows two questions. Against *references* (`fit`, `judge`): dynamic time
warping to the nearest good repetitions says how the course of the angles differs and in which
joints, an Isolation Forest says whether the repetition as a whole is unusual; both together make
one score, whose threshold is calibrated to a false-positive rate. Against the *set*
(`judge_in_set`): is the newest repetition further from the earlier ones than they are from each
other? That needs no reference and is what a live stream asks.

References
----------
.. [1] F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation Forest", ICDM 2008.
.. [2] H. Papadopoulos et al., "Inductive Confidence Machines for Regression", ECML 2002; the
   finite-sample form of split conformal prediction as in A. Angelopoulos, S. Bates, "A Gentle
   Introduction to Conformal Prediction", section 1.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from pose_analyzer.errors import ReferencesError
from pose_analyzer.skeleton import JOINT_NAMES
from pose_analyzer.time_warping import (
    N_PHASES,
    phase_normalised,
    warped_attribution,
    warped_distances,
)
from pose_analyzer.types import Anomaly, FloatArray

MIN_EARLIER_REPS: Final = 5
MIN_REFERENCES: Final = 8

_BAND_RADIUS: Final = N_PHASES // 10
_N_NEAREST: Final = 3
_MEMORY_REPS: Final = 12
_MAX_MISSING: Final = 0.5
_MAD_TO_SD: Final = 1.4826
_SET_THRESHOLD: Final = 3.0
_SET_FLOOR_DEG: Final = 1.5
_SPREAD_FLOOR_DEG: Final = 3.0
_EDGE_ROWS: Final = 3
_STILL_SHARE: Final = 0.1
_N_TREES: Final = 100
_SEED: Final = 20080


class FormAnomalyDetector:
    """Judges repetitions against references, or against the earlier ones of their set.

    Parameters
    ----------
    joints : tuple of str
        Names of the D columns of every sequence.
    """

    def __init__(self, joints: tuple[str, ...] = JOINT_NAMES) -> None:
        self._joints = joints
        self._model: _Model | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the set, but not the references."""
        self._earlier: deque[FloatArray] = deque(maxlen=_MEMORY_REPS)
        self._between: deque[FloatArray] = deque(maxlen=_MEMORY_REPS)

    def fit(
        self,
        references: Sequence[FloatArray],
        calibration: Sequence[FloatArray] | None = None,
        false_positive_rate: float = 0.01,
    ) -> FormAnomalyDetector:
        """Learn what good repetitions look like, and from which score on one is an anomaly.

        Parameters
        ----------
        references : sequence of arrays, shape (T_i, D)
            Good repetitions; NaN where not measured.
        calibration : sequence of arrays, shape (T_i, D), optional
            Other good repetitions, which set the threshold. Not given: every second reference.
        false_positive_rate : float
            The share of good repetitions that may be called anomalies, in (0, 1).

        Returns
        -------
        FormAnomalyDetector
            Itself, fitted.

        Raises
        ------
        ValueError
            If the rate is not in (0, 1) or a sequence has another number of columns.
        ReferencesError
            If there are too few references, or too few repetitions to calibrate this rate: the
            message says how many it takes.

        Notes
        -----
        Split conformal calibration [2]_: with n calibration scores the threshold is the
        ``ceil((n + 1) (1 - rate))``-th smallest. A good repetition then exceeds it with at most
        this probability, whatever the distribution, as long as it is exchangeable with the
        calibration repetitions: another person or another camera is not. The rate needs
        ``n >= ceil(1 / rate) - 1``.
        """
        if not 0.0 < false_positive_rate < 1.0:
            raise ValueError(f"false_positive_rate must be in (0, 1), got {false_positive_rate}")
        if calibration is None:
            references, calibration = references[::2], references[1::2]
        needed = max(1, math.ceil(1.0 / false_positive_rate - 1e-9) - 1)
        if len(references) < MIN_REFERENCES:
            raise ReferencesError(
                f"at least {MIN_REFERENCES} reference repetitions besides those for calibration "
                f"are needed, got {len(references)}; record more good repetitions"
            )
        model = _Model.learned([self._normalised(one) for one in references])
        scores = [self._judged_score(model, one) for one in calibration]
        known = np.sort([score for score in scores if not math.isnan(score)])
        if len(known) < needed:
            raise ReferencesError(
                f"a false-positive rate of {false_positive_rate:g} takes at least {needed} "
                f"calibration repetitions, got {len(known)}; record more, or ask for a rate of "
                f"{1.0 / (len(known) + 1):.2g} or more"
            )
        rank = math.ceil((len(known) + 1) * (1.0 - false_positive_rate) - 1e-9)
        model.threshold = float(known[max(rank, 1) - 1])
        self._model = model
        return self

    def judge(self, sequence: FloatArray) -> Anomaly:
        """Return whether a repetition differs from the references.

        Parameters
        ----------
        sequence : array, shape (T, D)
            NaN where not measured. A column is used if half of it was seen; the detector
            abstains if fewer than half of the columns of the references can be used.

        Raises
        ------
        ReferencesError
            If `fit` was not called.
        """
        if self._model is None:
            raise ReferencesError("there are no references yet; call fit with good repetitions")
        curves = self._normalised(sequence)
        if self._model.missing_share(curves) > _MAX_MISSING:
            return abstained("fewer than half of the reference's joints were seen")
        score = self._model.score(curves)
        shares = self._model.attribution(curves)
        is_anomaly = score > self._model.threshold
        return Anomaly(is_anomaly, score, self._model.threshold, self._named(shares))

    def judge_in_set(self, deg: FloatArray) -> Anomaly:
        """Return whether the newest repetition of a set differs from the earlier ones.

        Parameters
        ----------
        deg : array, shape (T, D)
            Its angles in degrees, evenly sampled; NaN where not measured. It is remembered as an
            earlier one for the next, among the last 12.

        Returns
        -------
        Anomaly
            The score is how far the median distance to the earlier repetitions lies above the
            median of their distances among each other, in robust standard deviations of these
            (of at least 1.5 degrees or a quarter of the median; threshold 3: chosen by us, see
            reports/form_scoring.md). Abstained below 5 earlier repetitions.
        """
        curves = self._normalised(deg)
        if np.isnan(curves).all():
            return abstained("no joint was seen in half of the repetition")
        curves = _without_rest(curves)
        distances = np.empty(0)
        if self._earlier:
            # The distance sums over the path, the root mean square over its diagonal is degrees.
            distances = warped_distances(curves, np.stack(self._earlier), _BAND_RADIUS)
            distances /= math.sqrt(N_PHASES)
        verdict = self._verdict(curves, distances)
        self._earlier.append(curves)
        self._between.append(distances)
        return verdict

    def _verdict(self, curves: FloatArray, distances: FloatArray) -> Anomaly:
        known = distances[~np.isnan(distances)]
        if len(known) < MIN_EARLIER_REPS:
            return abstained(f"needs {MIN_EARLIER_REPS} earlier repetitions, has {len(known)}")
        between = np.concatenate(self._between)
        between = between[~np.isnan(between)]
        usual = float(np.median(between))
        spread = _MAD_TO_SD * float(np.median(np.abs(between - usual)))
        score = (float(np.median(known)) - usual) / max(spread, _SET_FLOOR_DEG, 0.25 * usual)
        typical = self._earlier[int(np.nanargmin(np.abs(distances - np.median(known))))]
        shares = warped_attribution(curves, typical, _BAND_RADIUS)
        return Anomaly(score > _SET_THRESHOLD, score, _SET_THRESHOLD, self._named(shares))

    def _judged_score(self, model: _Model, sequence: FloatArray) -> float:
        curves = self._normalised(sequence)
        if model.missing_share(curves) > _MAX_MISSING:
            return math.nan
        return model.score(curves)

    def _normalised(self, sequence: FloatArray) -> FloatArray:
        if sequence.ndim != 2 or sequence.shape[1] != len(self._joints):
            raise ValueError(
                f"a sequence needs shape (T, {len(self._joints)}), got {sequence.shape}"
            )
        return phase_normalised(sequence)

    def _named(self, shares: FloatArray) -> tuple[tuple[str, float], ...]:
        order = np.argsort(-shares, kind="stable")
        return tuple((self._joints[i], float(shares[i])) for i in order if shares[i] > 0.0)


def abstained(reason: str) -> Anomaly:
    """Return the judgement that none is made, and why."""
    return Anomaly(False, math.nan, math.nan, (), reason)


def _without_rest(curves: FloatArray) -> FloatArray:
    """Return a phase-normalised repetition without the stillness before and after it.

    How long one rests before the next repetition says nothing of this one, but would shift its
    phases. Still is what moved less than a tenth of the way: a root mean square over the joints.
    """
    seen = curves[:, ~np.isnan(curves).any(axis=0)]
    from_start, from_end = (
        np.sqrt(np.square(seen - seen[rows].mean(axis=0)).mean(axis=1))
        for rows in (slice(0, _EDGE_ROWS), slice(-_EDGE_ROWS, None))
    )
    first = int(np.argmax(from_start >= _STILL_SHARE * from_start.max()))
    last = len(seen) - 1 - int(np.argmax(from_end[::-1] >= _STILL_SHARE * from_end.max()))
    return phase_normalised(curves[max(first - 1, 0) : max(last, first) + 2])


class _Forest(Protocol):
    """What is used of scikit-learn's Isolation Forest."""

    def score_samples(self, X: FloatArray) -> FloatArray: ...  # noqa: N803 - scikit-learn's name


@dataclass(slots=True)
class _Model:
    """What was learned from the references."""

    scale_deg: FloatArray
    curves: FloatArray
    filling: FloatArray
    forest: _Forest
    warping: tuple[float, float]
    isolation: tuple[float, float]
    threshold: float = math.nan

    @classmethod
    def learned(cls, references: Sequence[FloatArray]) -> _Model:
        """Return the model of phase-normalised references."""
        # scikit-learn takes seconds to import and only a fit needs it.
        from sklearn.ensemble import IsolationForest

        stack = np.stack(references)
        used = ~np.isnan(stack).all(axis=(0, 1))
        if not used.any():
            raise ReferencesError("no joint was seen in half of any reference; film the whole body")
        scale_deg = np.full(stack.shape[2], np.nan)
        for column in np.flatnonzero(used):
            seen = stack[..., column][~np.isnan(stack[..., column]).any(axis=1)]
            scale_deg[column] = max(float(seen.std(axis=0).mean()), _SPREAD_FLOOR_DEG)
        curves = stack / scale_deg
        features = np.stack([_features(one) for one in curves])
        filling = np.array(
            [np.median(c[~np.isnan(c)]) if (~np.isnan(c)).any() else 0.0 for c in features.T]
        )
        filled = np.where(np.isnan(features), filling, features)
        forest = IsolationForest(n_estimators=_N_TREES, random_state=_SEED).fit(filled)
        rest = [
            _nearest(warped_distances(one, np.delete(curves, i, axis=0), _BAND_RADIUS))
            for i, one in enumerate(curves)
        ]
        return cls(
            scale_deg,
            curves,
            filling,
            forest,
            _centre_and_spread(np.array(rest)),
            _centre_and_spread(-forest.score_samples(filled)),
        )

    def missing_share(self, curves: FloatArray) -> float:
        """Return the share of the references' columns that the repetition does not show."""
        wanted = ~np.isnan(self.scale_deg)
        return float(np.isnan(curves[:, wanted]).any(axis=0).mean())

    def score(self, curves: FloatArray) -> float:
        """Return the nonconformity: the mean of both judges in their robust standard deviations."""
        scaled = curves / self.scale_deg
        warping = _nearest(warped_distances(scaled, self.curves, _BAND_RADIUS))
        features = _features(scaled)
        filled = np.where(np.isnan(features), self.filling, features)
        isolation = -float(self.forest.score_samples(filled[None])[0])
        return 0.5 * (
            (warping - self.warping[0]) / self.warping[1]
            + (isolation - self.isolation[0]) / self.isolation[1]
        )

    def attribution(self, curves: FloatArray) -> FloatArray:
        """Return each column's share in the difference from the nearest reference."""
        scaled = curves / self.scale_deg
        distances = warped_distances(scaled, self.curves, _BAND_RADIUS)
        nearest = self.curves[int(np.nanargmin(distances))]
        return warped_attribution(scaled, nearest, _BAND_RADIUS)


def _nearest(distances: FloatArray) -> float:
    """Return the mean distance to the nearest three references."""
    known = np.sort(distances[~np.isnan(distances)])
    return float(known[:_N_NEAREST].mean()) if known.size else math.nan


def _features(curves: FloatArray) -> FloatArray:
    """Return extremes, mean, spread and roughness of each column, shape (5 D,)."""
    second = np.abs(np.diff(curves, n=2, axis=0)).mean(axis=0)
    return np.concatenate(
        (curves.min(axis=0), curves.max(axis=0), curves.mean(axis=0), curves.std(axis=0), second)
    )


def _centre_and_spread(values: FloatArray) -> tuple[float, float]:
    """Return median and robust standard deviation of the values that are known."""
    known = values[~np.isnan(values)]
    centre = float(np.median(known))
    spread = _MAD_TO_SD * float(np.median(np.abs(known - centre)))
    return centre, max(spread, 1e-6 * max(abs(centre), 1.0))
