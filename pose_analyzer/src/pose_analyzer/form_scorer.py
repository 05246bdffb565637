"""How well a repetition was done: 0 to 100 with its parts, their evidence, and named faults.

A part that the camera cannot show is not judged: its score is NaN, its confidence 0 and its
evidence says from where to film. Nothing depends on stature, limb lengths, the scale or the
place of the athlete in the picture; exchanging left and right changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pose_analyzer.errors import ExerciseError
from pose_analyzer.exercises import CriterionSpec, ExerciseSpec, FaultSpec
from pose_analyzer.form_criteria import (
    JUDGES,
    MIN_CONFIDENCE,
    JointReference,
    MeasuredRep,
    measure_of,
)
from pose_analyzer.form_measures import MEASURES, measure_label
from pose_analyzer.form_reference import N_FRACTIONS, ReferenceCurves
from pose_analyzer.reference_fit import fitted
from pose_analyzer.rep_geometry import UNMEASURED, Measured
from pose_analyzer.types import Fault, FloatArray, FormScore, RepMotion, ScorePart

ALIGNMENT_COSTS_ALL: Final = 3.0
"""A deviation of this many tolerances earns 0, one of a single tolerance 100."""

TECHNIQUE: Final = "technique"
"""The part of the score that the faults make."""
TECHNIQUE_WEIGHT: Final = 3.0
"""Its weight: that of depth and alignment (chosen by us, see reports/form_scoring.md)."""

_COST_STEEPNESS: Final = 5.0
"""How fast a fault's cost rises about the middle between limit and severe: 8 % at the limit, 92 %
where it is severe, 0.7 % half as far on the good side of the limit (chosen by us, as above)."""


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
        self._reference = JointReference.of(spec, self.curves)
        self._fault_names = tuple(dict.fromkeys(fault.name for fault in spec.faults))

    def fit(self, references: Sequence[RepMotion]) -> FormScorer:
        """Return a scorer whose goals come from good repetitions of this exercise.

        The reference curves are their mean, the tolerances their spread. Depth and range of
        motion are judged against what three quarters of the references reach, at the same
        distance from goal to worst as before; the goals of the other criteria are only relaxed,
        where good repetitions of this person or camera do not reach them. A goal that fewer
        than 3 references show (a front view shows no depth) stays. So do the limits of faults.

        Raises
        ------
        ReferencesError
            If there are fewer than 3 references, one of them is empty or does not move, they do
            not look like this exercise, or no joint is seen well enough in 3 of them.
        """
        spec, curves = fitted(self.spec, references)
        return FormScorer(spec, curves)

    def score(self, motion: RepMotion, *, is_partial: bool = False) -> FormScore:
        """Return the score of a repetition with all its parts, judged or not.

        A partial repetition is not judged for its smoothness. The parts are the criteria of the
        exercise, and ``technique``: 100 less what the visible faults cost. The total is their mean
        by weight and confidence; NaN where less than a fifth of it could be judged, which would be
        no score of the repetition.
        """
        rep = MeasuredRep(motion, is_partial=is_partial)
        criteria = [self._part(criterion, rep) for criterion in self.spec.criteria]
        parts = (*criteria, self._technique(rep))
        share = sum(part.weight * part.confidence for part in parts)
        weight = sum(part.weight for part in parts)
        confidence = share / weight
        if confidence < MIN_CONFIDENCE:
            return FormScore(float("nan"), confidence, parts)
        judged = [part for part in parts if part.confidence > 0.0]
        total = sum(part.weight * part.confidence * part.score for part in judged) / share
        return FormScore(total, confidence, parts)

    def faults(self, motion: RepMotion) -> tuple[Fault, ...]:
        """Return the faults that the repetition shows, in the order of the exercise file.

        A fault whose measure the camera cannot show, or shows with a confidence below 0.2, is
        not reported. Of two faults that read the same measure, as a half repetition and a
        shallow one, only the first in the file is; of two entries of one fault, the more severe.
        """
        rep = MeasuredRep(motion)
        by_measure: dict[str, Fault] = {}
        for spec in self.spec.faults:
            fault = _fault(self.spec, spec, rep)
            if fault is not None:
                by_measure.setdefault(spec.measure, fault)
        found: dict[str, Fault] = {}
        for fault in by_measure.values():
            other = found.setdefault(fault.name, fault)
            if fault.severity > other.severity:
                found[fault.name] = fault
        return tuple(found.values())

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
        deviation = deg[self._reference.columns] - self._reference.deg[way, row]
        deviation *= self._reference.per_tolerance[way, row]
        deviation = deviation[~np.isnan(deviation)]
        if not deviation.size:
            return float("nan")
        tolerances = float(np.sqrt(deviation @ deviation / deviation.size))
        return 100.0 * _share(tolerances, ALIGNMENT_COSTS_ALL, 1.0)

    def _part(self, criterion: CriterionSpec, rep: MeasuredRep) -> ScorePart:
        hidden = _hidden(self.spec, criterion, rep.motion.yaw_deg)
        if hidden:
            return _not_judged(criterion, hidden)
        value, evidence = JUDGES[criterion.name](criterion, rep, self._reference)
        if value.confidence < MIN_CONFIDENCE:
            reason = evidence if np.isnan(value.value) else "measured with too little confidence"
            return _not_judged(criterion, f"{reason}; {self._better_view(criterion)}")
        score = 100.0 * _share(value.value, criterion.worst, criterion.goal)
        return ScorePart(criterion.name, score, criterion.weight, value.confidence, evidence)

    def _better_view(self, criterion: CriterionSpec) -> str:
        return f"film {self.spec.view_of(criterion) or self.spec.best_view}"

    def _technique(self, rep: MeasuredRep) -> ScorePart:
        """Return how free of faults the repetition is, as far as the camera shows.

        The faults' costs are joined as if they were independent, so that each adds to the others.
        What was not looked for may be there: seeing few faults absent says little, which the
        confidence tells; seeing one present says as much as its own.
        """
        seen: dict[str, tuple[float, Measured]] = {}
        for fault in self.spec.faults:
            found = _visible(self.spec, fault, rep)
            if found.confidence >= MIN_CONFIDENCE:
                cost = _cost(fault, found.value)
                if fault.name not in seen or cost > seen[fault.name][0]:
                    seen[fault.name] = (cost, found)
        if not seen:
            reason = f"no fault is visible from here; film {self.spec.best_view}"
            return ScorePart(TECHNIQUE, float("nan"), TECHNIQUE_WEIGHT, 0.0, reason)
        worst = max(seen, key=lambda name: seen[name][0])
        cost, found = seen[worst]
        looked_for = sum(one.confidence for _, one in seen.values()) / len(self._fault_names)
        confidence = looked_for + max(found.confidence - looked_for, 0.0) * cost
        score = 100.0 * math.prod(1.0 - one for one, _ in seen.values())
        return ScorePart(
            TECHNIQUE, score, TECHNIQUE_WEIGHT, confidence, self._technique_evidence(seen)
        )

    def _technique_evidence(self, seen: dict[str, tuple[float, Measured]]) -> str:
        """Return the worst fault, how many were looked for, and from where to see the others."""
        worst = max(seen, key=lambda name: seen[name][0])
        cost = seen[worst][0]
        looked_for = f"{len(seen)} of {len(self._fault_names)} faults could be looked for"
        hidden = [fault for fault in self.spec.faults if fault.name not in seen]
        for view, names in self.spec.views_of(hidden).items():
            looked_for += f"; film {view} for {', '.join(names)}"
        if cost < _cost_at(0.0):
            return f"no fault; {looked_for}"
        return f"{_words(worst)} costs {100.0 * cost:.0f} %; {looked_for}"


def _fault(exercise: ExerciseSpec, spec: FaultSpec, rep: MeasuredRep) -> Fault | None:
    """Return the fault if the repetition shows it."""
    found = _visible(exercise, spec, rep)
    severity = _share(found.value, spec.limit, spec.severe)
    if found.confidence < MIN_CONFIDENCE or not severity > 0.0:
        return None
    label, unit = measure_label(spec.measure)
    evidence = f"{label} {found.value:.3g}{unit}, limit {spec.limit:g}{unit}"
    return Fault(spec.name, severity, found.confidence, evidence)


def _share(value: float, none: float, all_: float) -> float:
    """Return where the value lies from ``none`` (0) to ``all_`` (1), clipped; NaN stays NaN."""
    return float(np.clip((value - none) / (all_ - none), 0.0, 1.0))


def _cost(fault: FaultSpec, value: float) -> float:
    """Return the share of the technique that a fault costs, in (0, 1).

    A smooth step from limit to severe: near the limit a little more or less costs a little more
    or less, and what is far past the severe limit still costs more than what is at it.
    """
    return _cost_at((value - fault.limit) / (fault.severe - fault.limit))


def _cost_at(severity: float) -> float:
    return 1.0 / (1.0 + math.exp(min(_COST_STEEPNESS * (0.5 - severity), 50.0)))


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
        name = measure_of(criterion)
        if name and name not in MEASURES:
            raise ExerciseError(
                f"{key}.joint must be a joint that {criterion.name} can read, "
                f"got {criterion.joint!r}"
            )
        if criterion.goal == criterion.worst:
            raise ExerciseError(f"{key}.worst must be other than goal ({criterion.goal:g})")


def _hidden(exercise: ExerciseSpec, spec: CriterionSpec | FaultSpec, yaw_deg: float) -> str:
    """Return why this cannot be judged from the camera's yaw; empty if it can."""
    view = exercise.view_of(spec)
    if not view:
        return ""
    if np.isnan(yaw_deg):
        return "the camera view is unknown; show shoulders and hips"
    if spec.min_yaw_deg <= yaw_deg <= spec.max_yaw_deg:
        return ""
    return f"not visible from a camera yaw of {yaw_deg:.0f} deg; film {view}"


def _visible(exercise: ExerciseSpec, fault: FaultSpec, rep: MeasuredRep) -> Measured:
    """Return the measure of a fault, unmeasured where the camera cannot show it."""
    hidden = _hidden(exercise, fault, rep.motion.yaw_deg)
    return UNMEASURED if hidden else rep.measured(fault.measure)


def _not_judged(criterion: CriterionSpec, reason: str) -> ScorePart:
    return ScorePart(criterion.name, float("nan"), criterion.weight, 0.0, reason)


def _words(name: str) -> str:
    return name.replace("_", " ")
