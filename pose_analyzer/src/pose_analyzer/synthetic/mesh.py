"""The flesh of a synthetic athlete: rings lofted along the bones, as coloured quadrilaterals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pose_analyzer.synthetic.body import (
    POINT_INDEX,
    SOLE_DROP,
    SOLE_HEIGHT,
    Athlete,
    cross,
    unit,
)
from pose_analyzer.synthetic.look import Look
from pose_analyzer.synthetic.profiles import (
    EAR,
    FOREARM,
    HAIR,
    HAND,
    HEAD,
    NECK,
    SHANK,
    SHOE,
    THIGH,
    TORSO,
    UPPER_ARM,
    Profile,
)
from pose_analyzer.types import FloatArray, IntArray

_MOUTH: Final = (92, 88, 168)
_EYE_WHITE: Final = (236, 238, 240)
_IRIS: Final = (44, 40, 38)


@dataclass(frozen=True, slots=True)
class Mesh:
    """The topology and colours of a body, the same in every frame.

    Attributes
    ----------
    faces : int array, shape (F, 4)
        Vertex rows of each quadrilateral, counter-clockwise seen from outside.
    colours : array, shape (F, 3)
        Blue, green, red under full light.
    lift_m : array, shape (F,)
        How much nearer to the camera a face counts when faces are ordered: details of the face
        lie on the skin and must come after it.
    """

    faces: IntArray
    colours: FloatArray
    lift_m: FloatArray


@dataclass(frozen=True, slots=True)
class _Tube:
    """One lofted part: which profile, how many sides, and the colour of each band."""

    profile: Profile
    n_sides: int
    bands: tuple[tuple[float, tuple[int, int, int]], ...]
    """From which place along the profile on, which colour."""


class Flesh:
    """Turns the points of one athlete into vertices, frame by frame.

    Parameters
    ----------
    athlete : Athlete
        Stature, girth and colours.
    """

    def __init__(self, athlete: Athlete) -> None:
        self._stature = athlete.stature_m
        self._girth = athlete.girth
        self._tubes = _tubes(athlete.look)
        self.mesh = self._topology(athlete.look)

    def vertices(self, points_m: FloatArray) -> FloatArray:
        """Return the vertices of one frame, shape (V, 3), from its points, shape (N, 3)."""
        at = {name: points_m[index] for name, index in POINT_INDEX.items()}
        left = _axis(at["right_shoulder"], at["left_shoulder"])
        parts = [self._torso(at)]
        for side, sign in (("left", 1.0), ("right", -1.0)):
            parts += self._limbs(at, side, sign, left)
        parts += self._head(at)
        return np.concatenate(parts)

    def _ring(
        self, middles: FloatArray, sides: FloatArray, fronts: FloatArray, tube: _Tube
    ) -> FloatArray:
        """Return the vertices of a tube, (rings x sides, 3), around given middles and axes."""
        profile = np.asarray(tube.profile)
        cosine, sine = _circle(tube.n_sides)
        scale = self._stature * self._girth
        across = scale * profile[:, 1, None] * cosine
        along = scale * profile[:, 2, None] * sine
        rings = middles[:, None] + across[..., None] * sides[:, None]
        return np.asarray((rings + along[..., None] * fronts[:, None]).reshape(-1, 3))

    def _bone(
        self, name: str, root: FloatArray, tip: FloatArray, outward: FloatArray, front: FloatArray
    ) -> FloatArray:
        """Return a straight tube from root to tip."""
        tube = self._tubes[name]
        profile = np.asarray(tube.profile)
        axis = _axis(root, tip)
        forward = unit(front - (front @ axis) * axis)
        side = cross(forward, axis)
        side = side if side @ outward >= 0.0 else -side
        middles = root + profile[:, :1] * (tip - root)
        middles = middles + self._stature * self._girth * (
            profile[:, 3:4] * side + profile[:, 4:5] * forward
        )
        # A right-handed frame keeps the faces' outside outside on both sides of the body.
        handed = side if cross(side, forward) @ axis > 0.0 else -side
        return self._ring(
            middles,
            np.broadcast_to(handed, middles.shape),
            np.broadcast_to(forward, middles.shape),
            tube,
        )

    def _torso(self, at: dict[str, FloatArray]) -> FloatArray:
        tube = self._tubes["torso"]
        profile = np.asarray(tube.profile)
        share = profile[:, :1]
        low, middle, high = at["mid_hip"], at["mid_spine"], at["mid_shoulder"]
        bottom = low + 2.0 * share * (middle - low)
        top = middle + (2.0 * share - 1.0) * (high - middle)
        # The spine's two halves meet in a smooth curve around the middle.
        blend = np.clip((share - 0.35) / 0.3, 0.0, 1.0)
        middles = (1.0 - blend) * bottom + blend * top
        up = unit((1.0 - blend) * (middle - low) + blend * (high - middle))
        hips = _axis(at["right_hip"], at["left_hip"])
        shoulders = _axis(at["right_shoulder"], at["left_shoulder"])
        turned = np.clip(share, 0.0, 1.0)
        left = unit((1.0 - turned) * hips + turned * shoulders)
        front = unit(cross(left, up))
        left = cross(up, front)
        middles = middles + self._stature * self._girth * profile[:, 4:5] * front
        return self._ring(middles, -left, front, tube)

    def _limbs(
        self, at: dict[str, FloatArray], side: str, sign: float, left: FloatArray
    ) -> list[FloatArray]:
        """Return arm, leg and shoe of one side."""
        outward = sign * left
        up = _axis(at["mid_hip"], at["mid_shoulder"])
        chest = cross(left, up)
        hip, knee, ankle = at[f"{side}_hip"], at[f"{side}_knee"], at[f"{side}_ankle"]
        toe, heel = at[f"{side}_big_toe"], at[f"{side}_heel"]
        shoulder, elbow = at[f"{side}_shoulder"], at[f"{side}_elbow"]
        wrist, hand = at[f"{side}_wrist"], at[f"{side}_hand"]
        # A knee bends to the front: the front of thigh and shank is where it points.
        kneecap = knee - 0.5 * (hip + ankle) + 0.3 * (toe - heel) + 0.02 * chest
        crook = 0.5 * (shoulder + wrist) - elbow + 0.05 * chest
        palm_front = crook if np.linalg.norm(hand - wrist) > 0.0 else chest
        return [
            self._bone("thigh", hip, knee, outward, kneecap),
            self._bone("shank", knee, ankle, outward, kneecap),
            self._shoe(ankle, heel, toe),
            self._bone("upper_arm", shoulder, elbow, outward, crook),
            self._bone("forearm", elbow, wrist, outward, crook),
            self._bone("hand", wrist, hand, outward, palm_front + 0.1 * chest),
        ]

    def _shoe(self, ankle: FloatArray, heel: FloatArray, toe: FloatArray) -> FloatArray:
        tube = self._tubes["shoe"]
        front = _axis(heel, toe)
        up = ankle - heel
        up = unit(up - (up @ front) * front)
        side = cross(up, front)
        shoe = np.asarray(SHOE) * self._stature
        # Longer or shorter feet stretch the shoe along its length only.
        stretch = float(np.linalg.norm(toe - heel)) / (0.152 * self._stature)
        height = shoe[:, 2:3]
        sole = -(0.039 - SOLE_DROP + SOLE_HEIGHT) * self._stature
        middles = heel + stretch * shoe[:, :1] * front + (sole + 0.5 * height) * up
        cosine, sine = _circle(tube.n_sides)
        # Flat below, round above: a sole lies on the floor.
        flat = np.where(sine < 0.0, -np.minimum(1.0, 2.5 * -sine), sine)
        wide = np.sign(cosine) * np.abs(cosine) ** 0.6
        rings = middles[:, None] + (shoe[:, 1:2] * wide)[..., None] * side
        rings = rings + (0.5 * height * flat)[..., None] * up
        return np.asarray(rings.reshape(-1, 3))

    def _head(self, at: dict[str, FloatArray]) -> list[FloatArray]:
        """Return neck, skull, hair, ears, nose and the features of the face."""
        ears = 0.5 * (at["left_ear"] + at["right_ear"])
        left = _axis(at["right_ear"], at["left_ear"])
        eyes = 0.5 * (at["left_eye"] + at["right_eye"])
        # Eyes lie 0.047 before and 0.006 above the ears (body.Figure.head).
        front = unit(eyes - ears)
        tilt = np.arctan2(0.006, 0.047)
        up = cross(front, left)
        front, up = (
            np.cos(tilt) * front - np.sin(tilt) * up,
            np.cos(tilt) * up + np.sin(tilt) * front,
        )

        def along(name: str, origin: FloatArray) -> FloatArray:
            tube = self._tubes[name]
            profile = self._stature * np.asarray(tube.profile)
            middles = origin + profile[:, :1] * up + profile[:, 4:5] * front
            shape = middles.shape
            # The skull does not grow with the girth of the rest.
            girth, self._girth = self._girth, 1.0
            rings = self._ring(
                middles, np.broadcast_to(-left, shape), np.broadcast_to(front, shape), tube
            )
            self._girth = girth
            return rings

        def place(spots: FloatArray) -> FloatArray:
            axes = np.stack([front, left, up])
            return np.asarray(ears + self._stature * spots @ axes)

        return [
            self._bone("neck", at["mid_shoulder"], ears, left, front),
            along("head", ears),
            along("hair", ears),
            along("ear", at["left_ear"]),
            along("ear", at["right_ear"]),
            place(_FEATURES),
        ]

    def _topology(self, look: Look) -> Mesh:
        """Return faces and colours in the order in which `vertices` lays the parts."""
        sided = ["thigh", "shank", "shoe", "upper_arm", "forearm", "hand"]
        order = ["torso", *sided, *sided, "neck", "head", "hair", "ear", "ear"]
        faces: list[IntArray] = []
        colours: list[FloatArray] = []
        lifts: list[FloatArray] = []
        start = 0
        for name in order:
            tube = self._tubes[name]
            quads, tint = _quads(tube)
            if name == "shoe":
                tint = _shoe_tint(tube, look)
            if name == "hair":
                quads, tint = _hair_only(quads, tint, tube)
            faces.append(quads + start)
            colours.append(tint)
            lifts.append(np.zeros(len(quads)))
            start += len(tube.profile) * tube.n_sides
        faces.append(_FEATURE_FACES + start)
        colours.append(_feature_tint(look))
        lifts.append(np.full(len(_FEATURE_FACES), 0.03 * self._stature))
        return Mesh(np.concatenate(faces), np.concatenate(colours), np.concatenate(lifts))


def _axis(start: FloatArray, end: FloatArray) -> FloatArray:
    return unit(end - start)


def _circle(n_sides: int) -> tuple[FloatArray, FloatArray]:
    angle = np.arange(n_sides) * (2.0 * np.pi / n_sides)
    return np.cos(angle), np.sin(angle)


def _tubes(look: Look) -> dict[str, _Tube]:
    """Return the parts of a body in its colours."""
    skin, low = look.skin, -9.0
    shoe = tuple((place, width, height, 0.0, 0.0) for place, width, height in SHOE)
    return {
        "torso": _Tube(TORSO, 34, ((low, look.shorts), (0.092, look.shirt), (1.12, skin))),
        "thigh": _Tube(THIGH, 24, ((low, look.shorts), (0.603, skin))),
        "shank": _Tube(SHANK, 20, ((low, skin), (0.803, look.socks))),
        "shoe": _Tube(shoe, 20, ((low, look.shoes),)),
        "upper_arm": _Tube(UPPER_ARM, 20, ((low, look.shirt), (0.452, skin))),
        "forearm": _Tube(FOREARM, 18, ((low, skin),)),
        "hand": _Tube(HAND, 14, ((low, skin),)),
        "neck": _Tube(NECK, 16, ((low, skin),)),
        "head": _Tube(HEAD, 32, ((low, skin),)),
        "hair": _Tube(HAIR, 32, ((low, look.hair),)),
        "ear": _Tube(EAR, 8, ((low, skin),)),
    }


def _quads(tube: _Tube) -> tuple[IntArray, FloatArray]:
    """Return the faces of a tube and their colours."""
    rings, sides = len(tube.profile), tube.n_sides
    ring, side = np.meshgrid(np.arange(rings - 1), np.arange(sides), indexing="ij")
    after = (side + 1) % sides
    corners = [
        ring * sides + side,
        ring * sides + after,
        (ring + 1) * sides + after,
        (ring + 1) * sides + side,
    ]
    quads = np.stack(corners, axis=-1).reshape(-1, 4)
    places = [row[0] for row in tube.profile]
    middles = [0.5 * (places[row] + places[row + 1]) for row in range(rings - 1)]
    band = [max(k for k, (place, _) in enumerate(tube.bands) if place <= at) for at in middles]
    tint = np.array([tube.bands[k][1] for k in band], dtype=np.float64)
    return quads.astype(np.intp), np.repeat(tint, sides, axis=0)


def _shoe_tint(tube: _Tube, look: Look) -> FloatArray:
    """Return the shoe's colours: its lowest faces are the sole."""
    _, sine = _circle(tube.n_sides)
    is_sole = 0.5 * (sine + np.roll(sine, -1)) < -0.30
    row = np.where(is_sole[:, None], look.soles, look.shoes).astype(np.float64)
    return np.tile(row, (len(tube.profile) - 1, 1))


def _hair_only(quads: IntArray, tint: FloatArray, tube: _Tube) -> tuple[IntArray, FloatArray]:
    """Return the part of the shell that is hair: not the face, not before the ears."""
    _, sine = _circle(tube.n_sides)
    profile = np.asarray(tube.profile)
    height = 0.5 * (profile[:-1, 0] + profile[1:, 0])
    front = 0.5 * (sine + np.roll(sine, -1))
    # The hairline rises from the nape over the ears to the forehead (chosen by us).
    line = np.where(front > 0.35, 0.047, np.where(front > -0.15, 0.008, -0.032))
    keep = (height[:, None] > line[None, :]).reshape(-1)
    return quads[keep], tint[keep]


def _ellipse(
    middle: tuple[float, float, float], half_width: float, half_height: float, turn: float
) -> FloatArray:
    """Return eight points around a spot of the face: front, left, up in statures."""
    angle = np.arange(8) * (np.pi / 4.0)
    across, upward = half_width * np.cos(angle), half_height * np.sin(angle)
    front = -across * np.sin(turn)
    return np.asarray(np.array(middle) + np.stack([front, across * np.cos(turn), upward], axis=-1))


def _features() -> FloatArray:
    """Return the vertices of the features: per eye white, iris and brow, then mouth and nose."""
    parts = []
    for sign in (1.0, -1.0):
        turn = 0.42 * sign
        parts.append(_ellipse((0.0532, sign * 0.0180, 0.006), 0.0080, 0.0038, turn))
        parts.append(_ellipse((0.0545, sign * 0.0178, 0.006), 0.0036, 0.0037, turn))
        parts.append(_ellipse((0.0535, sign * 0.0185, 0.0155), 0.0105, 0.0018, turn))
    parts.append(_ellipse((0.0585, 0.0, -0.036), 0.0130, 0.0030, 0.0))
    nose = [
        (0.0580, 0.0, 0.0060),
        (0.0690, 0.0, -0.0120),
        (0.0560, 0.0085, -0.0160),
        (0.0560, -0.0085, -0.0160),
        (0.0600, 0.0, -0.0190),
    ]
    return np.concatenate([*parts, np.array(nose)])


def _feature_faces() -> IntArray:
    """Return the faces of the features: each ellipse is three quadrilaterals."""
    quads = []
    for start in range(0, 7 * 8, 8):
        quads += [[start, start + 1, start + 2, start + 3]]
        quads += [[start, start + 3, start + 4, start + 7]]
        quads += [[start + 4, start + 5, start + 6, start + 7]]
    bridge, tip, left, right, base = range(56, 61)
    quads += [[bridge, tip, left, left], [bridge, right, tip, tip]]
    quads += [[tip, base, left, left], [tip, right, base, base]]
    return np.array(quads, dtype=np.intp)


def _feature_tint(look: Look) -> FloatArray:
    eye = [_EYE_WHITE] * 3 + [_IRIS] * 3 + [look.hair] * 3
    lips = [tuple(0.55 * a + 0.45 * b for a, b in zip(_MOUTH, look.skin, strict=True))] * 3
    return np.array([*eye, *eye, *lips, *([look.skin] * 4)], dtype=np.float64)


_FEATURES: Final[npt.NDArray[np.float64]] = _features()
_FEATURE_FACES: Final[npt.NDArray[np.intp]] = _feature_faces()
