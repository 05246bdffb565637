"""Joint angles against exact truth -> reports/joint_angle_accuracy.{json,md}.

Fifty synthetic squats of different people, tempos and depths, and three reference poses. First the
geometry alone, on exact keypoints; then what the camera's view costs; then what each detector adds,
by camera yaw, with the angles in the picture and with MediaPipe's metric landmarks.

    python scripts/joint_angle_accuracy.py [--data DIR] [--squats N] [--frames N]
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from angle_samples import (
    POSES,
    YAWS_DEG,
    Sample,
    detect_samples,
    make_samples,
    picture_angles,
    reference_poses,
    squats,
)
from pose_errors import (
    GOAL_JOINTS,
    GOAL_SIDE_VIEW,
    JOINTS,
    ErrorStats,
    columns_of,
    default_data,
    joint_errors,
    yolo_weights,
)
from report_lib import Report

from pose_analyzer.biomechanics import JointAngleCalculator
from pose_analyzer.skeleton import JOINT_INDEX, N_JOINTS
from pose_analyzer.synthetic import Truth
from pose_analyzer.types import FloatArray

SIDE_DEG: Final = 90
SOURCES: Final = {
    "exact": "exact picture",
    "mediapipe": "MediaPipe, picture",
    "mediapipe_world": "MediaPipe, metric 3-D",
    "yolo": "YOLO11n, picture",
}
ABSENT: Final = "not measured"
STATS_COLUMNS: Final = ("n", "mean abs deg", "mean deg", "std deg", "max deg")

Angles = Mapping[str, Mapping[int, FloatArray]]
"""Signed errors in degrees, shape (N, J), by source and yaw."""


def stats_cells(stats: ErrorStats, digits: int = 2) -> list[object]:
    """Return the cells under `STATS_COLUMNS`."""
    numbers = (stats.mean_abs, stats.bias, stats.std, stats.maximum)
    return [stats.n, *(round(number, digits) for number in numbers)]


def add_geometry(report: Report, clips: Sequence[Truth], poses: Mapping[str, Truth]) -> None:
    """Compare the calculator with exact angles from exact 3-D keypoints."""
    calculator = JointAngleCalculator(up=(0.0, 0.0, 1.0))
    errors = {
        f"{len(clips)} squats": [calculator.angles(clip.joints_m) - clip.deg for clip in clips],
        **{
            name: [calculator.angles(pose.joints_m[[row]]) - pose.deg[[row]]]
            for name, (pose, row) in pose_rows(poses).items()
        },
    }
    rows: list[list[object]] = []
    for name, parts in errors.items():
        together = np.concatenate(parts)
        for joint in JOINTS:
            stats = joint_errors(together, joint)
            scientific = [f"{value:.1e}" for value in (stats.mean_abs, stats.std, stats.maximum)]
            rows.append([name, joint, stats.n, *scientific])
    everything = ErrorStats.of(
        np.concatenate([part for parts in errors.values() for part in parts])
    )
    report.bar(
        "geometry_mean_abs_error",
        goal="< 0.01",
        measured=everything.mean_abs,
        unit="deg",
        n=everything.n,
        p95=everything.p95,
        p99=everything.p99,
        note="exact 3-D keypoints, all 13 angles, squats and reference poses",
    )
    commanded = commanded_errors(clips)
    report.bar(
        "geometry_against_commanded_angle_mean_abs_error",
        goal="< 0.01",
        measured=commanded.mean_abs,
        unit="deg",
        n=commanded.n,
        p95=commanded.p95,
        p99=commanded.p99,
        note="the angle that the motion was told to make, known before there were keypoints",
    )
    text = (
        "Exact 3-D keypoints through `JointAngleCalculator`, against the synthesizer's own angles, "
        "which other code computes; zero means equal to the last bit."
    )
    columns = ["motion", "joint", "n", "mean abs deg", "std deg", "max deg"]
    report.table("Geometry alone", columns, rows, text)


def pose_rows(poses: Mapping[str, Truth]) -> dict[str, tuple[Truth, int]]:
    """Return the frame of each reference pose: at rest or at the far end of its motion."""
    rows = {}
    for name, truth in poses.items():
        at_rest = POSES[name][1]
        turn = int(np.searchsorted(truth.time_s, truth.reps[0].turn_s))
        rows[name] = (truth, 0 if at_rest else turn)
    return rows


def commanded_errors(clips: Sequence[Truth]) -> ErrorStats:
    """Compare with the angle that each motion was commanded to make."""
    calculator = JointAngleCalculator()
    errors = [
        calculator.angles(clip.joints_m)[:, JOINT_INDEX[joint]] - clip.commanded_deg
        for clip in clips
        for joint in clip.commanded_joints
    ]
    return ErrorStats.of(np.concatenate(errors))


def add_view_cost(report: Report, clips: Sequence[Truth]) -> None:
    """Show what a camera's view costs, with a perfect detector."""
    rows: list[list[object]] = []
    for yaw in range(0, 91, 15):
        errors = np.concatenate([picture_angles(clip, yaw) - clip.deg for clip in clips])
        cells = [joint_errors(errors, joint) for joint in JOINTS]
        rows.append([yaw, *(round(stats.mean_abs, 1) for stats in cells)])
    text = (
        "Exact keypoints in the picture against the exact 3-D angle: mean absolute error in "
        "degrees over all frames of the squats, by camera yaw (0 front, 90 side). This part no "
        "detector can take away."
    )
    report.table("What the view costs", ["yaw", *JOINTS], rows, text)


def add_detectors(report: Report, errors: Angles, n_samples: int) -> None:
    """Add the errors of every source by view."""
    rows: list[list[object]] = []
    for joint in JOINTS:
        for source, label in SOURCES.items():
            if source not in errors:
                rows.append([joint, label, *[ABSENT] * len(YAWS_DEG)])
                continue
            cells = [joint_errors(errors[source][yaw], joint) for yaw in YAWS_DEG]
            rows.append([joint, label, *(_mean_and_std(stats) for stats in cells)])
    text = (
        f"{n_samples} rendered 1080p frames of the squats and poses at each yaw, each frame "
        "detected by itself. Mean absolute error ± standard deviation in degrees against the "
        "exact 3-D angle, both sides, the hidden one too. YOLO has no toes, so no ankle."
    )
    report.table("Through the detectors", ["joint", "source", *map(str, YAWS_DEG)], rows, text)
    side_rows = [
        [
            joint,
            SOURCES[source],
            side,
            *stats_cells(ErrorStats.of(at_side[:, columns_of(joint, (side,))])),
        ]
        for joint in GOAL_JOINTS
        for source, by_yaw in errors.items()
        for side in ("left", "right")
        for at_side in (by_yaw[SIDE_DEG],)
    ]
    report.table(
        "Side view, near and far limbs",
        ["joint", "source", "side", *STATS_COLUMNS],
        side_rows,
        "The camera stands on the athlete's left: the right limbs are the hidden ones.",
    )


def _mean_and_std(stats: ErrorStats) -> str | None:
    return f"{stats.mean_abs:.1f} ± {stats.std:.1f}" if stats.n > 0 else None


def add_side_bars(report: Report, errors: Angles) -> None:
    """Hold MediaPipe to its goal; show YOLO beside it."""
    for source, goal in (("mediapipe", GOAL_SIDE_VIEW), ("yolo", None)):
        for joint in GOAL_JOINTS:
            stats = joint_errors(errors[source][SIDE_DEG], joint) if source in errors else None
            report.bar(
                f"{source}_side_view_{joint}_mean_abs_error",
                goal=goal,
                measured=None if stats is None else stats.mean_abs,
                unit="deg",
                n=None if stats is None else stats.n,
                p95=None if stats is None else stats.p95,
                p99=None if stats is None else stats.p99,
                note="the weights are not here" if stats is None else "rendered squats and poses",
            )


def add_poses(report: Report, errors: Mapping[str, Angles]) -> None:
    """Add the reference poses, side view, by source."""
    rows: list[list[object]] = []
    for pose, by_source in errors.items():
        for source, by_yaw in by_source.items():
            for joint in GOAL_JOINTS:
                stats = joint_errors(by_yaw[SIDE_DEG], joint)
                rows.append([pose, SOURCES[source], joint, *stats_cells(stats)])
    columns = ["pose", "source", "joint", *STATS_COLUMNS]
    report.table("Reference poses from the side", columns, rows)


def advice(errors: Angles) -> str:
    """Return where the picture and where the metric landmarks are better, from the figures."""
    lines = []
    for yaw in YAWS_DEG:
        better: dict[str, list[str]] = {"picture": [], "metric 3-D": []}
        for joint in (*GOAL_JOINTS, "trunk_lean"):
            flat = joint_errors(errors["mediapipe"][yaw], joint).mean_abs
            solid = joint_errors(errors["mediapipe_world"][yaw], joint).mean_abs
            kind = "picture" if flat <= solid else "metric 3-D"
            better[kind].append(f"{joint} ({min(flat, solid):.1f} against {max(flat, solid):.1f})")
        parts = [f"{kind} for {', '.join(names)}" for kind, names in better.items() if names]
        lines.append(f"- yaw {yaw}: {'; '.join(parts)}")
    return (
        "Which of MediaPipe's two angles has the smaller mean absolute error in degrees:\n\n"
        + "\n".join(lines)
    )


def figure(errors: Angles) -> bytes:
    """Return the error by yaw of knee, hip and elbow as a PNG."""
    drawing, axes = plt.subplots(1, len(GOAL_JOINTS), figsize=(11, 3.6), sharey=True)
    for axis, joint in zip(axes, GOAL_JOINTS, strict=True):
        for source, by_yaw in errors.items():
            means = [joint_errors(by_yaw[yaw], joint).mean_abs for yaw in YAWS_DEG]
            axis.plot(YAWS_DEG, means, marker="o", label=SOURCES[source])
        axis.set(title=joint, xlabel="camera yaw, degrees", xticks=YAWS_DEG)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mean absolute error, degrees")
    axes[-1].legend(fontsize=8)
    drawing.tight_layout()
    png = io.BytesIO()
    drawing.savefig(png, format="png", dpi=110)
    plt.close(drawing)
    return png.getvalue()


def detect(
    samples: Sequence[Sample], weights: Path | None, processes: int
) -> dict[str, FloatArray]:
    """Return the angles of every source for every sample, found by several processes."""
    shares = [samples[start::processes] for start in range(processes)]
    with ProcessPoolExecutor(processes) as pool:
        parts = list(pool.map(detect_samples, shares, [weights] * processes))
    found = {}
    for source in parts[0]:
        together = np.empty((len(samples), N_JOINTS))
        for start, part in enumerate(parts):
            together[start::processes] = part[source]
        found[source] = together
    return found


def signed_errors(
    samples: Sequence[Sample], found: Mapping[str, FloatArray]
) -> dict[str, dict[int, FloatArray]]:
    """Return errors by source and yaw."""
    true = np.array([sample.truth.deg[sample.row] for sample in samples])
    yaws = np.array([sample.yaw_deg for sample in samples])
    return {
        source: {yaw: (angles - true)[yaws == yaw] for yaw in YAWS_DEG}
        for source, angles in found.items()
    }


def main() -> int:
    """Synthesize, measure, write the report."""
    parser = argparse.ArgumentParser(description="Measure joint angles against exact truth.")
    parser.add_argument("--data", type=Path, default=default_data(), help="evaluation data")
    parser.add_argument("--squats", type=int, default=50, help="different squats")
    parser.add_argument("--frames", type=int, default=4, help="of each squat and yaw")
    parser.add_argument("--processes", type=int, default=2, help="rendering and detecting")
    arguments = parser.parse_args()
    report = Report("joint_angle_accuracy", command="scripts/run joint-angle-accuracy")
    clips = squats(arguments.squats)
    poses = reference_poses()
    add_geometry(report, clips, poses)
    samples = make_samples(clips, arguments.frames, pose_rows(poses))
    found = detect(samples, yolo_weights(arguments.data), arguments.processes)
    errors = signed_errors(samples, found)
    by_pose = {}
    for name in poses:
        rows = [row for row, sample in enumerate(samples) if sample.name == name]
        chosen = {source: angles[rows] for source, angles in found.items()}
        by_pose[name] = signed_errors([samples[row] for row in rows], chosen)
    add_side_bars(report, errors)
    add_view_cost(report, clips)
    add_detectors(report, errors, len(samples) // len(YAWS_DEG))
    report.figure("Error by camera yaw", figure(errors))
    report.text(f"## Picture or metric landmarks\n\n{advice(errors)}")
    add_poses(report, by_pose)
    print(report.write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
