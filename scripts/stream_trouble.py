"""What live streams do when GPU memory runs short -> reports/stream_trouble.{json,md}.

scripts/run stream-trouble [--seconds S] [--out FOLDER]

Nothing here needs a GPU: how full its memory is, is made up, and the engine runs out of memory
because it is told to. The processor, its threads, the manager and the engine are the real ones.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from cpu_streams import Camera
from report_lib import Report

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.export_frames import synthetic_frames
from pose_analyzer.inference.detector import TimedDetector
from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.inference.pose_network import untrained_network
from pose_analyzer.multi_stream_processor import MultiStreamProcessor
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.serving.batch_runner import BatchDetector
from pose_analyzer.serving.load_shedding import SheddingPolicy
from pose_analyzer.serving.observer import DropCause
from pose_analyzer.serving.result_queue import LiveResult, StreamEnd
from pose_analyzer.serving.stream_manager import StreamManager, StreamManagerConfig
from pose_analyzer.serving.vram_monitor import SimulatedReader, VramMonitor
from pose_analyzer.types import AnyFrame, ImageArray, PoseDetections

N_STREAMS: Final = 4
FPS: Final = 30.0
BATCH_S: Final = 0.005
"""The stand-in for a GPU takes so long for a batch."""
OTHERS_BEFORE, OTHERS_DURING, OTHERS_AFTER = 0.55, 0.85, 0.50
"""What other programs take of the memory, before, during and after the squeeze."""
STREAMS_SHARE: Final = 0.10
"""What the streams take at their full rate; less in proportion to what is let through."""
CALM_S: Final = 5.0
BEYOND: Final = 1
"""The engine has no memory for batches of more frames while it is squeezed."""
OOM_FPS: Final = 4.0
APART: Final = (0.1, 0.35, 0.6, 0.85)
TOGETHER: Final = (0.1, 0.1, 0.1, 0.1)
"""Phases of the cameras; together their frames make full batches."""


class SleepingDetector:
    """Sees nobody, and takes its time."""

    max_batch: int | None = None

    def detect(self, frames: Sequence[AnyFrame]) -> list[PoseDetections]:
        """Return nobody for each frame."""
        time.sleep(BATCH_S)
        return [PoseDetections.empty() for _ in frames]


class Counting:
    """Counts the results and the ends of streams."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.n_results: Counter[str] = Counter()
        self.n_ends = 0

    def sink(self, stream_id: str) -> Callable[[LiveResult | StreamEnd], None]:
        """Return what the processor calls for one stream."""

        def take(event: LiveResult | StreamEnd) -> None:
            with self._lock:
                if isinstance(event, StreamEnd):
                    self.n_ends += 1
                else:
                    self.n_results[stream_id] += 1

        return take


@dataclass(frozen=True, slots=True)
class Second:
    """What was seen in one second."""

    time_s: float
    share: float
    n_slowed: int
    n_suspended: int
    fps: tuple[float, ...]


@contextmanager
def served(
    detector: BatchDetector, pictures: Sequence[ImageArray], fps: float, phases: Sequence[float]
) -> Iterator[tuple[MultiStreamProcessor, Counting, list[Camera]]]:
    """Serve cameras with a detector; their phases are in frames, one for each."""
    counting = Counting()
    cameras = [Camera(pictures, fps, phase / fps) for phase in phases]
    exercise = load_exercise("squat")
    with MultiStreamProcessor(detector) as processor:
        for stream, camera in enumerate(cameras):
            name = str(stream)
            processor.open_stream(name, StreamPipeline(exercise), sink=counting.sink(name))
            processor.attach(name, camera)
        yield processor, counting, cameras


def squeeze(report: Report, seconds: float) -> None:
    """Fill the memory to 95 %, empty it, and watch what the streams lose and get back."""
    start_s = time.monotonic()

    def share() -> float:
        elapsed_s = time.monotonic() - start_s
        others = OTHERS_BEFORE
        if elapsed_s >= CALM_S:
            others = OTHERS_DURING if elapsed_s < CALM_S + seconds else OTHERS_AFTER
        return others + STREAMS_SHARE * let_through(processor)

    pictures = [np.zeros((48, 64, 3), dtype=np.uint8)]
    rows: list[Second] = []
    with served(SleepingDetector(), pictures, FPS, APART) as (processor, counting, _):
        monitor = VramMonitor(SimulatedReader(share))
        config = StreamManagerConfig(check_every_s=0.25)
        with StreamManager(processor, monitor, SheddingPolicy(), config=config) as manager:
            manager.start()
            n_before = dict(counting.n_results)
            # Each of up to four limits of each stream comes back after five seconds.
            while time.monotonic() - start_s < CALM_S + seconds + 5.0 * 4 * N_STREAMS:
                time.sleep(1.0)
                n_now = dict(counting.n_results)
                fps = tuple(
                    float(n_now.get(str(one), 0) - n_before.get(str(one), 0))
                    for one in range(N_STREAMS)
                )
                n_before = n_now
                counts = manager.counts
                elapsed_s = time.monotonic() - start_s
                rows.append(Second(elapsed_s, share(), counts.n_slowed, counts.n_suspended, fps))
                is_over = elapsed_s > CALM_S + seconds + 3.0
                if is_over and all(not (r.n_slowed or r.n_suspended) for r in rows[-5:]):
                    break
        n_alive = len(processor.stream_states())
        n_ends = counting.n_ends
    squeeze_bars(report, rows, seconds, (n_alive, n_ends))
    squeeze_table(report, rows, seconds)


def let_through(processor: MultiStreamProcessor) -> float:
    """Return the share of the full rate that the limits let through."""
    states = processor.stream_states()
    rates = [0.0 if s.is_suspended else min(FPS, s.max_fps or FPS) / FPS for s in states]
    return float(np.mean(rates)) if rates else 0.0


def squeeze_bars(
    report: Report, rows: Sequence[Second], seconds: float, alive: tuple[int, int]
) -> None:
    """Tell what the streams lost, and whether they got it back."""
    during = [row for row in rows if CALM_S < row.time_s <= CALM_S + seconds]
    settled = next((row.time_s - CALM_S for row in during if row.share <= 0.9), float("nan"))
    given = [row.n_slowed + row.n_suspended for row in rows]
    steps = [np.sign(b - a) for a, b in pairwise(given) if a != b]
    turns = sum(a != b for a, b in pairwise(steps))
    before = np.mean([sum(row.fps) for row in rows[2 : int(CALM_S) - 1]])
    after = np.mean([sum(row.fps) for row in rows[-4:]])
    report.bar(
        "memory_share_at_the_worst",
        goal=None,
        measured=max(row.share for row in rows),
        unit="",
        n=len(rows),
        note="made up; the rule sheds above .90 and gives back below .70",
    )
    report.bar(
        "seconds_until_the_memory_is_at_most_90_percent",
        goal="<= 10",
        measured=settled,
        unit="s",
        note="a step every two seconds (goal chosen by us)",
    )
    report.bar(
        "streams_suspended_at_most",
        goal="== 0",
        measured=max(row.n_suspended for row in rows),
        unit="streams",
        note="frame rates fall first, and here that is enough",
    )
    report.bar(
        "streams_alive_after_the_squeeze",
        goal=f"== {N_STREAMS}",
        measured=alive[0],
        unit="streams",
        note=f"{alive[1]} clients were told of an end",
    )
    report.bar(
        "turns_between_shedding_and_giving_back",
        goal="== 1",
        measured=turns,
        unit="turns",
        note="1: all was shed, then all given back, and nothing swung",
    )
    report.bar(
        "frames_a_second_after_over_before",
        goal=">= 0.98",
        measured=after / before,
        unit="ratio",
        n=len(rows),
        note=f"{after:.1f} against {before:.1f} frames/s",
    )
    report.bar(
        "seconds_until_all_is_given_back",
        goal=None,
        measured=seconds_back(rows, CALM_S + seconds),
        unit="s",
        note="five seconds of low memory before each step, a quarter of the streams each",
    )


def seconds_back(rows: Sequence[Second], end_s: float) -> float:
    """Return how long after the squeeze nothing was given up any more; NaN if something was."""
    free = [row.time_s for row in rows if not (row.n_slowed or row.n_suspended)]
    return next((time_s - end_s for time_s in free if time_s > end_s), float("nan"))


def squeeze_table(report: Report, rows: Sequence[Second], seconds: float) -> None:
    """Show each second."""
    report.table(
        "A squeeze of GPU memory to 95 %, by the second",
        ["s", "memory", "slowed", "suspended", *(f"stream {n} frames/s" for n in range(N_STREAMS))],
        [[round(r.time_s), r.share, r.n_slowed, r.n_suspended, *r.fps] for r in rows],
        f"{N_STREAMS} streams at {FPS:g} frames a second. From second {CALM_S:g} to "
        f"{CALM_S + seconds:g} other programs take {OTHERS_DURING:.0%} of the memory; the streams "
        f"take {STREAMS_SHARE:.0%} at their full rate and less in proportion to the rate that is "
        f"let through. The detector is a stand-in that takes {1e3 * BATCH_S:g} ms for a batch.",
    )


def out_of_memory(report: Report, seconds: float) -> None:
    """Let the engine run out of memory under live streams."""
    is_short = threading.Event()

    def inject(n_frames: int) -> None:
        if is_short.is_set() and n_frames > BEYOND:
            raise torch.OutOfMemoryError("injected: out of memory")

    pictures = [frame.image for frame in synthetic_frames((8, 1)).calibration]
    config = EngineConfig(image_size=320, max_batch=4, recovery_batches=4)
    engine = PoseEngine(untrained_network(), "cpu", config, on_batch=inject)
    detector = TimedDetector("engine", engine, is_on_cpu=True)
    sizes = []
    dropped: Counter[DropCause] = Counter()
    with served(detector, pictures, OOM_FPS, TOGETHER) as (processor, counting, cameras):
        for is_set in (False, True, False):
            (is_short.set if is_set else is_short.clear)()
            first = dict(counting.n_results)
            time.sleep(seconds)
            found = sum(counting.n_results.values()) - sum(first.values())
            sizes.append([("no", "yes")[is_set], engine.max_batch, engine.n_out_of_memory, found])
        n_alive = len(processor.stream_states())
        n_lost = sum(camera.n_lost for camera in cameras)
        for stream in range(N_STREAMS):
            dropped.update(processor.counts(str(stream)).dropped)
        n_ends = counting.n_ends
    detector.close()
    report.bar(
        "engine_out_of_memory",
        goal=">= 1",
        measured=engine.n_out_of_memory,
        unit="times",
        note=f"injected for batches above {BEYOND} frame while memory is short",
    )
    report.bar(
        "frames_that_failed_with_the_engine_out_of_memory",
        goal="== 0",
        measured=dropped["failed"],
        unit="frames",
        n=sum(int(row[3]) for row in sizes),
        note="the batch is halved and its frames are tried again; dropped for other causes: "
        f"{dropped.total() - dropped['failed']}, left in the cameras: {n_lost}",
    )
    report.bar(
        "streams_alive_after_out_of_memory",
        goal=f"== {N_STREAMS}",
        measured=n_alive,
        unit="streams",
        note=f"{n_ends} clients were told of an end before the processor was closed",
    )
    report.table(
        "The engine out of memory under live streams",
        ["memory is short", "largest batch after", "times out of memory so far", "frames analysed"],
        sizes,
        f"{N_STREAMS} streams at {OOM_FPS:g} frames a second for {seconds:g} s each time, on the "
        f"CPU, with an untrained YOLO11n-pose at {config.image_size} pixels. After "
        f"{config.recovery_batches} batches without trouble the largest batch doubles again; then "
        "it is tried and fails again while memory is short, and no frame is lost by that.",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run both and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="that memory is short")
    parser.add_argument("--out", type=Path, help="folder of the report, reports/ by default")
    args = parser.parse_args(argv)
    report = Report(
        "stream_trouble",
        "scripts/run stream-trouble",
        title="Live streams when GPU memory runs short",
        folder=args.out,
    )
    squeeze(report, args.seconds)
    out_of_memory(report, args.seconds / 2.0)
    print(report.write())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
