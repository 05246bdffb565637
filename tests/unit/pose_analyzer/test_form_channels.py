"""form_channels: curves that no size, place, mirror or view rule breaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from pose_analyzer.form_channels import CHANNELS, FLOORS, form_channels
from pose_analyzer.skeleton import JOINT_MIRROR, MIRROR
from pose_analyzer.synthetic import Camera, Fault, MotionSpec
from pose_analyzer.types import FloatArray, RepMotion

RepMotions = Callable[..., list[RepMotion]]
SIDE, FRONT = Camera(yaw_deg=90.0), Camera(yaw_deg=0.0)


def channel(curves: FloatArray, name: str) -> FloatArray:
    return curves[:, CHANNELS.index(name)]


def mirrored(motion: RepMotion) -> RepMotion:
    keypoints = motion.keypoints[:, MIRROR].copy()
    keypoints[..., 0] = 1920.0 - keypoints[..., 0]
    return dataclasses.replace(
        motion,
        keypoints=keypoints,
        confidence=motion.confidence[:, MIRROR],
        deg=motion.deg[:, JOINT_MIRROR],
        sigma_deg=motion.sigma_deg[:, JOINT_MIRROR],
    )


@pytest.mark.parametrize("camera", [SIDE, FRONT])
@pytest.mark.parametrize("exercise", ["squat", "push_up", "overhead_press"])
def test_the_mirror_image_has_the_same_channels(
    rep_motions: RepMotions, exercise: str, camera: Camera
) -> None:
    motion = rep_motions(MotionSpec(exercise, reps=1, faults=(Fault("asymmetry", 0.5),)), camera)[0]
    np.testing.assert_allclose(form_channels(mirrored(motion)), form_channels(motion), atol=1e-6)


@pytest.mark.parametrize("camera", [SIDE, FRONT])
def test_size_and_place_in_the_picture_do_not_matter(
    rep_motions: RepMotions, camera: Camera
) -> None:
    motion = rep_motions(MotionSpec("squat", reps=1), camera)[0]
    other = dataclasses.replace(
        motion, keypoints=0.4 * motion.keypoints + 55.0, stature_px=0.4 * motion.stature_px
    )
    np.testing.assert_allclose(form_channels(other), form_channels(motion), atol=1e-9)


def test_each_view_shows_its_own_channels(rep_motions: RepMotions) -> None:
    side, front = (
        form_channels(rep_motions(MotionSpec("squat", reps=1), camera)[0])
        for camera in (SIDE, FRONT)
    )
    assert np.isnan(channel(side, "knee_separation")).all()
    assert np.isnan(channel(front, "hip_bend")).all()
    assert not np.isnan(channel(side, "knee")).any()
    assert not np.isnan(channel(front, "knee_separation")).any()
    for curves in (side, front):
        assert not np.isnan(channel(curves, "travel")).any()


@pytest.mark.parametrize(
    ("exercise", "fault", "camera", "name", "least"),
    [
        ("squat", "knee_valgus", FRONT, "knee_separation", 20.0),
        ("squat", "asymmetry", FRONT, "hip_shift", 10.0),
        ("squat", "rounded_back", SIDE, "trunk_length", 3.0),
        ("push_up", "hip_sag", SIDE, "hip_bend", 15.0),
        ("squat", "shallow_depth", FRONT, "travel", 3.0),
        ("overhead_press", "asymmetry", FRONT, "wrist_tilt", 5.0),
    ],
)
def test_a_fault_shows_in_its_channel(
    rep_motions: RepMotions, exercise: str, fault: str, camera: Camera, name: str, least: float
) -> None:
    good, bad = (
        channel(form_channels(rep_motions(MotionSpec(exercise, reps=1, faults=f), camera)[0]), name)
        for f in ((), (Fault(fault, 1.0),))
    )
    assert np.abs(bad - good).max() >= least


def test_a_pause_shows_in_the_speed(rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("squat", reps=1, faults=(Fault("pause", 1.0),)), SIDE)[0]
    speed = channel(form_channels(motion), "speed")
    still = speed[len(speed) // 2 :] < 1.0
    assert np.count_nonzero(still) * 0.033 >= 1.5


def test_what_was_not_seen_is_nan(rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("squat", reps=1), FRONT)[0]
    keypoints = motion.keypoints.copy()
    keypoints[:10] = np.nan
    curves = form_channels(dataclasses.replace(motion, keypoints=keypoints))
    assert np.isnan(channel(curves, "knee_separation")[:10]).all()
    assert not np.isnan(channel(curves, "knee_separation")[10:]).any()


def test_nobody_seen_gives_nan_throughout(rep_motions: RepMotions) -> None:
    motion = rep_motions(MotionSpec("squat", reps=1), SIDE)[0]
    blind = dataclasses.replace(
        motion,
        **{
            name: np.full_like(getattr(motion, name), np.nan)
            for name in ("keypoints", "deg", "sigma_deg", "signal")
        },
    )
    assert np.isnan(form_channels(blind)).all()


def test_there_is_a_floor_for_each_channel() -> None:
    assert FLOORS.shape == (len(CHANNELS),)
    assert (FLOORS > 0.0).all()
