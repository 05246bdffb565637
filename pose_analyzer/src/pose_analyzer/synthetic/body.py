"""An articulated body: segment lengths from anthropometry, and the points that they join.

World axes, right-handed: x the way the athlete faces, y to the athlete's left, z up; metres; the
floor is z = 0.

References
----------
.. [1] D. A. Winter, "Biomechanics and Motor Control of Human Movement", 4th ed., Wiley 2009,
   figure 4.1: segment lengths as fractions of stature, after R. Drillis and R. Contini,
   "Body Segment Parameters", New York University, 1966.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from pose_analyzer.skeleton import KEYPOINT_NAMES
from pose_analyzer.synthetic.look import Look
from pose_analyzer.types import FloatArray

POINT_NAMES: Final = (
    *KEYPOINT_NAMES,
    "mid_hip",
    "mid_spine",
    "mid_shoulder",
    "head",
    "left_hand",
    "right_hand",
)
"""The 21 keypoints, then what only the renderer needs. ``head`` is the middle of the skull,
``*_hand`` the end of the drawn hand."""
POINT_INDEX: Final = {name: index for index, name in enumerate(POINT_NAMES)}
N_POINTS: Final = len(POINT_NAMES)
SIDES: Final = (("left", 1.0), ("right", -1.0))
"""Name of a side and its sign along y."""


@dataclass(frozen=True, slots=True)
class Proportions:
    """Lengths as fractions of stature.

    The defaults are those of Drillis and Contini [1]_, except the two widths: theirs are breadths
    of the whole body (0.259 and 0.191), ours lie between the joint centres that annotators and
    detectors mark, which are further inside (chosen by us).

    Attributes
    ----------
    ankle_height, shank, thigh, trunk, upper_arm, forearm, hand, foot : float
        Segment lengths; ``trunk`` from the middle of the hips to the middle of the shoulders.
    shoulder_width, hip_width : float
        Between the joint centres of the two sides.
    ear_height : float
        From the middle of the shoulders up to the ears.

    References
    ----------
    .. [1] D. A. Winter, "Biomechanics and Motor Control of Human Movement", figure 4.1.
    """

    ankle_height: float = 0.039
    shank: float = 0.246
    thigh: float = 0.245
    trunk: float = 0.288
    upper_arm: float = 0.186
    forearm: float = 0.146
    hand: float = 0.108
    foot: float = 0.152
    shoulder_width: float = 0.192
    hip_width: float = 0.135
    ear_height: float = 0.112

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = float(getattr(self, name))
            if not 0.0 < value < 1.0:
                raise ValueError(f"{name} must be a fraction of stature in (0, 1), got {value}")


@dataclass(frozen=True, slots=True)
class Athlete:
    """One person.

    Attributes
    ----------
    stature_m : float
        Standing height in metres, in [0.5, 2.6].
    proportions : Proportions
        Segment lengths as fractions of stature.
    girth : float
        Thickness of the flesh, 1 = medium build, in [0.5, 2]. Changes only the drawing and what
        hides what.
    look : Look
        Colours.
    """

    stature_m: float = 1.75
    proportions: Proportions = field(default_factory=Proportions)
    girth: float = 1.0
    look: Look = field(default_factory=Look)

    def __post_init__(self) -> None:
        if not 0.5 <= self.stature_m <= 2.6:
            raise ValueError(f"stature_m must be in [0.5, 2.6], got {self.stature_m}")
        if not 0.5 <= self.girth <= 2.0:
            raise ValueError(f"girth must be in [0.5, 2], got {self.girth}")


def vector(x: FloatArray | float, y: FloatArray | float, z: FloatArray | float) -> FloatArray:
    """Return vectors of shape (..., 3) from components that broadcast against each other."""
    return np.asarray(np.stack(np.broadcast_arrays(x, y, z), axis=-1), dtype=np.float64)


def unit(vectors: FloatArray) -> FloatArray:
    """Return vectors of length 1, shape (..., 3)."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def cross(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return cross products of shape (..., 3), with less overhead than numpy's own."""
    ax, ay, az = first[..., 0], first[..., 1], first[..., 2]
    bx, by, bz = second[..., 0], second[..., 1], second[..., 2]
    parts = [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]
    return np.stack(parts, axis=-1)


def chord(first: float, second: float, included_deg: FloatArray) -> FloatArray:
    """Return the distance between the ends of two segments that meet at ``included_deg``."""
    cosine = np.cos(np.radians(included_deg))
    return np.asarray(np.sqrt(first**2 + second**2 - 2.0 * first * second * cosine))


def remaining(reach: FloatArray, across: FloatArray) -> FloatArray:
    """Return how far a limb of length ``reach`` rises when its ends lie ``across`` apart.

    Raises
    ------
    ValueError
        If it is too short.
    """
    if np.any(reach < across):
        raise ValueError(
            f"a limb of {np.min(reach):.3f} m cannot span {np.max(across):.3f} m; "
            "choose a smaller depth or other proportions"
        )
    return np.asarray(np.sqrt(reach**2 - across**2))


def bend(
    root: FloatArray, tip: FloatArray, first: float, second: float, pole: FloatArray
) -> FloatArray:
    """Return the joint between two segments of fixed length (knee, elbow), shape (T, 3).

    Parameters
    ----------
    root, tip : array, shape (T, 3)
        Where the first segment begins and the second ends.
    first, second : float
        Their lengths.
    pole : array, shape (T, 3)
        The direction to which the joint points; only its part across root-tip counts.

    Raises
    ------
    ValueError
        If a tip is out of reach.
    """
    span = tip - root
    distance = np.linalg.norm(span, axis=-1)
    reach = first + second
    if np.any(distance > reach * (1.0 + 1e-9)) or np.any(distance < abs(first - second)):
        raise ValueError(
            f"a limb of {first:.3f} + {second:.3f} m cannot span {distance.max():.3f} m; "
            "choose a smaller depth or other proportions"
        )
    axis = span / distance[:, None]
    along = (distance**2 + first**2 - second**2) / (2.0 * distance)
    across = np.sqrt(np.maximum(first**2 - along**2, 0.0))
    outward = unit(pole - np.sum(pole * axis, axis=-1, keepdims=True) * axis)
    return np.asarray(root + along[:, None] * axis + across[:, None] * outward)


class Figure:
    """The points of one athlete over time, put together part by part: trunk, head, legs, arms.

    Parameters
    ----------
    athlete : Athlete
        Gives the lengths.
    n_frames : int
        T.

    Attributes
    ----------
    points : array, shape (T, N, 3)
        Metres, rows as in `POINT_NAMES`. NaN until their part is set.
    """

    def __init__(self, athlete: Athlete, n_frames: int) -> None:
        self.stature = athlete.stature_m
        self.proportions = athlete.proportions
        self.n_frames = n_frames
        self.points: FloatArray = np.full((n_frames, N_POINTS, 3), np.nan)
        self._lean = np.zeros(n_frames)

    def length(self, fraction: float) -> float:
        """Return a fraction of stature in metres."""
        return fraction * self.stature

    def get(self, name: str) -> FloatArray:
        """Return one point over time, shape (T, 3)."""
        return self.points[:, POINT_INDEX[name]]

    def put(self, name: str, value: FloatArray) -> None:
        """Set one point over time, shape (T, 3)."""
        self.points[:, POINT_INDEX[name]] = value

    def trunk(
        self,
        mid_hip: FloatArray,
        lean_deg: FloatArray,
        spine_bend_deg: FloatArray | float = 0.0,
        roll_deg: FloatArray | float = 0.0,
        hip_roll_deg: FloatArray | float = 0.0,
        shrug: FloatArray | float = 0.0,
    ) -> None:
        """Set hips, spine and shoulders.

        Parameters
        ----------
        mid_hip : array, shape (T, 3)
            Between the hip joints.
        lean_deg : array, shape (T,)
            Of the line from mid-hip to mid-shoulder, forward from the vertical.
        spine_bend_deg : array, shape (T,), or float
            Between the lower and the upper half of the spine; 0 is straight, positive rounded.
        roll_deg, hip_roll_deg : array, shape (T,), or float
            Tilt of the shoulders and of the hips, positive raises the left side.
        shrug : array, shape (T,), or float
            How far the shoulders are pulled up along the spine, as a share of stature.
        """
        shape = self.proportions
        self._lean = np.broadcast_to(np.asarray(lean_deg, dtype=np.float64), (self.n_frames,))
        half = 0.5 * self.length(shape.trunk)
        # Two equal halves bent by +-bend/2: their chord keeps exactly the commanded lean.
        lower = np.radians(self._lean - np.asarray(spine_bend_deg) / 2.0)
        upper = np.radians(self._lean + np.asarray(spine_bend_deg) / 2.0)
        mid_spine = mid_hip + half * vector(np.sin(lower), 0.0, np.cos(lower))
        mid_shoulder = mid_spine + half * vector(np.sin(upper), 0.0, np.cos(upper))
        lean = np.radians(self._lean)

        def leftward(tilt_deg: FloatArray | float) -> FloatArray:
            # The left-right axis rolls about the trunk's own front axis.
            tilt = np.radians(tilt_deg)
            return vector(np.sin(lean) * np.sin(tilt), np.cos(tilt), np.cos(lean) * np.sin(tilt))

        self.put("mid_hip", mid_hip)
        self.put("mid_spine", mid_spine)
        self.put("mid_shoulder", mid_shoulder)
        hips, shoulders = leftward(hip_roll_deg), leftward(roll_deg)
        raised = self.stature * np.broadcast_to(np.asarray(shrug), (self.n_frames,))
        lift = raised[:, None] * vector(np.sin(upper), 0.0, np.cos(upper))
        for side, sign in SIDES:
            self.put(f"{side}_hip", mid_hip + 0.5 * sign * self.length(shape.hip_width) * hips)
            offset = 0.5 * sign * self.length(shape.shoulder_width) * shoulders
            self.put(f"{side}_shoulder", mid_shoulder + lift + offset)

    def head(self, pitch_deg: FloatArray | float, rounded_deg: FloatArray | float = 0.0) -> None:
        """Set the face; ``pitch_deg`` 0 looks level, 90 looks at the floor."""
        pitch = np.radians(np.broadcast_to(np.asarray(pitch_deg), (self.n_frames,)))
        lean = np.radians(self._lean + np.asarray(rounded_deg) / 2.0)
        up = vector(np.sin(pitch), 0.0, np.cos(pitch))
        left = unit(self.get("left_shoulder") - self.get("right_shoulder"))
        left = unit(left - np.sum(left * up, axis=-1, keepdims=True) * up)
        front = cross(left, up)
        neck = unit(up + vector(np.sin(lean), 0.0, np.cos(lean)))
        ears = self.get("mid_shoulder") + self.length(self.proportions.ear_height) * neck
        ears = ears + self.length(0.012) * front

        def face(forward: float, sideways: float, upward: float) -> FloatArray:
            scaled = forward * front + sideways * left + upward * up
            return np.asarray(ears + self.stature * scaled)

        # Eye height 0.936 and chin 0.870 of stature (Winter, figure 4.1); depths chosen by us.
        self.put("head", face(0.006, 0.0, 0.016))
        self.put("nose", face(0.066, 0.0, -0.010))
        for side, sign in SIDES:
            self.put(f"{side}_eye", face(0.047, sign * 0.018, 0.006))
            self.put(f"{side}_ear", face(0.0, sign * 0.043, 0.0))

    def leg(self, side: str, ankle: FloatArray, knee_towards: FloatArray) -> None:
        """Set knee and ankle of a side whose hip is set."""
        shape = self.proportions
        self.put(f"{side}_ankle", ankle)
        thigh, shank = self.length(shape.thigh), self.length(shape.shank)
        ankles = self.get(f"{side}_ankle")
        self.put(f"{side}_knee", bend(self.get(f"{side}_hip"), ankles, thigh, shank, knee_towards))

    def foot(
        self, side: str, pitch_deg: FloatArray | float = 0.0, toe_out_deg: FloatArray | float = 0.0
    ) -> None:
        """Set heel and toe; ``pitch_deg`` 0 is flat, 90 stands on the tip of the toes."""
        sign = 1.0 if side == "left" else -1.0
        pitch, out = np.radians(pitch_deg), sign * np.radians(toe_out_deg)
        flat = vector(np.cos(out), np.sin(out), 0.0)
        up = np.asarray([0.0, 0.0, 1.0])
        cosine, sine = np.cos(pitch)[..., None], np.sin(pitch)[..., None]
        front, above = cosine * flat - sine * up, sine * flat + cosine * up
        length, drop = self.length(self.proportions.foot), self.length(SOLE_DROP)
        ankle = self.get(f"{side}_ankle")
        self.put(f"{side}_heel", ankle - HEEL_SHARE * length * front - drop * above)
        self.put(f"{side}_big_toe", ankle + (1.0 - HEEL_SHARE) * length * front - drop * above)

    def arm(self, side: str, wrist: FloatArray, elbow_towards: FloatArray) -> None:
        """Set elbow, wrist and hand of a side whose shoulder is set."""
        shape = self.proportions
        self.put(f"{side}_wrist", wrist)
        upper, fore = self.length(shape.upper_arm), self.length(shape.forearm)
        wrists = self.get(f"{side}_wrist")
        elbow = bend(self.get(f"{side}_shoulder"), wrists, upper, fore, elbow_towards)
        self.put(f"{side}_elbow", elbow)
        self.hand(side, wrists - elbow)

    def swing_arm(self, side: str, upper_arm: FloatArray, forearm: FloatArray) -> None:
        """Set elbow, wrist and hand from the directions of the two segments, shape (T, 3)."""
        shape = self.proportions
        upper, fore = self.length(shape.upper_arm), self.length(shape.forearm)
        elbow = self.get(f"{side}_shoulder") + upper * unit(upper_arm)
        self.put(f"{side}_elbow", elbow)
        self.put(f"{side}_wrist", elbow + fore * unit(forearm))
        self.hand(side, forearm)

    def hand(self, side: str, direction: FloatArray) -> None:
        """Set the end of the drawn hand, from the wrist along ``direction``."""
        tip = self.get(f"{side}_wrist") + self.length(self.proportions.hand) * unit(direction)
        self.put(f"{side}_hand", tip)


HEEL_SHARE: Final = 0.23
"""Share of the foot's length that lies behind the ankle (chosen by us)."""
SOLE_DROP: Final = 0.030
"""How far heel and toe points lie below the ankle, in statures: inside the shoe."""
SOLE_HEIGHT: Final = 0.012
"""Height in statures that a shoe's sole adds under the foot (chosen by us)."""
