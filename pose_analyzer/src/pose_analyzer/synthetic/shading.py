"""Faces of a mesh as a camera sees them: which, in what order, how bright; and their filling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from pose_analyzer.synthetic.body import cross
from pose_analyzer.synthetic.camera import Camera
from pose_analyzer.synthetic.mesh import Flesh
from pose_analyzer.types import FloatArray, ImageArray

OVERSAMPLE: Final = 2
"""Bodies are drawn this many times larger and averaged down, which smooths their edges."""
_SHIFT: Final = 3
"""Bits of sub-pixel position given to the polygon filler."""


@dataclass(frozen=True, slots=True)
class Shaded:
    """The faces of a body that a camera sees, from far to near.

    Attributes
    ----------
    corners : array, shape (F, 4, 2)
        Pixels.
    colours : list of (float, float, float)
        Blue, green, red of each face.
    low, high : array, shape (2,)
        Pixels between which the whole body lies.
    """

    corners: FloatArray
    colours: list[tuple[float, float, float]]
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, flesh: Flesh, points: FloatArray, camera: Camera, stature: float) -> Shaded:
        """Return the visible faces of a body in its pose."""
        mesh = flesh.mesh
        seen = camera.to_camera(flesh.vertices(points))
        pixels = camera.focal_px * seen[:, :2] / seen[:, 2:] + camera.centre_px
        quads = seen[mesh.faces]
        # Diagonals: their cross product is normal also where two corners coincide.
        normal = cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
        middle = quads.mean(axis=1)
        is_facing = np.einsum("fd,fd->f", normal, middle) < 0.0
        length = np.linalg.norm(normal, axis=-1)
        rows = np.flatnonzero(is_facing & (length > 0.0))
        depth = middle[rows, 2] - mesh.lift_m[rows]
        rows = rows[np.argsort(-depth, kind="stable")]
        light = _light(normal[rows] / length[rows, None])
        # What is farther than the middle of the body gets less light, so far limbs read as far.
        behind = (middle[rows, 2] - float(np.median(seen[:, 2]))) / (0.10 * stature)
        light *= 1.0 - 0.20 * np.clip(behind, 0.0, 1.0)
        colours = np.clip(mesh.colours[rows] * light[:, None], 0.0, 255.0)
        return cls(
            pixels[mesh.faces[rows]],
            [(b, g, r) for b, g, r in colours.tolist()],
            pixels.min(axis=0),
            pixels.max(axis=0),
        )


_LAMP = np.array([-0.45, -0.75, -0.62]) / np.linalg.norm([-0.45, -0.75, -0.62])
"""Towards the main lamp, in camera axes: left, above and behind the camera."""


def _light(normals: FloatArray) -> FloatArray:
    """Return the brightness of faces: a lamp, the sky above, and a dark rim (Lambert's law)."""
    lamp = np.maximum(normals @ _LAMP, 0.0)
    sky = 0.5 - 0.5 * normals[:, 1]
    rim = 1.0 - np.maximum(-normals[:, 2], 0.0)
    return np.asarray(0.42 + 0.48 * lamp + 0.20 * sky - 0.16 * rim**3)


def fill(canvas: ImageArray, shaded: Shaded, origin: tuple[int, int]) -> ImageArray:
    """Fill the faces into an oversampled canvas whose first pixel is ``origin``."""
    # The middle of an oversampled pixel lies beside that of the pixel it belongs to.
    offset = 0.5 * (OVERSAMPLE - 1)
    scaled = (shaded.corners - np.array(origin)) * OVERSAMPLE + offset
    fixed = np.round(scaled * (1 << _SHIFT)).astype(np.int32)
    for corners, colour in zip(fixed, shaded.colours, strict=True):
        cv2.fillConvexPoly(canvas, corners, colour, cv2.LINE_8, _SHIFT)
    return canvas
