"""Parts of `gpu_pose_engine`: GPU memory, what happens without it, and JPEG input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import cv2
import numpy as np
import torch
from gpu_bench import DEVICE, SIZE, Bench, as_frames
from pose_agreement import agreement
from report_lib import measure

from pose_analyzer.inference.backends.onnx_runtime import available_cores
from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.inference.jpeg import (
    Decoded,
    GpuJpegDecoder,
    JpegDecoder,
    ThreadedJpegDecoder,
    choose_jpeg_decoder,
)
from pose_analyzer.types import PoseDetections

HEADROOMS_MIB: Final = (512, 256, 128, 64)
"""What the limits leave. The input and the first layer's output of 32 pictures alone take 220 MiB
in FP32, those of four 28."""


def memory(bench: Bench) -> None:
    """Say how much GPU memory engines for four and for 32 streams take."""
    rows = []
    for max_batch in (4, 32):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        free_before = torch.cuda.mem_get_info()[0]
        with bench.engine(EngineConfig(max_batch=max_batch)) as engine:
            engine.warm_up()
            for start in range(4):
                engine.infer(as_frames(bench.batch(max_batch, start)))
            free_now, total = torch.cuda.mem_get_info()
            figures = torch.cuda.max_memory_reserved(), free_before - free_now, total - free_now
            rows.append([max_batch, *(figure / 2**20 for figure in figures)])
    bench.report.bar(
        "engine_memory_4_streams_mib",
        goal="<= 2048",
        measured=rows[0][3],
        unit="MiB",
        note="all that the GPU has given away, the context of the process included",
    )
    bench.report.table(
        "GPU memory of an engine, MiB",
        ["largest batch", "reserved by PyTorch, most", "taken by the engine", "taken in all"],
        rows,
        "In all: with the context of the process, the code of its kernels, and what other engines "
        "of this run left.",
    )


def out_of_memory(bench: Bench) -> None:
    """Let the memory run out, once by injection and then by limits."""
    images = bench.batch(32)
    with bench.engine() as engine:
        expected = engine.infer(as_frames(images))
    rows: list[list[str | int | float]] = []

    def inject(n_frames: int) -> None:
        if n_frames > 8:
            raise torch.OutOfMemoryError("injected")

    def note(how: str, engine: PoseEngine, found: list[PoseDetections]) -> None:
        same = agreement(found, expected, images)
        worst_px = float(same.distance_px.max()) if len(same.distance_px) else 0.0
        rows.append([how, engine.n_out_of_memory, engine.max_batch, len(found), worst_px])

    with bench.engine(on_batch=inject) as engine:
        note("injected above 8", engine, engine.infer(as_frames(images)))
    for headroom_mib in HEADROOMS_MIB:
        with bench.engine() as engine:
            engine.infer(as_frames(images[:4]))
            with limited_memory(headroom_mib):
                found = engine.infer(as_frames(images))
            note(f"{headroom_mib} MiB beyond what four frames took", engine, found)
    bench.report.bar(
        "frames_after_out_of_memory",
        goal="== 32",
        measured=min(int(row[3]) for row in rows),
        unit="frames",
        note=f"the fewest of {len(rows)} ways to run out of it, with a batch of 32",
    )
    bench.report.table(
        "Out of memory",
        ["how", "times", "largest batch after", "frames answered", "largest difference px"],
        rows,
    )


@contextmanager
def limited_memory(headroom_mib: int) -> Iterator[None]:
    """Let PyTorch take no more than so much beyond what is in use now."""
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_reserved() + (headroom_mib << 20)
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def jpeg(bench: Bench) -> None:
    """Decode JPEG batches in threads and on the GPU, up to the keypoints."""
    files = [cv2.imencode(".jpg", image)[1].tobytes() for image in bench.images]
    decoders: tuple[JpegDecoder, ...] = (
        ThreadedJpegDecoder(),
        ThreadedJpegDecoder(640),
        GpuJpegDecoder(ThreadedJpegDecoder(SIZE[0] // 3), DEVICE),
    )
    rows = []
    with bench.engine() as engine:
        engine.warm_up()
        engine.warm_up((SIZE[1] // 2, SIZE[0] // 2, 3))

        def keypoints(decoded: Decoded) -> None:
            engine.collect(engine.submit([each.picture for each in decoded if each is not None]))

        for size in (1, 4, 16, 32):
            batch = [files[row % len(files)] for row in range(size)]
            for decoder in decoders:
                alone = measure(lambda: finished(decoder.decode(batch)), n=15, warmup=3)  # noqa: B023
                whole = measure(lambda: keypoints(decoder.decode(batch)), n=15, warmup=3)  # noqa: B023
                rate = size / whole.median_us * 1e6
                row = [alone.median_us * 1e-3, whole.median_us * 1e-3, whole.p99_us * 1e-3, rate]
                rows.append([size, decoder.name, *row])
        chosen = choose_jpeg_decoder(decoders, files[:4], keypoints)
    bench.report.table(
        "1080p JPEG to keypoints",
        ["batch", "decoder", "decode ms p50", "whole ms p50", "whole ms p99", "frames/s"],
        rows,
        f"A file has {np.mean([len(data) for data in files]) / 1e3:.0f} kB on average. Chosen for "
        f"batches of four on this machine: {chosen.name}. {available_cores()} cores.",
    )


def finished(decoded: Decoded) -> None:
    """Wait for pictures that the GPU may still be making."""
    torch.cuda.synchronize()
    assert None not in decoded  # noqa: S101 - the files are ours
