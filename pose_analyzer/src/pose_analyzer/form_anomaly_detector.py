"""Repetitions that differ from good ones, with a false-positive rate that is guaranteed.

A repetition is a sequence of any D channels. How strange it is are two numbers added: by how many
of the references' own standard deviations it departs from the nearest good repetitions after
dynamic time warping, and how isolated it is from them as a whole, in an Isolation Forest. The
threshold comes from split conformal calibration on other good repetitions.

References
----------
.. [1] F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation Forest", ICDM 2008.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pose_analyzer.anomaly_file import StoredModel, load_model, save_model
from pose_analyzer.anomaly_model import N_PHASES, AnomalyModel, kept
from pose_analyzer.conformal import threshold
from pose_analyzer.errors import ReferencesError
from pose_analyzer.rep_sequences import named, normalised, require_different
from pose_analyzer.skeleton import JOINT_NAMES
from pose_analyzer.time_warping import warped_distances
from pose_analyzer.types import Anomaly, FloatArray

MIN_REFERENCES: Final = 8

_MAX_MISSING: Final = 0.5
_HALF_TRUST_REPS: Final = 1.0
_N_OWN_NEAREST: Final = 3
_FARTHEST: Final = 1e30
"""In standard deviations: its square must not overflow, nor single precision."""
_SHOWS_NOTHING: Final = "shows none of the channels that the others show; leave it out"
_NO_THRESHOLD: Final = "no false-positive rate was calibrated, so the score only ranks"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Good repetitions that set a threshold and are not references.

    Attributes
    ----------
    sequences : sequence of arrays, shape (T_i, D)
        NaN where not measured.
    athletes : sequence of hashable, optional
        Whose repetition each is, those of one athlete in the order of time: what the personal
        mode calibrates with.
    """

    sequences: Sequence[FloatArray]
    athletes: Sequence[Hashable] = ()

    def __post_init__(self) -> None:
        if len(self.athletes) not in (0, len(self.sequences)):
            raise ValueError(
                f"athletes needs one entry a sequence, got {len(self.athletes)} "
                f"for {len(self.sequences)}"
            )

    def name(self, row: int) -> str:
        """Return what to call a sequence in a message."""
        whose = f" ({self.athletes[row]})" if len(self.athletes) else ""
        return named("calibration", row + 1) + whose


class FormAnomalyDetector:
    """Judges repetitions against references.

    Parameters
    ----------
    channels : tuple of str
        Names of the D columns of every sequence.
    floors : array, shape (D,), optional
        Differences of good repetitions smaller than this are measurement and count as this, in
        the unit of each channel. By default 1 % of how much a channel varies in the references.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> wave = np.sin(np.linspace(0.0, 3.14, 60))[:, None] * (90.0, 40.0)
    >>> good = [wave + rng.normal(0.0, 2.0, wave.shape) for _ in range(40)]
    >>> detector = FormAnomalyDetector(("knee", "hip"))
    >>> detector.fit(good[:20], Calibration(good[20:]), false_positive_rate=0.05).judge(
    ...     0.5 * wave
    ... ).is_anomaly
    True
    """

    def __init__(
        self, channels: tuple[str, ...] = JOINT_NAMES, floors: FloatArray | None = None
    ) -> None:
        if floors is not None and np.shape(floors) != (len(channels),):
            raise ValueError(
                f"floors needs one value for each of {len(channels)} channels, "
                f"got shape {np.shape(floors)}"
            )
        self.channels = channels
        self._floors = np.zeros(len(channels)) if floors is None else np.array(floors, dtype=float)
        if not (np.isfinite(self._floors) & (self._floors >= 0.0)).all():
            raise ValueError(f"floors must be finite and at least 0, got {self._floors.tolist()}")
        self._model: AnomalyModel | None = None
        self._own: FloatArray | None = None

    def fit(
        self,
        references: Sequence[FloatArray],
        calibration: Calibration | Sequence[FloatArray] | None = None,
        false_positive_rate: float | None = 0.01,
    ) -> FormAnomalyDetector:
        """Learn what good repetitions look like, and from which score on one is an anomaly.

        Parameters
        ----------
        references : sequence of arrays, shape (T_i, D)
            Good repetitions; NaN where not measured.
        calibration : Calibration or sequence of arrays, optional
            Other good repetitions, which set the threshold. Not given: every second reference.
        false_positive_rate : float, optional
            The share of good repetitions that may be called anomalies, in (0, 1). None sets no
            threshold: scores then only rank, and every reference given is one.

        Returns
        -------
        FormAnomalyDetector
            Itself, fitted.

        Raises
        ------
        ValueError
            If the rate is not in (0, 1); if a sequence is no array of numbers, has another number
            of columns, fewer than two rows, or an infinite value or one above 1e100; if a
            calibration repetition is also a reference.
        ReferencesError
            If there are too few references, or too few repetitions to calibrate this rate: the
            message says how many it takes; or if a reference shows nothing, or a calibration
            repetition fewer than half of the channels: the message says which.

        Notes
        -----
        Split conformal calibration, see `conformal`: with n calibration scores the threshold is the
        ``ceil((n + 1) (1 - rate))``-th smallest. A good repetition then exceeds it with at most
        this probability, whatever the distribution, as long as it is exchangeable with the
        calibration repetitions: another person or another camera is not, and several repetitions
        of one athlete count for less than as many of different ones. The rate needs
        ``n >= ceil(1 / rate) - 1``.
        """
        _require_rate(false_positive_rate)
        if calibration is None and false_positive_rate is None:
            calibration = ()
        elif calibration is None:
            references, calibration = references[::2], references[1::2]
        if not isinstance(calibration, Calibration):
            calibration = Calibration(calibration)
        if len(references) < MIN_REFERENCES:
            raise ReferencesError(
                f"at least {MIN_REFERENCES} reference repetitions besides those for calibration "
                f"are needed, got {len(references)}; record more good repetitions"
            )
        n_channels = len(self.channels)
        shown = [
            normalised(one, n_channels, named("reference", number))
            for number, one in enumerate(references, start=1)
        ]
        others = [
            normalised(one, n_channels, calibration.name(row))
            for row, one in enumerate(calibration.sequences)
        ]
        require_different(shown, others)
        model = AnomalyModel.learned(shown, self._floors)
        for number, one in enumerate(model.curves, start=1):
            if model.missing_share(one) == 1.0:
                raise ReferencesError(f"{named('reference', number)} {_SHOWS_NOTHING}")
        curves = [
            _comparable(model, model.scaled(one), calibration.name(row))
            for row, one in enumerate(others)
        ]
        scores = [model.score(one, model.distances(one)) for one in curves]
        names = list(dict.fromkeys(calibration.athletes))
        self._model = dataclasses.replace(
            model,
            threshold=(
                math.nan
                if false_positive_rate is None
                else threshold(scores, false_positive_rate, "calibration repetitions")
            ),
            false_positive_rate=_or_nan(false_positive_rate),
            calibration=kept(np.reshape(curves, (-1, *model.curves.shape[1:]))),
            calibration_scores=np.array(scores),
            athletes=np.array([names.index(one) for one in calibration.athletes], dtype=np.intp),
        )
        self._own = None
        return self

    def personalised(
        self,
        own: Sequence[FloatArray],
        weight: float | None = None,
        false_positive_rate: float | None = None,
    ) -> FormAnomalyDetector:
        """Return a detector for one athlete, whose own good repetitions join the references.

        Parameters
        ----------
        own : sequence of arrays, shape (T_i, D)
            Good repetitions of this athlete, at least one.
        weight : float, optional
            Of the own repetitions in [0, 1]: 1 replaces the general references, 0 ignores the
            own ones. By default m / (m + 1) for m own repetitions (chosen by us, see
            reports/form_scoring_validation.md).
        false_positive_rate : float, optional
            The share of good repetitions of new athletes that may be called anomalies, in (0, 1).
            By default that of `fit`; if that set no threshold, there is none here.

        Raises
        ------
        ValueError
            If the weight is not in [0, 1] or the rate not in (0, 1), or as in `fit`.
        ReferencesError
            If nothing was fitted, there is no own repetition, one shows fewer than half of the
            channels, or the calibration has too few athletes for this rate: the message says how
            many it takes.

        Notes
        -----
        The threshold is set anew, as in `fit`, but over athletes: repetitions of one athlete
        resemble each other, so each gives one score, however many there are. It is that of the
        last repetition, with the ones before it in the place of the own ones, as many as there are
        here. A good repetition of a new athlete then exceeds the threshold with at most this
        probability if the athlete is exchangeable with those. For m own repetitions that takes
        ``ceil(1 / rate) - 1`` athletes with m + 1 calibration repetitions each.
        """
        model = self._fitted()
        if not len(own):
            raise ReferencesError("at least one own repetition is needed, got none")
        seen = [
            _comparable(model, model.scaled(normalised(one, len(self.channels), name)), name)
            for name, one in ((named("own", n), one) for n, one in enumerate(own, start=1))
        ]
        share = len(seen) / (len(seen) + _HALF_TRUST_REPS) if weight is None else weight
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"weight must be in [0, 1], got {weight}")
        _require_rate(false_positive_rate)
        rate = model.false_positive_rate if false_positive_rate is None else false_positive_rate
        scores = _personal_calibration(model, len(seen), share)
        units = f"athletes with {len(seen) + 1} calibration repetitions each"
        result = FormAnomalyDetector(self.channels, self._floors)
        result._model = dataclasses.replace(
            model,
            threshold=rate if math.isnan(rate) else threshold(scores, rate, units),
            false_positive_rate=rate,
            own_weight=share,
        )
        result._own = kept(np.stack(seen))
        return result

    def judge(self, sequence: FloatArray) -> Anomaly:
        """Return whether a repetition differs from the references.

        Parameters
        ----------
        sequence : array, shape (T, D)
            NaN where not measured. A column is used if half of it was seen; the detector
            abstains if fewer than half of the columns of the references can be used. Without a
            threshold the score is given, but no judgement.

        Raises
        ------
        ValueError
            As in `fit`, for this sequence.
        ReferencesError
            If nothing was fitted.
        """
        model = self._fitted()
        curves = model.scaled(normalised(sequence, len(self.channels), "the repetition"))
        if reason := _unlike(model, curves):
            return abstained(reason)
        own = None if self._own is None or not model.own_weight else self._own
        others, distances = model.curves, model.distances(curves)
        score = model.score(curves, distances)
        if own is not None:
            others, distances = own, warped_distances(curves, own, model.radius)
            score = _blended(model, distances, score)
        shares = model.attribution(curves, others, distances)
        order = np.argsort(-shares, kind="stable")
        named = tuple((self.channels[i], float(shares[i])) for i in order if shares[i] > 0.0)
        reason = _NO_THRESHOLD if math.isnan(model.threshold) else ""
        return Anomaly(score > model.threshold, score, model.threshold, named, reason)

    def save(self, path: Path | str) -> None:
        """Write everything that was learned, without pickle, to judge alike to the bit.

        Raises
        ------
        ReferencesError
            If nothing was fitted, or the file cannot be written.
        """
        save_model(Path(path), StoredModel(self._fitted(), self.channels, self._floors, self._own))

    @classmethod
    def load(cls, path: Path | str) -> FormAnomalyDetector:
        """Return the detector that `save` wrote.

        Raises
        ------
        ReferencesError
            If the file is missing, is no such model, is damaged, or of another version.
        """
        stored = load_model(Path(path))
        detector = cls(stored.channels, stored.floors)
        detector._model, detector._own = stored.model, stored.own
        return detector

    @property
    def false_positive_rate(self) -> float:
        """The rate that was calibrated; NaN if none was."""
        return self._fitted().false_positive_rate

    def _fitted(self) -> AnomalyModel:
        if self._model is None:
            raise ReferencesError("there are no references yet; call fit with good repetitions")
        return self._model


def abstained(reason: str) -> Anomaly:
    """Return the judgement that none is made, and why."""
    return Anomaly(False, math.nan, math.nan, (), reason)


def _unlike(model: AnomalyModel, scaled: FloatArray) -> str:
    """Return why a repetition cannot be compared with the references; empty if it can."""
    if model.missing_share(scaled) > _MAX_MISSING:
        return "fewer than half of the channels of the references were seen"
    if (np.abs(scaled) > _FARTHEST).any():
        return "it lies too far from the references; is it of another unit?"
    return ""


def _comparable(model: AnomalyModel, scaled: FloatArray, name: str) -> FloatArray:
    """Return a repetition that can be compared with the references."""
    if reason := _unlike(model, scaled):
        raise ReferencesError(f"{name} cannot be compared: {reason}; leave it out")
    return scaled


def _require_rate(rate: float | None) -> None:
    if rate is not None and not 0.0 < rate < 1.0:
        raise ValueError(f"false_positive_rate must be in (0, 1), got {rate}")


def _or_nan(rate: float | None) -> float:
    return math.nan if rate is None else rate


def _personal_calibration(model: AnomalyModel, n_own: int, weight: float) -> list[float]:
    """Return the personal score of the last repetition of each athlete who has enough others."""
    weighted = dataclasses.replace(model, own_weight=weight)
    scores = []
    for athlete in np.unique(model.athletes):
        rows = np.flatnonzero(model.athletes == athlete)[-n_own - 1 :]
        if len(rows) == n_own + 1:
            own, last = model.calibration[rows[:-1]], rows[-1]
            distances = warped_distances(model.calibration[last], own, model.radius)
            scores.append(_blended(weighted, distances, float(model.calibration_scores[last])))
    return scores


def _blended(model: AnomalyModel, distances: FloatArray, general: float) -> float:
    """Return the general score of a repetition, blended with its distances to the own ones."""
    nearest = np.sort(distances[~np.isnan(distances)])[:_N_OWN_NEAREST]
    if not nearest.size:
        return general
    personal = float(nearest.mean()) / math.sqrt(N_PHASES)
    return model.own_weight * personal + (1.0 - model.own_weight) * general
