"""Parts of `gpu_pose_engine`: agreement with Ultralytics, and what each precision costs."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np
import torch
from gpu_bench import DEVICE, Bench, as_frames
from pose_agreement import Agreement, Reference, agreement, as_detections

from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.inference.network_precision import Precision
from pose_analyzer.types import PoseDetections

LIMITS: Final[dict[Precision, tuple[float, float]]] = {
    "fp32": (1.0, 0.01),
    "tf32": (2.0, 0.02),
    "fp16": (2.0, 0.02),
}
"""Pixels of a 1080p frame and confidence within which 99 % of the keypoints must lie. TF32 rounds
as FP16 does, to 10 bits, so it has the same."""
SIZES: Final = (1, 4, 16, 32)
AT_ONCE: Final = 48
"""Frames in a batch of Ultralytics, which takes a list as one."""


def agreement_with_ultralytics(bench: Bench) -> None:
    """Compare with Ultralytics in FP32, rectangular and square input, and it with itself."""
    if bench.weights is None:
        for precision in LIMITS:
            bench.report.bar(
                f"keypoints_agree_{precision}",
                goal=">= 99",
                measured=None,
                unit="%",
                note="random weights see nobody",
            )
        return
    rows: list[list[str | float]] = []
    for is_square in (False, True):
        shape = "square" if is_square else "rectangle"
        expected = by_ultralytics(bench, is_square=is_square)
        for precision, limits in LIMITS.items():
            config = EngineConfig(precision=precision, is_square=is_square)
            with bench.engine(config) as engine:
                found = agreement(engine.infer(as_frames(bench.images)), expected, bench.images)
            name = f"{precision}_{shape}"
            add_bars(bench, name, found, limits)
            rows.append(row(f"engine {precision}, {shape}", found))
        theirs = by_ultralytics(bench, is_half=True, is_square=is_square)
        found = agreement(theirs, expected, bench.images)
        rows.append(row(f"Ultralytics' own half=True, {shape}", found))
    bench.report.table(
        "Agreement with Ultralytics in FP32",
        [
            "who",
            "keypoints",
            "% within 1 px",
            "% within 2 px",
            "px p50",
            "px p99",
            "px max",
            "% within 0.02",
            "confidence p99",
            "confidence max",
            "people",
            "seen by one alone",
        ],
        rows,
    )


def by_ultralytics(
    bench: Bench, *, is_half: bool = False, is_square: bool = False
) -> list[PoseDetections]:
    """Return Ultralytics' people, FP32 without TF32."""
    reference = Reference(bench.network(), DEVICE, is_half=is_half, is_square=is_square)
    people: list[PoseDetections] = []
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(bench.images), AT_ONCE):
            people += as_detections(reference.predict(bench.images[start : start + AT_ONCE]))
    return people


def add_bars(bench: Bench, name: str, found: Agreement, limits: tuple[float, float]) -> None:
    """Hold keypoints and confidences to their limits."""
    for what, share, limit in (
        ("keypoints", found.share_within(limits[0]), f"{limits[0]:g} px"),
        ("confidences", found.share_of_confidences_within(limits[1]), f"{limits[1]:g}"),
    ):
        bench.report.bar(
            f"{what}_agree_{name}",
            goal=">= 99",
            measured=share,
            unit="%",
            n=len(found.distance_px),
            note=f"within {limit} of Ultralytics in FP32"
            + ("; the limits asked of FP16" if name.startswith("tf32") else ""),
        )


def row(name: str, found: Agreement) -> list[str | float]:
    """Return a line of the table."""
    px = np.percentile(found.distance_px, [50, 99, 100]).tolist()
    trust = np.percentile(found.confidence, [99, 100]).tolist()
    return [
        name,
        len(found.distance_px),
        found.share_within(1.0),
        found.share_within(2.0),
        *px,
        found.share_of_confidences_within(0.02),
        *trust,
        found.n_people,
        found.n_alone,
    ]


def precisions(bench: Bench) -> None:
    """Time the network and its decoding in each precision."""
    rows = []
    for precision in LIMITS:
        with bench.engine(EngineConfig(precision=precision)) as engine:
            for size in SIZES:
                stages: dict[str, list[float]] = defaultdict(list)
                engine.on_stage = lambda stage, seconds: stages[stage].append(seconds)  # noqa: B023
                for start in range(40):
                    engine.collect(engine.submit(bench.batch(size, start)))
                infer_us = 1e6 * np.percentile(stages["infer"][10:], [50, 95])
                rows.append([precision, size, *infer_us.tolist()])
    bench.report.table(
        "Network and decoding by precision",
        ["precision", "batch", "infer us p50", "infer us p95"],
        rows,
    )
