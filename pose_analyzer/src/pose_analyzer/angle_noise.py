"""What makes each angle uncertain: written by ``scripts/view_uncertainty.py --write``."""

from __future__ import annotations

from typing import Final

PARTS: Final = {
    "knee": (0.77, 0.56, 34.69, 3.80),
    "hip": (0.44, 3.97, 29.36, 2.71),
    "elbow": (0.90, 0.87, 24.80, 3.33),
    "shoulder": (0.59, 6.13, 27.65, 2.92),
    "ankle": (3.32, 2.06, 52.26, 6.00),
    "shin_lean": (0.68, 0.30, 16.83, 2.97),
    "trunk_lean": (2.45, 0.37, 20.41, 6.00),
}
"""Of each angle: noise of a keypoint in percent of stature, degrees in the plane, degrees across
it, power of the cosine of the camera's yaw (0 front, 90 side)."""
