"""OpenVINO runs what ONNX Runtime runs, with the same people."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_network import noise_frames, tiny_network

from pose_analyzer.errors import DependencyMissingError, DetectorError, WeightsMissingError
from pose_analyzer.inference.backends.onnx_runtime import OnnxPose, open_session
from pose_analyzer.inference.backends.openvino_model import (
    OpenVinoSession,
    load_openvino,
    open_openvino_session,
)
from pose_analyzer.inference.export_openvino import read_network, save_network
from pose_analyzer.pose_detector import YOLOPosev11Detector, make_detector

FRAMES = noise_frames(3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an OpenVINO folder of the tiny network."""
    source = tiny_network(tmp_path / "tiny.onnx")
    made = tmp_path / "exported"
    made.mkdir()
    save_network(read_network(source), made / "tiny.xml", half=False)
    return made


@pytest.mark.parametrize("batch", [1, 2, "batch"])
def test_both_runtimes_find_the_same_people(tmp_path: Path, batch: int | str) -> None:
    path = tiny_network(tmp_path / "tiny.onnx", batch)
    expected = OnnxPose(open_session(path, "cpu", 1), 0.25, 64).infer(FRAMES)
    found = OnnxPose(open_openvino_session(path, "cpu", 1), 0.25, 64).infer(FRAMES)
    assert [people.n_people for people in found] == [1, 1, 1]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-3)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-5)


def test_a_session_tells_its_input_and_leaves_earlier_results_alone(tmp_path: Path) -> None:
    session = open_openvino_session(tiny_network(tmp_path / "tiny.onnx", "batch"))
    (info,) = session.get_inputs()
    assert (info.name, info.shape, info.type) == ("images", (None, 3, 64, 64), "tensor(float)")
    (first,) = session.run(None, {"images": np.zeros((1, 3, 64, 64), dtype=np.float32)})
    kept = first.copy()
    session.run(None, {"images": np.ones((1, 3, 64, 64), dtype=np.float32)})
    np.testing.assert_array_equal(first, kept)
    with pytest.raises(ValueError, match="output_names"):
        session.run(["output0"], {})


def test_an_input_in_half_precision_is_fed_half_precision() -> None:
    openvino = load_openvino()
    ops = openvino.opset13
    given = ops.parameter([1, 3, 64, 64], np.float16, name="images")
    compiled = openvino.Core().compile_model(openvino.Model([ops.relu(given)], [given]), "CPU")
    (info,) = OpenVinoSession(compiled).get_inputs()
    assert info.type == "tensor(float16)"


def test_a_folder_and_its_xml_are_detectors(folder: Path) -> None:
    for weights in (folder, folder / "tiny.xml"):
        with make_detector("yolo", str(weights), "cpu") as detector:
            (found,) = detector.detect(FRAMES[:1])
        assert found.n_people == 1


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match="holds 0 networks"):
        YOLOPosev11Detector(tmp_path)


def test_a_gpu_is_refused_with_what_to_use(folder: Path) -> None:
    with pytest.raises(DetectorError, match="runs on the CPU"):
        YOLOPosev11Detector(folder, "cuda:0")


def test_a_file_that_is_no_network_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.xml"
    path.write_text("no network")
    with pytest.raises(DetectorError, match=r"broken\.xml is not a model"):
        YOLOPosev11Detector(path)


def test_a_missing_openvino_is_named_with_its_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DependencyMissingError, match=r"pose-analyzer\[export\]"):
        YOLOPosev11Detector(folder)
