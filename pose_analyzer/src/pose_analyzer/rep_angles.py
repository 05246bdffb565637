"""The angles of a repetition and their uncertainty, from its keypoints."""

from __future__ import annotations

import numpy as np

from pose_analyzer.biomechanics import JointAngleCalculator, angle_sigma
from pose_analyzer.types import FloatArray


def rep_angles(
    keypoints: FloatArray, confidence: FloatArray, off_plane_yaw: float, stature_px: float
) -> tuple[FloatArray, FloatArray]:
    """Return the angles of each frame and their standard deviation, both (T, J) in degrees.

    Parameters
    ----------
    keypoints : array, shape (T, K, 2)
        Pixels; NaN where not seen.
    confidence : array, shape (T, K)
        In [0, 1]; 0 for a bridged keypoint.
    off_plane_yaw : float
        Camera yaw of the whole repetition, or 90 less it for a motion in the frontal plane; NaN
        if unknown.
    stature_px : float
        Standing height; NaN if unknown.

    Returns
    -------
    deg, sigma_deg : array, shape (T, J)
        NaN where not measured, in both alike; the second also where the stature is unknown.
    """
    n_frames = len(keypoints)
    deg = JointAngleCalculator().angles(keypoints)
    yaw, size = np.full(n_frames, off_plane_yaw), np.full(n_frames, stature_px)
    sigma_deg = angle_sigma(keypoints, confidence, yaw, size)
    sigma_deg[np.isnan(deg)] = np.nan
    return deg, sigma_deg
