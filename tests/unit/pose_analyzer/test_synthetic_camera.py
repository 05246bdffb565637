"""The pinhole camera, and what it sees of a body."""

from __future__ import annotations

import numpy as np
import pytest

from pose_analyzer.skeleton import KEYPOINT_INDEX, MIRROR
from pose_analyzer.synthetic import Camera, MotionSpec, Truth, synthesize


def seen(truth: Truth, name: str) -> float:
    """Return the share of frames in which a keypoint is visible."""
    return float(truth.visible[:, KEYPOINT_INDEX[name]].mean())


def view(yaw_deg: float, exercise: str = "squat") -> Truth:
    return synthesize(motion=MotionSpec(exercise, reps=1), camera=Camera(yaw_deg=yaw_deg))


def test_the_point_it_looks_at_is_in_the_middle() -> None:
    camera = Camera(yaw_deg=33.0, pitch_deg=12.0, aim_height_m=0.7)
    assert camera.project(np.array([0.0, 0.0, 0.7])) == pytest.approx([959.5, 539.5])


def test_a_known_point_lands_where_the_similar_triangles_say() -> None:
    camera = Camera(yaw_deg=0.0, distance_m=4.0, aim_height_m=1.0)
    focal = 960.0 / np.tan(np.radians(30.0))
    # 0.5 m to the athlete's left is right in a picture from the front; 0.2 m up is up.
    pixel = camera.project(np.array([1.0, 0.5, 1.2]))
    assert pixel == pytest.approx([959.5 + focal * 0.5 / 3.0, 539.5 - focal * 0.2 / 3.0])


def test_yaw_ninety_sees_the_left_side() -> None:
    camera = Camera(yaw_deg=90.0, distance_m=4.0)
    assert camera.position_m == pytest.approx([0.0, 4.0, 0.95])
    assert camera.project(np.array([1.0, 0.0, 0.95]))[0] < 959.5


def test_pitch_raises_the_camera() -> None:
    camera = Camera(pitch_deg=30.0, distance_m=4.0, aim_height_m=1.0)
    assert camera.position_m[2] == pytest.approx(3.0)


def test_rotation_is_orthonormal_and_right_handed() -> None:
    rotation = Camera(yaw_deg=71.0, pitch_deg=-18.0).rotation
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def test_points_behind_the_camera_are_not_measured() -> None:
    camera = Camera(yaw_deg=0.0, distance_m=4.0)
    assert np.isnan(camera.project(np.array([5.0, 0.0, 1.0]))).all()


def test_the_angle_of_view_belongs_to_the_longer_side() -> None:
    lying, upright = Camera(), Camera(width=1080, height=1920)
    assert lying.focal_px == upright.focal_px


@pytest.mark.parametrize("exercise", ["squat", "push_up", "overhead_press", "biceps_curl"])
def test_opposite_yaw_mirrors_a_symmetric_motion(exercise: str) -> None:
    left, right = view(35.0, exercise), view(-35.0, exercise)
    mirrored = right.keypoints[:, MIRROR].copy()
    mirrored[..., 0] = 1919.0 - mirrored[..., 0]
    assert np.allclose(left.keypoints, mirrored, atol=1e-6)
    assert np.array_equal(left.visible, right.visible[:, MIRROR])


def test_the_side_view_sees_the_near_side_only() -> None:
    truth = view(90.0)
    for name in ("shoulder", "hip", "knee", "ankle", "ear"):
        assert seen(truth, f"left_{name}") == 1.0
    for name in ("shoulder", "hip", "ear"):
        assert seen(truth, f"right_{name}") < 0.05


def test_the_front_view_sees_both_sides_and_the_face() -> None:
    truth = view(0.0)
    for name in ("nose", "left_eye", "right_eye", "left_shoulder", "right_shoulder", "left_knee"):
        assert seen(truth, name) == 1.0


def test_the_back_view_sees_no_face() -> None:
    truth = view(180.0)
    assert seen(truth, "nose") == 0.0
    assert seen(truth, "left_eye") == 0.0
    assert seen(truth, "left_shoulder") == 1.0


def test_what_is_outside_the_picture_is_not_visible() -> None:
    truth = synthesize(
        motion=MotionSpec(reps=1), camera=Camera(yaw_deg=0.0, distance_m=1.2, aim_height_m=1.6)
    )
    assert seen(truth, "left_ankle") == 0.0
    assert truth.keypoints[0, KEYPOINT_INDEX["left_ankle"], 1] > 1080.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pitch_deg": 90.0}, "pitch_deg"),
        ({"distance_m": 0.0}, "distance_m"),
        ({"width": 4}, "at least 16"),
        ({"fps": 0.0}, "fps"),
        ({"fov_deg": 1.0}, "fov_deg"),
        ({"yaw_deg": float("nan")}, "yaw_deg must be finite, got nan"),
        ({"yaw_deg": float("inf")}, "yaw_deg must be finite, got inf"),
        ({"pitch_deg": float("nan")}, "pitch_deg"),
        ({"distance_m": float("nan")}, "distance_m"),
        ({"distance_m": float("inf")}, "distance_m"),
        ({"fps": float("nan")}, "fps"),
        ({"fps": float("inf")}, "fps"),
        ({"aim_height_m": float("nan")}, "aim_height_m"),
        ({"width": 7682}, r"at most 7680 x 4320 .* got 7682 x 1080"),
        ({"width": 4322, "height": 4322}, "at most 7680 x 4320"),
    ],
)
def test_impossible_cameras_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Camera(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(7680, 4320), (4320, 7680)])
def test_the_largest_picture_may_stand_or_lie(size: tuple[int, int]) -> None:
    assert Camera(width=size[0], height=size[1]).size == size
