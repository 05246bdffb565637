"""What can be measured of one repetition, by name: depth, leans, alignment, symmetry, tempo.

Each measure is a pure function of a `RepMotion` and has a name, so that an exercise file can set
limits on it. Angles, ratios of lengths and seconds only: nothing depends on stature, limb
lengths, the scale of the picture or where the athlete stands in it. From the side the better
seen side of the body is read; exchanging left and right changes no measure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np

from pose_analyzer.body_measures import (
    arm_height_difference,
    back_rounding_deg,
    height_difference,
    held_hip_sag_deg,
    hip_sag_deg,
    over_sides,
    shoulder_tilt,
    wrist_height,
)
from pose_analyzer.leg_measures import (
    front_knee_inward,
    front_shin_lean_deg,
    knee_past_toe,
    knee_separation_ratio,
    lowest_hip_height,
    weight_shift,
)
from pose_analyzer.rep_geometry import (
    SEEN_SHARE,
    SIDE_ROWS,
    SIDES,
    UNMEASURED,
    Measure,
    Measured,
    angle_confidence,
    centred_mean,
    extreme,
    far_half,
    joint_columns,
    joint_curve,
    median_seen,
    phase_times,
    seen_at_turn,
    seen_enough,
    signal_fraction,
    stroke_times,
)
from pose_analyzer.types import FloatArray, RepMotion

_PAUSE_FROM: Final = 0.15
_PAUSE_TO: Final = 0.90
_PAUSE_BAND: Final = 0.1
_PAUSE_MEAN_S: Final = 0.3
_PAUSE_GAP_S: Final = 0.2
"""Keypoints that stand still tremble by some 5 % of the travel, to and fro within half a second (of
the band, the mean and the gap: chosen by us, see reports/form_scoring_validation.md)."""
_HALT_SHARE: Final = 0.2
"""Who stands still for a larger share of a repetition has stopped: of good repetitions two in a
hundred seem to (chosen by us on other synthetic athletes than are judged)."""
_SIDED_JOINTS: Final = ("shoulder", "elbow", "hip", "knee", "ankle", "shin_lean")
_MIN_EARLIER_TEMPOS: Final = 2
_MIN_SEEN_FRAMES: Final = 3
_TEMPO_REPS: Final = 5


def measure(name: str, motion: RepMotion) -> Measured:
    """Return the named measure of a repetition.

    Raises
    ------
    ValueError
        If there is no measure of that name; the message lists those that exist.
    """
    function = MEASURES.get(name)
    if function is None:
        raise ValueError(f"unknown measure {name!r}; known measures: {', '.join(sorted(MEASURES))}")
    return function(motion)


def measure_label(name: str) -> tuple[str, str]:
    """Return a measure's name in words and its unit, with a space before it where it has one."""
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return name.removesuffix("_deg").removesuffix("_s").replace("_", " "), unit
    return name.replace("_", " "), ""


def _angle_extreme(motion: RepMotion, joint: str, *, largest: bool) -> Measured:
    """Return the smallest or largest angle of a joint that was seen at the far end."""
    curve, sigma_deg = joint_curve(motion, joint)
    # Raised hands leave the picture: what is left of the way then only looks short.
    if not seen_at_turn(curve, motion):
        return UNMEASURED
    return _angle_value(extreme(curve, largest=largest), curve, sigma_deg)


def _angle_range(motion: RepMotion, joint: str) -> Measured:
    """Return the excursion of a joint in degrees."""
    curve, sigma_deg = joint_curve(motion, joint)
    value = extreme(curve, largest=True) - extreme(curve, largest=False)
    return _angle_value(value, curve, sigma_deg)


def _angle_value(value: float, curve: FloatArray, sigma_deg: float) -> Measured:
    confidence = angle_confidence(sigma_deg)
    if np.isnan(value) or confidence == 0.0 or np.isnan(curve).mean() > SEEN_SHARE:
        return UNMEASURED
    return Measured(value, confidence)


def _angle_difference(motion: RepMotion, joint: str) -> Measured:
    """Return the median absolute difference of left and right in the far half, in degrees.

    The camera turns both sides alike only from the front or the back, so the exercise file
    limits the yaw; the uncertainty of each angle by itself does not matter.
    """
    left, right = joint_columns(joint)
    difference = np.abs(motion.deg[:, left] - motion.deg[:, right])
    deep = far_half(motion)
    if not seen_enough(difference, deep):
        return UNMEASURED
    confidence = np.minimum(*(motion.confidence[:, SIDE_ROWS[side]].mean() for side in SIDES))
    return Measured(median_seen(difference[deep]), float(confidence))


def _phase_time(motion: RepMotion, part: int) -> Measured:
    return _time_value(phase_times(motion)[part], motion)


def _fastest_way_s(motion: RepMotion) -> Measured:
    """Return the seconds of the shorter of the ways there and back, if their far end was seen."""
    if not seen_at_turn(motion.signal, motion):
        return UNMEASURED
    return _time_value(float(np.fmin(*stroke_times(motion))), motion)


def _tempo_ratio(motion: RepMotion) -> Measured:
    """Return the time of the way back in times of the way there."""
    away, _, back = phase_times(motion)
    return _time_value(back / away if away > 0.0 else float("nan"), motion)


def unbroken_time_s(motion: RepMotion) -> float:
    """Return the seconds of a repetition; NaN if it stood still on the way.

    A pause is a fault of its own: it makes no uneven tempo, and what follows it no rush.
    """
    whole_s = float(motion.time_s[-1] - motion.time_s[0])
    return float("nan") if _pause_s(motion).value > _HALT_SHARE * whole_s else whole_s


def _pause_s(motion: RepMotion) -> Measured:
    """Return the longest standstill on the way there or back, in seconds.

    A standstill stays within 10 % of the travel, in the mean over 0.3 s. Near rest (up to 15 % of
    the travel) and near the far end (from 90 %) one may wait. Frames that are not seen neither move
    nor stand, but more than 0.2 s of them hide what was done.
    """
    seen = ~np.isnan(motion.signal)
    if seen.sum() < _MIN_SEEN_FRAMES:
        return UNMEASURED
    times = motion.time_s[seen]
    half = round(0.5 * _PAUSE_MEAN_S / float(np.median(np.diff(times))))
    steady = dataclasses.replace(motion, signal=centred_mean(motion.signal[seen], half))
    fraction = signal_fraction(steady)
    with np.errstate(invalid="ignore"):
        on_way = (fraction > _PAUSE_FROM) & (fraction < _PAUSE_TO)
    travel, time_s = fraction.tolist(), times.tolist()
    longest, first = 0.0, 0
    for last, moving in enumerate(on_way.tolist()):
        if not moving:
            first = last + 1
            continue
        if time_s[last] - time_s[max(last - 1, first)] > _PAUSE_GAP_S:
            first = last
        while max(travel[first : last + 1]) - min(travel[first : last + 1]) > _PAUSE_BAND:
            first += 1
        longest = max(longest, time_s[last] - time_s[first])
    return _time_value(longest if on_way.any() else float("nan"), motion)


def _set_tempo_spread(motion: RepMotion) -> Measured:
    """Return how uneven the tempo of the set is, up to this repetition.

    The mean change of the natural logarithm of the time from one repetition to the next, over the
    last five without those that stood still. It takes three repetitions to tell. Slowing down
    little by little, as one tires, hardly shows; going fast and slow in turn does.
    """
    if len(motion.earlier_s) < _MIN_EARLIER_TEMPOS:
        return UNMEASURED
    durations_s = np.array([*motion.earlier_s[1 - _TEMPO_REPS :], unbroken_time_s(motion)])
    if not (durations_s > 0.0).all():
        return UNMEASURED
    return _time_value(float(np.abs(np.diff(np.log(durations_s))).mean()), motion)


def _time_of_earlier(motion: RepMotion) -> Measured:
    """Return how long the repetition took, in times of the median of up to five earlier ones.

    Two earlier ones at least: who moves slowly as a rule rushes at a tempo that others call calm.
    """
    if len(motion.earlier_s) < _MIN_EARLIER_TEMPOS:
        return UNMEASURED
    usual_s = float(np.median(motion.earlier_s[-_TEMPO_REPS:]))
    if not usual_s > 0.0:
        return UNMEASURED
    return _time_value(unbroken_time_s(motion) / usual_s, motion)


def _time_value(value: float, motion: RepMotion) -> Measured:
    """Return a time with the share of frames in which the signal was seen as confidence."""
    if np.isnan(value):
        return UNMEASURED
    return Measured(value, float(np.mean(~np.isnan(motion.signal))))


_UNITS: Final = {
    "_deg": " deg",
    "_s": " s",
    "lowest_hip_height": " of standing",
    "_height": " statures",
    "shoulder_tilt": " statures",
    "_height_difference": " statures",
    "front_knee_inward": " shanks",
    "weight_shift": " hip widths",
    "knee_past_toe": " shanks",
    "knee_separation_ratio": " ankle distances",
}


def _registry() -> dict[str, Measure]:
    measures: dict[str, Measure] = {
        "knee_separation_ratio": knee_separation_ratio,
        "knee_past_toe": partial(over_sides, knee_past_toe),
        "hip_sag_deg": partial(over_sides, hip_sag_deg),
        "held_hip_sag_deg": partial(over_sides, held_hip_sag_deg),
        "back_rounding_deg": back_rounding_deg,
        "wrist_height": wrist_height,
        "front_shin_lean_deg": front_shin_lean_deg,
        "front_knee_inward": front_knee_inward,
        "lowest_hip_height": lowest_hip_height,
        "shoulder_tilt": shoulder_tilt,
        "arm_height_difference": arm_height_difference,
        "weight_shift": weight_shift,
        "tempo_away_s": partial(_phase_time, part=0),
        "hold_s": partial(_phase_time, part=1),
        "tempo_back_s": partial(_phase_time, part=2),
        "fastest_way_s": _fastest_way_s,
        "tempo_ratio": _tempo_ratio,
        "pause_s": _pause_s,
        "set_tempo_spread": _set_tempo_spread,
        "time_of_earlier": _time_of_earlier,
    }
    for part in ("shoulder", "hip", "knee", "wrist", "elbow"):
        measures[f"{part}_height_difference"] = partial(height_difference, part=part)
    for joint in (*_SIDED_JOINTS, "trunk_lean"):
        measures[f"smallest_{joint}_deg"] = partial(_angle_extreme, joint=joint, largest=False)
        measures[f"largest_{joint}_deg"] = partial(_angle_extreme, joint=joint, largest=True)
        measures[f"{joint}_range_deg"] = partial(_angle_range, joint=joint)
    for joint in _SIDED_JOINTS:
        measures[f"{joint}_difference_deg"] = partial(_angle_difference, joint=joint)
    return measures


MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(_registry())
"""Every measure by name. ``smallest_``, ``largest_``, ``_range_`` and ``_difference_`` exist for
each joint."""
