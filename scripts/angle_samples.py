"""The motions that joint angles are measured on, and what each detector makes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pose_analyzer.biomechanics import JointAngleCalculator
from pose_analyzer.pose_detector import MediaPipePoseDetector, YOLOPosev11Detector
from pose_analyzer.skeleton import N_JOINTS
from pose_analyzer.synthetic import LOOKS, Athlete, MotionSpec, Tempo, Truth, synthesize
from pose_analyzer.synthetic.render import Renderer
from pose_analyzer.types import FloatArray, Frame, PoseDetections

YAWS_DEG: Final = (0, 30, 60, 90)
POSES: Final = {
    "standing": ("squat", True),
    "squat, deepest": ("squat", False),
    "push-up, up": ("push_up", True),
    "push-up, down": ("push_up", False),
}
"""Reference poses: the exercise, and whether at rest or at the far end of a repetition."""
POSE_STATURES_M: Final = (1.6, 1.75, 1.9)


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame to render from one yaw.

    Attributes
    ----------
    name : str
        ``"squats"`` or the reference pose.
    truth : Truth
        The motion, as the camera at that yaw sees it.
    row : int
        The frame.
    yaw_deg : int
        Of the camera.
    """

    name: str
    truth: Truth
    row: int
    yaw_deg: int


def squats(count: int) -> list[Truth]:
    """Return one-repetition squats of different stature, build, tempo and depth, by seed."""
    clips = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        athlete = Athlete(
            stature_m=float(rng.uniform(1.5, 2.0)),
            girth=float(rng.uniform(0.85, 1.2)),
            look=LOOKS[seed % len(LOOKS)],
        )
        tempo = Tempo(
            away_s=float(rng.uniform(0.8, 2.2)),
            back_s=float(rng.uniform(0.7, 1.8)),
            turn_s=float(rng.uniform(0.0, 0.6)),
            lead_s=0.3,
        )
        motion = MotionSpec(
            "squat", reps=1, tempo=tempo, depth=float(rng.uniform(0.6, 1.05)), seed=seed
        )
        clips.append(synthesize(athlete, motion))
    return clips


def reference_poses() -> dict[str, Truth]:
    """Return a motion that holds each reference pose, by its name."""
    return {name: synthesize(motion=MotionSpec(POSES[name][0], reps=1)) for name in POSES}


def seen_from(truth: Truth, yaw_deg: int) -> Truth:
    """Return the same motion in a camera at another yaw."""
    camera = dataclasses.replace(truth.camera, yaw_deg=float(yaw_deg))
    return synthesize(truth.athlete, truth.motion, camera)


def picture_angles(truth: Truth, yaw_deg: int) -> FloatArray:
    """Return the angles of the exact keypoints in the picture from a yaw, shape (T, J)."""
    camera = dataclasses.replace(truth.camera, yaw_deg=float(yaw_deg))
    return JointAngleCalculator().angles(camera.project(truth.joints_m))


def make_samples(
    clips: Sequence[Truth], n_frames: int, poses: Mapping[str, tuple[Truth, int]]
) -> list[Sample]:
    """Return the frames to render: evenly over each squat, and each pose of a few people."""
    samples = []
    for yaw in YAWS_DEG:
        for clip in clips:
            truth = seen_from(clip, yaw)
            rows = np.linspace(0, truth.n_frames - 1, n_frames + 2)[1:-1].astype(int)
            samples += [Sample("squats", truth, int(row), yaw) for row in rows]
        for name, (pose, row) in poses.items():
            for stature_m in POSE_STATURES_M:
                person = dataclasses.replace(pose.athlete, stature_m=stature_m)
                camera = dataclasses.replace(pose.camera, yaw_deg=float(yaw))
                samples.append(Sample(name, synthesize(person, pose.motion, camera), row, yaw))
    return samples


def detect_samples(samples: Sequence[Sample], weights: Path | None) -> dict[str, FloatArray]:
    """Return the angles of every source for every sample, shape (N, J); NaN where not found.

    Each frame is detected by itself: they are seconds apart.
    """
    calculator = JointAngleCalculator()
    found: dict[str, list[FloatArray]] = {"exact": [], "mediapipe": [], "mediapipe_world": []}
    mediapipe = MediaPipePoseDetector(tracking=False)
    yolo = None if weights is None else YOLOPosev11Detector(weights, "cpu", threads=1)
    if yolo is not None:
        found["yolo"] = []
    renderers: dict[int, Renderer] = {}
    for sample in samples:
        renderer = renderers.setdefault(sample.yaw_deg, Renderer(sample.truth.camera))
        frame = Frame(renderer.frame(sample.truth, sample.row), 0.0, 0)
        (pose,) = mediapipe.detect([frame])
        found["exact"].append(calculator.angles(sample.truth.keypoints[sample.row]))
        found["mediapipe"].append(_angles(pose, calculator))
        found["mediapipe_world"].append(_world_angles(pose, calculator))
        if yolo is not None:
            found["yolo"].append(_angles(yolo.detect([frame])[0], calculator))
    return {source: np.array(angles) for source, angles in found.items()}


def _angles(pose: PoseDetections, calculator: JointAngleCalculator) -> FloatArray:
    """Return the angles in the picture of the most confident person."""
    return calculator.angles(pose.keypoints[0]) if pose.n_people > 0 else np.full(N_JOINTS, np.nan)


def _world_angles(pose: PoseDetections, calculator: JointAngleCalculator) -> FloatArray:
    """Return the angles of the most confident person's metric landmarks."""
    if pose.world_m is None or pose.n_people == 0:
        return np.full(N_JOINTS, np.nan)
    return calculator.angles(pose.world_m[0])
