"""Exports of a tiny random network: every format, the gate, the record, and what is refused."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_network import SIDE, noise_frames, tiny_network

from pose_analyzer.errors import DependencyMissingError, ExportError
from pose_analyzer.inference.backends.openvino_model import open_openvino_session
from pose_analyzer.inference.backends.ultralytics_model import load_ultralytics
from pose_analyzer.inference.export import (
    KEPT_SHARES,
    RECORD,
    ExportFrames,
    ExportRequest,
    export_network,
)
from pose_analyzer.inference.export_onnx import head_nodes, load_onnx
from pose_analyzer.inference.export_openvino import head_operations, read_network
from pose_analyzer.pose_detector import YOLOPosev11Detector
from pose_analyzer.types import Frame

FRAMES = ExportFrames("noise", noise_frames(12), noise_frames(6, seed=1))
BLACK = Frame(np.zeros((SIDE, SIDE, 3), dtype=np.uint8), 0.0, 0)
BLIND = ExportFrames("black", (BLACK,), FRAMES.held_out)
"""Ranges taken from black pictures clip everything that a bright picture holds."""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tiny_network(tmp_path / "tiny.onnx")


def request(
    weights: Path, format_name: str, precision: str, *, accept_loss: bool = False
) -> ExportRequest:
    out = weights.parent / "out"
    return ExportRequest(weights, out, format_name, precision, accept_loss=accept_loss)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize(("format_name", "ending"), [("openvino", "xml"), ("onnx", "onnx")])
def test_an_export_is_a_detector_that_agrees_with_its_source(
    weights: Path,
    format_name: str,
    ending: str,
    precision: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = export_network(request(weights, format_name, precision), FRAMES)
    assert "pre-processing" not in caplog.text  # What the ONNX quantiser asks of its caller.
    assert not list(made.network.parent.glob("*.shapes.onnx"))
    assert made.network == weights.parent / "out" / f"tiny_{precision}.{ending}"
    assert made.agreement.keypoint_loss < 0.02
    with (
        YOLOPosev11Detector(weights, "cpu") as source,
        YOLOPosev11Detector(made.network.parent, "cpu") as export,
    ):
        pairs = zip(source.detect(FRAMES.held_out), export.detect(FRAMES.held_out), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1.0)


def test_the_record_holds_source_frames_versions_and_figures(weights: Path) -> None:
    made = export_network(request(weights, "openvino", "int8"), FRAMES)
    record = json.loads((made.network.parent / RECORD).read_text())
    assert record["source_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (record["frames"], record["n_calibration_frames"]) == ("noise", 12)
    assert record["gate"]["keypoint_loss"] == made.agreement.keypoint_loss
    assert record["gate"]["angle_deg"] == made.agreement.angle_deg
    assert record["gate"]["true_map_export"] is None
    assert record["gate_holds"]
    assert record["kept_share"] == 0.0
    assert {"pose_analyzer", "openvino", "nncf"} <= record["versions"].keys()


def test_what_lost_too_much_is_refused_with_both_figures_and_leaves_nothing(weights: Path) -> None:
    with pytest.raises(ExportError, match=r"refused: keypoint loss .*%.* difference .* deg"):
        export_network(request(weights, "openvino", "int8"), BLIND)
    assert [path.name for path in weights.parent.iterdir()] == ["tiny.onnx"]


def test_a_loss_that_is_accepted_is_kept_and_written_down(weights: Path) -> None:
    made = export_network(request(weights, "openvino", "int8", accept_loss=True), BLIND)
    assert made.agreement.keypoint_loss > 0.02
    record = json.loads((made.network.parent / RECORD).read_text())
    assert not record["gate_holds"]
    assert record["kept_share"] == KEPT_SHARES[-1]


def test_frames_without_a_person_do_not_judge(tmp_path: Path) -> None:
    weights = tiny_network(tmp_path / "tiny.onnx")
    with pytest.raises(ExportError, match="nobody was seen"):
        export_network(request(weights, "onnx", "fp32"), ExportFrames("none", (), ()))


def test_an_earlier_export_is_replaced_and_anything_else_is_left_alone(weights: Path) -> None:
    out = weights.parent / "out"
    for precision in ("fp32", "fp16"):
        export_network(request(weights, "openvino", precision), FRAMES)
    assert sorted(path.name for path in out.iterdir()) == [
        RECORD,
        "tiny_fp16.bin",
        "tiny_fp16.xml",
    ]
    (out / RECORD).unlink()
    with pytest.raises(ExportError, match="no export"):
        export_network(request(weights, "openvino", "fp32"), FRAMES)


def test_the_head_is_the_last_convolution_and_what_follows(weights: Path) -> None:
    for names in (
        head_operations(read_network(weights)),
        head_nodes(load_onnx().load(str(weights)).graph),
    ):
        assert "last" in names
        assert {"scaled", "score"} <= set(names)
        assert "first" not in names


@pytest.mark.model
def test_pytorch_weights_are_exported_with_the_size_asked_for(tmp_path: Path) -> None:
    weights = tmp_path / "random-pose.pt"
    load_ultralytics().YOLO("yolo11n-pose.yaml", task="pose", verbose=False).save(weights)
    wanted = ExportRequest(
        weights, tmp_path / "out", "openvino", "fp16", (64, 96), accept_loss=True
    )
    made = export_network(wanted, FRAMES)
    (info,) = open_openvino_session(made.network).get_inputs()
    assert info.shape == (1, 3, 64, 96)


def test_weights_that_cannot_be_exported_are_refused(tmp_path: Path) -> None:
    for name, says in (("a.engine", r"\.pt or \.onnx"), ("a.pt", "cannot export a.pt")):
        path = tmp_path / name
        path.write_text("no weights")
        with pytest.raises(ExportError, match=says):
            export_network(request(path, "openvino", "fp32"), FRAMES)
    path = tmp_path / "a.onnx"
    path.write_text("no weights")
    with pytest.raises(ExportError, match="OpenVINO cannot read"):
        export_network(request(path, "openvino", "fp32"), FRAMES)


@pytest.mark.parametrize(
    ("missing", "format_name", "precision"),
    [
        ("openvino", "openvino", "fp32"),
        ("nncf", "openvino", "int8"),
        ("onnx", "onnx", "fp16"),
        ("tensorrt", "tensorrt", "fp16"),
    ],
)
def test_a_missing_library_is_named_before_any_work(
    weights: Path,
    missing: str,
    format_name: str,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DependencyMissingError, match="pip install"):
        export_network(request(weights, format_name, precision), FRAMES)


@pytest.mark.parametrize(
    ("format_name", "precision", "size", "says"),
    [
        ("coreml", "fp32", (640, 640), "format"),
        ("onnx", "int4", (640, 640), "precision"),
        ("onnx", "fp32", (640, 100), "image_size"),
    ],
)
def test_a_wrong_request_is_refused(
    format_name: str, precision: str, size: tuple[int, int], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        ExportRequest(Path("a.onnx"), Path("out"), format_name, precision, size)
