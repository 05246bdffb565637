"""How closely each way to run YOLO pose weights on a CPU agrees with `YOLO.predict`.

python scripts/pose_agreement_report.py [--data FOLDER] [--openvino FOLDER]

Writes reports/pose_agreement.{json,md} over frames of real clips. Without the data it says so and
writes nothing. An OpenVINO network is one that
``pose-analyzer export`` made of the same weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from pose_agreement import CONFIDENCE, Agreement, Reference, agreement, as_detections, clip_frames
from pose_errors import default_data, yolo_weights
from report_lib import Report

from pose_analyzer.inference.backends.ultralytics_model import UltralyticsPose
from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.inference.pose_network import load_pose_network
from pose_analyzer.pose_detector import YOLOPosev11Detector
from pose_analyzer.types import Frame, ImageArray, PoseDetections

FRAMES_EACH: Final = 5
"""Of one clip (chosen by us: all is done in two minutes)."""
LIMIT_PX: Final = 1.0
LIMIT_CONFIDENCE: Final = 0.01
"""Within which 99 % must lie in FP32."""
Infer = Callable[[Sequence[Frame]], list[PoseDetections]]


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--openvino", type=Path)
    options = parser.parse_args(argv)
    weights = yolo_weights(options.data)
    if weights is None:
        print("skipped: set POSE_EVAL_DATA to a folder with weights/yolo11n-pose.onnx and videos/")
        return 0
    clips = sorted((options.data / "videos").glob("*.mp4"))
    images = clip_frames(clips, FRAMES_EACH, None)
    report = Report(
        "pose_agreement",
        "python scripts/pose_agreement_report.py",
        title="Agreement with Ultralytics on a CPU",
    )
    report.text(
        f"{len(images)} frames of {len(clips)} real clips in their own sizes, one after the other, "
        f"with the weights {weights.name}. Expected is what `YOLO.predict` gives in FP32 with the "
        f"same shape of input; points on the edge of the picture, where it moves those outside, "
        f"are left out."
    )
    expected = {
        shape: predicted(Reference(load_pose_network(weights), "cpu", is_square=is_square), images)
        for shape, is_square in (("rectangle", False), ("square", True))
    }
    rows = []
    for name, shape, infer in runs(weights, options.openvino):
        found = [infer([Frame(image, 0.0, 0)])[0] for image in images]
        same = agreement(found, expected[shape], images)
        add_bars(report, name, same)
        rows.append([name, shape, *row(same)])
    report.table(
        "Differences",
        [
            "who",
            "input",
            "keypoints",
            "px p50",
            "px p99",
            "px max",
            "confidence max",
            "people",
            "seen by one alone",
        ],
        rows,
    )
    print(report.write())
    return 0


def runs(weights: Path, openvino: Path | None) -> list[tuple[str, str, Infer]]:
    """Return each way to run the weights: its name, the shape of its input, and how."""
    ways: list[tuple[str, str, Infer]] = []
    for shape, is_square in (("rectangle", False), ("square", True)):
        config = EngineConfig(is_square=is_square)
        engine = PoseEngine(load_pose_network(weights), "cpu", config)
        ways.append((f"engine_{shape}", shape, engine.infer))
    ways.extend(
        [
            ("onnx_runtime", "square", YOLOPosev11Detector(weights, "cpu", CONFIDENCE).detect),
            ("ultralytics_onnx", "square", UltralyticsPose(weights, CONFIDENCE, 640, "cpu").infer),
        ]
    )
    if openvino is not None:
        detector = YOLOPosev11Detector(openvino, "cpu", CONFIDENCE)
        ways.append(("openvino", "square", detector.detect))
    return ways


def predicted(reference: Reference, images: Sequence[ImageArray]) -> list[PoseDetections]:
    """Return Ultralytics' people of each picture alone."""
    return [as_detections(reference.predict([image]))[0] for image in images]


def add_bars(report: Report, name: str, same: Agreement) -> None:
    """Hold keypoints and confidences to their limits."""
    for what, share, limit in (
        ("keypoints", same.share_within(LIMIT_PX), f"{LIMIT_PX:g} px"),
        (
            "confidences",
            same.share_of_confidences_within(LIMIT_CONFIDENCE),
            f"{LIMIT_CONFIDENCE:g}",
        ),
    ):
        report.bar(
            f"{what}_agree_{name}",
            goal=">= 99",
            measured=share,
            unit="%",
            n=len(same.distance_px),
            note=f"within {limit} of Ultralytics",
        )


def row(same: Agreement) -> list[float]:
    """Return a line of the table."""
    return [
        len(same.distance_px),
        *np.percentile(same.distance_px, [50, 99, 100]).tolist(),
        float(same.confidence.max()),
        same.n_people,
        same.n_alone,
    ]


if __name__ == "__main__":
    raise SystemExit(main())
