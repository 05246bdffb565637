"""A plank through the whole pipeline: timed, judged, coached while it lasts, and bounded."""

from __future__ import annotations

import dataclasses

import pytest

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.synthetic import (
    Camera,
    Fault,
    MotionSpec,
    Tempo,
    detections_from_truth,
    synthesize,
)
from pose_analyzer.types import Cue, PoseDetections, RepAnalysis

FPS = 15.0


def filmed(
    exercise: str, seconds: float, *faults: Fault, yaw_deg: float = 90.0
) -> list[PoseDetections]:
    tempo = Tempo(away_s=0.5, turn_s=seconds - 1.0, back_s=0.5, lead_s=0.0)
    motion = MotionSpec(exercise, 1, tempo, variation=0.0, faults=faults)
    truth = synthesize(motion=motion, camera=Camera(yaw_deg=yaw_deg, fps=FPS))
    return list(detections_from_truth(truth, noise_px=2.0))


class Run:
    """What a pipeline found in some detections."""

    def __init__(self, *parts: list[PoseDetections], exercise: str = "plank") -> None:
        self.pipeline = StreamPipeline(load_exercise(exercise))
        self.cues: list[Cue] = []
        self.phases: list[str] = []
        self.reps: list[RepAnalysis] = []
        for index, found in enumerate(one for part in parts for one in part):
            analysis = self.pipeline.update(found, index, index / FPS)
            self.reps.extend(analysis.finished)
            self.phases.append(analysis.motion.phase)
            if analysis.cue is not None:
                self.cues.append(analysis.cue)
        self.reps.extend(self.pipeline.finish())


@pytest.mark.parametrize("yaw_deg", [90.0, 60.0, 45.0])
def test_a_good_plank_is_one_full_hold_with_a_high_score(yaw_deg: float) -> None:
    run = Run(filmed("plank", 12.0, yaw_deg=yaw_deg))
    (one,) = run.reps
    assert (one.rep.number, run.pipeline.rep_count) == (1, 1)
    assert one.rep.hold_s == pytest.approx(12.0, abs=0.3)
    assert one.score.total > 90.0
    assert (one.faults, run.cues) == ((), [])
    assert run.phases[-1] == "turn"


@pytest.mark.parametrize("name", ["hip_sag", "hip_pike"])
def test_a_fault_is_named_costs_by_its_severity_and_is_told_while_holding(name: str) -> None:
    runs = [Run(filmed("plank", 12.0, Fault(name, severity))) for severity in (0.0, 0.5, 0.75, 1.0)]
    scores = [run.reps[0].score.total for run in runs]
    assert scores == sorted(scores, reverse=True)
    assert [[fault.name for fault in run.reps[0].faults] for run in runs] == [[], *3 * [[name]]]
    assert runs[-1].cues[0].name == name
    assert runs[-1].cues[0].time_s < 8.0


def test_standing_before_and_after_is_not_held() -> None:
    run = Run(filmed("stand", 4.0), filmed("plank", 10.0), filmed("stand", 4.0))
    (one,) = run.reps
    assert one.rep.hold_s == pytest.approx(10.0, abs=1.0)
    assert run.phases[30] == run.phases[-1] == "rest"


def test_leaving_the_picture_ends_a_hold() -> None:
    nobody = [PoseDetections.empty()] * 30
    first, second = Run(filmed("plank", 8.0), nobody, filmed("plank", 8.0)).reps
    assert first.rep.end_s == pytest.approx(8.0, abs=0.5)
    assert second.rep.number == 2


def test_squats_are_no_hold_and_a_front_view_times_none() -> None:
    assert Run(filmed("squat", 8.0)).reps == []
    assert Run(filmed("plank", 8.0, yaw_deg=0.0)).reps == []


def test_a_long_hold_keeps_its_time_and_a_bounded_history() -> None:
    spec = load_exercise("plank")
    signal = dataclasses.replace(spec.signal, max_duration_s=6.0)
    pipeline = StreamPipeline(dataclasses.replace(spec, signal=signal))
    for index, found in enumerate(filmed("plank", 40.0)):
        pipeline.update(found, index, index / FPS)
    (one,) = pipeline.finish()
    assert one.rep.hold_s == pytest.approx(40.0, abs=0.3)
    assert one.rep.number == 1
    assert one.time_s[-1] - one.time_s[0] == pytest.approx(7.0, abs=0.5)
    assert one.score.total > 90.0


def test_reset_is_as_new() -> None:
    found = filmed("plank", 8.0)
    pipeline = StreamPipeline(load_exercise("plank"))

    def play() -> list[float]:
        for index, one in enumerate(found):
            pipeline.update(one, index, index / FPS)
        return [one.score.total for one in pipeline.finish()]

    first = play()
    pipeline.reset()
    assert play() == first
