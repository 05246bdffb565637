"""BlazePose's 33 landmarks as the package's 21 keypoints. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pose_analyzer.inference.decode import fade_outside, suppress_overlaps
from pose_analyzer.skeleton import KEYPOINT_NAMES
from pose_analyzer.types import FloatArray, IntArray, PoseDetections

N_LANDMARKS: Final = 33
LANDMARK_OF_KEYPOINT: Final = {
    "nose": 0,
    "left_eye": 2,
    "right_eye": 5,
    "left_ear": 7,
    "right_ear": 8,
    "left_shoulder": 11,
    "right_shoulder": 12,
    "left_elbow": 13,
    "right_elbow": 14,
    "left_wrist": 15,
    "right_wrist": 16,
    "left_hip": 23,
    "right_hip": 24,
    "left_knee": 25,
    "right_knee": 26,
    "left_ankle": 27,
    "right_ankle": 28,
    "left_heel": 29,
    "right_heel": 30,
    "left_big_toe": 31,
    "right_big_toe": 32,
}
"""Number of the BlazePose landmark [1]_ for each keypoint; its foot index is the big toe.

References
----------
.. [1] V. Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking",
   arXiv:2006.10204.
"""
LANDMARK_ROWS: Final[IntArray] = np.array(
    [LANDMARK_OF_KEYPOINT[name] for name in KEYPOINT_NAMES], dtype=np.intp
)
SAME_PERSON_IOU: Final = 0.5
"""Two poses whose boxes overlap more are one person found twice (chosen by us)."""


@dataclass(frozen=True, slots=True)
class Landmarks:
    """What a BlazePose graph found in one picture.

    Attributes
    ----------
    points : array, shape (P, 33, 2)
        x and y as shares of the picture's width and height; outside [0, 1] beyond its edge.
    confidence : array, shape (P, 33)
        Visibility, times presence where the graph gives it, in [0, 1].
    world_m : array, shape (P, 33, 3)
        Metres from the middle of the hips: x right, y down, z away from the camera.
    """

    points: FloatArray
    confidence: FloatArray
    world_m: FloatArray


def landmark_detections(landmarks: Landmarks, shape: tuple[int, ...]) -> PoseDetections:
    """Return landmarks as detections in pixels of the picture, most confident person first.

    A box is the smallest one around the points inside the picture, its confidence the mean of the
    person's points. A person with no point in the picture, and one found twice, is left out.

    Parameters
    ----------
    landmarks : Landmarks
        Of P people.
    shape : tuple
        ``image.shape`` of the source frame: height, width, ...
    """
    height, width = shape[:2]
    keypoints, confidence = fade_outside(
        landmarks.points[:, LANDMARK_ROWS] * (width, height),
        landmarks.confidence[:, LANDMARK_ROWS],
        shape,
    )
    boxes = _boxes_in_picture(keypoints, height, width)
    score = confidence.mean(axis=1)
    best_first = np.argsort(-score, kind="stable")
    seen = best_first[np.isfinite(boxes[best_first, 0])]
    rows = seen[suppress_overlaps(boxes[seen], SAME_PERSON_IOU)]
    return PoseDetections(
        keypoints[rows],
        confidence[rows],
        boxes[rows],
        score[rows],
        landmarks.world_m[rows][:, LANDMARK_ROWS],
    )


def _boxes_in_picture(keypoints: FloatArray, height: int, width: int) -> FloatArray:
    """Return boxes around the points inside, (P, K, 2) -> (P, 4); NaN where no point is."""
    inside = ((keypoints >= 0.0) & (keypoints <= (width, height))).all(axis=-1)[..., None]
    low = np.where(inside, keypoints, np.inf).min(axis=1)
    high = np.where(inside, keypoints, -np.inf).max(axis=1)
    boxes = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(boxes), boxes, np.nan)
