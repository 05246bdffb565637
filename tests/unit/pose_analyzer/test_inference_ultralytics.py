"""Ultralytics behind our backend: quiet, offline, and honest about what it cannot load."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_analyzer.errors import DetectorError, WeightsMissingError
from pose_analyzer.pose_detector import YOLOPosev11Detector
from pose_analyzer.skeleton import N_COCO
from pose_analyzer.types import Frame

DATA = Path(os.environ.get("POSE_EVAL_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
ONNX_WEIGHTS = DATA / "weights" / "yolo11n-pose.onnx"
needs_onnx_weights = pytest.mark.skipif(
    not ONNX_WEIGHTS.is_file(), reason="needs weights/yolo11n-pose.onnx of the evaluation data"
)
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
        # Of an untrained network's faint people rounding decides who is above the limit.
        assert min(one.n_people, other.n_people) > 3
        np.testing.assert_allclose(one.box_confidence[:3], other.box_confidence[:3], rtol=1e-3)
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


def test_published_weights_are_fetched_to_the_cache_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pose_weights: Path
) -> None:
    from ultralytics.utils import downloads

    asked: list[str] = []

    def fetch(address: str, *, file: str, dir: Path, **_: object) -> None:  # noqa: A002 - its name there
        asked.append(address)
        shutil.copy(pose_weights, dir / file)

    monkeypatch.setattr(downloads, "safe_download", fetch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSE_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(WeightsMissingError, match="download=True"):
        YOLOPosev11Detector(device="cpu")
    assert not asked
    with YOLOPosev11Detector(device="cpu", image_size=160, download=True) as detector:
        assert detector.name == "yolo11n-pose.pt"
    assert len(asked) == 1
    assert asked[0].startswith("https://github.com/ultralytics/assets/")
    assert (tmp_path / "cache" / "pose_analyzer" / "weights" / "yolo11n-pose.pt").is_file()


def test_a_failed_download_says_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pose_analyzer.inference.backends.ultralytics_model import load_ultralytics

    load_ultralytics()
    from ultralytics.utils import downloads

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(downloads, "safe_download", fail)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSE_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(WeightsMissingError, match="put it at") as missing:
        YOLOPosev11Detector(device="cpu", download=True)
    assert str(tmp_path / "cache") in str(missing.value)


@needs_onnx_weights
def test_opencv_runs_an_onnx_file_where_onnxruntime_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photographs = sorted((DATA / "images" / "coco_mini_val").glob("*.jpg"))[:2]
    if not photographs:
        pytest.skip("needs images/coco_mini_val of the evaluation data")
    images = [np.asarray(cv2.imread(str(path)), dtype=np.uint8) for path in photographs]
    frames = [Frame(image, index / 30.0, index) for index, image in enumerate(images)]
    with YOLOPosev11Detector(ONNX_WEIGHTS, "cpu") as detector:
        expected = detector.detect(frames)
    monkeypatch.setattr("pose_analyzer.pose_detector.has_onnxruntime", lambda: False)
    monkeypatch.setattr(
        "pose_analyzer.inference.backends.ultralytics_model.has_onnxruntime", lambda: False
    )
    with YOLOPosev11Detector(ONNX_WEIGHTS, "cpu") as detector:
        found = detector.detect(frames)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.1)


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
