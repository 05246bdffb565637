"""The goals of an exercise as good repetitions of one person reach them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np

from pose_analyzer.errors import ReferencesError
from pose_analyzer.exercises import CriterionSpec, ExerciseSpec
from pose_analyzer.form_criteria import JUDGES, MIN_CONFIDENCE, JointReference, MeasuredRep
from pose_analyzer.form_reference import MIN_REFERENCES, ReferenceCurves
from pose_analyzer.types import RepMotion

MIN_FRAMES: Final = 8
"""A reference of fewer frames shows no motion (chosen by us)."""

_POSTURE: Final = frozenset({"depth", "range_of_motion"})
"""Criteria whose goal is a posture: the references' own, be it less or more."""
_FITTED: Final = frozenset({"stability", "smoothness", "symmetry", "tempo"})
"""Criteria whose goal is a bound: relaxed if the references do not keep it, never tightened."""
_REACHED_BY: Final = 75.0
"""Percent of the references that reach the fitted goal (chosen by us)."""
_OTHER_EXERCISE: Final = 3.0
"""Median deviation in tolerances from which references are of another exercise: what costs the
whole of the alignment."""


def fitted(
    spec: ExerciseSpec, references: Sequence[RepMotion]
) -> tuple[ExerciseSpec, ReferenceCurves]:
    """Return the exercise with its goals moved to the references, and their curves.

    Raises
    ------
    ReferencesError
        As in `form_scorer.FormScorer.fit`.
    """
    if len(references) < MIN_REFERENCES:
        raise ReferencesError(
            f"{spec.title}: {MIN_REFERENCES} reference repetitions are needed, "
            f"got {len(references)}; record more good repetitions"
        )
    for number, motion in enumerate(references, start=1):
        _require_motion(spec, motion, number)
    # Seen from elsewhere, a joint draws another curve: each view of alignment has its own.
    shown = [one for one in references if all(_shows(c, one.yaw_deg) for c in _alignments(spec))]
    curves = ReferenceCurves.from_references(shown)
    if np.isnan(curves.deg).all():
        raise ReferencesError(
            f"{spec.title}: no joint is seen well enough in {MIN_REFERENCES} of the "
            f"{len(references)} references; film them {spec.best_view}"
        )
    reps = [MeasuredRep(motion) for motion in references]
    reference = JointReference.of(spec, ReferenceCurves.from_goals(spec.goals))
    _require_exercise(spec, reps, reference)
    criteria = tuple(_shifted(item, reps, reference) for item in spec.criteria)
    return dataclasses.replace(spec, criteria=criteria), curves


def _require_motion(spec: ExerciseSpec, motion: RepMotion, number: int) -> None:
    """Raise if a reference is no repetition at all."""
    n_frames = len(motion.time_s)
    if n_frames < MIN_FRAMES:
        reason = f"has {n_frames} frame{'s' * (n_frames != 1)}, at least {MIN_FRAMES} are needed"
    elif np.isnan(motion.keypoints).all():
        reason = "has no keypoints: all are missing"
    elif not np.fmax.reduce(motion.signal) > np.fmin.reduce(motion.signal):
        reason = "does not move"
    else:
        return
    raise ReferencesError(f"{spec.title}: reference {number} {reason}; leave it out")


def _require_exercise(
    spec: ExerciseSpec, reps: Sequence[MeasuredRep], reference: JointReference
) -> None:
    """Raise if the references do not move as this exercise does.

    Exercises whose goals look alike, as squat and lunge from the side, cannot be told apart here.
    """
    for criterion in spec.criteria:
        values = _values(criterion, reps, reference)
        if len(values) < MIN_REFERENCES:
            continue
        if criterion.name == "alignment":
            found, limit = float(np.median(values)), _OTHER_EXERCISE
            if found > limit:
                raise ReferencesError(
                    f"{spec.title}: the references are of another exercise: they deviate by "
                    f"{found:.1f} tolerances from its goals, at most {limit:g} are allowed"
                )
        elif criterion.name in _POSTURE and _is_worst(criterion, float(np.median(values))):
            raise ReferencesError(
                f"{spec.title}: the references are of another exercise: their "
                f"{criterion.name.replace('_', ' ')} at the {criterion.joint.replace('_', ' ')} "
                f"is {np.median(values):.0f} deg, {criterion.worst:g} deg is the worst allowed"
            )


def _alignments(spec: ExerciseSpec) -> list[CriterionSpec]:
    return [criterion for criterion in spec.criteria if criterion.name == "alignment"]


def _is_worst(criterion: CriterionSpec, value: float) -> bool:
    return (value - criterion.worst) * (criterion.goal - criterion.worst) <= 0.0


def _values(
    criterion: CriterionSpec, reps: Sequence[MeasuredRep], reference: JointReference
) -> list[float]:
    """Return what the criterion measures in the references whose view shows it."""
    found = [
        JUDGES[criterion.name](criterion, rep, reference)[0]
        for rep in reps
        if _shows(criterion, rep.motion.yaw_deg)
    ]
    return [one.value for one in found if one.confidence >= MIN_CONFIDENCE]


def _shows(criterion: CriterionSpec, yaw_deg: float) -> bool:
    if criterion.min_yaw_deg <= 0.0 and criterion.max_yaw_deg >= 90.0:
        return True
    return criterion.min_yaw_deg <= yaw_deg <= criterion.max_yaw_deg


def _shifted(
    criterion: CriterionSpec, reps: Sequence[MeasuredRep], reference: JointReference
) -> CriterionSpec:
    """Return the criterion with its goal moved to what the references reach."""
    if criterion.name not in _POSTURE | _FITTED:
        return criterion
    values = _values(criterion, reps, reference)
    if len(values) < MIN_REFERENCES:
        return criterion
    more_is_better = criterion.goal > criterion.worst
    percentile = 100.0 - _REACHED_BY if more_is_better else _REACHED_BY
    reached = float(np.percentile(values, percentile))
    is_stricter = (reached > criterion.goal) == more_is_better
    if criterion.name in _FITTED and is_stricter:
        return criterion
    worst = criterion.worst + reached - criterion.goal
    return dataclasses.replace(criterion, goal=reached, worst=worst)
