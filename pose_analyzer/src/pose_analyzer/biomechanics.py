"""Geometry of the body: joint angles, body size, camera view, how sure an angle is.

Pure functions of arrays: no state, no clock. A keypoint that was not seen is a row of NaN and
stays NaN; nothing here guesses. Angles are included angles in degrees, 180 = straight; clinical
flexion is 180 minus it. Names, planes and signs of all published angles stand in
``docs/biomechanics.md``.

References
----------
.. [1] W. Kahan, "Computing Cross-Products and Rotations in 2- and 3-Dimensional Euclidean
   Spaces", section 13 (the angle between two vectors without loss of digits).
.. [2] R. Drillis, R. Contini, "Body Segment Parameters", 1966, as given in D. A. Winter,
   "Biomechanics and Motor Control of Human Movement", figure 4.1 (segment lengths in statures).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pose_analyzer.angle_noise import PARTS
from pose_analyzer.skeleton import JOINT_NAMES, KEYPOINT_INDEX, N_KEYPOINTS
from pose_analyzer.types import FloatArray, IntArray


def _rows(*names: str) -> list[int]:
    return [KEYPOINT_INDEX[name] for name in names]


def _triplets() -> IntArray:
    joints = (
        ("elbow", "shoulder", "hip"),
        ("shoulder", "elbow", "wrist"),
        ("shoulder", "hip", "knee"),
        ("hip", "knee", "ankle"),
        ("knee", "ankle", "big_toe"),
    )
    return np.array(
        [_rows(*(f"{side}_{n}" for n in joint)) for joint in joints for side in ("left", "right")],
        dtype=np.intp,
    )


JOINT_TRIPLETS: Final[IntArray] = _triplets()
"""Rows (proximal, vertex, distal) of the ten included angles, in the order of `JOINT_NAMES`."""

_N_INCLUDED: Final = len(JOINT_TRIPLETS)
_SHINS: Final = np.array([_rows(f"{s}_ankle", f"{s}_knee") for s in ("left", "right")])
_ENDS: Final = np.concatenate((JOINT_TRIPLETS, np.column_stack((_SHINS[:, ::-1], _SHINS[:, 0])))).T
_SHOULDERS: Final = np.array(_rows("left_shoulder", "right_shoulder"))
_HIPS: Final = np.array(_rows("left_hip", "right_hip"))

_TRUNK: Final = np.concatenate((_SHOULDERS, _HIPS))
_UP: Final = np.array([0.0, -1.0, 0.0])

_SEGMENTS: Final = (
    ("shoulder", "elbow", 0.186),
    ("elbow", "wrist", 0.146),
    ("shoulder", "hip", 0.288),
    ("hip", "knee", 0.245),
    ("knee", "ankle", 0.246),
)
_SEGMENT_ROWS: Final = np.array(
    [_rows(f"{side}_{a}", f"{side}_{b}") for a, b, _ in _SEGMENTS for side in ("left", "right")]
)
_SEGMENT_STATURES: Final = np.repeat([share for *_, share in _SEGMENTS], 2)
_STATURE_QUANTILE: Final = 0.75

SHOULDER_WIDTH_STATURES: Final = 0.21
"""Distance of the shoulder keypoints in statures, seen from the front.

The biacromial width is 0.259 statures [2]_; the joint centres that detectors mark lie inside it.
"""
HIP_WIDTH_STATURES: Final = 0.12
"""Distance of the hip keypoints in statures; bi-iliac width is 0.191, the joints lie inside."""

ANGLE_NOISE: Final[FloatArray] = np.array(
    [
        PARTS[name.removeprefix("left_").removeprefix("right_")] * np.array([0.01, 1.0, 1.0, 1.0])
        for name in JOINT_NAMES
    ]
)
"""`angle_noise.PARTS` of each angle, shape (J, 4): statures, degrees, degrees, power."""


class JointAngleCalculator:
    """All published angles of any number of bodies at once.

    Parameters
    ----------
    up : tuple of float
        The direction that leans are measured from. Images and metric landmarks have y down, so
        up is ``(0, -1)`` and ``(0, -1, 0)``; pass another for a world with another axis.

    Examples
    --------
    >>> calculator = JointAngleCalculator()
    >>> calculator.angles(np.full((17 + 4, 2), np.nan)).shape
    (13,)
    """

    def __init__(self, up: tuple[float, ...] | None = None) -> None:
        self._up = None if up is None else np.asarray(up, dtype=np.float64)

    def angles(self, keypoints: FloatArray) -> FloatArray:
        """Return the angles in the order of `skeleton.JOINT_NAMES`.

        Parameters
        ----------
        keypoints : array, shape (..., K, D)
            Positions in D = 2 (pixels) or 3 dimensions (metres). NaN marks an unseen keypoint.

        Returns
        -------
        array, shape (..., J)
            Degrees in [0, 180]. Ten included angles, 180 = straight; then the leans of both
            shins and of the trunk from the vertical, 0 = upright. NaN where a keypoint is NaN
            or two of them coincide. The trunk runs between the middles of hips and shoulders;
            where only one side was seen, along that side.

        Raises
        ------
        ValueError
            If the last two axes are not K keypoints of 2 or 3 dimensions.

        Notes
        -----
        A 2-D angle is the angle as the camera sees it. It equals the joint angle only while the
        limb moves in a plane parallel to the image.
        """
        if (
            keypoints.ndim < 2
            or keypoints.shape[-2] != N_KEYPOINTS
            or keypoints.shape[-1]
            not in (
                2,
                3,
            )
        ):
            raise ValueError(
                f"keypoints must have shape (..., {N_KEYPOINTS}, 2 or 3), got {keypoints.shape}"
            )
        dims = keypoints.shape[-1]
        if self._up is not None and self._up.shape != (dims,):
            raise ValueError(f"up has {self._up.size} dimensions, the keypoints have {dims}")
        up = _default_up(dims) if self._up is None else self._up
        ends = keypoints[..., _ENDS, :]
        first = np.empty((*keypoints.shape[:-2], len(JOINT_NAMES), dims))
        second = np.empty_like(first)
        np.subtract(ends[..., 0, :, :], ends[..., 1, :, :], out=first[..., :-1, :])
        np.subtract(
            ends[..., 2, :_N_INCLUDED, :],
            ends[..., 1, :_N_INCLUDED, :],
            out=second[..., :_N_INCLUDED, :],
        )
        second[..., _N_INCLUDED:, :] = up
        first[..., -1, :] = _trunk(keypoints)
        return _angle_between_deg(first, second)


def flexion(included_deg: FloatArray) -> FloatArray:
    """Return clinical flexion in degrees: 0 at full extension, growing as the limb folds."""
    return 180.0 - included_deg


def angular_velocity(deg: FloatArray, time_s: FloatArray) -> FloatArray:
    """Return the rate of change of angles by central differences.

    Parameters
    ----------
    deg : array, shape (T, J)
        Angles; NaN where not measured.
    time_s : array, shape (T,)
        Increasing, not necessarily evenly spaced; T >= 2.

    Returns
    -------
    array, shape (T, J)
        Degrees a second; NaN where a neighbour is NaN.
    """
    return np.asarray(np.gradient(deg, time_s, axis=0), dtype=np.float64)


def segment_lengths(keypoints: FloatArray) -> FloatArray:
    """Return the lengths of upper arms, forearms, trunk sides, thighs and shanks.

    Parameters
    ----------
    keypoints : array, shape (..., K, D)
        NaN marks an unseen keypoint.

    Returns
    -------
    array, shape (..., 10)
        In the unit of the keypoints, left before right; NaN where an end is not seen.
    """
    ends = keypoints[..., _SEGMENT_ROWS, :]
    difference = ends[..., 0, :] - ends[..., 1, :]
    return np.asarray(np.sqrt(np.square(difference).sum(axis=-1)))


def stature(keypoints: FloatArray) -> FloatArray:
    """Return the standing height that the visible segments imply.

    A projected segment is never longer than the real one, so the upper end of the statures that
    the segments imply by their share of stature [2]_ is taken: the upper quartile, which one
    wrong keypoint does not move.

    Parameters
    ----------
    keypoints : array, shape (..., K, D)
        NaN marks an unseen keypoint.

    Returns
    -------
    array, shape (...)
        In the unit of the keypoints. NaN where fewer than three segments are seen.
    """
    implied = segment_lengths(keypoints) / _SEGMENT_STATURES
    # Sorting puts NaN last, so the seen ones are the first n of each row.
    implied.sort(axis=-1)
    n_seen = np.count_nonzero(~np.isnan(implied), axis=-1)
    place = np.maximum(n_seen - 1, 0) * _STATURE_QUANTILE
    below = np.floor(place).astype(np.intp)
    above = np.minimum(below + 1, np.maximum(n_seen - 1, 0))
    low = np.take_along_axis(implied, below[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(implied, above[..., None], axis=-1)[..., 0]
    value = low + (place - below) * (high - low)
    return np.where(n_seen >= 3, value, np.nan)


def camera_yaw(keypoints: FloatArray, stature_px: FloatArray) -> FloatArray:
    """Return the camera yaw from how wide shoulders and hips appear.

    Parameters
    ----------
    keypoints : array, shape (..., K, 2)
        Pixels; NaN marks an unseen keypoint.
    stature_px : array, shape (...)
        The body's standing height in pixels; NaN if unknown.

    Returns
    -------
    array, shape (...)
        Degrees in [0, 90]: 0 from the front or the back, 90 from the side. NaN where neither
        shoulders nor hips are seen.

    Notes
    -----
    A width of w statures of its frontal value is seen from yaw ``arccos(w)``. Near the side the
    estimate is coarse: 3 px of noise on a body of 700 px turn it by about 3 degrees at 45
    degrees, and hold it some 10 degrees off 90.
    """
    across = (
        keypoints[..., [_SHOULDERS[0], _HIPS[0]], :] - keypoints[..., [_SHOULDERS[1], _HIPS[1]], :]
    )
    widths = np.sqrt(np.square(across).sum(axis=-1))
    frontal = np.array([SHOULDER_WIDTH_STATURES, HIP_WIDTH_STATURES])
    seen = ~np.isnan(widths)
    total = np.where(seen, widths, 0.0).sum(axis=-1)
    goal = np.where(seen, frontal, 0.0).sum(axis=-1) * stature_px
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(goal > 0.0, total / goal, np.nan)
    yaw: FloatArray = np.degrees(np.arccos(np.clip(share, 0.0, 1.0)))
    return yaw


def camera_yaw_3d(world_m: FloatArray) -> FloatArray:
    """Return the camera yaw from metric landmarks with z away from the camera.

    Parameters
    ----------
    world_m : array, shape (..., K, 3)
        Metres; NaN marks an unseen keypoint.

    Returns
    -------
    array, shape (...)
        Degrees in [0, 90] as `camera_yaw`; NaN where shoulders or hips are missing.
    """
    across = (
        world_m[..., _SHOULDERS[0], :]
        - world_m[..., _SHOULDERS[1], :]
        + world_m[..., _HIPS[0], :]
        - world_m[..., _HIPS[1], :]
    )
    yaw: FloatArray = np.degrees(np.arctan2(np.abs(across[..., 2]), np.abs(across[..., 0])))
    return yaw


def angle_sigma(
    keypoints: FloatArray,
    confidence: FloatArray,
    yaw_deg: FloatArray,
    stature_px: FloatArray,
    table: FloatArray = ANGLE_NOISE,
) -> FloatArray:
    """Return how far each 2-D angle may be off the 3-D one: one standard deviation in degrees.

    Parameters
    ----------
    keypoints : array, shape (..., K, 2)
        Pixels; NaN marks an unseen keypoint.
    confidence : array, shape (..., K)
        In [0, 1]; 0 for a bridged keypoint.
    yaw_deg : array, shape (...)
        Camera yaw, 90 = side; 90 minus it for a motion in the frontal plane, which the front
        shows true. NaN if unknown, which counts as 45.
    stature_px : array, shape (...)
        Standing height in pixels; NaN if unknown.
    table : array, shape (J, 4)
        What to reckon with for each angle: noise of a keypoint in statures, degrees in the plane,
        degrees across it, and the power of the cosine of the yaw that leads from one to the other.

    Returns
    -------
    array, shape (..., J)
        Degrees; NaN where the stature is unknown.

    Notes
    -----
    Two independent parts. *Keypoints*: a point that is off by s at the end of a limb of length l
    turns the limb by s/l; s doubles where the confidence is 0. *View*: seen from ``yaw``, an angle
    is off by ``across * cos(yaw) ** power``, bias included, and by ``in_plane`` from the side. The
    numbers of the table were fitted to MediaPipe's errors on rendered clips, so that an angle
    divided by its sigma spreads by one; other detectors are taken to be alike (see
    reports/view_uncertainty.md).
    """
    noise_2 = np.square(stature_px[..., None] * (2.0 - confidence))
    own = np.square(table[:, 0])
    ends, end_noise_2 = keypoints[..., _ENDS, :], noise_2[..., _ENDS] * own[:-1]
    # Rows 0 and 1 bound the proximal limb of each joint, rows 1 and 2 the distal one.
    turn = _turn_variance(
        end_noise_2[..., :2, :] + end_noise_2[..., 1:, :], ends[..., :2, :, :] - ends[..., 1:, :, :]
    )
    variance = np.empty((*confidence.shape[:-1], len(JOINT_NAMES)))
    variance[..., :-1] = turn[..., 0, :]
    variance[..., :_N_INCLUDED] += turn[..., 1, :_N_INCLUDED]
    trunk_noise_2 = 0.5 * own[-1] * noise_2[..., _TRUNK].mean(axis=-1)
    variance[..., -1] = _turn_variance(trunk_noise_2, _trunk(keypoints))
    off_plane = np.cos(np.radians(np.where(np.isnan(yaw_deg), 45.0, yaw_deg)))[..., None]
    view = np.hypot(table[:, 1], table[:, 2] * np.abs(off_plane) ** table[:, 3])
    sigma: FloatArray = np.hypot(np.degrees(np.sqrt(variance)), view)
    return sigma


def _turn_variance(noise_2: FloatArray, limb: FloatArray) -> FloatArray:
    """Return the variance (rad²) of a limb's direction from the summed variance of its ends."""
    x, y = limb[..., 0], limb[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # A limb that points at the camera has no direction: the variance of a uniform angle.
        limited: FloatArray = np.minimum(noise_2 / (2.0 * (x * x + y * y)), np.pi**2 / 3.0)
    return limited


def _default_up(dims: int) -> FloatArray:
    return _UP[:dims]


def _trunk(keypoints: FloatArray) -> FloatArray:
    """Return middle of shoulders minus middle of hips, or the seen side if one is missing."""
    corners = keypoints[..., _TRUNK, :]
    sides = corners[..., :2, :] - corners[..., 2:, :]
    left, right = sides[..., 0, :], sides[..., 1, :]
    both: FloatArray = 0.5 * (left + right)
    if not np.isnan(both).any():
        return both
    return np.where(np.isnan(both), np.where(np.isnan(left), right, left), both)


def _angle_between_deg(u: FloatArray, v: FloatArray) -> FloatArray:
    """Return the angle between vectors, shape (..., D) -> (...), in degrees.

    The arc tangent of cross and dot product keeps full precision for nearly straight limbs,
    where ``arccos(u @ v)`` loses half its digits: a straight knee is what we score [1]_.
    """
    products = u * v
    dot = products[..., 0] + products[..., 1]
    cross = u[..., 0] * v[..., 1]
    cross -= u[..., 1] * v[..., 0]
    if u.shape[-1] == 3:
        dot += products[..., 2]
        cross_x = u[..., 1] * v[..., 2] - u[..., 2] * v[..., 1]
        cross_y = u[..., 2] * v[..., 0] - u[..., 0] * v[..., 2]
        cross = np.sqrt(cross * cross + cross_x * cross_x + cross_y * cross_y)
    cross = np.abs(cross)
    angle: FloatArray = np.degrees(np.arctan2(cross, dot))
    # Both products vanish only where two keypoints coincide: there is no angle.
    angle[(cross == 0.0) & (dot == 0.0)] = np.nan
    return angle
