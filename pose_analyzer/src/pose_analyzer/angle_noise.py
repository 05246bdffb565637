"""What makes each angle uncertain: written by ``scripts/view_uncertainty.py --write``."""

from __future__ import annotations

from typing import Final

PARTS: Final = {
    "knee": (0.79, 0.57, 32.87, 3.60),
    "hip": (0.52, 4.62, 27.97, 2.54),
    "elbow": (1.06, 0.76, 22.40, 3.35),
    "shoulder": (2.73, 1.22, 17.91, 4.56),
    "ankle": (1.51, 1.29, 50.90, 1.58),
    "shin_lean": (1.61, 0.37, 5.72, 6.00),
    "trunk_lean": (2.56, 0.37, 19.62, 6.00),
}
"""Of each angle: noise of a keypoint in percent of stature, degrees in the plane, degrees across
it, power of the cosine of the camera's yaw (0 front, 90 side)."""
