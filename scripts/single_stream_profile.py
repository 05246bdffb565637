"""Where the time of one stream goes -> reports/single_stream_profile.{json,html}.

python scripts/single_stream_profile.py [--clip CLIP] [--detector NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from report_lib import Report
from speed_clip import add_clip_argument, clip_and_folder, describe

from pose_analyzer.biomechanics import JointAngleCalculator
from pose_analyzer.coaching import Coach
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.form_scorer import FormScorer
from pose_analyzer.kalman_smoother import KalmanSmoother
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_detector import PoseDetector, make_detector
from pose_analyzer.pose_tracker import PoseTracker
from pose_analyzer.rep_counter import RepCounter
from pose_analyzer.report.annotate import Annotator
from pose_analyzer.report.html import HtmlReport
from pose_analyzer.report.tables import FramesCsv, RepsJson, TrcFile
from pose_analyzer.report.video_writer import AnnotatedVideo, VideoWriter
from pose_analyzer.set_comparison import SetComparison
from pose_analyzer.temporal_analyzer import TemporalAnalyzer
from pose_analyzer.types import Frame
from pose_analyzer.video_processor import FrameSink, analyze_video
from pose_analyzer.video_source import VideoFile

WARM_UP: Final = 10
"""Frames left out at the start: first calls load code and fill caches."""

STAGES: Final = {
    "decode": "file to upright BGR picture",
    "detect": "the pose detector",
    "track": "identities, left/right repair",
    "smooth": "Kalman smoother, all keypoints",
    "angles": "thirteen joint angles",
    "motion": "signal, phase, angular velocities",
    "count": "repetition counter",
    "judge": "score, faults, anomaly and two-way smoothing of a finished repetition",
    "coach": "cues",
    "route, rest": "uncertainty, yaw, and putting the values together",
    "draw": "skeleton, angles, panel",
    "encode": "BGR to H.264",
    "tables": "frames.csv, reps.json, pose.trc, report.html",
}
ROUTE: Final = ("track", "smooth", "angles", "motion", "count", "judge", "coach", "route, rest")


class Stopwatch:
    """Adds up the time of each stage, frame by frame, without what it calls."""

    def __init__(self) -> None:
        self.frames: list[dict[str, float]] = []
        self._spent_s = dict.fromkeys(STAGES, 0.0)
        self._inner_s: list[float] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block as part of a stage; stages timed within it are not counted twice."""
        self._inner_s.append(0.0)
        start_s = time.perf_counter()
        try:
            yield
        finally:
            taken_s = time.perf_counter() - start_s
            self._spent_s[name] += taken_s - self._inner_s.pop()
            if self._inner_s:
                self._inner_s[-1] += taken_s

    def next_frame(self) -> None:
        """End the frame."""
        self.frames.append(self._spent_s)
        self._spent_s = dict.fromkeys(STAGES, 0.0)

    @contextlib.contextmanager
    def on(self, owner: type, method: str, stage: str) -> Iterator[None]:
        """Time a method of a class as a stage while the context lasts."""
        original: Callable[..., object] = getattr(owner, method)

        def timed(*args: object, **kwargs: object) -> object:
            with self.stage(stage):
                return original(*args, **kwargs)

        setattr(owner, method, timed)
        try:
            yield
        finally:
            setattr(owner, method, original)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_clip_argument(parser)
    parser.add_argument("--detector", default="mediapipe")
    args = parser.parse_args(argv)
    report = Report("single_stream_profile", command="scripts/run single-stream-profile")
    with clip_and_folder(args.clip, reps=4) as (clip, folder):
        with make_detector(args.detector) as detector:
            watch = profile(clip, folder, detector)
            name = detector.name
        with make_detector(args.detector) as detector:
            overlapped_ms = overlapped(clip, folder, detector)
        tell(report, watch, overlapped_ms, f"Clip: {describe(clip)}. Detector: {name}.")
    report.write("html")
    return 0


def profile(clip: Path, folder: Path, detector: PoseDetector) -> Stopwatch:
    """Run all stages one after the other and time each for every frame."""
    watch = Stopwatch()
    exercise = load_exercise("squat")
    video = VideoFile(clip)
    pipeline = StreamPipeline(exercise)
    annotator = Annotator(exercise)
    writer = VideoWriter(folder / "profile.mp4", video.width, video.height, video.fps)
    tables = outputs(folder, video)
    frames = iter(video)
    with contextlib.ExitStack() as timed, writer:
        for owner, method, stage in (
            (PoseTracker, "update", "track"),
            (KalmanSmoother, "update", "smooth"),
            (KalmanSmoother, "smooth", "judge"),
            (JointAngleCalculator, "angles", "angles"),
            (TemporalAnalyzer, "update", "motion"),
            (RepCounter, "update", "count"),
            (FormScorer, "score", "judge"),
            (FormScorer, "faults", "judge"),
            (SetComparison, "judge", "judge"),
            (Coach, "update", "coach"),
        ):
            timed.enter_context(watch.on(owner, method, stage))
        while True:
            with watch.stage("decode"):
                frame = next(frames, None)
            if frame is None:
                break
            one_frame(watch, frame, detector, pipeline, (annotator, writer, tables))
    for sink in tables:
        sink.abort()
    return watch


def one_frame(
    watch: Stopwatch,
    frame: Frame,
    detector: PoseDetector,
    pipeline: StreamPipeline,
    outputs: tuple[Annotator, VideoWriter, Sequence[FrameSink]],
) -> None:
    """Take one decoded frame through all other stages."""
    annotator, writer, tables = outputs
    with watch.stage("detect"):
        (found,) = detector.detect([frame])
    with watch.stage("route, rest"):
        analysis = pipeline.update(found, frame.index, frame.time_s)
    with watch.stage("tables"):
        for sink in tables:
            sink.write(frame, analysis)
    with watch.stage("draw"):
        canvas = frame.image.copy()
        annotator.draw(canvas, analysis)
    with watch.stage("encode"):
        writer.write(canvas, frame.time_s)
    watch.next_frame()


def outputs(folder: Path, video: VideoFile) -> list[FrameSink]:
    """Return all outputs but the video."""
    return [
        FramesCsv(folder / "frames.csv"),
        RepsJson(folder / "reps.json"),
        TrcFile(folder / "pose.trc", fps=video.fps),
        HtmlReport(folder / "report.html", load_exercise("squat")),
    ]


def overlapped(clip: Path, folder: Path, detector: PoseDetector) -> float:
    """Return milliseconds a frame of the same work with its stages overlapping."""
    video = VideoFile(clip)
    exercise = load_exercise("squat")
    drawn = AnnotatedVideo(
        folder / "overlapped.mp4", exercise, video.width, video.height, video.fps
    )
    start_s = time.perf_counter()
    summary = analyze_video(
        video, detector, StreamPipeline(exercise), [drawn, *outputs(folder, video)]
    )
    return 1e3 * (time.perf_counter() - start_s) / summary.n_frames


def tell(report: Report, watch: Stopwatch, overlapped_ms: float, about: str) -> None:
    """Write bars, chart and table."""
    frames = watch.frames[WARM_UP:] or watch.frames
    spent_ms = {name: 1e3 * np.array([frame[name] for frame in frames]) for name in STAGES}
    total_ms = np.sum(list(spent_ms.values()), axis=0)
    route_ms = np.sum([spent_ms[name] for name in ROUTE], axis=0)
    for name, values, goal, note in (
        ("all_stages_in_turn_ms", total_ms, None, "one after the other"),
        ("route_after_the_detector_ms", route_ms, None, "track to coach, one person"),
        ("draw_ms", spent_ms["draw"], "<= 3", "with the copy that keeps the picture clean"),
    ):
        report.bar(
            name,
            goal=goal,
            measured=np.median(values),
            unit="ms",
            n=len(values),
            p95=np.percentile(values, 95),
            p99=np.percentile(values, 99),
            note=note,
        )
    report.bar(
        "all_stages_overlapping_ms",
        goal=None,
        measured=overlapped_ms,
        unit="ms",
        n=len(watch.frames),
        note="analyze_video: wall time of the whole clip divided by its frames",
    )
    report.text(
        f"{about} Every stage is timed for every frame, without the stages that it calls; the "
        f"first {WARM_UP} frames are left out. The mean shows what rare work costs: judging "
        "happens once a repetition."
    )
    report.figure("Mean time of a frame by stage", chart(spent_ms))
    means = {name: float(values.mean()) for name, values in spent_ms.items()}
    rows = [
        [
            name,
            STAGES[name],
            *(float(np.percentile(values, q)) for q in (50, 95, 99)),
            means[name],
            100.0 * means[name] / sum(means.values()),
        ]
        for name, values in spent_ms.items()
    ]
    columns = ["stage", "what", "median, ms", "p95, ms", "p99, ms", "mean, ms", "share, %"]
    report.table("Stages", columns, rows)


def chart(spent_ms: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]) -> bytes:
    """Return horizontal bars of the mean, with a mark at p95, as PNG."""
    mpl.use("agg")
    import matplotlib.pyplot as plt

    names = list(spent_ms)
    means = [float(values.mean()) for values in spent_ms.values()]
    p95 = [float(np.percentile(values, 95)) for values in spent_ms.values()]
    figure, axes = plt.subplots(figsize=(9, 4.6), layout="constrained")
    rows = np.arange(len(names))
    axes.barh(rows, means, color=["#2f7ed8" if name in ROUTE else "#f28f43" for name in names])
    axes.plot(p95, rows, "|", color="#222222", markersize=12, label="95th percentile")
    for row, mean, high in zip(rows, means, p95, strict=True):
        axes.annotate(f"  {mean:.3g}", (max(mean, high), row), va="center", fontsize=8)
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("milliseconds a frame, mean (linear up to 1, then logarithmic)")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return buffer.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
