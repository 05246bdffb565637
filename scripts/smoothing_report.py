"""Jitter, lag and bias of the smoother, beside other filters -> reports/smoothing.{json,md}.

python scripts/smoothing_report.py [--samples N]
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
import numpy as np
from report_lib import Report, Timing
from smoothing_methods import (
    MEDIAPIPE_ONE_EURO,
    Clip,
    Method,
    OneEuro,
    kalman,
    raw,
    two_way,
)

from pose_analyzer.biomechanics import JointAngleCalculator
from pose_analyzer.kalman_smoother import KalmanSmoother
from pose_analyzer.pose_tracker import PoseTracker
from pose_analyzer.skeleton import JOINT_INDEX, KEYPOINT_INDEX
from pose_analyzer.synthetic import Camera, MotionSpec, Tempo, synthesize
from pose_analyzer.types import FloatArray, PoseDetections

NOISE_PX: Final = 3.0
WARM_UP_S: Final = 1.0
JOINTS: Final = {
    "squat": ("left_knee", "left_hip"),
    "push_up": ("left_elbow",),
    "biceps_curl": ("left_elbow",),
}
TEMPI: Final = {
    "2 s": Tempo(away_s=1.0, turn_s=0.0, back_s=1.0, rest_s=0.5),
    "2.5 s": Tempo(away_s=1.3, turn_s=0.2, back_s=1.0, rest_s=0.5),
    "3 s": Tempo(away_s=1.5, turn_s=0.3, back_s=1.2, rest_s=0.5),
}
GAP_S: Final = 0.2
STILL_COLUMNS: Final = ("method", "frames/s", "jitter p95, px", "largest jump, px")
MOVING_COLUMNS: Final = (
    "method",
    "exercise",
    "repetition",
    "joint",
    "range, deg",
    "range bias, deg",
    "one sample's range, deg",
    "lag, ms",
    "position error, px",
    "acceleration error, px/frame²",
)


@dataclass(frozen=True, slots=True)
class Moving:
    """How one method did on one joint of one exercise, as in `MOVING_COLUMNS`."""

    exercise: str
    tempo: str
    joint: str
    range_deg: float
    bias_deg: float
    excess_deg: float
    lag_ms: float
    error_px: float
    acceleration_error: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=32, help="noise samples of every clip")
    args = parser.parse_args(argv)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report = Report("smoothing", command="scripts/run smoothing-report")
    report.text(
        f"A synthetic athlete from the side at 1080p, about 730 px tall, with {NOISE_PX:g} px of "
        f"Gaussian noise on each coordinate of each keypoint, {args.samples} independent samples. "
        f"The first {WARM_UP_S:g} s of a clip do not count."
    )
    tuned = tuned_one_euro(still_clip(30.0, 4))
    methods: Mapping[str, Method] = {
        "raw": raw,
        "Kalman": kalman,
        "Kalman, two-way": two_way,
        "1 €, MediaPipe's values": MEDIAPIPE_ONE_EURO,
        f"1 €, tuned ({tuned.min_cutoff_hz:g} Hz, {tuned.beta:g})": tuned,
    }
    still_part(report, methods, args.samples)
    moving_part(report, methods, args.samples)
    gap_part(report, methods, args.samples)
    speed_part(report)
    report.write()
    return 0


def clip_of(
    truth: FloatArray, time_s: FloatArray, samples: int, seed: int, noise_px: float = NOISE_PX
) -> Clip:
    """Return the true keypoints with independent noise on each sample."""
    rng = np.random.default_rng(seed)
    shape = (len(truth), samples, *truth.shape[1:])
    noisy = truth[:, None] + rng.normal(0.0, noise_px, shape)
    return Clip(time_s, truth, noisy, np.concatenate([truth.min(1), truth.max(1)], axis=1))


def still_clip(fps: float, samples: int, seconds: float = 10.0) -> Clip:
    """Return an athlete who stands still."""
    truth = synthesize(motion=MotionSpec("squat", reps=1), camera=Camera(fps=fps))
    frames = int(seconds * fps)
    return clip_of(
        np.repeat(truth.keypoints[:1], frames, axis=0), np.arange(frames) / fps, samples, seed=1
    )


def tuned_one_euro(clip: Clip) -> OneEuro:
    """Return the quickest 1 € filter that is as calm as is asked of ours."""
    options = [
        OneEuro(cutoff, beta)
        for cutoff in (0.05, 0.1, 0.2, 0.4, 0.8)
        for beta in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    ]
    calm = [option for option in options if jitter(option(clip), clip)[0] <= 1.0]
    return max(calm, key=lambda option: (option.beta, option.min_cutoff_hz))


def jitter(points: FloatArray, clip: Clip) -> tuple[float, float]:
    """Return the 95th percentile and the largest step from frame to frame, px."""
    steps = np.linalg.norm(np.diff(points[clip.time_s >= WARM_UP_S], axis=0), axis=-1)
    return float(np.percentile(steps, 95)), float(steps.max())


def still_part(report: Report, methods: Mapping[str, Method], samples: int) -> None:
    """Measure an athlete who stands still."""
    rows: list[list[object]] = []
    for fps in (25.0, 30.0, 60.0):
        clip = still_clip(fps, samples)
        for name, method in methods.items():
            p95, largest = jitter(method(clip), clip)
            rows.append([name, fps, p95, largest])
            if name == "Kalman":
                steps = clip.noisy[clip.time_s >= WARM_UP_S][1:, ..., 0].size
                still = f"still_{fps:.0f}_fps"
                report.bar(f"{still}_jitter_p95_px", goal="<= 1", measured=p95, unit="px", n=steps)
                report.bar(
                    f"{still}_max_jump_px", goal="<= 5", measured=largest, unit="px", n=steps
                )
    report.table("A still athlete", STILL_COLUMNS, rows)


def moving_part(report: Report, methods: Mapping[str, Method], samples: int) -> None:
    """Measure repetitions."""
    found: dict[str, list[Moving]] = {name: [] for name in methods}
    figure = b""
    for seed, exercise in enumerate(JOINTS):
        for tempo_name, tempo in TEMPI.items():
            spec = MotionSpec(exercise, reps=4, tempo=tempo, variation=0.0)
            truth = synthesize(motion=spec, camera=Camera(yaw_deg=90.0))
            clip = clip_of(truth.keypoints, truth.time_s, samples, seed)
            bounds = [(rep.start_s, rep.end_s) for rep in truth.reps]
            smoothed = {name: method(clip) for name, method in methods.items()}
            for name, points in smoothed.items():
                found[name] += [
                    moving(points, clip, bounds, (exercise, tempo_name, joint))
                    for joint in JOINTS[exercise]
                ]
            if exercise == "squat" and tempo_name == "2.5 s":
                figure = curve_figure(smoothed, clip, "left_knee")
    moving_bars(report, found, samples)
    report.table(
        "Moving repetitions",
        MOVING_COLUMNS,
        [
            [name, *(getattr(one, field) for field in Moving.__slots__)]
            for name, results in found.items()
            for one in results
        ],
        text="*Range bias* is the systematic part: the range of the angle averaged over the noise "
        "samples, repetition by repetition, against the true range. *One sample's range* is the "
        "mean of highest minus lowest angle of single noisy samples against the true range: the "
        "highest of many noisy values is too high without any bias of the filter.",
    )
    report.figure("Knee angle of a squat", figure)


def moving(
    points: FloatArray,
    clip: Clip,
    bounds: Sequence[tuple[float, float]],
    what: tuple[str, str, str],
) -> Moving:
    """Return how one joint was measured; the angles are those that the camera sees."""
    calculator = JointAngleCalculator()
    joint = JOINT_INDEX[what[2]]
    true = calculator.angles(clip.truth)[:, joint]
    angle = calculator.angles(points)[..., joint]
    mean = angle.mean(axis=1)
    spans = [(clip.time_s >= start - 0.25) & (clip.time_s <= end + 0.25) for start, end in bounds]
    true_range = np.array([np.ptp(true[span]) for span in spans])
    counted = clip.time_s >= WARM_UP_S
    error = (points - clip.truth[:, None])[counted]
    bend = np.diff(error, 2, axis=0)
    return Moving(
        *what,
        range_deg=float(true_range.mean()),
        bias_deg=float((np.array([np.ptp(mean[span]) for span in spans]) - true_range).mean()),
        excess_deg=float(
            (np.array([np.ptp(angle[span], axis=0) for span in spans]).mean(1) - true_range).mean()
        ),
        lag_ms=1000.0 * lag_s(mean, true, clip.time_s),
        error_px=float(np.sqrt((error**2).sum(-1).mean())),
        acceleration_error=float(np.linalg.norm(bend, axis=-1).mean()),
    )


def lag_s(measured: FloatArray, true: FloatArray, time_s: FloatArray) -> float:
    """Return the delay at which the truth resembles the measured curve most, to 1 ms."""
    delays = np.arange(-100, 201) / 1000.0
    counted = (time_s >= WARM_UP_S) & (time_s <= time_s[-1] - 0.1)
    distance = [
        np.square(measured - np.interp(time_s - delay, time_s, true))[counted].mean()
        for delay in delays
    ]
    return float(delays[int(np.argmin(distance))])


def moving_bars(report: Report, found: Mapping[str, list[Moving]], samples: int) -> None:
    """State the worst joint and tempo of ours against the goals."""
    for name, label in (("Kalman", "live"), ("Kalman, two-way", "two_way")):
        results = found[name]
        worst = max(results, key=lambda one: abs(one.bias_deg))
        report.bar(
            f"{label}_range_bias_deg",
            goal="<= 1",
            measured=abs(worst.bias_deg),
            unit="deg",
            n=samples,
            note=f"worst joint and tempo: {worst.joint} of {worst.exercise}, {worst.tempo}",
        )
        noise = found["raw"]
        report.bar(
            f"{label}_one_sample_range_deg",
            goal="<= 1",
            measured=float(np.mean([one.excess_deg for one in results])),
            unit="deg",
            n=samples,
            note="mean; highest minus lowest value of one noisy sample, raw: "
            f"{np.mean([one.excess_deg for one in noise]):.1f}",
        )
        slowest = max(results, key=lambda one: abs(one.lag_ms))
        report.bar(
            f"{label}_lag_ms",
            goal="<= 33.3",
            measured=abs(slowest.lag_ms),
            unit="ms",
            n=samples,
            note=f"worst: {slowest.joint} of {slowest.exercise}, {slowest.tempo}, at 30 frames/s",
        )


def gap_part(report: Report, methods: Mapping[str, Method], samples: int) -> None:
    """Measure what happens while hip and knee are not seen in the middle of a descent."""
    truth = synthesize(motion=MotionSpec("squat", reps=3, variation=0.0), camera=Camera())
    clip = clip_of(truth.keypoints, truth.time_s, samples, seed=7)
    rep = truth.reps[1]
    begin_s = rep.start_s + 0.4 * (rep.turn_s - rep.start_s)
    gap = (clip.time_s >= begin_s) & (clip.time_s < begin_s + GAP_S)
    hidden = [KEYPOINT_INDEX[name] for name in ("left_hip", "left_knee")]
    for index in hidden:
        clip.noisy[gap, :, index] = np.nan
    after = int(np.flatnonzero(gap)[-1])
    rows: list[list[object]] = []
    for name, method in methods.items():
        points = method(clip)[:, :, hidden]
        error = np.linalg.norm(points - clip.truth[:, None, hidden], axis=-1)
        jump = np.linalg.norm(points[after + 1] - points[after], axis=-1)
        step = np.linalg.norm(clip.truth[after + 1, hidden] - clip.truth[after, hidden], axis=-1)
        seen = ~np.isnan(error[gap])
        rows.append(
            [
                name,
                float(seen.mean()),
                float(np.median(error[gap])) if seen.all() else None,
                float(np.percentile(error[gap], 95)) if seen.all() else None,
                float(np.median(jump - step)) if seen.all() else None,
            ]
        )
    report.table(
        f"Hip and knee unseen for {GAP_S:g} s in a descent",
        ("method", "bridged", "error p50, px", "error p95, px", "jump at the end, px"),
        rows,
        text="The jump is the step at the end of the gap beyond the true one.",
    )


def curve_figure(smoothed: Mapping[str, FloatArray], clip: Clip, joint: str) -> bytes:
    """Return the angle of one noise sample by every method, as a PNG."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    angles = JointAngleCalculator()
    figure, axes = plt.subplots(figsize=(9.0, 4.5), dpi=110)
    shown = (clip.time_s >= 1.0) & (clip.time_s <= 4.2)
    for name, points in smoothed.items():
        angle = angles.angles(points[:, 0])[:, JOINT_INDEX[joint]]
        is_raw = name == "raw"
        axes.plot(
            clip.time_s[shown],
            angle[shown],
            "." if is_raw else "-",
            color="0.6" if is_raw else None,
            label=name,
            linewidth=1.2,
        )
    true = angles.angles(clip.truth)[:, JOINT_INDEX[joint]]
    axes.plot(clip.time_s[shown], true[shown], "k--", linewidth=1.0, label="truth")
    axes.set_xlabel("time, s")
    axes.set_ylabel(f"{joint.replace('_', ' ')}, deg")
    axes.legend(fontsize=8)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return buffer.getvalue()


def speed_part(report: Report) -> None:
    """Time a frame of the smoother and of the tracker, on one core."""
    rows: list[list[object]] = []
    timings: dict[str, Timing] = {}
    for people in (1, 16):
        for feet in (True, False):
            clip = still_clip(30.0, people, seconds=50.0)
            if not feet:
                clip.noisy[:, :, 17:] = np.nan
            kind = "21 keypoints" if feet else "17 of 21 keypoints"
            timings[f"{people} {kind}"] = time_smoother(clip)
            rows.append([f"smoother, {people} people, {kind}", *_row(timings[f"{people} {kind}"])])
    tracker = time_tracker(still_clip(30.0, 1, seconds=50.0))
    rows.append(["tracker, 1 person", *_row(tracker)])
    one, many = timings["1 21 keypoints"], timings["16 21 keypoints"]
    for name, goal, timing in (
        ("smoother_us_p50_1_person", "<= 60", one),
        ("smoother_17_keypoints_us_p50_1_person", "<= 60", timings["1 17 of 21 keypoints"]),
        ("tracker_us_p50_1_person", "<= 100", tracker),
    ):
        report.bar(
            name,
            goal=goal,
            measured=timing.median_us,
            unit="us",
            n=timing.n,
            p95=timing.p95_us,
            p99=timing.p99_us,
        )
    report.bar(
        "smoother_16_people_over_1",
        goal="<= 3",
        measured=many.median_us / one.median_us,
        unit="x",
        n=many.n,
    )
    report.table(
        "Time of a frame, one core",
        ("what", "median, µs", "p95, µs", "p99, µs", "n"),
        rows,
        text="The detectors of 17 keypoints leave the four foot points unseen.",
    )


def time_smoother(clip: Clip) -> Timing:
    """Return the time of `KalmanSmoother.update`, after 200 frames."""
    smoother = KalmanSmoother()
    poses = [clip.pose(index) for index in range(len(clip.time_s))]
    return _timed(lambda index: smoother.update(poses[index], index / 30.0), len(poses))


def time_tracker(clip: Clip) -> Timing:
    """Return the time of `PoseTracker.update`, after 200 frames."""
    tracker = PoseTracker()
    poses = [clip.pose(index) for index in range(len(clip.time_s))]
    frames = [
        PoseDetections(pose.keypoints, pose.confidence, pose.boxes, np.full(pose.n_people, 0.9))
        for pose in poses
    ]
    return _timed(lambda index: tracker.update(frames[index], index / 30.0), len(frames))


def _timed(call: Callable[[int], object], n: int, warm_up: int = 200) -> Timing:
    durations = []
    for index in range(n):
        begin = time.perf_counter()
        call(index)
        durations.append(time.perf_counter() - begin)
    return Timing.of(durations[warm_up:])


def _row(timing: Timing) -> list[object]:
    return [timing.median_us, timing.p95_us, timing.p99_us, timing.n]


if __name__ == "__main__":
    sys.exit(main())
