"""`analyze` against the plain loop, and its memory -> reports/analyze_speed.{json,md}.

python scripts/analyze_speed.py [--clip CLIP] [--rounds N]
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import av
import cv2
import numpy as np
from report_lib import Report
from speed_clip import add_clip_argument, clip_and_folder, describe, repeated

from pose_analyzer.clip_analysis import AnalysisRequest, analyze_clip
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_detector import DetectorStats, MediaPipePoseDetector
from pose_analyzer.report.html import HtmlReport
from pose_analyzer.report.tables import FramesCsv, RepsJson, TrcFile
from pose_analyzer.report.video_writer import PRESET, QUALITY, AnnotatedVideo
from pose_analyzer.skeleton import EDGES
from pose_analyzer.synthetic import (
    Athlete,
    Camera,
    MotionSpec,
    detections_from_truth,
    synthesize,
)
from pose_analyzer.types import Frame, ImageArray, PoseDetections
from pose_analyzer.video_processor import FrameSink, analyze_video
from pose_analyzer.video_source import VideoFile

PRESETS: Final = ("ultrafast", "superfast", "veryfast")
SHORT_S: Final = 10.0
MIDDLE_S: Final = 60.0
LONG_S: Final = 300.0
MEMORY_RUNS: Final = 3
SMALL: Final = (640, 360)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_clip_argument(parser)
    parser.add_argument("--rounds", type=int, default=5, help="plain and analyze, alternating")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.memory_of is not None:
        print(peak_memory_bytes(args.memory_of))
        return 0
    report = Report("analyze_speed", command="scripts/run analyze-speed")
    with clip_and_folder(args.clip, reps=4) as (clip, folder):
        compare(report, clip, folder, args.rounds)
        compare_presets(report, clip, folder)
    with clip_and_folder(None, reps=4, size=SMALL) as (clip, folder):
        compare_memory(report, clip, folder)
    report.write()
    return 0


def compare(report: Report, clip: Path, folder: Path, rounds: int) -> None:
    """Time both ways in turn, so that a slow minute of the machine meets both."""
    n_frames = sum(1 for _ in VideoFile(clip))
    request = AnalysisRequest(clip=clip, exercise="squat", out=folder / "out", detector="mediapipe")
    plain_s, analyze_s = [], []
    for _ in range(rounds):
        plain_s.append(seconds(lambda: plain_loop(clip, folder / "plain.mp4", PRESET)))
        analyze_s.append(seconds(lambda: analyze_clip(request)))
    ratios = np.array(analyze_s) / np.array(plain_s)
    report.bar(
        "analyze_over_plain_loop_1080p",
        goal="<= 1.0",
        measured=np.median(ratios),
        unit="ratio",
        n=rounds,
        p95=np.percentile(ratios, 95),
        p99=np.percentile(ratios, 99),
        note="wall time; aim 0.8 on two cores",
    )
    for name, taken_s in (("plain_loop", plain_s), ("analyze", analyze_s)):
        ms = 1e3 * np.array(taken_s) / n_frames
        report.bar(
            f"{name}_ms_per_frame_1080p",
            goal=None,
            measured=np.median(ms),
            unit="ms",
            n=rounds,
            p95=np.percentile(ms, 95),
            p99=np.percentile(ms, 99),
            note=f"whole runs over {n_frames} frames, making the detector included",
        )
    report.text(
        f"Clip: {describe(clip)}. The plain loop reads with `cv2.VideoCapture`, detects with the "
        "same MediaPipe detector, draws limbs and points with `cv2.line` and `cv2.circle`, and "
        f"writes with PyAV and the same x264 settings ({PRESET}, crf {QUALITY}). `analyze` does "
        "all that it does for a user: tracking, smoothing, counting, scoring, coaching, annotated "
        "video, HTML report, tables and `.trc`. Both run alternately in one process."
    )
    rows = [
        [index + 1, plain, analyze, analyze / plain]
        for index, (plain, analyze) in enumerate(zip(plain_s, analyze_s, strict=True))
    ]
    report.table("Rounds", ["round", "plain loop, s", "analyze, s", "ratio"], rows)


def compare_presets(report: Report, clip: Path, folder: Path) -> None:
    """Tell what each speed setting of the encoder costs in time and bytes."""
    rows: list[list[object]] = []
    duration_s = VideoFile(clip).duration_s or 1.0
    for preset in PRESETS:
        target = folder / f"{preset}.mp4"
        plain_s = seconds(lambda: plain_loop(clip, target, preset))  # noqa: B023 - called at once
        analyze_s = seconds(lambda: overlapped(clip, target, preset))  # noqa: B023 - as above
        size_mb = target.stat().st_size / 1e6 * 60.0 / duration_s
        rows.append([preset, plain_s, analyze_s, analyze_s / plain_s, size_mb])
    report.table(
        "Encoder presets",
        ["preset", "plain loop, s", "analysis and video, s", "ratio", "MB a minute"],
        rows,
        "One round each; the annotated video is the only output here.",
    )


def compare_memory(report: Report, clip: Path, folder: Path) -> None:
    """Peak memory of clips of growing length, each run in a process of its own."""
    peaks = {}
    for length_s in (SHORT_S, MIDDLE_S, LONG_S):
        long = repeated(clip, length_s, folder / f"{length_s:.0f}s.mp4")
        runs = np.array([memory_of_a_run(long) for _ in range(MEMORY_RUNS)]) / 2**20
        peaks[length_s] = np.median(runs)
        report.bar(
            f"peak_memory_{length_s:.0f}_s",
            goal=None,
            measured=peaks[length_s],
            unit="MiB",
            n=MEMORY_RUNS,
            p95=np.percentile(runs, 95),
            p99=np.percentile(runs, 99),
            note=f"resident, {SMALL[0]}x{SMALL[1]}, replayed detections, all outputs",
        )
    for shorter_s, goal, note in (
        (SHORT_S, "<= 1.1", "the encoder and the caches are still filling after 10 s"),
        (MIDDLE_S, "<= 1.05", "from here on nothing may grow"),
    ):
        report.bar(
            f"peak_memory_{LONG_S:.0f}_s_over_{shorter_s:.0f}_s",
            goal=goal,
            measured=peaks[LONG_S] / peaks[shorter_s],
            unit="ratio",
            n=MEMORY_RUNS,
            note=f"medians; {note}",
        )
    report.text(
        "Memory is the peak of a process that analyses a clip of this length with all outputs. A "
        "detector that replays exact detections takes MediaPipe's place, to save time. The "
        "allocator has one arena (`MALLOC_ARENA_MAX=1`): how many it would open depends on the "
        "timing of threads. The angles of each repetition are kept, some 15 kB."
    )


def memory_of_a_run(clip: Path) -> int:
    """Return the peak memory in bytes of a process that analyses a clip."""
    done = subprocess.run(  # noqa: S603 - this very script
        [sys.executable, __file__, "--memory-of", str(clip)],
        check=True,
        capture_output=True,
        text=True,
        timeout=1800,
        # How many arenas the allocator opens depends on the timing of threads: 10 MiB of noise.
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
    )
    return int(done.stdout.split()[-1])


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    gc.collect()
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def plain_loop(clip: Path, target: Path, preset: str) -> None:
    """Read, detect, draw, write: what a user would write with these libraries."""
    capture = cv2.VideoCapture(str(clip))
    fps = capture.get(cv2.CAP_PROP_FPS)
    with (
        MediaPipePoseDetector() as detector,
        av.open(str(target), "w", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        stream.height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.options = {"preset": preset, "crf": str(QUALITY)}
        index = 0
        while True:
            is_read, picture = capture.read()
            if not is_read:
                break
            image: ImageArray = np.asarray(picture, dtype=np.uint8)
            (found,) = detector.detect([Frame(image, index / fps, index)])
            draw_plainly(image, found)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            container.mux(stream.encode(frame))
            index += 1
        container.mux(stream.encode(None))
    capture.release()


def draw_plainly(image: ImageArray, found: PoseDetections) -> None:
    """Draw limbs and points, nothing else."""
    for points in found.keypoints:
        seen = ~np.isnan(points[:, 0])
        pixels = np.nan_to_num(points).astype(int).tolist()
        for a, b in EDGES.tolist():
            if seen[a] and seen[b]:
                cv2.line(image, pixels[a], pixels[b], (255, 170, 60), 4)
        for point, is_seen in zip(pixels, seen, strict=True):
            if is_seen:
                cv2.circle(image, point, 6, (255, 255, 255), -1)


def overlapped(clip: Path, target: Path, preset: str) -> None:
    """Analyse with the annotated video as the only output."""
    exercise = load_exercise("squat")
    video = VideoFile(clip)
    sink = AnnotatedVideo(target, exercise, video.width, video.height, video.fps, preset=preset)
    with MediaPipePoseDetector() as detector:
        analyze_video(video, detector, StreamPipeline(exercise), [sink])


class Replay:
    """A detector that repeats what a camera would see of one athlete who squats on and on."""

    name = "replay"

    def __init__(self) -> None:
        truth = synthesize(
            Athlete(), MotionSpec("squat", reps=4), Camera(width=SMALL[0], height=SMALL[1])
        )
        self._found = detections_from_truth(truth, noise_px=1.0, rng=np.random.default_rng(0))

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the next ones."""
        return [self._found[frame.index % len(self._found)] for frame in frames]

    def stats(self) -> DetectorStats:
        """Return nothing: replaying costs nothing."""
        return DetectorStats(0, float("nan"), float("nan"), None)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def peak_memory_bytes(clip: Path) -> int:
    """Analyse a clip with all outputs and return the most memory that this process ever had."""
    exercise = load_exercise("squat")
    folder = clip.parent
    video = VideoFile(clip)
    sinks: list[FrameSink] = [
        AnnotatedVideo(folder / "a.mp4", exercise, video.width, video.height, video.fps),
        FramesCsv(folder / "frames.csv"),
        RepsJson(folder / "reps.json"),
        TrcFile(folder / "pose.trc", fps=video.fps),
        HtmlReport(folder / "report.html", exercise),
    ]
    analyze_video(video, Replay(), StreamPipeline(exercise), sinks)
    # Not getrusage: its peak is that of the parent where the parent was larger when it forked.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (peak_kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak_kib) * 1024


if __name__ == "__main__":
    raise SystemExit(main())
