"""The batched pose engine on a GPU: whether it agrees, how fast it is, how near the floor.

python scripts/gpu_pose_engine.py --out FOLDER [--weights ONNX_OR_PT] [--frames NPZ_OR_MP4]

Writes gpu_pose_engine.{json,md} to the folder. Without weights they are random, which times do not
depend on; then nothing is said about agreement. A part that fails is recorded and the rest goes on.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from pose_agreement import Reference, agreement, as_detections, clip_frames, fitted
from report_lib import Report, Timing, measure

from pose_analyzer.inference.backends.onnx_runtime import available_cores
from pose_analyzer.inference.device_letterbox import has_triton, packing_for
from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import BATCH_SIZES, EngineConfig
from pose_analyzer.inference.jpeg import (
    Decoded,
    GpuJpegDecoder,
    JpegDecoder,
    ThreadedJpegDecoder,
    choose_jpeg_decoder,
)
from pose_analyzer.inference.pose_network import (
    PoseNetwork,
    load_pose_network,
    untrained_network,
)
from pose_analyzer.inference.preprocess import Letterbox
from pose_analyzer.types import Frame, ImageArray

DEVICE: Final = "cuda:0"
SIZE: Final = (1920, 1080)
N_FRAMES: Final = 48
"""Different frames in turn, so that no cache holds what a camera would bring anew."""
ROUNDS: Final = 3
SECONDS_EACH: Final = 0.6
"""Of one detector at one batch size in one round."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part works on."""

    report: Report
    weights: Path | None
    images: list[ImageArray]

    def network(self) -> PoseNetwork:
        """Return a fresh network; engines take theirs over."""
        return untrained_network() if self.weights is None else load_pose_network(self.weights)

    @contextmanager
    def engine(
        self, config: EngineConfig | None = None, on_batch: Callable[[int], None] | None = None
    ) -> Iterator[PoseEngine]:
        """Lend an engine."""
        engine = PoseEngine(self.network(), DEVICE, config, on_batch=on_batch)
        try:
            yield engine
        finally:
            engine.close()

    def batch(self, n: int, start: int = 0) -> list[ImageArray]:
        """Return n images in turn."""
        return [self.images[(start + row) % len(self.images)] for row in range(n)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run all parts and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--frames", type=Path, nargs="*", default=[])
    parser.add_argument("--only", nargs="*", default=[], help="names of parts to run alone")
    options = parser.parse_args(argv)
    report = Report(
        "gpu_pose_engine",
        "python scripts/gpu_pose_engine.py",
        title="The batched pose engine on a GPU",
        folder=options.out,
    )
    describe(report, options.weights, options.frames)
    bench = Bench(report, options.weights, load_images(options.frames))
    for part in PARTS:
        if not options.only or part.__name__ in options.only:
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
        f"Fused letterbox kernel: {'yes' if has_triton() else 'no'}. PyTorch {torch.__version__}."
    )


def load_images(paths: Sequence[Path]) -> list[ImageArray]:
    """Return frames of the files scaled to 1080p, or made ones."""
    images: list[ImageArray] = []
    for path in paths:
        if path.suffix == ".npz":
            with np.load(path) as archive:
                pictures = archive[archive.files[0]]
            images += [fitted(picture, SIZE) for picture in pictures]
        else:
            images += clip_frames([path], max(1, N_FRAMES // len(paths)), SIZE)
    return images or made_images()


def made_images() -> list[ImageArray]:
    """Return smooth random frames: no camera gives white noise, and nothing depends on it."""
    rng = np.random.default_rng(4)
    coarse = rng.integers(0, 256, (N_FRAMES, 68, 120, 3), dtype=np.uint8)
    return [cv2.resize(image, SIZE, interpolation=cv2.INTER_CUBIC) for image in coarse]


def as_frames(images: Sequence[ImageArray]) -> list[Frame]:
    """Return images as frames of one stream."""
    return [Frame(image, index / 30.0, index) for index, image in enumerate(images)]


# --- parts ----------------------------------------------------------------------------------


def agreement_with_ultralytics(bench: Bench) -> None:
    """Compare with Ultralytics in FP32 and FP16, rectangular and square input."""
    if bench.weights is None:
        for name in ("fp32", "fp16"):
            bench.report.bar(
                f"keypoints_agree_{name}",
                goal=">= 99",
                measured=None,
                unit="%",
                note="random weights see nobody",
            )
        return
    rows = []
    for is_half, limit_px, limit_confidence in ((False, 1.0, 0.01), (True, 2.0, 0.02)):
        for is_square in (False, True):
            name = f"{'fp16' if is_half else 'fp32'}_{'square' if is_square else 'rectangle'}"
            reference = Reference(bench.network(), DEVICE, is_square=is_square)
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                theirs = as_detections(reference.predict(bench.images))
            with bench.engine(EngineConfig(is_half=is_half, is_square=is_square)) as engine:
                ours = engine.infer(as_frames(bench.images))
            found = agreement(ours, theirs, bench.images)
            n = len(found.distance_px)
            bench.report.bar(
                f"keypoints_agree_{name}",
                goal=">= 99",
                measured=found.share_within(limit_px),
                unit="%",
                n=n,
                note=f"within {limit_px:g} px of Ultralytics in FP32",
            )
            bench.report.bar(
                f"confidences_agree_{name}",
                goal=">= 99",
                measured=found.share_of_confidences_within(limit_confidence),
                unit="%",
                n=n,
                note=f"within {limit_confidence:g}",
            )
            px = np.percentile(found.distance_px, [50, 99, 100])
            trust = np.percentile(found.confidence, [50, 99, 100])
            rows.append([name, n, *px, *trust, found.n_people, found.n_alone])
    bench.report.table(
        "Agreement with Ultralytics in FP32",
        [
            "input",
            "keypoints",
            "px p50",
            "px p99",
            "px max",
            "confidence p50",
            "confidence p99",
            "confidence max",
            "people",
            "seen by one alone",
        ],
        rows,
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
        bench.report.bar(
            f"times_ultralytics_batch_{size}",
            goal=">= 5" if size in (4, 16) else None,
            measured=rates["engine"] / best_peer,
            unit="x",
            n=len(times["engine", size]),
            note="one batch after the other, against the faster of Ultralytics' FP16 and FP32",
        )
    bench.report.table(
        "From 1080p frames on the host to keypoints",
        ["batch", "detector", "frames/s", "ms p50", "ms p95", "ms p99", "batches"],
        rows,
    )


def timed(
    call: Callable[[list[ImageArray]], object], bench: Bench, size: int, turn: int
) -> list[float]:
    """Return the seconds of each call over batches in turn, warm-up calls left out."""
    for row in range(3 if turn == 0 else 1):
        call(bench.batch(size, row))
    durations: list[float] = []
    end_s = time.perf_counter() + SECONDS_EACH
    while time.perf_counter() < end_s or len(durations) < 3:
        batch = bench.batch(size, len(durations) * size)
        start_s = time.perf_counter()
        call(batch)
        durations.append(time.perf_counter() - start_s)
    return durations


def pipelined(engine: PoseEngine, bench: Bench, size: int) -> list[float]:
    """Return the seconds between batches when the next is submitted before the last is taken."""
    ticket = engine.submit(bench.batch(size))
    durations: list[float] = []
    end_s = time.perf_counter() + SECONDS_EACH
    while time.perf_counter() < end_s:
        start_s = time.perf_counter()
        following = engine.submit(bench.batch(size, len(durations) * size))
        engine.collect(ticket)
        ticket = following
        durations.append(time.perf_counter() - start_s)
    engine.collect(ticket)
    return durations


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


def seconds_on_gpu(call: Callable[[], object], n: int = 10) -> float:
    """Return the median time of a call by CUDA events."""
    durations = []
    for _ in range(n + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        call()
        end.record()
        end.synchronize()
        durations.append(start.elapsed_time(end) * 1e-3)
    return float(np.median(durations[2:]))


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
            taken = free_before - torch.cuda.mem_get_info()[0]
            rows.append([max_batch, torch.cuda.max_memory_reserved() / 2**20, taken / 2**20])
    total, free = (
        torch.cuda.get_device_properties(DEVICE).total_memory,
        torch.cuda.mem_get_info()[0],
    )
    bench.report.bar(
        "engine_memory_4_streams_mib",
        goal="<= 2048",
        measured=rows[0][2],
        unit="MiB",
        note="taken from the GPU by the engine, beyond the context of the process",
    )
    bench.report.table(
        "GPU memory of an engine, MiB",
        ["largest batch", "reserved by PyTorch, most", "taken from the GPU"],
        rows,
        f"The process holds {(total - free) / 2**20:.0f} MiB of the GPU besides.",
    )


def out_of_memory(bench: Bench) -> None:
    """Let the memory run out, once by a limit and once by injection."""
    images = bench.batch(32)
    with bench.engine() as engine:
        expected = engine.infer(as_frames(images))
    rows: list[list[str | int]] = []

    def inject(n_frames: int) -> None:
        if n_frames > 8:
            raise torch.OutOfMemoryError("injected")

    with bench.engine(on_batch=inject) as engine:
        found = engine.infer(as_frames(images))
        rows.append(["injected above 8", engine.n_out_of_memory, engine.max_batch, len(found)])
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    with bench.engine() as engine:
        engine.infer(as_frames(images[:4]))
        torch.cuda.empty_cache()
        limit = torch.cuda.memory_reserved() + (96 << 20)
        torch.cuda.set_per_process_memory_fraction(limit / total)
        try:
            found = engine.infer(as_frames(images))
            rows.append(["real, by a limit", engine.n_out_of_memory, engine.max_batch, len(found)])
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    same = agreement(found, expected, images)
    worst_px = float(same.distance_px.max()) if len(same.distance_px) else 0.0
    bench.report.bar(
        "frames_after_out_of_memory",
        goal="== 32",
        measured=len(found),
        unit="frames",
        note=f"largest difference of a keypoint {worst_px:.2f} px",
    )
    bench.report.table(
        "Out of memory", ["how", "times", "largest batch after", "frames answered"], rows
    )


def jpeg(bench: Bench) -> None:
    """Decode JPEG batches in threads and on the GPU, up to the keypoints."""
    files = [cv2.imencode(".jpg", image)[1].tobytes() for image in bench.images]
    decoders: tuple[JpegDecoder, ...] = (
        ThreadedJpegDecoder(),
        ThreadedJpegDecoder(640),
        GpuJpegDecoder(DEVICE),
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


PARTS: Final = (
    agreement_with_ultralytics,
    throughput,
    stages_and_floor,
    jpeg,
    memory,
    out_of_memory,
)


if __name__ == "__main__":
    raise SystemExit(main())
