"""The judges of the parts of a score: what each measures of a repetition, and its evidence.

A judge returns the measured value in the criterion's unit with its confidence, and a sentence: what
was seen with number, unit and goal, or why nothing could be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from pose_analyzer.body_measures import resting_wander
from pose_analyzer.exercises import CriterionSpec, ExerciseSpec
from pose_analyzer.form_measures import measure
from pose_analyzer.form_reference import N_FRACTIONS, ReferenceCurves
from pose_analyzer.rep_geometry import (
    SEEN_SHARE,
    SIDES,
    SIGMA_LIMIT_DEG,
    UNMEASURED,
    Measured,
    angle_confidence,
    mean_of_seen,
    median_seen,
    phase_times,
    sides_to_read,
    signal_fraction,
)
from pose_analyzer.skeleton import JOINT_NAMES, KEYPOINT_INDEX
from pose_analyzer.smoothness import sparc
from pose_analyzer.types import FloatArray, IntArray, RepMotion

MIN_CONFIDENCE: Final = 0.2
"""What is measured with less is not judged (chosen by us, see reports/form_scoring.md)."""


class MeasuredRep:
    """A repetition whose measures are taken once, however many criteria and faults read them.

    Parameters
    ----------
    motion : RepMotion
        The repetition.
    is_partial : bool
        Whether it went only a part of the way.
    """

    def __init__(self, motion: RepMotion, *, is_partial: bool = False) -> None:
        self.motion = motion
        self.is_partial = is_partial
        self.fraction = signal_fraction(motion)
        self._found: dict[str, Measured] = {}

    def measured(self, name: str) -> Measured:
        """Return the named measure."""
        if name not in self._found:
            self._found[name] = measure(name, self.motion)
        return self._found[name]


@dataclass(frozen=True, slots=True)
class JointReference:
    """The reference curves of the joints that have one.

    Attributes
    ----------
    columns : int array, shape (G,)
        Among `skeleton.JOINT_NAMES`.
    deg, per_tolerance : array, shape (2, F, G)
        Angle and inverse of the tolerance, both ways, along the travel.
    resting : int array, shape (R,)
        The keypoints that should rest.
    moving : tuple of str
        The parts of the body that move, without their side.
    """

    columns: IntArray
    deg: FloatArray
    per_tolerance: FloatArray
    resting: IntArray
    moving: tuple[str, ...]

    @classmethod
    def of(cls, spec: ExerciseSpec, curves: ReferenceCurves) -> JointReference:
        """Return what judging against these curves needs."""
        columns = np.flatnonzero(~np.isnan(curves.deg[0, 0]))
        return cls(
            columns=columns,
            deg=curves.deg[:, :, columns],
            per_tolerance=1.0 / curves.tolerance_deg[:, :, columns],
            resting=np.array([KEYPOINT_INDEX[name] for name in spec.signal.resting]),
            moving=_parts(spec.signal.moving),
        )


Judge: TypeAlias = Callable[[CriterionSpec, MeasuredRep, JointReference], tuple[Measured, str]]


def measure_of(criterion: CriterionSpec) -> str:
    """Return the measure that a criterion reads; empty if it reads several or none."""
    if criterion.name == "depth":
        end = "largest" if criterion.goal > criterion.worst else "smallest"
        return f"{end}_{criterion.joint}_deg"
    if criterion.name == "range_of_motion":
        return f"{criterion.joint}_range_deg"
    if criterion.name == "symmetry" and criterion.joint:
        return f"{criterion.joint}_difference_deg"
    return ""


def _alignment(
    criterion: CriterionSpec, rep: MeasuredRep, reference: JointReference
) -> tuple[Measured, str]:
    """Return the RMS deviation from the reference in tolerances, over frames and joints."""
    motion, fraction = rep.motion, rep.fraction
    seen = ~np.isnan(fraction)
    rows = np.round(np.where(seen, fraction, 0.0) * (N_FRACTIONS - 1)).astype(np.intp)
    ways = (np.arange(fraction.size) > motion.turn_idx).astype(np.intp)
    columns, sigma_deg = _judged_columns(motion, reference.columns, criterion.joint)
    if not columns.size:
        return UNMEASURED, "the angles of the reference are too uncertain from here"
    joints = reference.columns[columns]
    deviation = motion.deg[:, joints] - reference.deg[ways, rows][:, columns]
    deviation[~seen] = np.nan
    relative = np.square(deviation * reference.per_tolerance[ways, rows][:, columns])
    known = ~np.isnan(relative)
    enough = known.mean(axis=0) >= SEEN_SHARE
    if not enough.any():
        return UNMEASURED, "too few frames in which the joints are seen"
    known &= enough
    squares = np.where(known, relative, 0.0)
    count = known.sum(axis=0)
    tolerances = float(np.sqrt(squares.sum() / count.sum()))
    rms_deg = np.sqrt(np.where(known, np.square(deviation), 0.0).sum(axis=0) / np.maximum(count, 1))
    worst = int(np.argmax(squares.sum(axis=0) / np.maximum(count, 1)))
    overall = float(np.sqrt(np.square(rms_deg[enough]).mean()))
    evidence = (
        f"RMS deviation from the reference {overall:.1f} deg, largest at "
        f"{JOINT_NAMES[joints[worst]].replace('_', ' ')} ({rms_deg[worst]:.1f} deg): "
        f"{tolerances:.1f} tolerances, goal at most {criterion.goal:g}"
    )
    return Measured(tolerances, angle_confidence(sigma_deg)), evidence


def _judged_columns(motion: RepMotion, columns: IntArray, joint: str) -> tuple[IntArray, float]:
    """Return which reference columns are certain enough here, and their typical sigma."""
    sides = sides_to_read(motion)
    sigma_deg = mean_of_seen(motion.sigma_deg[:, columns].T)
    with np.errstate(invalid="ignore"):
        fit = sigma_deg <= SIGMA_LIMIT_DEG
    for place, column in enumerate(columns):
        name = JOINT_NAMES[column]
        side = name.partition("_")[0]
        fit[place] &= side not in SIDES or side in sides
        fit[place] &= not joint or name.endswith(joint)
    return np.flatnonzero(fit), median_seen(sigma_deg[fit])


def _depth(criterion: CriterionSpec, rep: MeasuredRep, _: JointReference) -> tuple[Measured, str]:
    """Return the extreme angle of a joint in the direction of the goal."""
    end = "largest" if criterion.goal > criterion.worst else "smallest"
    value = rep.measured(measure_of(criterion))
    return value, _angle_evidence(f"{end} {criterion.joint} angle", value, criterion)


def _range(criterion: CriterionSpec, rep: MeasuredRep, _: JointReference) -> tuple[Measured, str]:
    value = rep.measured(measure_of(criterion))
    return value, _angle_evidence(f"{criterion.joint} moved through", value, criterion)


def _symmetry(
    criterion: CriterionSpec, rep: MeasuredRep, reference: JointReference
) -> tuple[Measured, str]:
    """Return the difference of left and right.

    Of the angles of the criterion's joint, in degrees; without a joint of the heights of the parts
    that move: the largest change over the travel, in percent of stature.
    """
    if criterion.joint:
        value = rep.measured(measure_of(criterion))
        what, seen, unit = f"{criterion.joint.replace('_', ' ')} angles", value.value, "deg"
    else:
        found = [
            (rep.measured(f"{part}_height_difference"), f"{part} heights")
            for part in reference.moving
        ]
        value, what = max(found, key=lambda item: item[0].value)
        value = Measured(100.0 * value.value, value.confidence)
        seen, unit = value.value, "% of stature"
    if np.isnan(value.value):
        return UNMEASURED, "both sides were not seen together"
    evidence = f"left and right {what} differ by {seen:.1f} {unit}, goal at most {criterion.goal:g}"
    return value, evidence


def _smoothness(
    criterion: CriterionSpec, rep: MeasuredRep, _: JointReference
) -> tuple[Measured, str]:
    """Return the mean spectral arc length of the way there and the way back.

    Not of a partial repetition: the trembling of keypoints does not shrink with its travel, so the
    arc would say how short it was, and not how smooth.
    """
    if rep.is_partial:
        return UNMEASURED, "a partial repetition is too short to tell"
    motion = rep.motion
    ways = (slice(0, motion.turn_idx + 1), slice(motion.turn_idx, None))
    found = [sparc(motion.signal[way], motion.time_s[way]) for way in ways]
    value = median_seen(np.array(found))
    if np.isnan(value):
        return UNMEASURED, "too few frames for a speed profile"
    seen = float(np.mean(~np.isnan(motion.signal)))
    evidence = f"spectral arc length {value:.2f}, goal {criterion.goal:g} or nearer to 0"
    return Measured(value, seen), evidence


def _tempo(criterion: CriterionSpec, rep: MeasuredRep, _: JointReference) -> tuple[Measured, str]:
    """Return the shorter of the ways there and back, or the longer if long is bad."""
    motion = rep.motion
    away, _hold, back = phase_times(motion)
    ways = [way for way in (away, back) if not np.isnan(way)]
    if not ways:
        return UNMEASURED, "the repetition was not seen from rest to the far end"
    slow_is_good = criterion.goal > criterion.worst
    value = min(ways) if slow_is_good else max(ways)
    way = "there" if value == away else "back"
    bound = "at least" if slow_is_good else "at most"
    evidence = f"the way {way} took {value:.1f} s, goal {bound} {criterion.goal:g} s"
    return Measured(value, float(np.mean(~np.isnan(motion.signal)))), evidence


def _stability(
    criterion: CriterionSpec, rep: MeasuredRep, reference: JointReference
) -> tuple[Measured, str]:
    """Return the RMS wander of the points that should rest, in percent of stature."""
    value = resting_wander(rep.motion, reference.resting)
    if np.isnan(value.value):
        return UNMEASURED, "the points that should rest were not seen"
    names = _parts([list(KEYPOINT_INDEX)[row] for row in reference.resting])
    evidence = (
        f"{' and '.join(f'{name}s' for name in names)} wander by {value.value:.1f} % of stature, "
        f"goal at most {criterion.goal:g} %"
    )
    return value, evidence


def _parts(names: Sequence[str]) -> tuple[str, ...]:
    """Return keypoint names without their side, each once."""
    return tuple(dict.fromkeys(name.partition("_")[2] for name in names))


def _angle_evidence(label: str, value: Measured, criterion: CriterionSpec) -> str:
    if np.isnan(value.value):
        return f"the {criterion.joint.replace('_', ' ')} was not seen well enough"
    return f"{label.replace('_', ' ')} {value.value:.0f} deg, goal {criterion.goal:g} deg"


JUDGES: Final[Mapping[str, Judge]] = MappingProxyType(
    {
        "alignment": _alignment,
        "depth": _depth,
        "range_of_motion": _range,
        "symmetry": _symmetry,
        "smoothness": _smoothness,
        "tempo": _tempo,
        "stability": _stability,
    }
)
"""The judge of each criterion by name."""
