"""movement_features: no camera, no body size, no side; NaN where nothing was seen."""

from __future__ import annotations

import numpy as np
import pytest

from pose_analyzer.movement_features import FEATURE_NAMES, movement_features
from pose_analyzer.skeleton import MIRROR
from pose_analyzer.synthetic import MotionSpec, Truth, synthesize


@pytest.fixture(scope="module")
def lunge() -> Truth:
    """Return two exact lunges."""
    return synthesize(motion=MotionSpec("lunge", reps=2))


def test_neither_place_nor_size_in_the_picture_matters(lunge: Truth) -> None:
    moved = movement_features(lunge.time_s, 0.37 * lunge.keypoints + np.array([400.0, -50.0]))
    np.testing.assert_allclose(moved, movement_features(lunge.time_s, lunge.keypoints), atol=1e-6)


def test_the_mirror_image_looks_the_same(lunge: Truth) -> None:
    mirrored = lunge.keypoints[:, MIRROR] * np.array([-1.0, 1.0])
    plain = movement_features(lunge.time_s, lunge.keypoints)
    np.testing.assert_allclose(movement_features(lunge.time_s, mirrored), plain, atol=1e-6)


def test_nobody_is_no_movement(lunge: Truth) -> None:
    unseen = np.full_like(lunge.keypoints, np.nan)
    assert np.isnan(movement_features(lunge.time_s, unseen)).all()


def test_unseen_wrists_leave_the_other_features(lunge: Truth) -> None:
    keypoints = lunge.keypoints.copy()
    keypoints[:, [9, 10]] = np.nan
    features = dict(
        zip(FEATURE_NAMES, movement_features(lunge.time_s, keypoints).tolist(), strict=True)
    )
    assert np.isnan(features["wrist_over_hip_middle"])
    assert features["leg_range"] > 0.1


def test_a_wrong_shape_is_refused(lunge: Truth) -> None:
    with pytest.raises(ValueError, match="keypoints must have shape"):
        movement_features(lunge.time_s, lunge.keypoints[:-1])
