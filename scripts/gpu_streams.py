"""Live 1080p streams on one GPU: latency by number of streams, against Ultralytics' own loader.

python scripts/gpu_streams.py --out FOLDER [--weights ONNX_OR_PT] [--clips MP4 ...]
    [--processes N] [--only PART ...]

As many other processes analyse as the streams need, or N. Writes gpu_streams.{json,md} to the
folder. Without weights they are random, which see nobody. A part that fails is recorded and the
rest goes on.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from gpu_bench import DEVICE, Bench, load_images
from gpu_jpeg_streams import jpeg_live
from gpu_live_parts import decoded, pipeline, processes_for, served, warm_detector
from paced_capture import PacedCapture
from pose_agreement import Reference
from report_lib import Report, command

from pose_analyzer.cli_bench import SWITCH_S
from pose_analyzer.inference.backends.onnx_runtime import available_cores
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.stream_load import LoadResult, LoadSpec, run_load
from pose_analyzer.types import ImageArray

RUNS: Final = ((4, 60), (1, 5), (8, 8), (16, 8), (32, 15), (48, 8))
"""Streams and seconds; that of four comes first, on a fresh process."""
RUNS_IN_ONE_PROCESS: Final = ((16, 8), (32, 8))
"""The same where the process that serves analyses too."""
COLUMNS: Final = (
    "streams",
    "processes",
    "frames/s",
    "dropped %",
    "ms p50",
    "ms p95",
    "ms p99",
    "mean batch",
    "cores busy",
    "queue ms p50",
    "infer ms p50",
    "analyse ms p50",
)


def row(n_streams: int, found: LoadResult, n_processes: int) -> list[object]:
    """Return a line of the tables."""
    stages = [
        float(np.median(found.stage_ms[name])) if found.stage_ms[name].size else float("nan")
        for name in ("queue", "infer", "analyse")
    ]
    latency = [found.percentile_ms(percent) for percent in (50, 95, 99)]
    return [
        n_streams,
        n_processes,
        found.fps,
        100.0 * found.drop_share,
        *latency,
        found.mean_batch,
        found.cpu_s / found.seconds,
        *stages,
    ]


def live(bench: Bench) -> None:
    """Push decoded frames: four streams for a minute, then more of them."""
    before = free_bytes()
    detector = warm_detector(bench)
    rows = []
    for n_streams, seconds in RUNS:
        with processes_for(bench, n_streams) as processes:
            spec = LoadSpec(n_streams, seconds=seconds)
            found = served(detector, spec, decoded(bench), processes)
            n_processes = processes.n_processes
        rows.append(row(n_streams, found, n_processes))
        if n_streams == 4:
            four_streams(bench.report, found, before)
        if n_streams == 32:
            thirty_two_streams(bench.report, found, n_processes)
    for n_streams, seconds in RUNS_IN_ONE_PROCESS:
        spec = LoadSpec(n_streams, seconds=seconds)
        found = run_load(detector, spec, decoded(bench), pipeline)
        rows.append(row(n_streams, found, 0))
        if n_streams == 32:
            bench.report.bar(
                "gpu_32_streams_in_one_process_ms_p99",
                goal=None,
                measured=found.percentile_ms(99),
                unit="ms",
                n=len(found.latency_ms),
                note=f"{100 * found.drop_share:.2f} % of the frames dropped; for comparison",
            )
    rows.sort(key=lambda one: (int(str(one[0])), int(str(one[1]))))
    bench.report.table(
        "Decoded 1080p frames, 30 a second of each stream",
        COLUMNS,
        rows,
        "From capture, when the frame was due, to its analysis with tracking, angles and "
        "repetitions. All streams, the pacing of the cameras and, with 0 processes, the analysis "
        f"run in one Python process on {available_cores()} cores. Otherwise so many others "
        "analyse: as many as the rule of `analysis_processes` gives, unless told otherwise; the "
        "cores busy are without theirs, and analyse ms has the way there and back.",
    )


def thirty_two_streams(report: Report, found: LoadResult, n_processes: int) -> None:
    """Add the bar of 32 streams."""
    report.bar(
        "gpu_32_streams_ms_p99",
        goal="<= 50",
        measured=found.percentile_ms(99),
        unit="ms",
        n=len(found.latency_ms),
        note=f"{100 * found.drop_share:.2f} % of the frames dropped; "
        + (f"{n_processes} processes analyse" if n_processes else "analysed in the same process"),
    )


def four_streams(report: Report, found: LoadResult, free_before: int) -> None:
    """Add the bars of four streams."""
    n = len(found.latency_ms)
    taken = free_before - free_bytes()
    report.bar("gpu_4_streams_fps", goal=">= 119.9", measured=found.fps, unit="frames/s", n=n)
    report.bar(
        "gpu_4_streams_dropped", goal="< 0.1", measured=100 * found.drop_share, unit="%", n=n
    )
    for percent, goal in ((50, "<= 12"), (99, "<= 25")):
        report.bar(
            f"gpu_4_streams_ms_p{percent}",
            goal=goal,
            measured=found.percentile_ms(percent),
            unit="ms",
            n=n,
            p95=found.percentile_ms(95),
            p99=found.percentile_ms(99),
        )
    report.bar(
        "gpu_4_streams_vram_mib",
        goal="< 2048",
        measured=taken / 2**20,
        unit="MiB",
        note="taken from the card's free memory since before the context was made",
    )


def peer_loader(bench: Bench) -> None:
    """Serve the same four cameras by Ultralytics' stream loader and predictor."""
    ours = run_load(warm_detector(bench), LoadSpec(4, seconds=15), decoded(bench), pipeline)
    latency_ms = np.array(peer_latencies(bench, 15.0)) * 1e3
    theirs = np.percentile(latency_ms, [50, 95, 99])
    bench.report.bar(
        "gpu_4_streams_ms_p99_in_ultralytics",
        goal="<= 0.333",
        measured=ours.percentile_ms(99) / theirs[2],
        unit="times",
        n=len(latency_ms),
        note="live p99 of ours, with the analysis, over that of its loader and predictor, without",
    )
    bench.report.table(
        "Four live streams against Ultralytics' loader",
        ["", "frames/s", "ms p50", "ms p95", "ms p99"],
        [
            ["ours, to FrameAnalysis", ours.fps, *(ours.percentile_ms(p) for p in (50, 95, 99))],
            ["ultralytics, to keypoints", len(latency_ms) / 15.0, *theirs],
        ],
        "The same pictures, weights, card and run. Its loader reads cameras that stand in for "
        "OpenCV's and tell when each frame was captured; its own rule says which frame it takes.",
    )


def peer_latencies(bench: Bench, seconds: float) -> list[float]:
    """Return seconds from capture to result of each frame that Ultralytics gave."""
    PacedCapture.images = bench.images
    reference = Reference(bench.network(), DEVICE, is_half=True)
    latencies: list[float] = []
    original = cv2.VideoCapture
    with tempfile.NamedTemporaryFile("w", suffix=".streams", delete=False) as file:
        file.write("\n".join(f"rtsp://camera{n}/" for n in range(4)))
    try:
        setattr(cv2, "VideoCapture", PacedCapture)  # noqa: B010 - its loader takes it from there
        start_s = time.monotonic()
        for result in reference.stream(file.name):
            done_s = time.monotonic()
            number = int.from_bytes(bytes(result.orig_img[0, :4, 0].tolist()), "little")
            if number in PacedCapture.times and done_s - start_s > 3.0:
                latencies.append(done_s - PacedCapture.times[number])
            if done_s - start_s > seconds + 3.0:
                break
    finally:
        setattr(cv2, "VideoCapture", original)  # noqa: B010
        Path(file.name).unlink()
    return latencies


def chaos(bench: Bench) -> None:
    """Kill, stall and feed garbage into one of four streams, and watch the other three."""
    detector = warm_detector(bench)
    camera = decoded(bench)
    others = (1, 2, 3)
    spec = LoadSpec(4, seconds=6)

    def killed(stream: int, index: int) -> ImageArray | None:
        return None if stream == 0 and index > 75 else camera(stream, index)

    def stalled(stream: int, index: int) -> ImageArray:
        if stream == 0 and index > 75:
            time.sleep(0.7)
        return camera(stream, index)

    def garbage(stream: int, index: int) -> ImageArray:
        if stream == 0 and index > 75:
            return np.zeros((0, 3), dtype=np.float64) if index % 2 else noise
        return camera(stream, index)

    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    rows = []
    n_frames = 0
    captures = {"none": camera, "killed": killed, "stalled": stalled, "garbage": garbage}
    troubled: dict[str, list[float]] = {name: [] for name in captures}
    for _ in range(2):
        for name, capture in captures.items():
            found = run_load(detector, spec, capture, pipeline)
            troubled[name].append(found.percentile_ms(95, others))
            n_frames = int(found.counts(spec.n_streams)[list(others)].sum())
            rows.append([name, n_frames, *(found.percentile_ms(p, others) for p in (50, 95, 99))])
    calm = troubled.pop("none")
    worst = max(float(np.mean(one)) / float(np.mean(calm)) - 1.0 for one in troubled.values())
    swing = max(calm) / min(calm) - 1.0
    bench.report.bar(
        "gpu_trouble_moves_p95_of_the_others",
        goal="< 10",
        measured=100.0 * worst,
        unit="%",
        n=n_frames,
        note="the worst of killed, stalled, garbage; mean of two runs each, in turn; the two runs "
        f"without trouble differ by {100.0 * swing:.1f} %",
    )
    bench.report.table(
        "Trouble in one of four streams: latency of the other three",
        ["trouble", "n", "ms p50", "ms p95", "ms p99"],
        rows,
    )


def free_bytes() -> int:
    """Return the free memory of the card; makes no context."""
    import pynvml

    pynvml.nvmlInit()
    return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).free)


PARTS: Final = (live, peer_loader, chaos, jpeg_live)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all parts and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--clips", type=Path, nargs="*", default=[])
    names = [part.__name__ for part in PARTS]
    parser.add_argument("--processes", type=int, metavar="N")
    parser.add_argument("--only", nargs="*", default=names, choices=names, metavar="PART")
    arguments = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(arguments)
    sys.setswitchinterval(SWITCH_S)
    report = Report(
        "_".join(["gpu_streams", *(options.only if set(options.only) != set(names) else ())]),
        command("scripts/gpu_streams.py", arguments),
        title="Live streams on one GPU",
        folder=options.out,
    )
    kind = "random weights" if options.weights is None else f"the weights {options.weights.name}"
    report.text(
        f"YOLO11n-pose in {EngineConfig().precision} with {kind}, 1080p frames of "
        f"{'real clips' if options.clips else 'made pictures'}, each stream at 30 a second with a "
        f"random phase. PyTorch {torch.__version__}."
    )
    bench = Bench(report, options.weights, load_images(options.clips), options.processes)
    for part in PARTS:
        if part.__name__ not in options.only:
            continue
        started_s = time.perf_counter()
        try:
            part(bench)
        except Exception:  # noqa: BLE001 - the top of the loop: what else can be measured is
            report.detail(f"{part.__name__} failed", traceback.format_exc())
            report.text(f"**{part.__name__} failed**; the JSON file says how.")
            traceback.print_exc()
        # A run that is killed keeps what it has measured so far.
        report.write()
        gc.collect()
        torch.cuda.empty_cache()
        print(f"{part.__name__}: {time.perf_counter() - started_s:.1f} s", flush=True)
    print(report.write())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
