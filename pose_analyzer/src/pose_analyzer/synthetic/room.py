"""The still room behind the synthetic people: a gym's wall, floor and mat, drawn once."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from pose_analyzer.synthetic.camera import Camera
from pose_analyzer.types import FloatArray, ImageArray

_WALL_BEHIND_M = 2.3
_MAT_HALF_M = (1.15, 0.50)


def draw_room(camera: Camera) -> ImageArray:
    """Return the background of a camera, shape (H, W, 3).

    Every pixel's ray meets the floor or a wall that stands square to the camera behind the
    athlete; the mat lies along the athlete's own axes. It is worked out at half the size, which
    is faster and looks a little out of focus, as a background does.
    """
    half = dataclasses.replace(
        camera, width=max(16, camera.width // 2), height=max(16, camera.height // 2)
    )
    picture = cv2.resize(_draw(half), camera.size, interpolation=cv2.INTER_CUBIC)
    return picture.astype(np.uint8, copy=False)


def _draw(camera: Camera) -> ImageArray:
    rotation, position = camera.rotation, camera.position_m
    column = (np.arange(camera.width) - camera.centre_px[0]) / camera.focal_px
    row = (np.arange(camera.height) - camera.centre_px[1]) / camera.focal_px
    x, y = np.meshgrid(column, row)
    rays = x[..., None] * rotation[0] + y[..., None] * rotation[1] + rotation[2]
    yaw = np.radians(camera.yaw_deg)
    away = np.array([-np.cos(yaw), -np.sin(yaw), 0.0])
    with np.errstate(divide="ignore"):
        to_floor = np.where(rays[..., 2] < 0.0, -position[2] / rays[..., 2], np.inf)
        forward = rays @ away
        to_wall = np.where(forward > 0.0, (_WALL_BEHIND_M - position @ away) / forward, np.inf)
    is_floor = to_floor < to_wall
    # A camera that looks up steeply may see neither: the wall then goes on for ever.
    reach = np.minimum(np.minimum(to_floor, to_wall), 60.0)
    places = position + reach[..., None] * rays
    across = places @ rotation[0]
    picture = np.where(
        is_floor[..., None],
        _floor(places, across, places @ away),
        _wall(across, places[..., 2]),
    )
    picture *= _vignette(x, y)[..., None]
    return np.clip(picture, 0.0, 255.0).astype(np.uint8)


def _edge(distance: FloatArray, softness_m: float) -> FloatArray:
    """Return 1 inside, 0 outside, with a soft edge where ``distance`` crosses zero."""
    return np.asarray(np.clip(0.5 + distance / softness_m, 0.0, 1.0))


def _mix(base: FloatArray, colour: tuple[int, int, int], share: FloatArray) -> FloatArray:
    return np.asarray(base + share[..., None] * (np.array(colour) - base))


def _floor(places: FloatArray, across: FloatArray, depth: FloatArray) -> FloatArray:
    """Return wooden planks that run to the sides, with a mat on them."""
    plank = np.floor(depth / 0.16)
    tone = 1.0 + 0.07 * np.sin(plank * 12.9898) + 0.02 * np.sin(across * 7.0 + plank * 3.7)
    gap = np.abs(depth / 0.16 - np.round(depth / 0.16)) * 0.16
    joint = np.abs((across + plank * 0.57) / 1.4 - np.round((across + plank * 0.57) / 1.4)) * 1.4
    line = np.maximum(_edge(0.004 - gap, 0.006), _edge(0.004 - joint, 0.006))
    light = 1.05 - 0.10 * np.clip(depth / _WALL_BEHIND_M, -1.0, 1.0)
    near_wall = 1.0 - 0.30 * np.exp(-(_WALL_BEHIND_M - depth) / 0.12)
    wood = np.array([104.0, 134.0, 162.0]) * (tone * light * near_wall)[..., None]
    wood = _mix(wood, (62, 86, 108), 0.6 * line)
    inside = np.minimum(
        _MAT_HALF_M[0] - np.abs(places[..., 0]), _MAT_HALF_M[1] - np.abs(places[..., 1])
    )
    wood = wood * (1.0 - 0.25 * np.exp(-np.abs(inside) / 0.03))[..., None]
    mat = _mix(wood, (96, 92, 76), _edge(inside, 0.012))
    return _mix(mat, (122, 118, 98), 0.5 * _edge(inside - 0.05, 0.01) * _edge(0.065 - inside, 0.01))


def _wall(across: FloatArray, height: FloatArray) -> FloatArray:
    """Return a plastered wall with a darker lower part, a skirting board and a rack of weights."""
    light = 1.0 - 0.09 * np.clip((height - 1.6) / 1.6, -1.0, 1.0) ** 2
    light = light - 0.05 * np.cos(across * 1.3)
    wall = np.array([196.0, 202.0, 204.0]) * light[..., None]
    wall = _mix(wall, (150, 152, 146), 0.85 * _edge(1.05 - height, 0.01))
    wall = _mix(wall, (120, 96, 58), _edge(0.022 - np.abs(height - 1.07), 0.008))
    wall = _mix(wall, (208, 212, 214), _edge(0.09 - height, 0.008))
    for shelf in (0.42, 0.80):
        reach = np.abs(np.abs(across) - 2.6)
        bar = _edge(np.minimum(0.022 - np.abs(height - shelf), 0.75 - reach), 0.01)
        wall = _mix(wall, (58, 58, 58), bar)
        slot = (reach % 0.24) - 0.12
        plate = np.hypot(slot, height - shelf - 0.10)
        disc = np.minimum(_edge(0.075 - plate, 0.01), _edge(0.72 - reach, 0.01))
        wall = _mix(wall, (50, 50, 54), disc)
        wall = _mix(wall, (110, 110, 114), np.minimum(disc, _edge(0.025 - plate, 0.01)))
    corner = 1.0 - 0.22 * np.exp(-np.maximum(height, 0.0) / 0.10)
    return np.asarray(wall * corner[..., None])


def _vignette(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return how a lens darkens towards the corners: the fourth power of the angle's cosine."""
    return np.asarray(0.35 + 0.65 / (1.0 + x**2 + y**2) ** 2)
