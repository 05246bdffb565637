"""Compare the detectors on rendered 1080p clips -> reports/detector_comparison.{json,md}.

Each detector runs alone in a process of its own over the same clips, several exercises from
several camera yaws, whose exact keypoints and angles are known. MediaPipe is also run without
tracking and on smaller pictures, and the YOLO weights through Ultralytics' own pre- and
postprocessing, each on the side views alone.

    python scripts/detector_comparison.py [--data DIR] [--frames N]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from detector_runs import (
    EXERCISES,
    SIDE_DEG,
    VARIANTS,
    YAWS_DEG,
    Clip,
    Run,
    make_clips,
    render,
    run_variant,
)
from pose_errors import (
    GOAL_JOINTS,
    GOAL_SIDE_VIEW,
    ErrorStats,
    default_data,
    joint_errors,
    yolo_weights,
)
from pose_photographs import MIN_KEYPOINTS, load_photographs, similarity
from report_lib import Report

from pose_analyzer.biomechanics import JointAngleCalculator
from pose_analyzer.pose_detector import MediaPipePoseDetector, YOLOPosev11Detector
from pose_analyzer.skeleton import N_COCO, N_JOINTS
from pose_analyzer.types import FloatArray

ABSENT: Final = "not measured"


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of one detector on some clips.

    Attributes
    ----------
    px, share : array, shape (N,)
        Distance of each visible COCO keypoint from its true place, in pixels and in statures.
    deg : array, shape (M, J)
        Angle in the picture minus the exact 3-D angle.
    picture_deg : array, shape (M, J)
        Angle in the picture minus that of the exact keypoints in the same picture: without what
        the view costs.
    seen : float
        Share of frames in which somebody was found.
    """

    px: FloatArray
    share: FloatArray
    deg: FloatArray
    picture_deg: FloatArray
    seen: float


def errors_of(pairs: Sequence[tuple[Clip, FloatArray]]) -> Errors:
    """Return the errors of found keypoints (T, K, 2) on their clips."""
    calculator = JointAngleCalculator()
    px, share = [np.empty(0)], [np.empty(0)]
    deg, picture_deg = [np.empty((0, N_JOINTS))], [np.empty((0, N_JOINTS))]
    seen: list[npt.NDArray[np.bool_]] = []
    for clip, found in pairs:
        rows = np.array(clip.rows)
        true = clip.truth.keypoints[rows]
        visible = clip.truth.visible[rows, :N_COCO]
        distance = np.linalg.norm(found - true, axis=-1)[:, :N_COCO]
        statures = distance / clip.truth.stature_px[rows, None]
        known = visible & np.isfinite(distance)
        px.append(distance[known])
        share.append(statures[known])
        angles = calculator.angles(found)
        deg.append(angles - clip.truth.deg[rows])
        picture_deg.append(angles - calculator.angles(true))
        seen.append(np.isfinite(found).any(axis=(1, 2)))
    return Errors(
        np.concatenate(px),
        np.concatenate(share),
        np.concatenate(deg),
        np.concatenate(picture_deg),
        float(np.concatenate(seen).mean()),
    )


def goal_error(errors_deg: FloatArray) -> float:
    """Return the mean absolute error over the joints that a detector is held to."""
    return float(np.mean([joint_errors(errors_deg, joint).mean_abs for joint in GOAL_JOINTS]))


def add_speed(report: Report, runs: Mapping[str, Run | None]) -> None:
    """Add the table of time and memory, and its bars."""
    rows: list[list[object]] = []
    for variant in VARIANTS:
        run = runs[variant.name]
        if run is None:
            rows.append([variant.label, *[ABSENT] * 6])
            continue
        median, p99 = np.percentile(run.latency_ms, [50, 99])
        rows.append(
            [
                variant.label,
                round(float(median), 1),
                round(float(p99), 1),
                round(1e3 / float(run.latency_ms.mean()), 1),
                round(run.cpu_ms, 1),
                round(run.memory_mib),
                run.latency_ms.size,
            ]
        )
    columns = ["detector", "median ms", "p99 ms", "frames/s", "CPU ms", "peak MiB", "frames"]
    text = (
        "One frame a call, picture already decoded, on the CPU with all cores; each detector alone "
        "in a process. CPU ms is processor time over all cores; another load on the "
        "machine moves it less than the latency. Peak MiB is the resident memory of the whole "
        "process, Python and OpenCV included. MediaPipe's package holds only the full landmark "
        "weights (complexity 1), so lite and heavy are not measured. No detector was run on a GPU "
        "here."
    )
    report.table("Speed and memory", columns, rows, text)


def add_accuracy(
    report: Report, clips: Sequence[Clip], runs: Mapping[str, Run | None]
) -> dict[str, Errors]:
    """Add errors by detector and view; return those of the side views."""
    rows: list[list[object]] = []
    side: dict[str, Errors] = {}
    for variant in VARIANTS:
        run = runs[variant.name]
        yaws = (SIDE_DEG,) if variant.side_only else YAWS_DEG
        for yaw in yaws:
            if run is None:
                rows.append([variant.label, yaw, *[ABSENT] * 9])
                continue
            ran = [clip for clip in clips if not variant.side_only or clip.yaw_deg == SIDE_DEG]
            pairs = [
                (clip, found)
                for clip, found in zip(ran, run.keypoints, strict=True)
                if clip.yaw_deg == yaw
            ]
            errors = errors_of(pairs)
            if yaw == SIDE_DEG:
                side[variant.name] = errors
            rows.append([variant.label, yaw, *accuracy_cells(errors)])
    columns = ["detector", "yaw", "seen %", "median px", "mean px", "p95 px", "mean % of stature"]
    columns += [f"{joint} deg" for joint in GOAL_JOINTS] + ["in the picture deg"]
    text = (
        f"Clips: {', '.join(EXERCISES)} at camera yaws {', '.join(map(str, YAWS_DEG))} (0 front, "
        "90 side), 1920x1080, sensor noise and motion blur on. Pixels: the COCO keypoints that "
        "the camera can see, against their exact places. Degrees: mean absolute error against "
        "the exact 3-D angle, hidden limbs included, so foreshortening counts. The last column "
        "compares with the angle of the exact keypoints in the same picture (knee, hip, elbow): "
        "the detector's own part. A push-up from the front is seen end-on: there no angle in the "
        "picture means much. Rendered people are not photographs, and the YOLO weights were "
        "restored from 8-bit ones: photographs are in the next table."
    )
    report.table("Accuracy by view", columns, rows, text)
    return side


def accuracy_cells(errors: Errors) -> list[object]:
    """Return the cells of one row of the accuracy table."""
    px = ErrorStats.of(errors.px)
    return [
        round(100.0 * errors.seen, 1),
        round(float(np.median(errors.px)), 1) if errors.px.size else None,
        round(px.mean_abs, 1),
        round(px.p95, 1),
        round(100.0 * ErrorStats.of(errors.share).mean_abs, 2),
        *(round(joint_errors(errors.deg, joint).mean_abs, 2) for joint in GOAL_JOINTS),
        round(goal_error(errors.picture_deg), 2),
    ]


def add_photographs(report: Report, data: Path, weights: Path | None) -> dict[str, float]:
    """Add what the detectors make of photographs; return the share of people that each found."""
    photographs = load_photographs(data)
    detectors = {
        "MediaPipe full": lambda: MediaPipePoseDetector(tracking=False),
        "YOLO11n onnx": None if weights is None else lambda: YOLOPosev11Detector(weights, "cpu"),
    }
    rows: list[list[object]] = []
    shares = {}
    for label, make in detectors.items():
        if make is None or not photographs:
            rows.append([label, *[ABSENT] * 3])
            continue
        with make() as detector:
            oks = np.array([similarity(detector, photograph) for photograph in photographs])
        found = oks[oks > 0.0]
        median = round(float(np.median(found)), 3) if found.size else None
        shares[label] = 100.0 * float(np.mean(oks > 0.5))
        rows.append([label, round(shares[label], 1), median, oks.size])
    columns = ["detector", "found (OKS > 0.5) %", "median OKS where found", "photographs"]
    text = (
        "The largest person of each COCO val2017 photograph of the evaluation data who has at "
        f"least {MIN_KEYPOINTS} labelled keypoints. OKS is COCO's object keypoint similarity, 1 = "
        "as labelled. Few photographs, so read no decimals; MediaPipe is made for one whole "
        "person near the camera, which many of them do not show."
    )
    report.table("Photographs", columns, rows, text)
    return shares


def add_bars(report: Report, runs: Mapping[str, Run | None], side: Mapping[str, Errors]) -> None:
    """Add the figures that were asked for."""
    for name, label in (("mediapipe", "mediapipe"), ("yolo", "yolo11n_onnx")):
        run = runs[name]
        missing = "" if run is not None else "the weights are not here"
        latency = None if run is None else np.percentile(run.latency_ms, [50, 95, 99])
        report.bar(
            f"{label}_latency_ms_median",
            goal=None,
            measured=None if latency is None else latency[0],
            unit="ms",
            n=None if run is None else run.latency_ms.size,
            p95=None if latency is None else latency[1],
            p99=None if latency is None else latency[2],
            note=missing or "one 1080p frame a call, CPU",
        )
        for joint in GOAL_JOINTS:
            stats = None if run is None else joint_errors(side[name].deg, joint)
            report.bar(
                f"{label}_side_view_{joint}_mean_abs_error",
                goal=GOAL_SIDE_VIEW if name == "mediapipe" else None,
                measured=None if stats is None else stats.mean_abs,
                unit="deg",
                n=None if stats is None else stats.n,
                p95=None if stats is None else stats.p95,
                p99=None if stats is None else stats.p99,
                note=missing or "both sides, the hidden one too",
            )


def add_paths(report: Report, clips: Sequence[Clip], runs: Mapping[str, Run | None]) -> None:
    """Say how far our YOLO path lies from Ultralytics', and what each costs."""
    ours, theirs = runs["yolo"], runs["yolo-ultralytics"]
    if ours is None or theirs is None:
        report.text(f"## YOLO: our path against Ultralytics'\n\n{ABSENT}: no weights.")
        return
    side = [index for index, clip in enumerate(clips) if clip.yaw_deg == SIDE_DEG]
    found = np.clip(ours.keypoints[side][..., :N_COCO, :], 0.0, (1920.0, 1080.0))
    apart = np.abs(found - theirs.keypoints[..., :N_COCO, :])
    n_side = theirs.latency_ms.size
    our_side = ours.latency_ms.reshape(len(clips), -1)[side].ravel()
    report.bar(
        "yolo_paths_apart_px_max",
        goal="< 1",
        measured=float(np.nanmax(apart)),
        unit="px",
        n=int(np.isfinite(apart).sum()),
        note="our ONNX Runtime path against Ultralytics', same weights, points cut at the edge",
    )
    report.text(
        "## YOLO: our path against Ultralytics'\n\n"
        f"On the {n_side} side-view frames our path takes {np.median(our_side):.1f} ms (median) "
        f"and {ours.memory_mib:.0f} MiB, Ultralytics' takes {np.median(theirs.latency_ms):.1f} ms "
        f"and {theirs.memory_mib:.0f} MiB, with the same weights in the same ONNX Runtime. "
        f"Keypoints differ by at most {np.nanmax(apart):.4f} px."
    )


def photograph_advice(shares: Mapping[str, float]) -> str:
    """Return what the photographs say, if both detectors saw them."""
    if len(shares) < 2:
        return ""
    most = max(shares, key=lambda label: shares[label])
    found = " and ".join(f"{label} {share:.0f} %" for label, share in shares.items())
    return (
        f"Of the people in the photographs, often cut off or far away, {found} were found: where "
        f"the athlete is not whole and near, take {most.split()[0]}."
    )


def recommendation(runs: Mapping[str, Run | None], side: Mapping[str, Errors]) -> str:
    """Return which detector to take, from the figures."""
    mediapipe, yolo = runs["mediapipe"], runs["yolo"]
    if mediapipe is None or yolo is None:
        return "Only one detector was measured, so no recommendation follows."
    ms = {
        name: float(np.median(run.latency_ms))
        for name, run in (("mediapipe", mediapipe), ("yolo", yolo))
    }
    deg = {name: goal_error(side[name].deg) for name in ms}
    faster = min(ms, key=lambda name: ms[name])
    better = min(deg, key=lambda name: deg[name])
    labels = {"mediapipe": "MediaPipe", "yolo": "YOLO11n"}
    slower = next(name for name in ms if name != faster)
    facts = (
        f"On this CPU {labels[faster]} is {ms[slower] / ms[faster]:.1f} times as fast "
        f"({ms[faster]:.1f} against {ms[slower]:.1f} ms a frame). From the side the knee, hip and "
        f"elbow are {deg['mediapipe']:.1f} degrees wrong with MediaPipe and {deg['yolo']:.1f} with "
        "YOLO11n."
    )
    if faster == better:
        advice = (
            f"Take {labels[faster]} for one athlete on a CPU: on these clips it is both the faster "
            "and the more accurate."
        )
    elif abs(deg["mediapipe"] - deg["yolo"]) < 1.0:
        advice = (
            f"Take {labels[faster]} for one athlete on a CPU: less than one degree of accuracy "
            "separates them."
        )
    else:
        advice = (
            f"On a CPU take {labels[faster]} for live work and {labels[better]} where accuracy "
            "matters more than time."
        )
    extra = (
        "Only MediaPipe gives heels and toes, so ankle angles need it; YOLO finds any number of "
        "people at no extra cost."
    )
    return f"{facts} **{advice}** {extra}"


def choices(runs: Mapping[str, Run | None], side: Mapping[str, Errors]) -> str:
    """Return what the MediaPipe variants show, from the figures."""
    base = runs["mediapipe"]
    lines = []
    for variant in VARIANTS:
        run = runs[variant.name]
        if not variant.name.startswith("mediapipe-") or run is None or base is None:
            continue
        cost = 100.0 * (run.cpu_ms / base.cpu_ms - 1.0)
        gain = goal_error(side[variant.name].deg) - goal_error(side["mediapipe"].deg)
        lines.append(
            f"- {variant.label}: {cost:+.0f} % processor time, "
            f"{gain:+.2f} degrees of side-view error"
        )
    return "Against MediaPipe full on whole 1080p pictures with tracking:\n\n" + "\n".join(lines)


def main() -> int:
    """Render, run every detector, write the report."""
    parser = argparse.ArgumentParser(description="Compare the detectors on rendered clips.")
    parser.add_argument("--data", type=Path, default=default_data(), help="evaluation data")
    parser.add_argument("--frames", type=int, default=60, help="of each clip")
    arguments = parser.parse_args()
    report = Report("detector_comparison", command="scripts/run detector-comparison")
    weights = yolo_weights(arguments.data)
    clips = make_clips(arguments.frames)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render(clips, folder)
        runs = {variant.name: run_variant(variant, folder, weights) for variant in VARIANTS}
    add_speed(report, runs)
    side = add_accuracy(report, clips, runs)
    shares = add_photographs(report, arguments.data, weights)
    add_bars(report, runs, side)
    add_paths(report, clips, runs)
    report.text(f"## MediaPipe's settings\n\n{choices(runs, side)}")
    advice = f"{recommendation(runs, side)} {photograph_advice(shares)}"
    report.text(f"## Recommendation\n\n{advice}")
    report.text(
        f"Load average of the machine before the run: {load_before:.1f} on {os.cpu_count()} cores; "
        "above 1, other programs slowed the latencies."
    )
    print(report.write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
