"""How well a repetition was done: 0 to 100 with its parts, their evidence, and named faults.

A part that the camera cannot show is not judged: its score is NaN, its confidence 0 and its
evidence says from where to film. Nothing depends on stature, limb lengths, the scale or the
place of the athlete in the picture; exchanging left and right changes nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pose_analyzer.errors import ExerciseError, ReferencesError
from pose_analyzer.exercises import CriterionSpec, ExerciseSpec, FaultSpec
from pose_analyzer.form_measures import (
    MEASURES,
    SET_TEMPO_SPREAD,
    UNMEASURED,
    Measured,
    measure,
)
from pose_analyzer.form_reference import MIN_REFERENCES, N_FRACTIONS, ReferenceCurves
from pose_analyzer.rep_geometry import (
    SIDES,
    SIGMA_LIMIT_DEG,
    angle_confidence,
    mean_of_seen,
    median_seen,
    phase_times,
    sides_to_read,
    signal_fraction,
    sparc,
)
from pose_analyzer.skeleton import JOINT_INDEX, JOINT_NAMES, KEYPOINT_INDEX
from pose_analyzer.types import Fault, FloatArray, FormScore, IntArray, RepMotion, ScorePart

ALIGNMENT_COSTS_ALL: Final = 3.0
"""A deviation of this many tolerances earns 0, one of a single tolerance 100."""

TECHNIQUE: Final = "technique"
"""The part of the score that the faults make."""
TECHNIQUE_WEIGHT: Final = 3.0
"""Its weight: that of depth and alignment (chosen by us, see reports/form_scoring.md)."""

_MIN_CONFIDENCE: Final = 0.2
_SEEN_SHARE: Final = 0.5


class _Rep:
    """A repetition whose measures are taken once, however many criteria and faults read them."""

    def __init__(self, motion: RepMotion) -> None:
        self.motion = motion
        self.fraction = signal_fraction(motion)
        self._found: dict[str, Measured] = {}

    def measured(self, name: str) -> Measured:
        """Return the named measure."""
        if name not in self._found:
            self._found[name] = measure(name, self.motion)
        return self._found[name]


class FormScorer:
    """Scores repetitions of one exercise, and names their faults.

    Stateless: the same motion always earns the same.

    Parameters
    ----------
    spec : ExerciseSpec
        The exercise with its goals, criteria and faults.
    curves : ReferenceCurves, optional
        The reference motion; from the goals of ``spec`` if not given.

    Raises
    ------
    ExerciseError
        If a fault or criterion of ``spec`` reads a measure that does not exist, or its two ends
        are the same, which has no direction.
    """

    def __init__(self, spec: ExerciseSpec, curves: ReferenceCurves | None = None) -> None:
        _require_judgeable(spec)
        self.spec = spec
        self.curves = ReferenceCurves.from_goals(spec.goals) if curves is None else curves
        self._columns = np.flatnonzero(~np.isnan(self.curves.deg[0, 0]))
        self._reference = self.curves.deg[:, :, self._columns]
        self._per_tolerance = 1.0 / self.curves.tolerance_deg[:, :, self._columns]
        self._resting = [KEYPOINT_INDEX[name] for name in spec.signal.resting]
        self._faults = [fault for fault in spec.faults if fault.measure != SET_TEMPO_SPREAD]

    def fit(self, references: Sequence[RepMotion]) -> FormScorer:
        """Return a scorer whose goals come from good repetitions of this exercise.

        The reference curves are their mean, the tolerances their spread; depth and range of
        motion are judged against what the references reach, at the same distance from goal to
        worst as before. Limits of faults stay as they are.

        Raises
        ------
        ReferencesError
            If there are fewer than 3 references, or no joint is seen well enough in 3 of them.
        """
        if len(references) < MIN_REFERENCES:
            raise ReferencesError(
                f"{self.spec.title}: {MIN_REFERENCES} reference repetitions are needed, "
                f"got {len(references)}; record more good repetitions"
            )
        curves = ReferenceCurves.from_references(references)
        if np.isnan(curves.deg).all():
            raise ReferencesError(
                f"{self.spec.title}: no joint is seen well enough in {MIN_REFERENCES} of the "
                f"{len(references)} references; film them {self.spec.best_view}"
            )
        criteria = tuple(_shifted(item, references) for item in self.spec.criteria)
        return FormScorer(dataclasses.replace(self.spec, criteria=criteria), curves)

    def score(self, motion: RepMotion) -> FormScore:
        """Return the score of a repetition with all its parts, judged or not.

        The parts are the criteria of the exercise, and ``technique``: 100 less the severity of
        the worst fault that is visible. The total is their mean by weight and confidence; NaN
        where less than a fifth of it could be judged, which would be no score of the repetition.
        """
        rep = _Rep(motion)
        criteria = [self._part(criterion, rep) for criterion in self.spec.criteria]
        parts = (*criteria, self._technique(rep))
        share = sum(part.weight * part.confidence for part in parts)
        weight = sum(part.weight for part in parts)
        confidence = share / weight
        if confidence < _MIN_CONFIDENCE:
            return FormScore(float("nan"), confidence, parts)
        judged = [part for part in parts if part.confidence > 0.0]
        total = sum(part.weight * part.confidence * part.score for part in judged) / share
        return FormScore(total, confidence, parts)

    def faults(self, motion: RepMotion) -> tuple[Fault, ...]:
        """Return the faults that the repetition shows, in the order of the exercise file.

        A fault whose measure the camera cannot show, or shows with a confidence below 0.2, is
        not reported.
        """
        rep = _Rep(motion)
        found = (self._fault(fault, rep) for fault in self.spec.faults)
        return tuple(fault for fault in found if fault is not None)

    def score_pose(self, deg: FloatArray, fraction: float, *, returning: bool = False) -> float:
        """Return how close one pose is to the reference pose, 0 to 100.

        Parameters
        ----------
        deg : array, shape (J,)
            Angles in degrees; NaN where not measured or not to be judged.
        fraction : float
            How far the repetition signal is on its way: 0 at rest, 1 at the far end.
        returning : bool
            True on the way back to rest.

        Returns
        -------
        float
            NaN if no joint of the reference was measured, or the fraction is NaN.
        """
        if math.isnan(fraction):
            return float("nan")
        row = round(min(max(fraction, 0.0), 1.0) * (N_FRACTIONS - 1))
        way = int(returning)
        deviation = deg[self._columns] - self._reference[way, row]
        deviation *= self._per_tolerance[way, row]
        deviation = deviation[~np.isnan(deviation)]
        if not deviation.size:
            return float("nan")
        return _alignment_score(float(np.sqrt(deviation @ deviation / deviation.size)))

    def _part(self, criterion: CriterionSpec, rep: _Rep) -> ScorePart:
        hidden = _hidden(criterion.min_yaw_deg, criterion.max_yaw_deg, rep.motion.yaw_deg)
        if hidden:
            return _not_judged(criterion, hidden)
        value, evidence = _JUDGES[criterion.name](self, criterion, rep)
        if value.confidence < _MIN_CONFIDENCE:
            return _not_judged(criterion, evidence if np.isnan(value.value) else _UNSURE)
        score = 100.0 * _share(value.value, criterion.worst, criterion.goal)
        return ScorePart(criterion.name, score, criterion.weight, value.confidence, evidence)

    def _technique(self, rep: _Rep) -> ScorePart:
        """Return how free of faults the repetition is, as far as the camera shows."""
        seen = [
            (fault, found)
            for fault in self._faults
            if (found := _visible(fault, rep)).confidence >= _MIN_CONFIDENCE
        ]
        if not seen:
            reason = f"no fault is visible from here; film {self.spec.best_view}"
            return ScorePart(TECHNIQUE, float("nan"), TECHNIQUE_WEIGHT, 0.0, reason)
        severities = [_share(found.value, fault.limit, fault.severe) for fault, found in seen]
        worst = int(np.argmax(severities))
        looked_for = f"{len(seen)} of {len(self._faults)} faults could be looked for"
        if severities[worst] > 0.0:
            name = seen[worst][0].name.replace("_", " ")
            evidence = f"{name} with severity {severities[worst]:.2f}; {looked_for}"
            confidence = seen[worst][1].confidence
        else:
            evidence = f"no fault; {looked_for}"
            # What was not looked for may be there: seeing few of them clean says little.
            confidence = sum(found.confidence for _, found in seen) / len(self._faults)
        score = 100.0 * (1.0 - severities[worst])
        return ScorePart(TECHNIQUE, score, TECHNIQUE_WEIGHT, confidence, evidence)

    def _fault(self, spec: FaultSpec, rep: _Rep) -> Fault | None:
        found = _visible(spec, rep)
        severity = _share(found.value, spec.limit, spec.severe)
        if found.confidence < _MIN_CONFIDENCE or not severity > 0.0:
            return None
        label, unit = _label(spec.measure)
        evidence = f"{label} {found.value:.3g}{unit}, limit {spec.limit:g}{unit}"
        return Fault(spec.name, severity, found.confidence, evidence)

    def _alignment(self, criterion: CriterionSpec, rep: _Rep) -> tuple[Measured, str]:
        """Return the RMS deviation from the reference in tolerances, over frames and joints."""
        motion, fraction = rep.motion, rep.fraction
        seen = ~np.isnan(fraction)
        rows = np.round(np.where(seen, fraction, 0.0) * (N_FRACTIONS - 1)).astype(np.intp)
        ways = (np.arange(fraction.size) > motion.turn_idx).astype(np.intp)
        columns, sigma_deg = self._judged_columns(motion, criterion.joint)
        if not columns.size:
            return UNMEASURED, "the angles of the reference are too uncertain from here"
        joints = self._columns[columns]
        deviation = motion.deg[:, joints] - self._reference[ways, rows][:, columns]
        deviation[~seen] = np.nan
        relative = np.square(deviation * self._per_tolerance[ways, rows][:, columns])
        known = ~np.isnan(relative)
        enough = known.mean(axis=0) >= _SEEN_SHARE
        if not enough.any():
            return UNMEASURED, "too few frames in which the joints are seen"
        known &= enough
        squares = np.where(known, relative, 0.0)
        count = known.sum(axis=0)
        tolerances = float(np.sqrt(squares.sum() / count.sum()))
        rms_deg = np.sqrt(
            np.where(known, np.square(deviation), 0.0).sum(axis=0) / np.maximum(count, 1)
        )
        worst = int(np.argmax(squares.sum(axis=0) / np.maximum(count, 1)))
        overall = float(np.sqrt(np.square(rms_deg[enough]).mean()))
        evidence = (
            f"RMS deviation from the reference {overall:.1f} deg, largest at "
            f"{JOINT_NAMES[joints[worst]].replace('_', ' ')} ({rms_deg[worst]:.1f} deg)"
        )
        return Measured(tolerances, angle_confidence(sigma_deg)), evidence

    def _judged_columns(self, motion: RepMotion, joint: str) -> tuple[IntArray, float]:
        """Return which reference columns are certain enough here, and their typical sigma."""
        sides = sides_to_read(motion)
        sigma_deg = mean_of_seen(motion.sigma_deg[:, self._columns].T)
        with np.errstate(invalid="ignore"):
            fit = sigma_deg <= SIGMA_LIMIT_DEG
        for place, column in enumerate(self._columns):
            name = JOINT_NAMES[column]
            side = name.partition("_")[0]
            fit[place] &= side not in SIDES or side in sides
            fit[place] &= not joint or name.endswith(joint)
        return np.flatnonzero(fit), median_seen(sigma_deg[fit])

    def _depth(self, criterion: CriterionSpec, rep: _Rep) -> tuple[Measured, str]:
        """Return the extreme angle of a joint in the direction of the goal."""
        end = "largest" if criterion.goal > criterion.worst else "smallest"
        value = rep.measured(_measure_of(criterion))
        return value, _angle_evidence(f"{end} {criterion.joint} angle", value, criterion)

    def _range(self, criterion: CriterionSpec, rep: _Rep) -> tuple[Measured, str]:
        value = rep.measured(_measure_of(criterion))
        return value, _angle_evidence(f"{criterion.joint} moved through", value, criterion)

    def _symmetry(self, criterion: CriterionSpec, rep: _Rep) -> tuple[Measured, str]:
        """Return the difference of left and right: of one joint, or the mean of all goals'."""
        sided = [goal.joint for goal in self.spec.goals if goal.joint not in JOINT_INDEX]
        joints = [criterion.joint] if criterion.joint else sided
        found = {joint: rep.measured(f"{joint}_difference_deg") for joint in joints}
        seen = {name: item for name, item in found.items() if not np.isnan(item.value)}
        if not seen:
            return UNMEASURED, "both sides were not seen together"
        value = float(np.mean([item.value for item in seen.values()]))
        confidence = float(np.mean([item.confidence for item in seen.values()]))
        worst = max(seen, key=lambda name: seen[name].value)
        evidence = (
            f"left and right differ by {value:.1f} deg, most at the {worst} "
            f"({seen[worst].value:.1f} deg), goal at most {criterion.goal:g} deg"
        )
        return Measured(value, confidence), evidence

    def _smoothness(self, criterion: CriterionSpec, rep: _Rep) -> tuple[Measured, str]:
        """Return the mean spectral arc length of the way there and the way back."""
        motion = rep.motion
        ways = (slice(0, motion.turn_idx + 1), slice(motion.turn_idx, None))
        found = [sparc(motion.signal[way], motion.time_s[way]) for way in ways]
        value = median_seen(np.array(found))
        if np.isnan(value):
            return UNMEASURED, "too few frames for a speed profile"
        seen = float(np.mean(~np.isnan(motion.signal)))
        evidence = f"spectral arc length {value:.2f}, goal {criterion.goal:g} or nearer to 0"
        return Measured(value, seen), evidence

    def _tempo(self, criterion: CriterionSpec, rep: _Rep) -> tuple[Measured, str]:
        """Return the shorter of the ways there and back, or the longer if long is bad."""
        motion = rep.motion
        away, _, back = phase_times(motion)
        ways = [way for way in (away, back) if not np.isnan(way)]
        if not ways:
            return UNMEASURED, "the repetition was not seen from rest to the far end"
        slow_is_good = criterion.goal > criterion.worst
        value = min(ways) if slow_is_good else max(ways)
        way = "there" if value == away else "back"
        bound = "at least" if slow_is_good else "at most"
        evidence = f"the way {way} took {value:.1f} s, goal {bound} {criterion.goal:g} s"
        return Measured(value, float(np.mean(~np.isnan(motion.signal)))), evidence

    def _stability(self, criterion: CriterionSpec, rep: _Rep) -> tuple[Measured, str]:
        """Return the RMS wander of the points that should rest, in percent of stature."""
        motion = rep.motion
        points = motion.keypoints[:, self._resting]
        seen = ~np.isnan(points)
        count = seen.sum(axis=0)
        used = count[:, 0] >= max(1.0, _SEEN_SHARE * len(points))
        if not used.any() or not motion.stature_px > 0.0:
            return UNMEASURED, "the points that should rest were not seen"
        middle = np.where(seen, points, 0.0).sum(axis=0) / np.maximum(count, 1)
        squares = np.square(np.where(seen, points - middle, 0.0)).sum(axis=0)[used]
        wander_px = float(np.sqrt((squares / count[used]).sum(axis=-1).mean()))
        percent = 100.0 * wander_px / motion.stature_px
        confidence = float(motion.confidence[:, self._resting].mean(axis=0)[used].mean())
        names = sorted({name.partition("_")[2] + "s" for name in self.spec.signal.resting})
        evidence = (
            f"{' and '.join(names)} wander by {percent:.1f} % of stature, "
            f"goal at most {criterion.goal:g} %"
        )
        return Measured(percent, confidence), evidence


_JUDGES: Final = {
    "alignment": FormScorer._alignment,
    "depth": FormScorer._depth,
    "range_of_motion": FormScorer._range,
    "symmetry": FormScorer._symmetry,
    "smoothness": FormScorer._smoothness,
    "tempo": FormScorer._tempo,
    "stability": FormScorer._stability,
}
_UNSURE: Final = "measured with too little confidence to judge"


def _share(value: float, none: float, all_: float) -> float:
    """Return where the value lies from ``none`` (0) to ``all_`` (1), clipped; NaN stays NaN."""
    return float(np.clip((value - none) / (all_ - none), 0.0, 1.0))


def _require_judgeable(spec: ExerciseSpec) -> None:
    """Raise if a fault or criterion could not be judged, whatever the repetition."""
    for index, fault in enumerate(spec.faults):
        key = f"exercise {spec.name}: faults[{index}]"
        if fault.measure not in MEASURES:
            raise ExerciseError(
                f"{key}.measure must be one of: {', '.join(sorted(MEASURES))}, "
                f"got {fault.measure!r}"
            )
        if fault.limit == fault.severe:
            raise ExerciseError(f"{key}.severe must be other than limit ({fault.limit:g})")
    for index, criterion in enumerate(spec.criteria):
        key = f"exercise {spec.name}: criteria[{index}]"
        name = _measure_of(criterion)
        if name and name not in MEASURES:
            raise ExerciseError(
                f"{key}.joint must be a joint that {criterion.name} can read, "
                f"got {criterion.joint!r}"
            )
        if criterion.goal == criterion.worst:
            raise ExerciseError(f"{key}.worst must be other than goal ({criterion.goal:g})")


def _measure_of(criterion: CriterionSpec) -> str:
    """Return the measure that a criterion reads; empty if it reads several or none."""
    if criterion.name == "depth":
        end = "largest" if criterion.goal > criterion.worst else "smallest"
        return f"{end}_{criterion.joint}_deg"
    if criterion.name == "range_of_motion":
        return f"{criterion.joint}_range_deg"
    if criterion.name == "symmetry" and criterion.joint:
        return f"{criterion.joint}_difference_deg"
    return ""


def _alignment_score(tolerances: float) -> float:
    return 100.0 * _share(tolerances, ALIGNMENT_COSTS_ALL, 1.0)


def _hidden(min_yaw_deg: float, max_yaw_deg: float, yaw_deg: float) -> str:
    """Return why this cannot be judged from the camera's yaw; empty if it can."""
    if min_yaw_deg <= 0.0 and max_yaw_deg >= 90.0:
        return ""
    if np.isnan(yaw_deg):
        return "the camera view is unknown; show shoulders and hips"
    if yaw_deg < min_yaw_deg:
        return f"not visible from a camera yaw of {yaw_deg:.0f} deg; film from the side"
    if yaw_deg > max_yaw_deg:
        return f"not visible from a camera yaw of {yaw_deg:.0f} deg; film from the front"
    return ""


def _visible(fault: FaultSpec, rep: _Rep) -> Measured:
    """Return the measure of a fault, unmeasured where the camera cannot show it."""
    if _hidden(fault.min_yaw_deg, fault.max_yaw_deg, rep.motion.yaw_deg):
        return UNMEASURED
    return rep.measured(fault.measure)


def _not_judged(criterion: CriterionSpec, reason: str) -> ScorePart:
    return ScorePart(criterion.name, float("nan"), criterion.weight, 0.0, reason)


def _angle_evidence(label: str, value: Measured, criterion: CriterionSpec) -> str:
    if np.isnan(value.value):
        return f"the {criterion.joint.replace('_', ' ')} was not seen well enough"
    return f"{label.replace('_', ' ')} {value.value:.0f} deg, goal {criterion.goal:g} deg"


def _label(measure_name: str) -> tuple[str, str]:
    """Return a measure's name in words and its unit."""
    for suffix, unit in (("_deg", " deg"), ("_s", " s")):
        if measure_name.endswith(suffix):
            return measure_name.removesuffix(suffix).replace("_", " "), unit
    return measure_name.replace("_", " "), ""


def _shifted(criterion: CriterionSpec, references: Sequence[RepMotion]) -> CriterionSpec:
    """Return the criterion with its goal moved to what the references reach."""
    if criterion.name not in {"depth", "range_of_motion"}:
        return criterion
    name = _measure_of(criterion)
    reached = median_seen(np.array([measure(name, motion).value for motion in references]))
    if np.isnan(reached):
        return criterion
    worst = criterion.worst + reached - criterion.goal
    return dataclasses.replace(criterion, goal=reached, worst=worst)
