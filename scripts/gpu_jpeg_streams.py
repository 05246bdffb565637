"""Part of `gpu_streams`: JPEG files, decoded by the stream's thread, by threads, or on the GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import cv2
import numpy as np
from gpu_bench import DEVICE, Bench, as_frames
from gpu_live_parts import processes_for, served
from pose_agreement import agreement

from pose_analyzer.inference.backends.onnx_runtime import available_cores
from pose_analyzer.inference.detector import TimedDetector
from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.inference.jpeg import JpegDecoder
from pose_analyzer.inference.jpeg_head import jpeg_frame
from pose_analyzer.stream_capacity import holds
from pose_analyzer.stream_load import Capture, LoadResult, LoadSpec
from pose_analyzer.types import ImageArray

STREAMS: Final = (4, 8, 16, 32)
SECONDS: Final = 3.0
WARM_UP_S: Final = 0.8
BATCH: Final = 16
"""Files in a batch when decoders are compared."""
BUDGET_MS: Final = 50.0
BUSY: Final = 0.8
"""What is busy for so much of the time limits the rest (chosen by us)."""
IN_THE_STREAM: Final = "OpenCV, in the stream's thread"
COLUMNS: Final = (
    "streams",
    "processes",
    "decoded by",
    "n",
    "frames/s",
    "dropped %",
    "ms p50",
    "ms p95",
    "ms p99",
    "mean batch",
    "decode ms p50",
    "decoding %",
    "detector %",
    "cores busy",
    "limited by",
)


class EngineWith(PoseEngine):
    """The engine, with the decoders that it is told to compare."""

    decoders: Sequence[JpegDecoder] = ()

    def jpeg_decoders(self) -> Sequence[JpegDecoder]:
        """Return those."""
        return self.decoders or super().jpeg_decoders()


def jpeg_live(bench: Bench) -> None:
    """Push JPEG files, decoded in every way that there is."""
    files = [cv2.imencode(".jpg", image)[1].tobytes() for image in bench.images]
    engine = EngineWith(bench.network(), DEVICE, EngineConfig(max_batch=32))
    engine.warm_up()
    sample = [jpeg_frame(data, index / 30.0, index) for index, data in enumerate(files[:BATCH])]
    free = TimedDetector("engine", engine, is_on_cpu=False)
    free.detect(sample)
    ways: dict[str, tuple[TimedDetector, Capture]] = {IN_THE_STREAM: (free, opened(files))}
    for decoder in engine.jpeg_decoders():
        engine.decoders = [decoder]
        detector = TimedDetector(decoder.name, engine, is_on_cpu=False)
        detector.detect(sample)
        ways[decoder.name] = (detector, as_they_are(files))
    rows = []
    for n_streams in STREAMS:
        spec = LoadSpec(n_streams, seconds=SECONDS, warm_up_s=WARM_UP_S)
        with processes_for(bench, n_streams) as processes:
            for name, (detector, capture) in ways.items():
                found = served(detector, spec, capture, processes)
                rows.append(row(n_streams, processes.n_processes, name, found))
                if n_streams == STREAMS[-1]:
                    add_bar(bench, name, found, is_chosen=name == free.jpeg_decoder)
    bench.report.table(
        "JPEG files of 1080p, 30 a second of each stream", COLUMNS, rows, description(files, free)
    )
    if bench.weights is not None:
        compare(bench, files, {name: way[0] for name, way in ways.items() if way[0] is not free})
    engine.close()


def compare(bench: Bench, files: Sequence[bytes], detectors: Mapping[str, TimedDetector]) -> None:
    """Tell how far each decoder moves keypoints from where OpenCV's whole pictures have them."""
    detector = next(iter(detectors.values()))
    camera = opened(files)
    wholes = [camera(0, index) for index in range(len(files))]
    base = detector.detect(as_frames(wholes))
    found = {"none, the pictures before they were JPEG": detector.detect(as_frames(bench.images))}
    for name, one in detectors.items():
        found[name] = one.detect([jpeg_frame(data, 0.0, 0) for data in files])
    rows = []
    for name, people in found.items():
        same = agreement(people, base, wholes)
        moved = (
            np.percentile(same.distance_px, (50, 95)) if same.distance_px.size else (np.nan,) * 2
        )
        rows.append([name, len(same.distance_px), *moved, same.n_people, same.n_alone])
    bench.report.table(
        "How far decoding moves keypoints",
        ["decoder", "keypoints", "px p50", "px p95", "people", "seen by one alone"],
        rows,
        "Against OpenCV's whole pictures of the same files, in pixels of 1080p.",
    )


def opened(files: Sequence[bytes]) -> Callable[[int, int], ImageArray]:
    """Return cameras whose threads decode."""

    def capture(stream: int, index: int) -> ImageArray:
        data = np.frombuffer(files[(7 * stream + index) % len(files)], dtype=np.uint8)
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)

    return capture


def as_they_are(files: Sequence[bytes]) -> Capture:
    """Return cameras that push their files."""
    return lambda stream, index: files[(7 * stream + index) % len(files)]


def row(n_streams: int, n_processes: int, name: str, found: LoadResult) -> list[object]:
    """Return a line of the table."""
    decode_ms, detect_ms = found.stage_ms["decode"], found.stage_ms["infer"]
    decoding, detecting = (busy(times_ms, found) for times_ms in (decode_ms, detect_ms))
    shares = {
        "decoding": decoding,
        "the detector": detecting,
        "the cores": found.cpu_s / found.seconds / (available_cores() - n_processes),
    }
    return [
        n_streams,
        n_processes,
        name,
        len(found.latency_ms),
        found.fps,
        100.0 * found.drop_share,
        *(found.percentile_ms(percent) for percent in (50, 95, 99)),
        found.mean_batch,
        float(np.median(decode_ms)) if decode_ms.size else float("nan"),
        100.0 * decoding if decode_ms.size else float("nan"),
        100.0 * detecting,
        found.cpu_s / found.seconds,
        limit(shares, is_held=holds(found, BUDGET_MS)),
    ]


def busy(times_ms: np.ndarray[tuple[int, ...], np.dtype[np.float64]], found: LoadResult) -> float:
    """Return the share of the time that a stage was at work; its batches follow one another."""
    return 1e-3 * float(times_ms.sum()) / found.seconds


def limit(shares: dict[str, float], *, is_held: bool) -> str:
    """Name what is busy nearly always; where nothing is, what all of it waits for."""
    if is_held:
        return "nothing"
    name = max(shares, key=lambda key: shares[key])
    return name if shares[name] >= BUSY else "Python's lock"


def add_bar(bench: Bench, name: str, found: LoadResult, *, is_chosen: bool) -> None:
    """Add the figure of the most streams in one way."""
    slug = {IN_THE_STREAM: "decoded_in_the_stream"}.get(name, "by_" + name.replace(", ", "_"))
    bench.report.bar(
        f"gpu_{STREAMS[-1]}_jpeg_streams_ms_p99_{slug.replace(' ', '_').lower()}",
        goal=None,
        measured=found.percentile_ms(99),
        unit="ms",
        n=len(found.latency_ms),
        note=f"{100 * found.drop_share:.2f} % of the frames dropped"
        + ("; the decoder that is chosen here" if is_chosen else ""),
    )


def description(files: Sequence[bytes], detector: TimedDetector) -> str:
    """Say what the table stands on."""
    cores = available_cores()
    started_s = time.perf_counter()
    for data in files[:BATCH]:
        cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    each_ms = (time.perf_counter() - started_s) * 1e3 / BATCH
    return (
        f"A file has {np.mean([len(data) for data in files]) / 1e3:.0f} kB on average and takes "
        f"OpenCV {each_ms:.1f} ms on one core: {cores} cores could decode "
        f"{cores * 1e3 / each_ms / 30.0:.0f} streams and do nothing else. From capture, before "
        "decoding. Except in the stream's thread, files wait undecoded and are decoded with their "
        "batch, while the batch before is detected. Measured with the first batch, "
        f"{detector.jpeg_decoder} was chosen on this machine. Decoding and detector: the share of "
        "the time that each was at work; cores busy are those of the process that serves. Limited "
        f"by: nothing if 99 % came within {BUDGET_MS:g} ms and hardly any was dropped; else what "
        f"was busy for {100 * BUSY:.0f} % of the time or more; else the lock of Python, which "
        f"everything in one process shares. {SECONDS:g} s each."
    )
