"""Real streams on this CPU: ours against the plain loop -> reports/cpu_streams.{json,md}.

python scripts/cpu_streams.py [--clip CLIP] [--seconds S] [--fps F] [--rounds R]
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from report_lib import Report
from speed_clip import add_clip_argument, clip_and_folder, describe

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.multi_stream_processor import MultiStreamProcessor
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_detector import MediaPipePoseDetector, PoseDetector, YOLOPosev11Detector
from pose_analyzer.serving.result_queue import LiveResult, StreamEnd
from pose_analyzer.types import Frame, ImageArray
from pose_analyzer.video_source import VideoFile

COUNTS: Final = (1, 2, 4, 8)
WAYS: Final = ("plain loop", "plain loop, newest", "ours")
"""The second reads cameras whose driver keeps one frame, which OpenCV can seldom be told."""
OVERLOAD: Final = 8
MOST_PICTURES: Final = 24
"""Pictures of the clip that the cameras repeat: 150 MB at 1080p."""
DRIVER_BUFFER: Final = 4
"""Frames that a camera's driver keeps for a reader that is late, as V4L2 does under OpenCV."""
WARMUP_SHARE: Final = 0.2
"""Of each case; until then buffers fill and times are learned."""


class Camera:
    """Takes pictures at a fixed rate, whether or not anybody reads them."""

    def __init__(
        self,
        pictures: Sequence[ImageArray],
        fps: float,
        phase_s: float,
        n_kept: int = DRIVER_BUFFER,
    ) -> None:
        self._pictures = pictures
        self._n_kept = n_kept
        self._fps = fps
        self._start_s = time.monotonic() + phase_s
        self._next = 0
        self.is_stopped = threading.Event()
        self.n_lost = 0

    def captured_s(self, index: int) -> float:
        """Return when a picture was taken."""
        return self._start_s + index / self._fps

    def read(self) -> Frame | None:
        """Return the next picture, waiting until it is taken; None once stopped."""
        newest = math.floor((time.monotonic() - self._start_s) * self._fps)
        index = max(self._next, newest - self._n_kept + 1)
        self.n_lost += index - self._next
        self._next = index + 1
        if self.is_stopped.wait(max(0.0, self.captured_s(index) - time.monotonic())):
            return None
        return Frame(self._pictures[index % len(self._pictures)], index / self._fps, index)

    def __iter__(self) -> Iterator[Frame]:
        """Return the pictures until stopped."""
        while (frame := self.read()) is not None:
            yield frame

    def close(self) -> None:
        """End a read under way."""
        self.is_stopped.set()


@dataclass
class Tally:
    """What came of the pictures of one case."""

    latency_s: list[list[float]]
    analysed: list[set[int]]
    memory_bytes: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, n_streams: int) -> Tally:
        """Return an empty one."""
        return cls([[] for _ in range(n_streams)], [set() for _ in range(n_streams)])

    def add(self, stream: int, index: int, latency_s: float) -> None:
        """Take that a picture was analysed."""
        self.latency_s[stream].append(latency_s)
        self.analysed[stream].add(index)

    def percentile_ms(self, percent: float, first: Sequence[int]) -> float:
        """Return a percentile of the latency of pictures from ``first`` on."""
        counted = [
            latency_s
            for stream, latencies in enumerate(self.latency_s)
            for index, latency_s in zip(sorted(self.analysed[stream]), latencies, strict=True)
            if index >= first[stream]
        ]
        return 1e3 * float(np.percentile(counted, percent)) if counted else math.nan


@dataclass(frozen=True, slots=True)
class Case:
    """One way with a number of streams."""

    n_streams: int
    way: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    analysed_fps: float
    drop_share: npt.NDArray[np.float64]
    growth_bytes: float

    @classmethod
    def typical(cls, rounds: Sequence[Case]) -> Case:
        """Return the median of several rounds; drops are averaged, memory is the worst."""

        def median(name: str) -> float:
            return float(np.median([getattr(case, name) for case in rounds]))

        return cls(
            n_streams=rounds[0].n_streams,
            way=rounds[0].way,
            p50_ms=median("p50_ms"),
            p95_ms=median("p95_ms"),
            p99_ms=median("p99_ms"),
            analysed_fps=median("analysed_fps"),
            drop_share=np.mean([case.drop_share for case in rounds], axis=0),
            growth_bytes=max(case.growth_bytes for case in rounds),
        )

    @property
    def variation(self) -> float:
        """Coefficient of variation of the drops across streams; 0 where nothing was dropped."""
        mean = float(self.drop_share.mean())
        return float(self.drop_share.std()) / mean if mean > 0.0 else 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_clip_argument(parser)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each case")
    parser.add_argument("--fps", type=float, default=15.0, help="of each camera")
    parser.add_argument("--rounds", type=int, default=3, help="of all cases, in turn")
    parser.add_argument("--out", type=Path, help="folder of the report, reports/ by default")
    args = parser.parse_args(argv)
    report = Report("cpu_streams", command="scripts/run cpu-streams", folder=args.out)
    with clip_and_folder(args.clip, reps=2) as (clip, _), make_cpu_detector() as detector:
        pictures = [frame.image for frame in itertools.islice(VideoFile(clip), None, None, 5)][
            :MOST_PICTURES
        ]
        detector.detect([Frame(pictures[0], 0.0, 0)])
        rounds = [
            measure(way, detector, pictures, n_streams, args)
            for number in range(args.rounds)
            for n_streams in COUNTS
            for way in (WAYS if number % 2 == 0 else WAYS[::-1])
        ]
        material = describe(clip)
        name = detector.name
    add_bars(report, rounds, args)
    add_table(report, [typical(rounds, way, n) for n in COUNTS for way in WAYS])
    report.text(
        f"Detector: `{name}`. Pictures: {material}, held in memory as a capture card gives them, "
        f"so that nothing is decoded. Each camera takes {args.fps:g} pictures a second and its "
        f"driver keeps the last {DRIVER_BUFFER} for a reader that is late. The plain loop reads, "
        "detects and analyses one camera after the other; where it takes the newest, the driver "
        "keeps one frame, so that nothing waits there. Latency is from capture to "
        "`FrameAnalysis`; a picture that was never analysed is dropped, wherever it got lost. The "
        f"first {100 * WARMUP_SHARE:.0f} % of each case do not count. All cases take turns, "
        f"{args.rounds} times {args.seconds:g} s each, the ways one after the other and first "
        "in turn, because others may use the machine; a ratio is of two runs side by side, and the "
        "median of the rounds counts."
    )
    report.write()
    return 0


def make_cpu_detector() -> PoseDetector:
    """Return YOLO with the evaluation weights if they are here, else MediaPipe; no tracking."""
    folder = os.environ.get("POSE_EVAL_DATA")
    weights = Path(folder or "") / "weights" / "yolo11n-pose.onnx"
    if folder is not None and weights.is_file():
        return YOLOPosev11Detector(weights, "cpu")
    return MediaPipePoseDetector(tracking=False)


def measure(
    way: str,
    detector: PoseDetector,
    pictures: Sequence[ImageArray],
    n_streams: int,
    args: argparse.Namespace,
) -> Case:
    """Run one case."""
    rng = np.random.default_rng(n_streams)
    n_kept = 1 if way == "plain loop, newest" else DRIVER_BUFFER
    cameras = [
        Camera(pictures, args.fps, float(phase_s), n_kept)
        for phase_s in rng.uniform(0.0, 1.0 / args.fps, n_streams)
    ]
    tally = Tally.of(n_streams)
    run = run_ours if way == "ours" else run_plain_loop
    run(detector, cameras, tally, args.seconds)
    first = math.ceil(WARMUP_SHARE * args.seconds * args.fps)
    last = math.floor((args.seconds - 1.0) * args.fps)
    kept = [sum(first <= index < last for index in seen) for seen in tally.analysed]
    memory = np.array(tally.memory_bytes, dtype=np.float64)
    settled = memory[int(WARMUP_SHARE * memory.size) :]
    case = Case(
        n_streams=n_streams,
        way=way,
        p50_ms=tally.percentile_ms(50.0, [first] * n_streams),
        p95_ms=tally.percentile_ms(95.0, [first] * n_streams),
        p99_ms=tally.percentile_ms(99.0, [first] * n_streams),
        analysed_fps=sum(kept) / ((last - first) / args.fps),
        drop_share=1.0 - np.array(kept) / (last - first),
        growth_bytes=float(settled[-3:].mean() - settled[:3].mean()),
    )
    print(f"{way}, {n_streams} streams: p95 {case.p95_ms:.0f} ms, {case.analysed_fps:.1f} frames/s")
    return case


def run_plain_loop(
    detector: PoseDetector, cameras: Sequence[Camera], tally: Tally, seconds: float
) -> None:
    """Serve the cameras in turn, as a user would write it."""
    pipelines = [StreamPipeline(load_exercise("squat")) for _ in cameras]
    end_s = time.monotonic() + seconds
    look_s = time.monotonic()
    while time.monotonic() < end_s:
        for stream, (camera, pipeline) in enumerate(zip(cameras, pipelines, strict=True)):
            frame = camera.read()
            if frame is None:
                continue
            pipeline.update(detector.detect([frame])[0], frame.index, frame.time_s)
            latency_s = time.monotonic() - camera.captured_s(frame.index)
            tally.add(stream, frame.index, latency_s)
        if time.monotonic() >= look_s:
            tally.memory_bytes.append(resident_bytes())
            look_s += 1.0


def run_ours(
    detector: PoseDetector, cameras: Sequence[Camera], tally: Tally, seconds: float
) -> None:
    """Serve the cameras by a `MultiStreamProcessor`."""
    with MultiStreamProcessor(detector) as processor:
        for stream, camera in enumerate(cameras):
            processor.open_stream(
                str(stream),
                StreamPipeline(load_exercise("squat")),
                sink=_Noting(stream, camera, tally),
            )
        for stream, camera in enumerate(cameras):
            processor.attach(str(stream), camera)
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            tally.memory_bytes.append(resident_bytes())
            time.sleep(1.0)


@dataclass(frozen=True, slots=True)
class _Noting:
    """Notes the latency of each result of one stream."""

    stream: int
    camera: Camera
    tally: Tally

    def __call__(self, event: LiveResult | StreamEnd) -> None:
        if isinstance(event, LiveResult):
            index = event.frame.index
            latency_s = time.monotonic() - self.camera.captured_s(index)
            self.tally.add(self.stream, index, latency_s)


def resident_bytes() -> int:
    """Return the memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def typical(rounds: Sequence[Case], way: str, n_streams: int) -> Case:
    """Return what one way makes of a number of streams."""
    return Case.typical(cases_of(rounds, way, n_streams))


def cases_of(rounds: Sequence[Case], way: str, n_streams: int) -> list[Case]:
    """Return the rounds of one way with a number of streams."""
    return [case for case in rounds if (case.way, case.n_streams) == (way, n_streams)]


def add_bars(report: Report, rounds: Sequence[Case], args: argparse.Namespace) -> None:
    """Tell how ours stands against the plain loop, and how it bears overload."""
    n_pictures = round(args.rounds * args.seconds * args.fps)
    for n_streams in COUNTS:
        mine = cases_of(rounds, "ours", n_streams)
        for way in WAYS[:-1]:
            theirs = cases_of(rounds, way, n_streams)
            slug = way.replace(", ", "_of_").replace(" ", "_")
            # What a loop could do at best is for comparison: no driver is asked for it.
            is_goal = way == WAYS[0]
            for name, what, unit, goal in (
                ("p95", "p95_ms", "ms", "<= 1.0"),
                ("frames_analysed", "analysed_fps", "frames/s", ">= 1.0"),
            ):
                pairs = [
                    (getattr(one, what), getattr(other, what))
                    for one, other in zip(mine, theirs, strict=True)
                ]
                ratios = [one / other for one, other in pairs]
                ours, loop = (float(np.median(column)) for column in zip(*pairs, strict=True))
                report.bar(
                    f"{name}_of_ours_over_the_{slug}_{n_streams}_streams",
                    goal=goal if is_goal else None,
                    measured=np.median(ratios),
                    unit="ratio",
                    n=n_streams * n_pictures,
                    note=f"{ours:.1f} against {loop:.1f} {unit}; rounds from {min(ratios):.2f} "
                    f"to {max(ratios):.2f}",
                )
    add_overload_bars(report, [typical(rounds, "ours", n) for n in COUNTS], args)


def add_overload_bars(report: Report, cases: Sequence[Case], args: argparse.Namespace) -> None:
    """Tell how ours bears more than this machine can do."""
    loaded = next(case for case in cases if case.n_streams == OVERLOAD)
    report.bar(
        f"variation_of_drops_across_{OVERLOAD}_streams",
        goal="<= 0.05",
        measured=loaded.variation,
        unit="ratio",
        n=OVERLOAD,
        note=f"standard deviation over mean; {100 * loaded.drop_share.mean():.0f} % are dropped",
    )
    report.bar(
        f"memory_growth_with_{OVERLOAD}_streams",
        goal="<= 20",
        measured=loaded.growth_bytes / 1e6,
        unit="MB",
        n=round(args.seconds),
        note="resident, from the end of the warm-up to the end; three 1080p pictures are 19 MB",
    )
    held = [case.n_streams for case in cases if case.drop_share.mean() <= 0.01]
    report.bar(
        "streams_that_ours_holds_with_at_most_1_percent_of_drops",
        goal=None,
        measured=max(held, default=0),
        unit="streams",
        n=len(COUNTS),
        note=f"of {', '.join(map(str, COUNTS))}, {args.fps:g} pictures a second each",
    )


def add_table(report: Report, cases: Sequence[Case]) -> None:
    """Show every case."""
    report.table(
        "All cases",
        [
            "streams",
            "way",
            "p50, ms",
            "p95, ms",
            "p99, ms",
            "analysed, frames/s",
            "dropped, %",
            "variation of drops",
            "memory growth, MB",
        ],
        [
            [
                case.n_streams,
                case.way,
                case.p50_ms,
                case.p95_ms,
                case.p99_ms,
                case.analysed_fps,
                100.0 * float(case.drop_share.mean()),
                case.variation,
                case.growth_bytes / 1e6,
            ]
            for case in cases
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())
