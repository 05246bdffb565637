"""Which keypoints a camera sees: in the picture, and not behind the athlete's own body."""

from __future__ import annotations

from typing import Final

import numpy as np

from pose_analyzer.skeleton import KEYPOINT_INDEX, N_KEYPOINTS
from pose_analyzer.synthetic.body import POINT_INDEX, Athlete
from pose_analyzer.synthetic.camera import Camera
from pose_analyzer.types import BoolArray, FloatArray

_FLESH: Final[tuple[tuple[str, str, float], ...]] = (
    ("mid_hip", "mid_spine", 0.060),
    ("mid_spine", "mid_shoulder", 0.060),
    ("head", "head", 0.050),
    *(
        (f"{side}_{first}", f"{side}_{second}", radius)
        for side in ("left", "right")
        for first, second, radius in (
            ("hip", "shoulder", 0.045),
            ("hip", "knee", 0.042),
            ("knee", "ankle", 0.026),
            ("heel", "big_toe", 0.022),
            ("shoulder", "elbow", 0.026),
            ("elbow", "wrist", 0.020),
            ("wrist", "hand", 0.018),
        )
    ),
)
"""Capsules that hide things: two points and a radius in statures (as the renderer draws them)."""
_SKIN_DEPTH: Final = 0.02
"""A joint lies this deep (statures) in its own flesh, which does not hide it (chosen by us)."""
_FACE: Final = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")


def visible_keypoints(
    points_m: FloatArray, athlete: Athlete, camera: Camera, keypoints: FloatArray
) -> BoolArray:
    """Return which keypoints are seen, shape (T, K).

    Parameters
    ----------
    points_m : array, shape (T, N, 3)
        World points, rows as in `body.POINT_NAMES`.
    athlete : Athlete
        Gives the thickness of the flesh.
    camera : Camera
        Where it is seen from.
    keypoints : array, shape (T, K, 2)
        The projected keypoints; NaN behind the camera, which is not seen.

    Notes
    -----
    Limbs and trunk are capsules, as thick as drawn; other people are not considered.
    """
    inside = (keypoints >= 0.0) & (keypoints <= np.array(camera.size) - 1.0)
    depth = camera.to_camera(points_m)[..., 2]
    pixels = camera.project(points_m)
    hidden = _turned_away(points_m, camera)
    for first, second, share in _FLESH:
        radius = share * athlete.girth * athlete.stature_m
        start, end = POINT_INDEX[first], POINT_INDEX[second]
        axis = pixels[:, end] - pixels[:, start]
        offset = keypoints - pixels[:, start, None]
        length2 = np.maximum(np.sum(axis**2, axis=-1), 1e-9)
        along = np.clip(np.einsum("tkd,td->tk", offset, axis) / length2[:, None], 0.0, 1.0)
        distance = np.linalg.norm(offset - along[..., None] * axis[:, None], axis=-1)
        near = depth[:, start, None] + along * (depth[:, end] - depth[:, start])[:, None]
        gap = depth[:, :N_KEYPOINTS] - near
        behind = gap > radius + _SKIN_DEPTH * athlete.stature_m
        hidden |= behind & (distance < camera.focal_px * radius / near)
    return np.asarray(inside.all(axis=-1) & ~hidden)


def _turned_away(points_m: FloatArray, camera: Camera) -> BoolArray:
    """Return which face points look away from the camera, shape (T, K)."""

    def at(name: str) -> FloatArray:
        return points_m[:, POINT_INDEX[name]]

    left = at("left_ear") - at("right_ear")
    left = left / np.linalg.norm(left, axis=-1, keepdims=True)
    front = at("left_eye") + at("right_eye") - at("left_ear") - at("right_ear")
    front = front / np.linalg.norm(front, axis=-1, keepdims=True)
    # How far each point looks sideways; the rest is to the front (chosen by us).
    outward = {
        "nose": 0.0,
        "left_eye": 0.35,
        "right_eye": -0.35,
        "left_ear": 1.0,
        "right_ear": -1.0,
    }
    away = np.zeros((points_m.shape[0], N_KEYPOINTS), dtype=np.bool_)
    for name in _FACE:
        side = outward[name]
        normal = side * left + (1.0 - abs(side)) * front
        to_camera = camera.position_m - at(name)
        away[:, KEYPOINT_INDEX[name]] = np.sum(normal * to_camera, axis=-1) < 0.0
    return away
