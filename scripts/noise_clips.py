"""Rendered clips that the detector's noise is measured on, and what the detector found in them."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pose_analyzer.pose_detector import MediaPipePoseDetector, YOLOPosev11Detector
from pose_analyzer.skeleton import N_KEYPOINTS
from pose_analyzer.synthetic import (
    EXERCISES,
    FAULTS_OF,
    LOOKS,
    Athlete,
    Camera,
    Fault,
    MotionSpec,
    Tempo,
    Truth,
    synthesize,
)
from pose_analyzer.synthetic.render import RenderConfig, Renderer
from pose_analyzer.types import BoolArray, FloatArray, Frame

Detector = MediaPipePoseDetector | YOLOPosev11Detector

YAWS_DEG: Final = (0, 30, 60, 90, 45, 75, 15)
PEOPLE: Final = 2
"""Athletes, tempos and cameras at each exercise and yaw."""
SIZES: Final = ((960, 540), (1280, 720))
LYING: Final = ("push_up", "plank")
"""Exercises near the floor: the camera looks lower."""
PITCHES_DEG: Final = (-20, 20, 35)
PITCHED_YAWS_DEG: Final = (0, 30, 60, 90)
PITCHED_EXERCISES: Final = ("squat", "push_up", "biceps_curl")


@dataclass(frozen=True, slots=True)
class NoiseClip:
    """One clip to render: everything else of it follows from these.

    Attributes
    ----------
    exercise : str
        What the athlete does.
    yaw_deg : int
        Of the camera.
    person : int
        Which of the athletes, with a tempo, a fault and a camera of his own.
    pitch_deg : int, optional
        Of the camera; the person's own, between -5 and 12, if left out.
    """

    exercise: str
    yaw_deg: int
    person: int
    pitch_deg: int | None = None

    @property
    def name(self) -> str:
        """The file name of what was found, without its ending."""
        pitch = "" if self.pitch_deg is None else f"_pitch{self.pitch_deg}"
        return f"{self.exercise}_{self.yaw_deg}_{self.person}{pitch}"

    def truth(self) -> Truth:
        """Return the motion in its camera."""
        seed = zlib.crc32(f"{self.exercise} {self.yaw_deg} {self.person}".encode())
        rng = np.random.default_rng(seed)
        stature_m = float(rng.uniform(1.5, 2.0))
        athlete = Athlete(
            stature_m=stature_m,
            girth=float(rng.uniform(0.85, 1.2)),
            look=LOOKS[int(rng.integers(len(LOOKS)))],
        )
        tempo = Tempo(
            away_s=float(rng.uniform(0.8, 1.6)),
            turn_s=float(rng.uniform(0.1, 0.5)),
            back_s=float(rng.uniform(0.7, 1.4)),
            rest_s=float(rng.uniform(0.3, 0.7)),
            lead_s=0.5,
        )
        fault = Fault(
            str(rng.choice(FAULTS_OF[self.exercise])), float(rng.uniform(0.2, 0.6)), reps=(2,)
        )
        depth = float(rng.uniform(0.75, 1.05))
        pitch_deg = float(rng.uniform(-5.0, 12.0))
        width, height = SIZES[self.person % len(SIZES)]
        camera = Camera(
            yaw_deg=float(self.yaw_deg),
            pitch_deg=pitch_deg if self.pitch_deg is None else float(self.pitch_deg),
            distance_m=stature_m * float(rng.uniform(2.2, 2.8)),
            width=width,
            height=height,
            aim_height_m=(0.15 if self.exercise in LYING else 0.55) * stature_m,
        )
        faults = () if self.person % 2 == 0 else (fault,)
        motion = MotionSpec(self.exercise, 2, tempo, depth, 0.1, faults, seed % 1000)
        return synthesize(athlete, motion, camera)


@dataclass(frozen=True, slots=True)
class Found:
    """What a detector found in a clip, frame by frame; NaN where it saw nobody.

    Attributes
    ----------
    keypoints : array, shape (T, K, 2)
        Pixels.
    confidence : array, shape (T, K)
        In [0, 1].
    world_m : array, shape (T, K, 3)
        Metric landmarks; NaN if the detector has none.
    """

    keypoints: FloatArray
    confidence: FloatArray
    world_m: FloatArray

    @property
    def seen(self) -> BoolArray:
        """Frames in which somebody was found, shape (T,)."""
        return np.asarray(~np.isnan(self.confidence).all(axis=-1))


def bank_clips(yaws_deg: Sequence[int] = YAWS_DEG) -> list[NoiseClip]:
    """Return the clips of the measured noise."""
    return [
        NoiseClip(exercise, yaw, person)
        for yaw, person, exercise in itertools.product(yaws_deg, range(PEOPLE), EXERCISES)
    ]


def pitched_clips() -> list[NoiseClip]:
    """Return clips from low and high cameras."""
    return [
        NoiseClip(exercise, yaw, 2, pitch)
        for exercise, yaw, pitch in itertools.product(
            PITCHED_EXERCISES, PITCHED_YAWS_DEG, PITCHES_DEG
        )
    ]


def find_all(
    clips: Sequence[NoiseClip], cache: Path | None, detector: Detector | None = None
) -> Iterator[tuple[NoiseClip, Truth, Found]]:
    """Yield every clip with its truth and what the detector found, from the cache if there.

    The detector is MediaPipe in its video mode, as the product runs it, unless given.
    """
    detector = MediaPipePoseDetector() if detector is None else detector
    for clip in clips:
        truth = clip.truth()
        file = None if cache is None else cache / f"{clip.name}.npz"
        if file is not None and file.is_file():
            with np.load(file) as stored:
                found = Found(**{name: stored[name] for name in Found.__slots__})
        else:
            found = find(truth, detector)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                np.savez(file, **{name: getattr(found, name) for name in Found.__slots__})
        yield clip, truth, found


def find(truth: Truth, detector: Detector) -> Found:
    """Render a clip and return what a detector finds of the athlete."""
    detector.reset()
    shape = (truth.n_frames, N_KEYPOINTS)
    keypoints, world_m = np.full((*shape, 2), np.nan), np.full((*shape, 3), np.nan)
    confidence = np.full(shape, np.nan)
    renderer = Renderer(truth.camera, config=RenderConfig(seed=truth.motion.seed))
    for index, picture in enumerate(renderer.frames(truth)):
        (pose,) = detector.detect([Frame(picture, float(truth.time_s[index]), index)])
        if pose.n_people == 0:
            continue
        keypoints[index], confidence[index] = pose.keypoints[0], pose.confidence[0]
        if pose.world_m is not None:
            world_m[index] = pose.world_m[0]
    return Found(keypoints, confidence, world_m)
