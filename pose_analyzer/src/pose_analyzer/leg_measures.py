"""What can be measured of legs and balance in one repetition: depth, knees, the weight's shift.

Pure functions of a `RepMotion`, named in `form_measures.MEASURES`. Ratios of lengths and angles
only: nothing depends on stature, limb lengths or the scale of the picture; exchanging left and
right changes no measure.

References
----------
.. [1] F. R. Noyes, S. D. Barber-Westin, C. Fleckenstein, C. Walsh, J. West, "The Drop-Jump
   Screening Test: Difference in Lower Limb Control by Gender and Effect of Neuromuscular
   Training in Female Athletes", American Journal of Sports Medicine 33(2), 2005.
.. [2] D. A. Winter, "Biomechanics and Motor Control of Human Movement", 4th edition, 2009, table
   4.1: masses and centres of mass of the segments.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pose_analyzer.body_measures import change_in, distance, points_confidence, rows_of
from pose_analyzer.rep_geometry import (
    SEEN_SHARE,
    SIDES,
    UNMEASURED,
    Measured,
    Side,
    extreme,
    mean_of_seen,
    median_seen,
    seen_enough,
    signal_fraction,
)
from pose_analyzer.types import BoolArray, RepMotion

_FAR_END: Final = 0.8
_SHINS_APART_DEG: Final = 40.0
"""Deep in a split stance the rear shin leans some 90 degrees more than the front one (chosen by us
on other synthetic athletes than are judged)."""
_TRUNK_ARMS_HEAD: Final = (0.678, 0.626)
"""Share of the body's mass, and the place of its centre on the way from hip to shoulder [2]_."""
_THIGHS: Final = (0.2, 0.433)
"""The same of both thighs, from hip to knee."""
_SHANKS: Final = (0.093, 0.433)
"""The same of both shanks, from knee to ankle. The rest are the feet."""


def knee_separation_ratio(motion: RepMotion) -> Measured:
    """Return the distance of the knees in distances of the ankles, where the legs are bent.

    Below 1 the knees are inside the feet, below 0 they have crossed. After the normalised knee
    separation of [1]_, but against the ankles, which stand still in a squat. The tenth percentile
    of the frames in which the hips are in the lower half of their travel.
    """
    rows = rows_of("left_knee", "right_knee", "left_ankle", "right_ankle")
    x = motion.keypoints[:, rows, 0]
    ankles = median_seen(x[:, 2] - x[:, 3])
    knees = x[:, 0] - x[:, 1]
    low = _hips_low(motion)
    # Feet closer than a tenth of a shank: no stance whose width could be a measure.
    shank = median_seen(distance(motion, "left_knee", "left_ankle"))
    if not abs(ankles) > 0.1 * shank or not seen_enough(knees, low):
        return UNMEASURED
    ratio = knees[low] / ankles
    value = float(np.percentile(ratio[~np.isnan(ratio)], 10.0))
    return Measured(value, points_confidence(motion, rows))


def _hips_low(motion: RepMotion) -> BoolArray:
    """Return the frames in which the hips are in the lower half of their travel."""
    rows = rows_of("left_hip", "right_hip", "left_ankle", "right_ankle")
    y = motion.keypoints[:, rows, 1]
    height = y[:, 2] + y[:, 3] - y[:, 0] - y[:, 1]
    # fmin and fmax leave out the frames in which a point was not seen.
    middle = 0.5 * (np.fmin.reduce(height) + np.fmax.reduce(height))
    with np.errstate(invalid="ignore"):
        return np.asarray(height <= middle)


def front_shin_lean_deg(motion: RepMotion) -> Measured:
    """Return how far the shin of the leg in front leans forward at the far end, from the side.

    For a split stance, where the rear shin lies. The face tells which way is forward. Detectors
    exchange the knees or ankles of the two legs there: of both leans the smaller one is read, and
    none where they are alike, half-way through an exchange. The median from 80 % of the travel on.
    """
    x, y = motion.keypoints[..., 0], motion.keypoints[..., 1]
    nose, *shoulders = rows_of("nose", "left_shoulder", "right_shoulder")
    facing = np.sign(median_seen(x[:, nose] - x[:, shoulders].mean(axis=1)))
    knees, ankles = rows_of("left_knee", "right_knee"), rows_of("left_ankle", "right_ankle")
    forward = [facing * median_seen(x[:, row]) for row in ankles]
    if np.isnan(forward).any():
        return UNMEASURED
    front = int(np.argmax(forward))
    across, down = facing * (x[:, knees] - x[:, ankles]), y[:, ankles] - y[:, knees]
    leans = np.degrees(np.arctan2(across, down))
    lean = np.where(np.isnan(leans[:, 1 - front]), leans[:, front], leans.min(axis=1))
    with np.errstate(invalid="ignore"):
        lean[np.abs(leans[:, 0] - leans[:, 1]) < _SHINS_APART_DEG] = np.nan
        far = signal_fraction(motion) >= _FAR_END
    if not seen_enough(lean, far):
        return UNMEASURED
    confidence = points_confidence(motion, [knees[front], ankles[front]])
    return Measured(median_seen(lean[far]), confidence)


def knee_past_toe(motion: RepMotion, side: Side) -> Measured:
    """Return how far the knee passes the toe, in shank lengths; negative behind it."""
    rows = rows_of(f"{side}_knee", f"{side}_big_toe", f"{side}_heel", f"{side}_ankle")
    x = motion.keypoints[:, rows, 0]
    forward = np.sign(median_seen(x[:, 1] - np.where(np.isnan(x[:, 2]), x[:, 3], x[:, 2])))
    shank = extreme(distance(motion, f"{side}_knee", f"{side}_ankle"), largest=True)
    past = extreme(forward * (x[:, 0] - x[:, 1]), largest=True)
    if np.isnan(past) or not shank > 0.0:
        return UNMEASURED
    return Measured(past / shank, points_confidence(motion, rows[:2]))


def front_knee_inward(motion: RepMotion) -> Measured:
    """Return how far the knee of the front leg is inside its foot at the far end.

    In shank lengths, from the front; negative outside. The front knee is the higher one, as a
    lunge lowers the rear one to the floor, or the only one seen. The median from 80 % of the
    travel on.
    """
    x, y = motion.keypoints[..., 0], motion.keypoints[..., 1]
    with np.errstate(invalid="ignore"):
        far = signal_fraction(motion) >= _FAR_END
    knees = [median_seen(y[far, row]) for row in rows_of("left_knee", "right_knee")]
    if np.isnan(knees).all():
        return UNMEASURED
    front = int(np.nanargmin(knees))
    hips = [rows_of(f"{side}_hip")[0] for side in (SIDES[front], SIDES[1 - front])]
    inward = np.sign(median_seen(x[:, hips[1]] - x[:, hips[0]]))
    knee, ankle = rows_of(f"{SIDES[front]}_knee", f"{SIDES[front]}_ankle")
    inside = inward * (x[:, knee] - x[:, ankle])
    shank = extreme(distance(motion, f"{SIDES[front]}_knee", f"{SIDES[front]}_ankle"), largest=True)
    if not shank > 0.0 or not seen_enough(inside, far):
        return UNMEASURED
    return Measured(median_seen(inside[far]) / shank, points_confidence(motion, [knee, ankle]))


def lowest_hip_height(motion: RepMotion) -> Measured:
    """Return how high the hips are over the ankles at their lowest, as a share of their highest.

    It shows how deep a lunge goes from any side, where knees hide each other.
    """
    rows = rows_of("left_hip", "right_hip", "left_ankle", "right_ankle")
    y = motion.keypoints[:, rows, 1]
    height = mean_of_seen(y[:, 2:]) - mean_of_seen(y[:, :2])
    highest = extreme(height, largest=True)
    if not highest > 0.0 or np.isnan(height).mean() > 1.0 - SEEN_SHARE:
        return UNMEASURED
    return Measured(extreme(height, largest=False) / highest, points_confidence(motion, rows))


def weight_shift(motion: RepMotion) -> Measured:
    """Return how far the body's centre of mass travels sideways over the feet, in hip widths.

    Hips alone seem to travel sideways where the camera stands a little off the front, because
    they move back. The centre of mass [2]_ does not: who does not fall keeps it over the feet.
    Without what the hands hold.
    """
    rows = rows_of(
        *(f"{side}_{part}" for part in ("shoulder", "hip", "knee", "ankle") for side in SIDES)
    )
    x = motion.keypoints[:, rows, 0]
    shoulder, hip, knee, ankle = (x[:, i : i + 2].mean(axis=1) for i in range(0, 8, 2))
    centre = sum(
        mass * (upper + place * (lower - upper) - ankle)
        for (mass, place), upper, lower in (
            (_TRUNK_ARMS_HEAD, hip, shoulder),
            (_THIGHS, hip, knee),
            (_SHANKS, knee, ankle),
        )
    )
    width = abs(median_seen(x[:, 2] - x[:, 3]))
    return change_in(
        np.asarray(centre), signal_fraction(motion), width, points_confidence(motion, rows)
    )
