"""What the parts of `gpu_pose_engine` share: frames, engines, clocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from pose_agreement import clip_frames, fitted
from report_lib import Report

from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.inference.pose_network import (
    PoseNetwork,
    load_pose_network,
    untrained_network,
)
from pose_analyzer.types import Frame, ImageArray

DEVICE: Final = "cuda:0"
SIZE: Final = (1920, 1080)
N_FRAMES: Final = 480
"""Different frames in turn: no cache holds what a camera would bring anew. A person whose best box
is a tie brings 17 keypoints that differ, so a share near 99 % takes hundreds of people."""
ROUNDS: Final = 3
SECONDS_EACH: Final = 0.6
"""Of one detector at one batch size in one round."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part works on."""

    report: Report
    weights: Path | None
    images: list[ImageArray]
    n_processes: int | None = None
    """That analyse live streams; None for as many as the streams need."""

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
