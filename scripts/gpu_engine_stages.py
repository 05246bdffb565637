"""Parts of `gpu_pose_engine`: where the time of a batch goes, and what the machine could do."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from gpu_bench import DEVICE, SIZE, Bench, seconds_on_gpu
from report_lib import measure

from pose_analyzer.inference.backends.onnx_runtime import available_cores
from pose_analyzer.inference.device_decode import (
    Cells,
    DecodeConfig,
    decode_on_device,
    decode_plainly,
)
from pose_analyzer.inference.device_letterbox import packing_for
from pose_analyzer.inference.engine_batch import BATCH_SIZES, EngineConfig
from pose_analyzer.inference.network_precision import library_choices, move_network
from pose_analyzer.inference.packing_crew import PackingCrew, packing_jobs
from pose_analyzer.inference.pose_network import PoseNetwork
from pose_analyzer.inference.preprocess import Letterbox

PRECISION: Final = EngineConfig().precision


def stages_and_floor(bench: Bench) -> None:
    """Say where the time goes, and what the machine could do at best."""
    rate = copy_rate()
    flops_each = network_flops(bench.network())
    matrix_rate = matmul_rate()
    box = Letterbox.fit_rectangle((SIZE[1], SIZE[0]), 640, 32)
    bytes_each = packing_for(box).n_bytes
    rows, stage_rows = [], []
    with bench.engine() as engine:
        engine.warm_up()
        for size in BATCH_SIZES:
            stages: dict[str, list[float]] = defaultdict(list)
            engine.on_stage = lambda stage, seconds: stages[stage].append(seconds)  # noqa: B023
            run = lambda: engine.collect(engine.submit(bench.batch(size)))  # noqa: B023, E731
            total = measure(run, n=60, warmup=5)
            copy_us = bytes_each * size / rate * 1e6
            math_us = flops_each * size / matrix_rate * 1e6
            floor_us = max(copy_us, math_us)
            rows.append(
                [size, copy_us, math_us, floor_us, total.median_us, total.median_us / floor_us]
            )
            medians = [float(np.median(stages[name][5:])) * 1e6 for name in STAGES]
            stage_rows.append([size, *medians, total.median_us, total.p99_us])
    bench.report.table(
        "Stages of a batch",
        ["batch", *(f"{name} us p50" for name in STAGES), "whole us p50", "whole us p99"],
        stage_rows,
        "By the GPU's clock. The first begins with packing on the host; the network holds decoding "
        "and suppression; the last is the copy back and the making of the results.",
    )
    bench.report.table(
        "The floor",
        ["batch", "copy us", "mathematics us", "floor us", "measured us p50", "times the floor"],
        rows,
        f"{bytes_each / 1e6:.2f} MB of a 1080p frame must reach the GPU (the lines that the "
        f"letterbox samples, of {SIZE[0] * SIZE[1] * 3 / 1e6:.2f} MB), at {rate / 1e9:.1f} GB/s as "
        f"measured from pinned memory; {flops_each / 1e9:.2f} GFLOP in the network, at "
        f"{matrix_rate / 1e12:.0f} TFLOP/s as measured in FP16 matrix products.",
    )


STAGES: Final = ("preprocess", "infer", "postprocess")


def copy_rate() -> float:
    """Return bytes per second from pinned host memory to the GPU."""
    host = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    device = torch.empty_like(host, device=DEVICE)
    return host.nbytes / seconds_on_gpu(lambda: device.copy_(host, non_blocking=True))


def matmul_rate() -> float:
    """Return floating-point operations per second of FP16 matrix products."""
    n = 8192
    left, right = (torch.randn(n, n, device=DEVICE, dtype=torch.float16) for _ in range(2))
    return 2.0 * n**3 / seconds_on_gpu(lambda: left @ right)


def network_flops(network: PoseNetwork) -> float:
    """Return the operations for one picture of 640 x 384, two to a multiplication and addition."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 384, 640))
    return float(counter.get_total_flops())


def kernels(bench: Bench) -> None:
    """Time the network, its decoding, and every kernel of one batch."""
    rows: list[list[str | float]] = []
    for size in (1, 4, 16, 32):
        for name, call in sub_graphs(bench, size).items():
            rows.append([size, name, 1e6 * seconds_on_gpu(recorded(call), n=50)])
    bench.report.table("Parts of the graph", ["batch", "what", "us p50"], rows)
    for size in (1, 16):
        n_kernels, most = profiled(bench, size)
        bench.report.table(
            f"Kernels of one batch of {size}",
            ["kernel", "times", "us in all"],
            most,
            f"The longest of {n_kernels} launches in {PRECISION}, without the graph.",
        )


def sub_graphs(bench: Bench, size: int) -> dict[str, Callable[[], object]]:
    """Return the steps of a batch of 384 x 640 by name, as the engine takes them."""
    network = bench.network()
    dtype = move_network(network, torch.device(DEVICE), PRECISION, is_fused=True)
    pictures = torch.rand((size, 3, 384, 640), device=DEVICE).to(dtype)
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    cells = Cells.of_input(384, 640, network.strides, torch.device(DEVICE))
    config = DecodeConfig()
    with torch.inference_mode(), library_choices(PRECISION):
        raw = tuple(each.clone() for each in network(pictures))
    boxes, scores, keypoints = raw
    return {
        "network": lambda: network(pictures),
        "decoding, kernels of our own": lambda: decode_on_device(
            boxes, scores, keypoints, cells, config
        ),
        "decoding, PyTorch's operations": lambda: decode_plainly(
            boxes, scores, keypoints, cells, config
        ),
        "both": lambda: decode_on_device(*network(pictures), cells, config),
    }


def recorded(call: Callable[[], object]) -> Callable[[], object]:
    """Return the replay of what a call does on the GPU."""
    stream = torch.cuda.Stream(DEVICE)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), library_choices(PRECISION), torch.cuda.stream(stream):
        for _ in range(3):
            call()
        stream.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            call()
    return graph.replay


def profiled(bench: Bench, size: int) -> tuple[int, list[list[str | float]]]:
    """Return how many kernels a batch launches, and those that take most time."""
    call = sub_graphs(bench, size)["both"]
    with torch.inference_mode(), library_choices(PRECISION):
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            call()
            torch.cuda.synchronize()
    totals: dict[str, list[float]] = defaultdict(list)
    for event in profile.events():
        if event.device_type.name == "CUDA":
            totals[event.name[:80]].append(float(event.time_range.elapsed_us()))
    most = sorted(totals.items(), key=lambda item: -sum(item[1]))[:20]
    return sum(map(len, totals.values())), [
        [name, len(each), float(np.sum(each))] for name, each in most
    ]


def packing(bench: Bench) -> None:
    """Time the packing of 1080p frames by crews of several sizes, without the copy."""
    box = Letterbox.fit_rectangle((SIZE[1], SIZE[0]), 640, 32)
    each = packing_for(box)
    rows = []
    for size in (1, 4, 16, 32):
        target = torch.empty(size * each.n_bytes, dtype=torch.uint8, pin_memory=True).numpy()
        for n_threads in (1, 2, 4, 8, 12):
            if n_threads > available_cores():
                continue
            crew = PackingCrew(n_threads)
            start = iter(range(1_000_000))

            def run() -> None:
                images = bench.batch(size, size * next(start))  # noqa: B023
                parts = crew.parts_each(size)  # noqa: B023
                jobs = [
                    job
                    for row, image in enumerate(images)
                    for job in packing_jobs(
                        image,
                        each,
                        target[row * each.n_bytes : (row + 1) * each.n_bytes],  # noqa: B023
                        0,
                        parts,
                    )
                ]
                deque(crew.run(jobs), maxlen=0)  # noqa: B023

            took = measure(run, n=60, warmup=5)
            rows.append([size, n_threads, took.median_us, took.p95_us])
            crew.close()
    bench.report.table("Packing on the host", ["batch", "threads", "us p50", "us p95"], rows)


def compiled(bench: Bench) -> None:
    """Compare the network as PyTorch's compiler fuses it."""
    rows = []
    for is_compiled in (False, True):
        config = EngineConfig(is_compiled=is_compiled)
        started_s = time.perf_counter()
        with bench.engine(config) as engine:
            for size in (4, 16):
                stages: dict[str, list[float]] = defaultdict(list)
                engine.collect(engine.submit(bench.batch(size)))
                engine.on_stage = lambda stage, seconds: stages[stage].append(seconds)  # noqa: B023
                for start in range(40):
                    engine.collect(engine.submit(bench.batch(size, start)))
                engine.on_stage = None
                infer_us = 1e6 * float(np.median(stages["infer"][10:]))
                rows.append([size, is_compiled, infer_us, time.perf_counter() - started_s])
    bench.report.table(
        "With PyTorch's compiler",
        ["batch", "compiled", "infer us p50", "seconds since the start"],
        rows,
    )
