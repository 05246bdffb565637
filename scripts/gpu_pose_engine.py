"""The batched pose engine on a GPU: whether it agrees, how fast it is, how near the floor.

python scripts/gpu_pose_engine.py --out FOLDER [--weights ONNX_OR_PT] [--frames NPZ_OR_MP4]
    [--only PART ...]

Writes gpu_pose_engine.{json,md} to the folder. Without weights they are random, which times do not
depend on; then nothing is said about agreement. A part that fails is recorded and the rest goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch
from gpu_bench import DEVICE, ROUNDS, SIZE, Bench, load_images, pipelined, timed
from gpu_engine_agreement import agreement_with_ultralytics, precisions
from gpu_engine_memory import jpeg, memory, out_of_memory
from gpu_engine_stages import compiled, kernels, packing, stages_and_floor
from pose_agreement import Reference
from report_lib import Report, Timing, command

from pose_analyzer.inference.device_letterbox import has_triton
from pose_analyzer.inference.engine_batch import BATCH_SIZES, EngineConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run all parts and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--frames", type=Path, nargs="*", default=[])
    names = [part.__name__ for part in (*PARTS, *ON_REQUEST)]
    parser.add_argument("--only", nargs="*", default=names[: len(PARTS)], choices=names)
    arguments = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(arguments)
    report = Report(
        "gpu_pose_engine",
        command("scripts/gpu_pose_engine.py", arguments),
        title="The batched pose engine on a GPU",
        folder=options.out,
    )
    describe(report, options.weights, options.frames)
    bench = Bench(report, options.weights, load_images(options.frames))
    for part in (*PARTS, *ON_REQUEST):
        if part.__name__ in options.only:
            run_part(part, bench)
    print(report.write())
    return 0


def run_part(part: Callable[[Bench], None], bench: Bench) -> None:
    """Run a part; if it fails, say so in the report and go on."""
    started_s = time.perf_counter()
    try:
        part(bench)
    except Exception:  # noqa: BLE001 - the top of the loop: what else can be measured is
        bench.report.detail(f"{part.__name__} failed", traceback.format_exc())
        bench.report.text(f"**{part.__name__} failed**; the JSON file says how.")
        traceback.print_exc()
    # A run that is killed keeps what it has measured so far.
    bench.report.write()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    print(f"{part.__name__}: {time.perf_counter() - started_s:.1f} s", flush=True)


def describe(report: Report, weights: Path | None, frames: Sequence[Path]) -> None:
    """Say on what the figures stand."""
    properties = torch.cuda.get_device_properties(DEVICE)
    kind = "random weights" if weights is None else f"the weights {weights.name}"
    source = "synthetic frames" if not frames else "frames of real clips"
    report.text(
        f"YOLO11n-pose with {kind}, {source} of {SIZE[0]} x {SIZE[1]}, on {properties.name}. "
        f"Fused kernels: {'yes' if has_triton() else 'no'}. PyTorch {torch.__version__}. The "
        f"engine calculates in {EngineConfig().precision} where nothing else is said."
    )


def throughput(bench: Bench) -> None:
    """Time batches from host frames, against Ultralytics in turn."""
    started_s = time.perf_counter()
    with bench.engine() as engine:
        engine.warm_up()
        bench.report.detail(
            "seconds to make and warm up an engine", time.perf_counter() - started_s
        )
        peers = {
            "ultralytics fp32": Reference(bench.network(), DEVICE).predict,
            "ultralytics fp16": Reference(bench.network(), DEVICE, is_half=True).predict,
        }
        times: dict[tuple[str, int], list[float]] = defaultdict(list)
        for turn in range(ROUNDS):
            for size in BATCH_SIZES:
                for name, predict in peers.items():
                    times[name, size] += timed(lambda b: predict(b), bench, size, turn)  # noqa: B023
                times["engine", size] += timed(
                    lambda b: engine.collect(engine.submit(b)), bench, size, turn
                )
                times["engine, two under way", size] += pipelined(engine, bench, size)
    rows = []
    for size in BATCH_SIZES:
        rates = {}
        for name in ("engine", "engine, two under way", *peers):
            timing = Timing.of(times[name, size])
            rates[name] = size / timing.median_us * 1e6
            row = [timing.median_us * 1e-3, timing.p95_us * 1e-3, timing.p99_us * 1e-3, timing.n]
            rows.append([size, name, rates[name], *row])
        best_peer = max(rates[name] for name in peers)
        for name, way, note in WAYS:
            bench.report.bar(
                f"throughput_x_ultralytics_batch_{size}_{way}",
                goal=">= 5" if size in {4, 16} else None,
                measured=rates[name] / best_peer,
                unit="x",
                n=len(times[name, size]),
                note=f"{note}; against the faster of Ultralytics' FP16 and FP32",
            )
    bench.report.table(
        "From 1080p frames on the host to keypoints",
        ["batch", "detector", "frames/s", "ms p50", "ms p95", "ms p99", "batches"],
        rows,
        "Of `engine, two under way` the times are those between batches; a batch alone takes the "
        "times of `engine`. Each figure stands for the rate at the median.",
    )


WAYS: Final = (
    ("engine", "one_after_the_other", "each batch is waited for, as Ultralytics does it"),
    (
        "engine, two under way",
        "two_under_way",
        "the next batch is submitted before the last is taken",
    ),
)
"""How the engine is driven, the name of that in a bar, and what it means."""
PARTS: Final = (
    agreement_with_ultralytics,
    precisions,
    throughput,
    stages_and_floor,
    kernels,
    packing,
    jpeg,
    memory,
    out_of_memory,
)
ON_REQUEST: Final = (compiled,)
"""Parts that take minutes: run only if named."""


if __name__ == "__main__":
    raise SystemExit(main())
