"""The angles of a good repetition along its way: what form is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pose_analyzer.exercises import JointGoal
from pose_analyzer.rep_geometry import (
    SIGMA_LIMIT_DEG,
    joint_columns,
    median_seen,
    sides_to_read,
    signal_fraction,
)
from pose_analyzer.skeleton import JOINT_INDEX, JOINT_NAMES, N_JOINTS
from pose_analyzer.types import FloatArray, RepMotion

MIN_REFERENCES: Final = 3
N_FRACTIONS: Final = 101
"""Steps of the travel at which the reference is kept, ends included."""

_MIN_TOLERANCE_DEG: Final = 6.0
_TOLERANCE_SDS: Final = 2.0
_MIN_SAMPLES: Final = 4
_SIDELESS: Final = tuple(
    dict.fromkeys(name.removeprefix("left_").removeprefix("right_") for name in JOINT_NAMES)
)


@dataclass(frozen=True, slots=True)
class ReferenceCurves:
    """The angles of a good repetition along its way.

    Attributes
    ----------
    deg : array, shape (2, F, J)
        On the way to the far end and on the way back, at F = 101 fractions of the travel from
        rest (0) to the far end (1). NaN for a joint without a reference.
    tolerance_deg : array, shape (2, F, J)
        A deviation of this size costs nothing.
    """

    deg: FloatArray
    tolerance_deg: FloatArray

    @classmethod
    def from_goals(cls, goals: Sequence[JointGoal]) -> ReferenceCurves:
        """Return the curves between the rest and turn angles of an exercise file.

        The repetition signal is a height, and the height of a limb's end goes with the cosine of
        its angle: so the cosine, not the angle, is interpolated along the travel.
        """
        deg = np.full((2, N_FRACTIONS, N_JOINTS), np.nan)
        tolerance_deg = np.full_like(deg, np.nan)
        fraction = np.linspace(0.0, 1.0, N_FRACTIONS)
        for goal in goals:
            rest, turn = np.cos(np.radians([goal.rest_deg, goal.turn_deg]))
            curve = np.degrees(np.arccos(rest + fraction * (turn - rest)))
            for column in joint_columns(goal.joint):
                deg[:, :, column] = curve
                tolerance_deg[:, :, column] = goal.tolerance_deg
        return cls(deg, tolerance_deg)

    @classmethod
    def from_references(cls, references: Sequence[RepMotion]) -> ReferenceCurves:
        """Return the mean curves of good repetitions, with twice their spread as tolerance.

        Both sides of the body share one curve, so that the mirror image of a repetition earns
        the same. A joint needs `MIN_REFERENCES` curves.
        """
        deg = np.full((2, N_FRACTIONS, N_JOINTS), np.nan)
        tolerance_deg = np.full_like(deg, np.nan)
        for joint in _SIDELESS:
            curves = [curve for motion in references for curve in _fraction_curves(motion, joint)]
            if len(curves) < MIN_REFERENCES:
                continue
            stack = np.stack(curves)
            spread = np.maximum(_TOLERANCE_SDS * stack.std(axis=0), _MIN_TOLERANCE_DEG)
            for column in joint_columns(joint):
                deg[:, :, column] = stack.mean(axis=0)
                tolerance_deg[:, :, column] = spread
        return cls(deg, tolerance_deg)


def _fraction_curves(motion: RepMotion, joint: str) -> list[FloatArray]:
    """Return each readable side's angle at every fraction, both ways, as arrays (2, F)."""
    sides = () if joint in JOINT_INDEX else sides_to_read(motion)
    columns = joint_columns(joint) if not sides else joint_columns(joint, sides)
    curves = (_fraction_curve(motion, column) for column in columns)
    return [curve for curve in curves if curve is not None]


def _fraction_curve(motion: RepMotion, column: int) -> FloatArray | None:
    """Return one angle at every fraction, both ways; None if it was not seen well enough."""
    if not median_seen(motion.sigma_deg[:, column]) <= SIGMA_LIMIT_DEG:
        return None
    fraction, deg = signal_fraction(motion), motion.deg[:, column]
    seen = ~(np.isnan(fraction) | np.isnan(deg))
    grid = np.linspace(0.0, 1.0, N_FRACTIONS)
    curve = np.empty((2, N_FRACTIONS))
    index = np.arange(fraction.size)
    for way, on_way in enumerate((index <= motion.turn_idx, index >= motion.turn_idx)):
        rows = np.flatnonzero(seen & on_way)
        if way == 1 and on_way.sum() < _MIN_SAMPLES:
            # A lift ends at its far end, where both ways are one.
            curve[way] = curve[0]
            continue
        if rows.size < _MIN_SAMPLES:
            return None
        rows = rows[np.argsort(fraction[rows], kind="stable")]
        curve[way] = np.interp(grid, fraction[rows], deg[rows])
    return curve
