"""What YOLO weights run in where there is a GPU: the batched engine, or else what can run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pose_analyzer import pose_detector
from pose_analyzer.errors import DependencyMissingError, UnknownNetworkError
from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.inference.pose_network import PoseNetwork
from pose_analyzer.pose_detector import YOLOPosev11Detector


class Nobody(torch.nn.Module):
    """Sees nobody."""

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        n_cells = pictures.shape[2] * pictures.shape[3] // 32**2
        made = {name: (len(pictures), rows, n_cells) for name, rows in ROWS.items()}
        return {name: torch.full(shape, -9.0) for name, shape in made.items()}


ROWS = {"boxes": 64, "scores": 1, "kpts": 51}


class Chosen(Exception):  # noqa: N818 - it is no error
    """Raised in place of opening another backend."""


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, EngineConfig]]:
    """Pretend that there is a GPU; engines run on the CPU, and what they were asked is noted."""
    asked: list[tuple[str, EngineConfig]] = []

    def engine(network: PoseNetwork, device: str, config: EngineConfig) -> PoseEngine:
        asked.append((device, config))
        return PoseEngine(network, "cpu", config)

    def other(name: str) -> Callable[..., None]:
        def chosen(*_: object) -> None:
            raise Chosen(name)

        return chosen

    monkeypatch.setattr(pose_detector, "_has_cuda", lambda device: device in {None, "cuda"})
    monkeypatch.setattr(pose_detector, "PoseEngine", engine)
    monkeypatch.setattr(pose_detector, "open_session", other("onnxruntime"))
    monkeypatch.setattr(pose_detector, "UltralyticsPose", other("ultralytics"))
    load_as(monkeypatch, None)
    return asked


def load_as(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    def load(_: Path) -> PoseNetwork:
        if error is not None:
            raise error
        return PoseNetwork(Nobody(), (32,))

    monkeypatch.setattr(pose_detector, "load_pose_network", load)


def weights(folder: Path, name: str) -> Path:
    path = folder / name
    path.touch()
    return path


@pytest.mark.parametrize("name", ["yolo.pt", "yolo.onnx"])
def test_weights_run_in_the_engine(
    name: str, tmp_path: Path, configs: list[tuple[str, EngineConfig]]
) -> None:
    with YOLOPosev11Detector(weights(tmp_path, name), None, 0.4, 320, precision="tf32") as detector:
        assert (detector.name, detector.max_batch) == (name, 32)
        assert not detector.is_on_cpu
    ((device, config),) = configs
    assert (device, config.image_size, config.precision) == ("cuda", 320, "tf32")
    assert config.decode.confidence == 0.4


@pytest.mark.parametrize(("name", "other"), [("a.pt", "ultralytics"), ("a.onnx", "onnxruntime")])
def test_a_processor_that_is_asked_for_runs_no_engine(
    name: str, other: str, tmp_path: Path, configs: list[tuple[str, EngineConfig]]
) -> None:
    with pytest.raises(Chosen, match=other):
        YOLOPosev11Detector(weights(tmp_path, name), "cpu")
    assert not configs


def test_an_unknown_network_runs_in_what_can_run_it(
    tmp_path: Path, configs: list[tuple[str, EngineConfig]], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_as(monkeypatch, UnknownNetworkError("of another kind"))
    with pytest.raises(Chosen, match="ultralytics"):
        YOLOPosev11Detector(weights(tmp_path, "a.pt"))
    monkeypatch.setattr(pose_detector, "has_gpu_provider", lambda: True)
    with pytest.raises(Chosen, match="onnxruntime"):
        YOLOPosev11Detector(weights(tmp_path, "a.onnx"))
    # Without a GPU in ONNX Runtime it would be slow, and silently so.
    monkeypatch.setattr(pose_detector, "has_gpu_provider", lambda: False)
    with pytest.raises(UnknownNetworkError, match="of another kind"):
        YOLOPosev11Detector(weights(tmp_path, "a.onnx"))
    assert not configs


def test_onnx_weights_need_no_reader_of_their_own(
    tmp_path: Path, configs: list[tuple[str, EngineConfig]], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_as(monkeypatch, DependencyMissingError("onnx is missing"))
    with pytest.raises(Chosen, match="onnxruntime"):
        YOLOPosev11Detector(weights(tmp_path, "a.onnx"))
    with pytest.raises(DependencyMissingError, match="onnx is missing"):
        YOLOPosev11Detector(weights(tmp_path, "a.pt"))
    assert not configs


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="fp16, tf32, fp32, got 'int8'"):
        YOLOPosev11Detector("a.pt", precision="int8")  # type: ignore[arg-type]
