"""YOLO on a GPU: the same people as on the CPU, memory reported, chosen by ``auto``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose_analyzer.pose_detector import PoseDetector, YOLOPosev11Detector, make_detector
from pose_analyzer.types import FloatArray, Frame


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return untrained weights: they see people everywhere, faintly, on any device alike."""
    from pose_analyzer.inference.backends.ultralytics_model import load_ultralytics

    path = tmp_path_factory.mktemp("weights") / "yolo11n-pose.pt"
    load_ultralytics().YOLO("yolo11n-pose.yaml").save(path)
    return path


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    images = np.random.default_rng(0).integers(0, 256, size=(4, 360, 640, 3), dtype=np.uint8)
    return [Frame(image, index / 30.0, index) for index, image in enumerate(images)]


def _best_scores(detector: PoseDetector, frames: list[Frame]) -> FloatArray:
    return np.array([people.box_confidence[:5] for people in detector.detect(frames)])


def test_the_gpu_gives_the_scores_of_the_cpu(weights: Path, frames: list[Frame]) -> None:
    with YOLOPosev11Detector(weights, "cpu", confidence=1e-6) as on_cpu:
        expected = _best_scores(on_cpu, frames)
    with YOLOPosev11Detector(weights, "cuda:0", confidence=1e-6) as on_gpu:
        # Untrained scores lie near 1e-3; TF32 keeps ten bits.
        np.testing.assert_allclose(_best_scores(on_gpu, frames), expected, rtol=0.02)


def test_a_batch_equals_its_frames(weights: Path, frames: list[Frame]) -> None:
    with YOLOPosev11Detector(weights, "cuda:0", confidence=1e-6) as detector:
        batch = _best_scores(detector, frames)
        singly = np.concatenate([_best_scores(detector, [frame]) for frame in frames])
    np.testing.assert_allclose(batch, singly, rtol=0.02)


def test_the_memory_of_the_gpu_is_reported(weights: Path, frames: list[Frame]) -> None:
    with YOLOPosev11Detector(weights, "cuda:0") as detector:
        detector.detect(frames)
        reserved = detector.stats().device_memory_bytes
    assert reserved is not None
    assert 1 << 20 < reserved < 4 << 30


def test_auto_takes_yolo_where_a_gpu_and_weights_are(
    weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSE_WEIGHTS_DIR", str(weights.parent))
    with make_detector() as detector:
        assert detector.name == "yolo11n-pose.pt"
        assert detector.stats().device_memory_bytes is not None
