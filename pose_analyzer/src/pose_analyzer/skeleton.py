"""The body as data: keypoint names, limbs, mirror pairs and joints.

The 17 keypoints of COCO [1]_ come first, in COCO's order; four foot points follow. Every array of
keypoints in this package has K = 21 rows. A detector without feet leaves theirs NaN.

References
----------
.. [1] T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", arXiv:1405.0312.
.. [2] COCO keypoint evaluation, "per-keypoint falloff" constants of the official `cocoeval`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

COCO_KEYPOINTS: Final = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
FOOT_KEYPOINTS: Final = ("left_heel", "right_heel", "left_big_toe", "right_big_toe")
KEYPOINT_NAMES: Final = COCO_KEYPOINTS + FOOT_KEYPOINTS
N_COCO: Final = len(COCO_KEYPOINTS)
N_KEYPOINTS: Final = len(KEYPOINT_NAMES)
KEYPOINT_INDEX: Final = {name: index for index, name in enumerate(KEYPOINT_NAMES)}


def mirrored_name(name: str) -> str:
    """Return the name with left and right exchanged; a name without a side is returned as is."""
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name


MIRROR: Final[npt.NDArray[np.intp]] = np.array(
    [KEYPOINT_INDEX[mirrored_name(name)] for name in KEYPOINT_NAMES], dtype=np.intp
)
"""``keypoints[..., MIRROR, :]`` exchanges left and right. It is its own inverse."""


def _both_sides(*pair: str) -> list[tuple[str, str]]:
    left = [f"left_{name}" for name in pair]
    right = [f"right_{name}" for name in pair]
    return [(left[0], left[1]), (right[0], right[1])]


EDGE_NAMES: Final[tuple[tuple[str, str], ...]] = (
    *_both_sides("shoulder", "elbow"),
    *_both_sides("elbow", "wrist"),
    *_both_sides("shoulder", "hip"),
    *_both_sides("hip", "knee"),
    *_both_sides("knee", "ankle"),
    *_both_sides("ankle", "heel"),
    *_both_sides("heel", "big_toe"),
    *_both_sides("ankle", "big_toe"),
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    *_both_sides("eye", "ear"),
    ("nose", "left_eye"),
    ("nose", "right_eye"),
)
EDGES: Final[npt.NDArray[np.intp]] = np.array(
    [[KEYPOINT_INDEX[a], KEYPOINT_INDEX[b]] for a, b in EDGE_NAMES], dtype=np.intp
)
"""Limbs to draw, shape (E, 2): rows of keypoint indices."""

_SIDED_JOINTS: Final = ("shoulder", "elbow", "hip", "knee", "ankle")
JOINT_NAMES: Final = (
    *(f"{side}_{joint}" for joint in _SIDED_JOINTS for side in ("left", "right")),
    "left_shin_lean",
    "right_shin_lean",
    "trunk_lean",
)
"""The angles that `biomechanics` publishes, in order: ten included angles, three leans. J = 13."""
N_JOINTS: Final = len(JOINT_NAMES)
JOINT_INDEX: Final = {name: index for index, name in enumerate(JOINT_NAMES)}
JOINT_MIRROR: Final[npt.NDArray[np.intp]] = np.array(
    [JOINT_INDEX[mirrored_name(name)] for name in JOINT_NAMES], dtype=np.intp
)

OKS_SIGMAS: Final[npt.NDArray[np.float64]] = np.array(
    [0.026, 0.025, 0.025, 0.035, 0.035]
    + [value for value in (0.079, 0.072, 0.062, 0.107, 0.087, 0.089) for _ in range(2)]
    # Heel and toe have no COCO constant; the ankle's serves (chosen by us).
    + [0.089] * len(FOOT_KEYPOINTS)
)
"""Per-keypoint constants of object keypoint similarity [2]_, shape (K,)."""
