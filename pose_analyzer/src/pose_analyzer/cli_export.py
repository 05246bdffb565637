"""The command ``pose-analyzer export``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from pose_analyzer.errors import ExportError
from pose_analyzer.export_frames import frames_of_clips, synthetic_frames
from pose_analyzer.inference.export import (
    RECORD,
    ExportFrames,
    ExportRequest,
    export_network,
)
from pose_analyzer.inference.export_formats import require_libraries
from pose_analyzer.inference.export_gate import MAX_KEYPOINT_LOSS
from pose_analyzer.inference.weights import find_weights
from pose_analyzer.pose_detector import YOLOPosev11Detector


def run_export(args: argparse.Namespace, progress: Callable[[int, int], None] | None = None) -> int:
    """Export as the command line asks and print both figures of the gate; return 0.

    Raises
    ------
    PoseAnalyzerError
        As from `export_network`, and from reading weights and clips.
    """
    request = ExportRequest(
        weights=find_weights(args.weights),
        out=args.out,
        format=args.format,
        precision=args.precision,
        image_size=args.size,
        accept_loss=args.accept_loss,
    )
    require_libraries(request.format, request.precision)
    result = export_network(request, _frames(request.weights, args.calibrate, progress))
    print(f"wrote {result.network} and {RECORD}")
    print(result.agreement.sentence())
    if not result.agreement.holds:
        print(f"note: more than {MAX_KEYPOINT_LOSS:.0%} was lost; kept because of --accept-loss")
    return 0


def _frames(
    weights: Path, clips: list[Path], progress: Callable[[int, int], None] | None
) -> ExportFrames:
    """Return frames of the user's clips, or of the synthetic athlete where there are none."""
    if not clips:
        return synthetic_frames(progress=progress)
    if weights.suffix not in (".pt", ".onnx"):
        raise ExportError(f"an export starts from .pt or .onnx weights, not from {weights.name}")
    with YOLOPosev11Detector(weights, "cpu") as detector:
        return frames_of_clips(clips, detector)
