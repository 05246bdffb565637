"""The command ``pose-analyzer bench``: how many live streams this machine holds."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from pose_analyzer import __version__
from pose_analyzer.errors import VideoError
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.export_frames import synthetic_frames
from pose_analyzer.inference.detector import TimedDetector
from pose_analyzer.inference.jpeg_head import jpeg_frame
from pose_analyzer.multi_stream_processor import ProcessorConfig
from pose_analyzer.pose_detector import MediaPipePoseDetector, make_detector
from pose_analyzer.serving.live_stream import StreamConfig
from pose_analyzer.serving.pipeline_processes import PipelineProcesses
from pose_analyzer.stream_capacity import holds, most_streams
from pose_analyzer.stream_load import LoadResult, LoadSpec, run_load
from pose_analyzer.types import Frame, ImageArray
from pose_analyzer.video_source import VideoFile

SIZES: Final = {"480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080), "4k": (3840, 2160)}
STREAMS: Final = 4
"""Unless asked for another number."""
N_PICTURES: Final = 48
"""Different pictures in turn: more than a processor's cache holds."""
SWITCH_S: Final = 0.0005
"""A thread that wants to run waits at most so long for one that calculates in Python."""
_WARM_UPS: Final = 3


def run_bench(args: argparse.Namespace) -> int:
    """Measure as the command line asks, print a table, and write it if asked to; return 0.

    Raises
    ------
    PoseAnalyzerError
        If the clip, the weights or the detector's library are missing.
    """
    n_asked = STREAMS if args.streams is None else args.streams
    pictures = _pictures(args.clip, SIZES[args.size])
    exercise = load_exercise("squat")
    sys.setswitchinterval(SWITCH_S)
    with _detector(args) as detector:
        files = [_as_jpeg(picture) for picture in pictures] if args.jpeg else []
        for _ in range(_WARM_UPS):
            detector.detect([Frame(picture, 0.0, 0) for picture in pictures[:n_asked]])
            detector.detect([jpeg_frame(data, 0.0, 0) for data in files[:n_asked]])

        def measure(n_streams: int) -> LoadResult:
            with _processes(args, detector, n_streams) as processes:
                spec = LoadSpec(
                    n_streams,
                    args.fps,
                    args.seconds,
                    stream=StreamConfig(budget_s=args.budget / 1e3),
                    processor=ProcessorConfig(n_workers=processes.n_workers),
                )
                found = run_load(detector, spec, capture, lambda: processes.open(exercise))
            n_processes[n_streams] = processes.n_processes
            print(_line(n_streams, found, args.budget), flush=True)
            return found

        def capture(stream: int, index: int) -> ImageArray | bytes:
            chosen = files or pictures
            return chosen[(7 * stream + index) % len(chosen)]

        n_processes: dict[int, int] = {}
        how = f" as JPEG, decoded by {detector.jpeg_decoder}," if args.jpeg else ""
        print(
            f"{detector.name}, {args.size}{how} at {args.fps:g} a second, {args.seconds:g} s each"
        )
        if args.sweep:
            most, tried = most_streams(measure, args.budget)
            print(f"holds {_streams(most)}: 99 % within {args.budget:g} ms, at most .1 % dropped")
        else:
            tried = {n_asked: measure(n_asked)}
            is_held = holds(tried[n_asked], args.budget)
            most = n_asked if is_held else 0
            print(f"{_streams(n_asked)}: {'' if is_held else 'not '}held")
        if args.out is not None:
            _write(args, detector, most, tried, n_processes)
            print(f"wrote {args.out}")
    return 0


def _streams(n: int) -> str:
    return f"{n} stream{'' if n == 1 else 's'}"


def _processes(
    args: argparse.Namespace, detector: TimedDetector, n_streams: int
) -> PipelineProcesses:
    """Return as many processes as asked for, or as so many streams need."""
    if args.processes is None:
        return PipelineProcesses.for_streams(n_streams, is_network_on_cpu=detector.is_on_cpu)
    return PipelineProcesses(args.processes)


def _as_jpeg(picture: ImageArray) -> bytes:
    return cv2.imencode(".jpg", picture)[1].tobytes()


def _detector(args: argparse.Namespace) -> TimedDetector:
    detector = make_detector(
        args.detector, args.weights, args.device, download=args.download_weights
    )
    if detector.name.startswith("mediapipe"):
        # Streams are mixed: each frame must stand alone.
        detector.close()
        return MediaPipePoseDetector(task_file=args.weights, tracking=False)
    return detector


def _pictures(clip: Path | None, size: tuple[int, int]) -> list[ImageArray]:
    """Return pictures of a clip, or of the synthetic athlete, in the size of the streams."""
    if clip is None:
        frames = synthetic_frames((N_PICTURES, 1)).calibration
        images = [frame.image for frame in frames]
    else:
        images = []
        for frame in VideoFile(clip):
            images.append(frame.image)
            if len(images) == N_PICTURES:
                break
        if not images:
            raise VideoError(f"{clip} gave no frame; record or copy it again")
    return [
        np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        for image in images
    ]


def _line(n_streams: int, found: LoadResult, budget_ms: float) -> str:
    p50, p95, p99 = (found.percentile_ms(percent) for percent in (50, 95, 99))
    return (
        f"{_streams(n_streams):>11}  {found.fps:7.1f} frames/s  p50 {p50:6.1f}  p95 {p95:6.1f}  "
        f"p99 {p99:6.1f} ms  dropped {100 * found.drop_share:5.2f} %  "
        f"{'held' if holds(found, budget_ms) else 'not held'}"
    )


def _write(
    args: argparse.Namespace,
    detector: TimedDetector,
    most: int,
    tried: dict[int, LoadResult],
    n_processes: dict[int, int],
) -> None:
    """Write what was measured as JSON: all that is needed to compare machines."""
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "detector": detector.name,
        "jpeg_decoder": detector.jpeg_decoder if args.jpeg else None,
        "size": args.size,
        "fps": args.fps,
        "seconds": args.seconds,
        "budget_ms": args.budget,
        "most_streams_held": most,
        "runs": [
            {
                "streams": n_streams,
                "analysis_processes": n_processes[n_streams],
                "frames_per_second": _rounded(found.fps),
                "n": len(found.latency_ms),
                "p50_ms": _rounded(found.percentile_ms(50)),
                "p95_ms": _rounded(found.percentile_ms(95)),
                "p99_ms": _rounded(found.percentile_ms(99)),
                "dropped_share": _rounded(found.drop_share, 5),
                "dropped": dict(found.dropped),
                "cores_busy": _rounded(found.cpu_s / found.seconds),
                "mean_batch": _rounded(found.mean_batch),
                "is_held": holds(found, args.budget),
            }
            for n_streams, found in sorted(tried.items())
        ],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=2, allow_nan=False)
    args.out.write_text(text + "\n", encoding="utf-8")


def _rounded(value: float, digits: int = 2) -> float | None:
    return None if np.isnan(value) else round(value, digits)
