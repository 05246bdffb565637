"""The exact truth of a synthetic clip, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pose_analyzer.skeleton import (
    JOINT_NAMES,
    N_JOINTS,
    N_KEYPOINTS,
)
from pose_analyzer.synthetic.body import N_POINTS, POINT_INDEX, Athlete
from pose_analyzer.synthetic.camera import Camera
from pose_analyzer.synthetic.faults import FAULT_NAMES
from pose_analyzer.synthetic.motion import MotionSpec, perform
from pose_analyzer.synthetic.schedule import PHASES, TrueRep
from pose_analyzer.synthetic.visibility import visible_keypoints
from pose_analyzer.types import BoolArray, FloatArray, IntArray

_TRIPLES: Final = {
    "shoulder": ("elbow", "shoulder", "hip"),
    "elbow": ("shoulder", "elbow", "wrist"),
    "hip": ("shoulder", "hip", "knee"),
    "knee": ("hip", "knee", "ankle"),
    "ankle": ("knee", "ankle", "big_toe"),
}
"""Points of each included angle; its vertex is the middle one."""


@dataclass(frozen=True, slots=True)
class Truth:
    """One athlete in one camera, exactly.

    Attributes
    ----------
    athlete, motion, camera : Athlete, MotionSpec, Camera
        What it was made from.
    time_s : array, shape (T,)
        From 0.
    points_m : array, shape (T, N, 3)
        World positions in metres, rows as in `body.POINT_NAMES`: the 21 keypoints first.
    keypoints : array, shape (T, K, 2)
        Pixels, also of what is hidden or outside the picture; NaN only behind the camera.
    visible : bool array, shape (T, K)
        In the picture and not hidden by the athlete's own body.
    deg : array, shape (T, J)
        Exact 3-D angles in the order of `skeleton.JOINT_NAMES`: included angles, and leans of
        trunk and shins from the vertical, which are never negative.
    phase : int array, shape (T,)
        Index into `schedule.PHASES`.
    attempt : int array, shape (T,)
        The repetition in progress, from 1 and half ones included; 0 at rest.
    severity : array, shape (T, F)
        Of each fault of `faults.FAULT_NAMES` in the repetition in progress; 0 at rest.
    travel : array, shape (T,)
        Share of the exercise's full travel.
    commanded_joints : tuple of str
        The joints whose angle the motion set on purpose, without an ``asymmetry``.
    commanded_deg : array, shape (T,)
        Their angle as it was set.
    reps : tuple of TrueRep
        In time order, half ones included.
    """

    athlete: Athlete
    motion: MotionSpec
    camera: Camera
    time_s: FloatArray
    points_m: FloatArray
    keypoints: FloatArray
    visible: BoolArray
    deg: FloatArray
    phase: IntArray
    attempt: IntArray
    severity: FloatArray
    travel: FloatArray
    commanded_joints: tuple[str, ...]
    commanded_deg: FloatArray
    reps: tuple[TrueRep, ...]

    def __post_init__(self) -> None:
        frames = self.time_s.shape[0]
        for name, shape in (
            ("points_m", (N_POINTS, 3)),
            ("keypoints", (N_KEYPOINTS, 2)),
            ("visible", (N_KEYPOINTS,)),
            ("deg", (N_JOINTS,)),
            ("phase", ()),
            ("attempt", ()),
            ("severity", (len(FAULT_NAMES),)),
            ("travel", ()),
            ("commanded_deg", ()),
        ):
            found = np.shape(getattr(self, name))
            if found != (frames, *shape):
                raise ValueError(f"{name} must have shape {(frames, *shape)}, got {found}")

    @property
    def n_frames(self) -> int:
        """T."""
        return int(self.time_s.shape[0])

    @property
    def exercise(self) -> str:
        """What the athlete does."""
        return self.motion.exercise

    @property
    def joints_m(self) -> FloatArray:
        """The keypoints in metres, world axes, shape (T, K, 3)."""
        return self.points_m[:, :N_KEYPOINTS]

    @property
    def stature_px(self) -> FloatArray:
        """How tall the athlete would stand in the picture, shape (T,), in pixels."""
        depth_m = self.camera.to_camera(self.joints_m.mean(axis=1))[..., 2]
        return np.asarray(self.athlete.stature_m * self.camera.focal_px / depth_m)

    @property
    def rep_count(self) -> int:
        """Full repetitions."""
        return sum(not rep.is_partial for rep in self.reps)

    @property
    def phase_names(self) -> tuple[str, ...]:
        """``"rest"``, ``"away"``, ``"turn"`` or ``"back"`` for each frame."""
        return tuple(PHASES[code] for code in self.phase.tolist())

    def faults_at(self, index: int) -> tuple[str, ...]:
        """Return the names of the faults of the repetition in progress at a frame."""
        row = self.severity[index].tolist()
        return tuple(name for name, value in zip(FAULT_NAMES, row, strict=True) if value > 0.0)

    @property
    def boxes(self) -> FloatArray:
        """The box of the body in each frame, clipped to the picture, shape (T, 4), x1 y1 x2 y2.

        NaN where no part of the body is in the picture.
        """
        pixels = self.camera.project(self.points_m)
        depth = self.camera.to_camera(self.points_m)[..., 2]
        flesh = 0.04 * self.athlete.stature_m * self.camera.focal_px / np.maximum(depth, 0.05)
        low, high = pixels - flesh[..., None], pixels + flesh[..., None]
        behind = np.isnan(pixels)
        low = np.where(behind, np.inf, low).min(axis=1)
        high = np.where(behind, -np.inf, high).max(axis=1)
        limit = np.array(self.camera.size) - 1.0
        corners = np.concatenate([np.clip(low, 0.0, limit), np.clip(high, 0.0, limit)], axis=-1)
        outside = (corners[:, :2] >= corners[:, 2:]).any(axis=-1)
        return np.where(outside[:, None], np.nan, corners)


def synthesize(
    athlete: Athlete | None = None, motion: MotionSpec | None = None, camera: Camera | None = None
) -> Truth:
    """Return the exact truth of an athlete's motion in a camera; nothing is drawn.

    Parameters
    ----------
    athlete, motion, camera : Athlete, MotionSpec, Camera, optional
        Ten squats of a person of 1.75 m, filmed from the left side at 1080p, if left out.

    Raises
    ------
    ValueError
        If the athlete's proportions cannot do the exercise.

    Examples
    --------
    >>> truth = synthesize(motion=MotionSpec("squat", reps=3))
    >>> truth.rep_count, truth.keypoints.shape[1:]
    (3, (21, 2))
    """
    athlete = Athlete() if athlete is None else athlete
    motion = MotionSpec() if motion is None else motion
    camera = Camera() if camera is None else camera
    done = perform(athlete, motion, camera.fps)
    keypoints = camera.project(done.points_m[:, :N_KEYPOINTS])
    return Truth(
        athlete=athlete,
        motion=motion,
        camera=camera,
        time_s=done.schedule.time_s,
        points_m=done.points_m,
        keypoints=keypoints,
        visible=visible_keypoints(done.points_m, athlete, camera, keypoints),
        deg=exact_angles(done.points_m),
        phase=done.schedule.phase,
        attempt=done.schedule.attempt,
        severity=done.schedule.severity,
        travel=done.schedule.travel,
        commanded_joints=done.command.joints,
        commanded_deg=done.command.deg,
        reps=done.schedule.reps,
    )


def exact_angles(points_m: FloatArray) -> FloatArray:
    """Return the 3-D angles of points (T, N, 3) in the order of `skeleton.JOINT_NAMES`, (T, J)."""

    def at(name: str) -> FloatArray:
        return points_m[:, POINT_INDEX[name]]

    def middle(part: str) -> FloatArray:
        return 0.5 * (at(f"left_{part}") + at(f"right_{part}"))

    up = np.array([0.0, 0.0, 1.0])
    columns = []
    for joint in JOINT_NAMES:
        side, _, name = joint.partition("_")
        if joint == "trunk_lean":
            columns.append(_angle_deg(middle("shoulder") - middle("hip"), up))
        elif name == "shin_lean":
            columns.append(_angle_deg(at(f"{side}_knee") - at(f"{side}_ankle"), up))
        else:
            first, vertex, second = (at(f"{side}_{part}") for part in _TRIPLES[name])
            columns.append(_angle_deg(first - vertex, second - vertex))
    return np.stack(columns, axis=-1)


def _angle_deg(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the angle between vectors in [0, 180]."""
    # The arctangent keeps its precision near 0 and 180, where the arccosine loses it.
    across = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.asarray(np.degrees(np.arctan2(across, np.sum(first * second, axis=-1))))
