"""Time each stage after the detector, on one core -> reports/speed.{json,md}.

python scripts/speed_report.py [--frames N]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np
from report_lib import Report, Timing, measure

from pose_analyzer.biomechanics import JointAngleCalculator
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.form_anomaly_detector import FormAnomalyDetector
from pose_analyzer.form_scorer import FormScorer
from pose_analyzer.kalman_smoother import KalmanSmoother
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_tracker import PoseTracker
from pose_analyzer.synthetic import (
    Athlete,
    Camera,
    MotionSpec,
    detections_from_truth,
    synthesize,
)
from pose_analyzer.types import PoseDetections, RepMotion, TrackedPose

WARM_UP: Final = 200
SEQUENCE_FRAMES: Final = 60


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=2000)
    args = parser.parse_args(argv)
    # One core: the figures are for one stream beside others, and steadier.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report = Report("speed", command="scripts/run speed-report")
    report.text("Medians on one core; the detector is not part of any figure here.")
    one, crowd = detections(1, args.frames), detections(16, args.frames)
    smoother_bars(report, one, crowd)
    angle_bar(report, one)
    scorer_bars(report)
    anomaly_bar(report)
    route_bars(report, one, crowd)
    report.write()
    return 0


def detections(people: int, frames: int) -> list[PoseDetections]:
    """Return noisy detections of people who squat side by side, ``frames`` of them."""
    camera = Camera(yaw_deg=60.0, distance_m=12.0 if people > 1 else 4.0)
    crowd = [
        synthesize(
            Athlete(),
            MotionSpec(
                "squat",
                reps=frames // 60,
                seed=seed,
                x_m=1.0 * (seed % 4 - 1.5) * (people > 1),
                y_m=1.2 * (seed // 4) * (people > 1),
            ),
            camera,
        )
        for seed in range(people)
    ]
    length = min(truth.n_frames for truth in crowd)
    found = detections_from_truth(crowd, noise_px=2.0, rng=np.random.default_rng(0))
    return found[: min(length, frames)]


def smoother_bars(report: Report, one: list[PoseDetections], crowd: list[PoseDetections]) -> None:
    """Time the smoother for one person and for sixteen."""
    single, many = time_smoother(tracks(one)), time_smoother(tracks(crowd))
    add(report, "smoother_us_p50_1_person", "<= 60", single)
    add(report, "smoother_us_p50_16_people", None, many)
    report.bar(
        "smoother_16_people_over_1",
        goal="<= 3",
        n=many.n,
        unit="ratio",
        measured=many.median_us / single.median_us,
    )


def tracks(found: list[PoseDetections]) -> list[TrackedPose]:
    """Return what the tracker makes of detections."""
    tracker = PoseTracker()
    return [tracker.update(one, index / 30.0) for index, one in enumerate(found)]


def time_smoother(poses: list[TrackedPose]) -> Timing:
    """Return the time of one update."""
    smoother = KalmanSmoother()
    return time_each(
        [partial(smoother.update, pose, index / 30.0) for index, pose in enumerate(poses)]
    )


def time_each(calls: Sequence[Callable[[], object]]) -> Timing:
    """Return the statistics of calls that each run once, the warm-up left out."""
    seconds = np.empty(len(calls))
    for index, call in enumerate(calls):
        started = time.perf_counter()
        call()
        seconds[index] = time.perf_counter() - started
    return Timing.of(seconds[WARM_UP:])


def angle_bar(report: Report, one: list[PoseDetections]) -> None:
    """Time all angles of one body."""
    calculator, body = JointAngleCalculator(), one[0].keypoints[0]
    add(report, "angles_us_p50", "<= 30", measure(lambda: calculator.angles(body), 5000, WARM_UP))


def scorer_bars(report: Report) -> None:
    """Time the score of a pose and of a sequence."""
    spec = load_exercise("squat")
    scorer, motion = FormScorer(spec), sequence()
    pose = measure(lambda: scorer.score_pose(motion.deg[30], 0.5), 5000, WARM_UP)
    whole = measure(lambda: scorer.score(motion), 1000, 50)
    add(report, "form_score_us_p50_1_pose", "<= 100", pose)
    add(report, f"form_score_us_p50_{SEQUENCE_FRAMES}_frames", "<= 2000", whole)


def anomaly_bar(report: Report) -> None:
    """Time the decision on a repetition of 17 channels against 50 references."""
    rng = np.random.default_rng(0)
    names = tuple(f"channel {index}" for index in range(17))
    reps = [np.cumsum(rng.normal(size=(90, 17)), axis=0) for _ in range(150)]
    detector = FormAnomalyDetector(names).fit(reps[:50], reps[50:])
    timing = measure(lambda: detector.judge(reps[60]), 300, 20)
    add(report, "anomaly_decision_us_50_references", "<= 5000", timing)


def sequence() -> RepMotion:
    """Return one exact squat resampled to 60 frames."""
    truth = synthesize(Athlete(), MotionSpec("squat", reps=1), Camera())
    rep = truth.reps[0]
    rows = np.linspace(
        np.searchsorted(truth.time_s, rep.start_s),
        np.searchsorted(truth.time_s, rep.end_s) - 1,
        SEQUENCE_FRAMES,
    ).astype(np.intp)
    depth = truth.travel[rows]
    return RepMotion(
        time_s=np.linspace(0.0, 2.4, SEQUENCE_FRAMES),
        keypoints=truth.keypoints[rows],
        confidence=np.ones(truth.keypoints[rows].shape[:2]),
        deg=truth.deg[rows],
        sigma_deg=np.full_like(truth.deg[rows], 3.0),
        signal=depth,
        turn_idx=int(np.argmax(depth)),
        yaw_deg=90.0,
        stature_px=700.0,
    )


def route_bars(report: Report, one: list[PoseDetections], crowd: list[PoseDetections]) -> None:
    """Time the whole route after the detector."""
    for name, people, found in (("1_person", 1, one), ("16_people", 16, crowd)):
        pipeline = StreamPipeline(load_exercise("squat"))
        timing = time_each(
            [
                partial(pipeline.update, pose, index, index / 30.0)
                for index, pose in enumerate(found)
            ]
        )
        add(
            report,
            f"route_us_p50_{name}",
            "<= 500" if people == 1 else None,
            timing,
            "with tracking, smoothing, angles, counting; finished repetitions are judged in the "
            "frames of p99",
        )
        report.bar(
            f"route_us_per_person_{name}",
            goal="<= 500",
            unit="us",
            n=timing.n,
            measured=timing.median_us / people,
        )


def add(report: Report, name: str, goal: str | None, timing: Timing, note: str = "") -> None:
    """Add a timing as a bar in microseconds."""
    report.bar(
        name,
        goal=goal,
        measured=timing.median_us,
        unit="us",
        n=timing.n,
        p95=timing.p95_us,
        p99=timing.p99_us,
        note=note,
    )


if __name__ == "__main__":
    sys.exit(main())
