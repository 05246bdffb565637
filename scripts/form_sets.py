"""Sets of repetitions of the synthetic athlete, and what the pipeline says of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.synthetic import (
    FAULTS_OF,
    Athlete,
    Camera,
    DetectorHabits,
    Fault,
    MeasuredNoise,
    MotionSpec,
    Tempo,
    TrueRep,
    Truth,
    detections_from_truth,
    measured_detections,
    synthesize,
)
from pose_analyzer.types import FloatArray, PoseDetections, RepAnalysis

SEED: Final = 80_000
"""Of the judged athletes; changed whenever limits were set with a report of them in view."""
REPS: Final = 6
VIEWS: Final = {"side": 90.0, "front": 0.0}
NEAR_M: Final = 4.0
"""From here the raised hands of a person of 1.75 m are in the picture."""
BRISK: Final = Tempo(away_s=0.5, turn_s=0.05, back_s=0.5, rest_s=0.1)
"""Of a jumping jack."""
PRESSED: Final = Tempo(away_s=1.1, turn_s=0.2, back_s=1.0, rest_s=0.4)
"""Of a push-up."""
TEMPOS: Final = {"jumping_jack": BRISK, "push_up": PRESSED}
"""Where the usual tempo is another than that of `Tempo`."""
SOME_REPS: Final = {"half_rep": (3, 5), "pause": (3, 5)}
"""Only against full repetitions is one a half repetition; a pause is rare as well."""
CUT_SHORT: Final = frozenset({"half_rep", "shallow_depth"})
"""What the counter says by calling a repetition partial."""

NOISE_PX: Final = 3.0
NOISE_S: Final = 0.15
OFFSET_PX: Final = 3.0
HABITS: Final = DetectorHabits(hidden_confidence=0.7, has_feet=False)

Source: TypeAlias = Callable[[Truth, np.random.Generator], list[PoseDetections]]
"""What makes detections of a truth."""


def noisy_detections(truth: Truth, rng: np.random.Generator) -> list[PoseDetections]:
    """Return what a detector would find: errors that last, and a bias of each keypoint.

    Noise of 3 px that forgets itself in 0.15 s (a first-order autoregression), and an offset of
    3 px that stays for the clip, both by coordinate; no feet; less confidence in what the body
    hides.
    """
    memory = math.exp(-1.0 / (NOISE_S * truth.camera.fps))
    fresh = rng.standard_normal(truth.keypoints.shape)
    noise = np.empty_like(fresh)
    noise[0] = fresh[0]
    for index in range(1, len(fresh)):
        noise[index] = memory * noise[index - 1] + math.sqrt(1.0 - memory**2) * fresh[index]
    offset = rng.standard_normal(truth.keypoints.shape[1:])
    keypoints = truth.keypoints + NOISE_PX * noise + OFFSET_PX * offset
    moved = dataclasses.replace(truth, keypoints=keypoints)
    return detections_from_truth(moved, rng=rng, habits=HABITS)


def mediapipe_detections(truth: Truth, rng: np.random.Generator) -> list[PoseDetections]:
    """Return what MediaPipe would find, by its errors measured on rendered clips."""
    habits = DetectorHabits(has_world=True)
    return measured_detections(truth, MeasuredNoise.load("mediapipe"), rng, habits)


@dataclass(frozen=True, slots=True)
class Set:
    """What the pipeline said of one synthetic set."""

    reps: tuple[RepAnalysis, ...]
    cues: tuple[str, ...]
    truth: tuple[TrueRep, ...]

    @property
    def totals(self) -> list[float]:
        """The totals of full repetitions that were judged."""
        found = [one.score.total for one in self.reps if not one.rep.is_partial]
        return [total for total in found if not math.isnan(total)]

    @property
    def first_correction(self) -> str:
        """The first cue that is no praise; empty if there was none."""
        return next((name for name in self.cues if name != "praise"), "")

    def totals_with(self, fault: str) -> list[float]:
        """Return the totals during the repetitions that have the fault, partial ones too."""
        found = {
            one.rep.start_index: one.score.total
            for rep in self.truth
            if fault in rep.faults
            for one in self.during(rep)
        }
        return [total for total in found.values() if not math.isnan(total)]

    def during(self, truth: TrueRep) -> list[RepAnalysis]:
        """Return the repetitions that share at least a quarter of a true one's time."""
        quarter_s = 0.25 * (truth.end_s - truth.start_s)
        return [
            one
            for one in self.reps
            if min(one.rep.end_s, truth.end_s) - max(one.rep.start_s, truth.start_s) >= quarter_s
        ]


def run(
    motion: MotionSpec,
    yaw_deg: float,
    athlete: Athlete | None = None,
    source: Source = noisy_detections,
    distance_m: float = NEAR_M,
) -> Set:
    """Return what the pipeline says of a set."""
    camera = Camera(yaw_deg=yaw_deg, distance_m=distance_m)
    truth = synthesize(athlete or Athlete(), motion, camera)
    return judge(truth, source(truth, np.random.default_rng(motion.seed)))


def judge(truth: Truth, detections: list[PoseDetections]) -> Set:
    """Return what the pipeline says of the detections of a set."""
    pipeline = StreamPipeline(load_exercise(truth.exercise))
    reps: list[RepAnalysis] = []
    cues: list[str] = []
    for index, found in enumerate(detections):
        analysis = pipeline.update(found, index, float(truth.time_s[index]))
        reps += analysis.finished
        if analysis.cue is not None:
            cues.append(analysis.cue.name)
    return Set((*reps, *pipeline.finish()), tuple(cues), truth.reps)


def usual_set(
    exercise: str, reps: int, seed: int, *faults: Fault, variation: float = 0.03
) -> MotionSpec:
    """Return a set at a tempo that is usual for the exercise."""
    tempo = TEMPOS.get(exercise, Tempo())
    return MotionSpec(exercise, reps, tempo, seed=seed, faults=faults, variation=variation)


def faulty(exercise: str, fault: str, severity: float, seed: int, reps: int = REPS) -> MotionSpec:
    """Return a set with a fault, in all repetitions or in those that are usual for it."""
    rows = SOME_REPS.get(fault, tuple(range(1, reps + 1)))
    return usual_set(exercise, reps, seed, Fault(fault, severity, rows))


def views_of(exercise: str, fault: str) -> tuple[str, ...]:
    """Return the views from which the exercise file says that the fault shows."""
    entries = [one for one in load_exercise(exercise).faults if one.name == fault]
    return tuple(
        view
        for view, yaw_deg in VIEWS.items()
        if any(one.min_yaw_deg <= yaw_deg <= one.max_yaw_deg for one in entries)
    )


def all_faults() -> list[tuple[str, str]]:
    """Return every exercise with every fault that its synthetic athlete can make."""
    return [(exercise, fault) for exercise, faults in FAULTS_OF.items() for fault in faults]


def mean(values: Sequence[float] | FloatArray) -> float:
    """Return the mean; NaN, an empty cell, if there is none."""
    return float(np.mean(values)) if len(values) else math.nan
