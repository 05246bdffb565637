"""biomechanics: values, NaN semantics, invariance, precision."""

from __future__ import annotations

import numpy as np
import pytest

from pose_analyzer.biomechanics import (
    JOINT_TRIPLETS,
    JointAngleCalculator,
    angle_sigma,
    angular_velocity,
    camera_yaw,
    camera_yaw_3d,
    flexion,
    segment_lengths,
    stature,
)
from pose_analyzer.skeleton import (
    JOINT_INDEX,
    JOINT_MIRROR,
    KEYPOINT_INDEX,
    MIRROR,
    N_JOINTS,
    N_KEYPOINTS,
)
from pose_analyzer.types import FloatArray

ANGLES = JointAngleCalculator()


@pytest.fixture
def body() -> FloatArray:
    """Return a scattered body in pixels, shape (K, 2)."""
    return np.random.default_rng(7).uniform(100.0, 900.0, size=(N_KEYPOINTS, 2))


@pytest.fixture
def standing() -> FloatArray:
    """Return a body of 1000 px standing upright, seen from the front, shape (K, 2)."""
    heights = {"shoulder": 820, "elbow": 634, "wrist": 488, "hip": 532, "knee": 287, "ankle": 41}
    half = {"shoulder": 105, "elbow": 105, "wrist": 105, "hip": 60, "knee": 60, "ankle": 60}
    points = np.full((N_KEYPOINTS, 2), np.nan)
    for part, height in heights.items():
        points[KEYPOINT_INDEX[f"left_{part}"]] = 500 + half[part], 1000 - height
        points[KEYPOINT_INDEX[f"right_{part}"]] = 500 - half[part], 1000 - height
    return points


def leg(knee_deg: float, dims: int) -> FloatArray:
    theta = np.radians(knee_deg)
    points = np.full((N_KEYPOINTS, dims), np.nan)
    points[KEYPOINT_INDEX["left_hip"]] = [1.0, 0.0, 0.0][:dims]
    points[KEYPOINT_INDEX["left_knee"]] = 0.0
    points[KEYPOINT_INDEX["left_ankle"]] = [np.cos(theta), np.sin(theta), 0.0][:dims]
    return points


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("degrees", [0.0, 1e-6, 45.0, 90.0, 179.999999, 180.0])
def test_recovers_the_angle_the_leg_was_built_with(degrees: float, dims: int) -> None:
    knee = ANGLES.angles(leg(degrees, dims))[JOINT_INDEX["left_knee"]]
    np.testing.assert_allclose(knee, degrees, atol=1e-9)


def test_only_the_joints_whose_keypoints_were_seen_have_an_angle() -> None:
    measured = ~np.isnan(ANGLES.angles(leg(90.0, 2)))
    assert [name for name, index in JOINT_INDEX.items() if measured[index]] == [
        "left_knee",
        "left_shin_lean",
    ]


def test_coincident_keypoints_give_nan_not_zero() -> None:
    assert np.isnan(ANGLES.angles(np.zeros((N_KEYPOINTS, 2)))).all()


def test_moving_scaling_and_turning_the_picture_keep_the_included_angles(body: FloatArray) -> None:
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    np.testing.assert_allclose(
        ANGLES.angles(3.0 * body @ turn + 40.0)[: len(JOINT_TRIPLETS)],
        ANGLES.angles(body)[: len(JOINT_TRIPLETS)],
        atol=1e-9,
    )


def test_mirroring_the_body_exchanges_left_and_right(body: FloatArray) -> None:
    mirrored = body[MIRROR] * [-1.0, 1.0]
    np.testing.assert_allclose(
        ANGLES.angles(mirrored), ANGLES.angles(body)[JOINT_MIRROR], atol=1e-9
    )


def test_a_flat_body_has_the_same_angles_in_two_and_three_dimensions(body: FloatArray) -> None:
    flat = np.concatenate((body, np.zeros((N_KEYPOINTS, 1))), axis=1)
    np.testing.assert_allclose(ANGLES.angles(flat), ANGLES.angles(body), atol=1e-9)


@pytest.mark.parametrize("batch", [(), (4,), (2, 5), (0,)])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_batch_equals_the_loop(batch: tuple[int, ...], dims: int) -> None:
    bodies = np.random.default_rng(1).normal(size=(*batch, N_KEYPOINTS, dims))
    expected = np.empty((*batch, N_JOINTS))
    for place in np.ndindex(*batch):
        expected[place] = ANGLES.angles(bodies[place])
    np.testing.assert_array_equal(ANGLES.angles(bodies), expected)


def test_an_upright_body_leans_nowhere_and_has_straight_limbs(standing: FloatArray) -> None:
    deg = ANGLES.angles(standing)
    for name in ("trunk_lean", "left_shin_lean", "right_shin_lean"):
        assert deg[JOINT_INDEX[name]] == pytest.approx(0.0, abs=1e-9)
    assert deg[JOINT_INDEX["left_knee"]] == pytest.approx(180.0)


def test_the_trunk_leans_along_the_seen_side_when_one_side_is_hidden(standing: FloatArray) -> None:
    standing[KEYPOINT_INDEX["right_shoulder"]] = np.nan
    standing[KEYPOINT_INDEX["left_shoulder"], 0] = standing[KEYPOINT_INDEX["left_hip"], 0] + 288.0
    lean = ANGLES.angles(standing)[JOINT_INDEX["trunk_lean"]]
    assert lean == pytest.approx(45.0)


def test_the_trunk_of_a_body_without_shoulders_has_no_lean(standing: FloatArray) -> None:
    standing[[KEYPOINT_INDEX["left_shoulder"], KEYPOINT_INDEX["right_shoulder"]]] = np.nan
    assert np.isnan(ANGLES.angles(standing)[JOINT_INDEX["trunk_lean"]])


def test_leans_are_measured_from_the_up_that_was_given(standing: FloatArray) -> None:
    upside_down = JointAngleCalculator(up=(0.0, 1.0)).angles(standing)
    assert upside_down[JOINT_INDEX["trunk_lean"]] == pytest.approx(180.0)


@pytest.mark.parametrize("shape", [(N_KEYPOINTS, 4), (17, 2), (2,)])
def test_refuses_points_that_are_not_a_body(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"keypoints must have shape"):
        ANGLES.angles(np.zeros(shape))


def test_refuses_an_up_of_another_dimension(body: FloatArray) -> None:
    with pytest.raises(ValueError, match="up has 3 dimensions, the keypoints have 2"):
        JointAngleCalculator(up=(0.0, 1.0, 0.0)).angles(body)


def test_the_input_is_left_alone(body: FloatArray) -> None:
    before = body.copy()
    ANGLES.angles(body)
    stature(body)
    np.testing.assert_array_equal(body, before)


def test_flexion_is_zero_at_full_extension() -> None:
    np.testing.assert_allclose(flexion(np.array([180.0, 90.0])), [0.0, 90.0])


def test_angular_velocity_of_a_steady_turn_on_uneven_times() -> None:
    time_s = np.array([0.0, 0.1, 0.4, 0.5])
    deg = np.repeat(50.0 * time_s[:, None], N_JOINTS, axis=1)
    np.testing.assert_allclose(angular_velocity(deg, time_s), 50.0)


def test_stature_of_a_standing_body(standing: FloatArray) -> None:
    assert float(stature(standing)) == pytest.approx(1000.0, rel=0.01)


def test_one_wrong_keypoint_hardly_moves_the_stature(standing: FloatArray) -> None:
    standing[KEYPOINT_INDEX["left_wrist"]] += 400.0
    assert float(stature(standing)) == pytest.approx(1000.0, rel=0.02)


def test_the_stature_of_a_batch_equals_the_loop(standing: FloatArray) -> None:
    bodies = np.stack([standing, 2.0 * standing, np.full_like(standing, np.nan)])
    np.testing.assert_allclose(stature(bodies)[:2], [float(stature(one)) for one in bodies[:2]])
    assert np.isnan(stature(bodies)[2])


def test_segments_are_measured_in_the_unit_of_the_keypoints(standing: FloatArray) -> None:
    np.testing.assert_allclose(segment_lengths(standing)[:2], 186.0)


@pytest.mark.parametrize("yaw_deg", [0.0, 30.0, 60.0, 90.0])
def test_the_yaw_is_found_from_the_width_of_the_body(standing: FloatArray, yaw_deg: float) -> None:
    standing[:, 0] = 500.0 + (standing[:, 0] - 500.0) * np.cos(np.radians(yaw_deg))
    assert float(camera_yaw(standing, np.array(1000.0))) == pytest.approx(yaw_deg, abs=0.1)


def test_the_yaw_is_unknown_without_shoulders_and_hips() -> None:
    nobody = np.full((N_KEYPOINTS, 2), np.nan)
    assert np.isnan(camera_yaw(nobody, np.array(1000.0)))


def test_the_yaw_from_hips_alone_equals_that_from_both(standing: FloatArray) -> None:
    standing[[KEYPOINT_INDEX["left_shoulder"], KEYPOINT_INDEX["right_shoulder"]]] = np.nan
    assert float(camera_yaw(standing, np.array(1000.0))) == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("yaw_deg", [0.0, 45.0, 90.0])
def test_the_yaw_from_metric_landmarks(yaw_deg: float) -> None:
    world = np.full((N_KEYPOINTS, 3), np.nan)
    across = np.array([np.cos(np.radians(yaw_deg)), 0.0, np.sin(np.radians(yaw_deg))])
    for part, width in (("shoulder", 0.2), ("hip", 0.1)):
        world[KEYPOINT_INDEX[f"left_{part}"]] = width * across
        world[KEYPOINT_INDEX[f"right_{part}"]] = -width * across
    assert float(camera_yaw_3d(world)) == pytest.approx(yaw_deg)


def test_sagittal_angles_are_less_sure_from_the_front_than_from_the_side(
    standing: FloatArray,
) -> None:
    sure = np.ones(N_KEYPOINTS)
    knee = JOINT_INDEX["left_knee"]
    side, front, unknown = (
        angle_sigma(standing, sure, np.array(yaw), np.array(1000.0))[knee]
        for yaw in (90.0, 0.0, np.nan)
    )
    assert side < unknown < front


def test_a_doubtful_keypoint_widens_its_angle_alone(standing: FloatArray) -> None:
    sure = np.ones(N_KEYPOINTS)
    doubtful = sure.copy()
    doubtful[KEYPOINT_INDEX["left_wrist"]] = 0.1
    yaw, size = np.array(90.0), np.array(1000.0)
    wider = angle_sigma(standing, doubtful, yaw, size) - angle_sigma(standing, sure, yaw, size)
    assert np.flatnonzero(wider > 1e-9).tolist() == [JOINT_INDEX["left_elbow"]]


def test_the_stated_sigma_covers_the_error_that_keypoint_noise_makes(standing: FloatArray) -> None:
    rng = np.random.default_rng(3)
    noisy = standing + rng.normal(scale=7.0 / np.sqrt(2.0), size=(4000, *standing.shape))
    spread = (ANGLES.angles(noisy) - ANGLES.angles(standing))[:, JOINT_INDEX["left_elbow"]]
    sigma = angle_sigma(standing, np.ones(N_KEYPOINTS), np.array(90.0), np.array(1000.0))
    measured = float(np.sqrt(np.mean(np.square(spread))))
    assert 0.5 * measured < sigma[JOINT_INDEX["left_elbow"]] < 2.0 * measured


def test_a_limb_that_points_at_the_camera_has_a_bounded_sigma(standing: FloatArray) -> None:
    standing[KEYPOINT_INDEX["left_wrist"]] = standing[KEYPOINT_INDEX["left_elbow"]]
    sigma = angle_sigma(standing, np.ones(N_KEYPOINTS), np.array(90.0), np.array(1000.0))
    assert 90.0 < sigma[JOINT_INDEX["left_elbow"]] < 120.0


def test_without_a_stature_the_sigma_is_unknown(standing: FloatArray) -> None:
    sigma = angle_sigma(standing, np.ones(N_KEYPOINTS), np.array(90.0), np.array(np.nan))
    assert np.isnan(sigma).all()


@pytest.mark.parametrize("joint", ["left_knee", "left_hip", "left_elbow", "trunk_lean"])
def test_sigma_never_grows_from_the_front_to_the_side(standing: FloatArray, joint: str) -> None:
    sure, size = np.ones(N_KEYPOINTS), np.array(1000.0)
    sigma = [
        angle_sigma(standing, sure, np.array(yaw), size)[JOINT_INDEX[joint]]
        for yaw in np.linspace(0.0, 90.0, 13)
    ]
    assert np.all(np.diff(sigma) <= 0.0)


def test_sigma_covers_a_knee_seen_from_the_front_and_trusts_one_from_the_side(
    standing: FloatArray,
) -> None:
    """From the front a deep squat hides some 70 degrees; from the side a few stay unknown."""
    sure, size = np.ones(N_KEYPOINTS), np.array(1000.0)
    knee = JOINT_INDEX["left_knee"]
    assert angle_sigma(standing, sure, np.array(0.0), size)[knee] > 25.0
    assert angle_sigma(standing, sure, np.array(90.0), size)[knee] < 5.0
