"""Ultralytics behind our backend: quiet, offline, and honest about what it cannot load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pose_analyzer.errors import DetectorError
from pose_analyzer.pose_detector import YOLOPosev11Detector
from pose_analyzer.skeleton import N_COCO
from pose_analyzer.types import Frame

pytestmark = [pytest.mark.model, pytest.mark.slow]


def untrained(folder: Path, kind: str) -> Path:
    """Write the weights of an untrained network: it sees people everywhere, faintly."""
    from pose_analyzer.inference.backends.ultralytics_model import load_ultralytics

    path = folder / f"{kind}.pt"
    network = load_ultralytics().YOLO(f"{kind}.yaml")
    network.save(path)
    return path


@pytest.fixture(scope="module")
def pose_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("weights"), "yolo11n-pose")


def test_torch_weights_run_and_a_batch_equals_its_frames(pose_weights: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(2, 96, 160, 3), dtype=np.uint8)
    frames = [Frame(image, index / 30.0, index) for index, image in enumerate(images)]
    with YOLOPosev11Detector(pose_weights, "cpu", confidence=1e-5, image_size=160) as detector:
        batch = detector.detect(frames)
        singly = [detector.detect([frame])[0] for frame in frames]
        assert detector.name == "yolo11n-pose.pt"
        assert detector.stats().device_memory_bytes is None
    for one, other in zip(batch, singly, strict=True):
        assert one.n_people == other.n_people > 0
        np.testing.assert_allclose(one.box_confidence, other.box_confidence, atol=1e-5)
        assert np.isnan(one.keypoints[:, N_COCO:]).all()


def test_a_network_that_finds_no_keypoints_is_refused(tmp_path: Path) -> None:
    path = untrained(tmp_path, "yolo11n")
    with pytest.raises(DetectorError, match="not a pose network"):
        YOLOPosev11Detector(path, "cpu", image_size=160)


def test_a_file_that_is_no_network_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken-pose.pt"
    path.write_text("no network")
    with pytest.raises(DetectorError, match="cannot be loaded"):
        YOLOPosev11Detector(path, "cpu")


ALONE = """
import os, socket, sys
import cv2, numpy as np
asked = []
def refuse(*arguments, **options):
    asked.append(arguments)
    raise OSError("the network was asked")
socket.getaddrinfo = socket.create_connection = refuse
cv2.setNumThreads(2)
shown = str(np.array([1.23456789]))
from pose_analyzer.inference.backends.ultralytics_model import load_ultralytics
load_ultralytics()
assert not asked, asked
assert cv2.getNumThreads() == 2
assert str(np.array([1.23456789])) == shown
assert "OMP_NUM_THREADS" not in os.environ
"""


def test_its_import_is_silent_asks_no_network_and_changes_no_setting(tmp_path: Path) -> None:
    hidden = ("YOLO_", "OMP_NUM_THREADS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_CONFIG_HOME": str(tmp_path)}
    ran = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", ALONE], capture_output=True, timeout=300, env=environment
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
