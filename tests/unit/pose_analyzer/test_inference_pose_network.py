"""Weights into networks: matched by shape and order, or refused in one sentence."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from pose_analyzer.errors import DetectorError, UnknownNetworkError
from pose_analyzer.inference.backends.onnx_runtime import open_session
from pose_analyzer.inference.convolution_matching import Graph, match_convolutions
from pose_analyzer.inference.pose_network import (
    PoseNetwork,
    load_pose_network,
    untrained_network,
)

DATA = Path(os.environ.get("POSE_EVAL_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
ONNX_WEIGHTS = DATA / "weights" / "yolo11n-pose.onnx"
pytestmark = [pytest.mark.model, pytest.mark.slow]


def graph(edges: dict[str, list[str]], shapes: Mapping[str, tuple[int, ...]]) -> Graph[str]:
    """Return a graph that ends in ``out``."""
    return Graph(["out"], lambda node: edges.get(node, []), shapes.get)


def test_branches_that_look_alike_are_told_apart_by_the_order_in_which_they_meet() -> None:
    shapes = {"a": (4, 3, 1, 1), "b": (4, 3, 1, 1), "c": (8, 8, 1, 1)}
    edges = {"out": ["c"], "c": ["cat"], "cat": ["a", "b"], "a": ["in"], "b": ["in"]}
    renamed = {"out": ["r"], "r": ["s"], "s": ["q", "p"], "q": ["in"], "p": ["in"]}
    other = graph(renamed, {"q": (4, 3, 1, 1), "p": (4, 3, 1, 1), "r": (8, 8, 1, 1)})
    found = match_convolutions(graph(edges, shapes), other)
    assert found is not None
    assert dict(found) == {"a": "q", "b": "p", "c": "r"}


def test_graphs_that_differ_in_order_or_shape_do_not_match() -> None:
    shapes = {"a": (4, 4, 3, 3), "b": (4, 4, 1, 1)}
    one = graph({"out": ["b"], "b": ["a"], "a": ["in"]}, shapes)
    other = graph({"out": ["a"], "a": ["b"], "b": ["in"]}, shapes)
    assert match_convolutions(one, other) is None
    assert match_convolutions(one, graph({"out": ["a"]}, shapes)) is None


@pytest.fixture(scope="module")
def network() -> PoseNetwork:
    torch.manual_seed(3)
    return untrained_network()


class Decoding(torch.nn.Module):
    """A network with the decoding of its own head, as it is exported."""

    def __init__(self, network: PoseNetwork) -> None:
        super().__init__()
        own = copy.deepcopy(network)
        self.inner = own.module
        vars(own.head).update(export=True, format="onnx")

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        decoded: torch.Tensor = self.inner(pictures)
        return decoded


def exported(network: PoseNetwork, path: Path) -> Path:
    """Write a network as ONNX with the names that PyTorch gives."""
    pictures = torch.zeros(1, 3, 64, 64)
    torch.onnx.export(
        Decoding(network).eval(), (pictures,), path, dynamo=False, input_names=["images"]
    )
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_an_export_gives_back_the_network_that_it_was_made_of(
    network: PoseNetwork, tmp_path: Path
) -> None:
    loaded = load_pose_network(exported(network, tmp_path / "own.onnx"))
    pictures = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        for one, other in zip(loaded(pictures), network(pictures), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.skipif(not ONNX_WEIGHTS.is_file(), reason="needs the evaluation weights")
def test_weights_of_another_exporter_calculate_what_onnx_runtime_does() -> None:
    network = load_pose_network(ONNX_WEIGHTS)
    pictures = np.random.default_rng(0).random((1, 3, 640, 640), dtype=np.float32)
    expected = open_session(ONNX_WEIGHTS, "cpu", 1).run(None, {"images": pictures})[0]
    with torch.inference_mode():
        _, scores, keypoints = network(torch.from_numpy(pictures))
    np.testing.assert_allclose(scores.sigmoid().numpy(), expected[:, 4:5], atol=1e-5)
    trust = keypoints.view(1, 17, 3, -1)[:, :, 2].sigmoid().numpy()
    np.testing.assert_allclose(trust, expected[:, 7::3], atol=1e-4)


def constant_onnx(path: Path, n_rows: int) -> Path:
    """Write an ONNX file with one convolution and an output of some rows."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [n_rows, 3, 1, 1], np.zeros(3 * n_rows))
    node = helper.make_node("Conv", ["images", "w"], ["output0"])
    shapes = ([1, 3, 8, 8], [1, n_rows, 8, 8])
    images, output = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("images", "output0"), shapes, strict=True)
    )
    model = helper.make_model(helper.make_graph([node], "one", [images], [output], [weight]))
    onnx.save(model, path)
    return path


def test_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNetworkError, match="no known architecture"):
        load_pose_network(constant_onnx(tmp_path / "other.onnx", 56))


def test_a_network_of_other_keypoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNetworkError, match="9 rows, not 56"):
        load_pose_network(constant_onnx(tmp_path / "other.onnx", 9))


@pytest.mark.parametrize("name", ["broken.onnx", "broken.pt"])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("no network")
    with pytest.raises(DetectorError, match="broken"):
        load_pose_network(path)


def test_weights_of_pytorch_are_read_fused(tmp_path: Path) -> None:
    from pose_analyzer.inference.backends.ultralytics_model import load_ultralytics

    path = tmp_path / "own-pose.pt"
    load_ultralytics().YOLO("yolo11n-pose.yaml").save(path)
    network = load_pose_network(path)
    kinds = {type(layer).__name__ for layer in network.module.modules()}
    assert "BatchNorm2d" not in kinds
    assert network.strides == (8, 16, 32)


def test_a_network_without_keypoints_is_refused(tmp_path: Path) -> None:
    from pose_analyzer.inference.backends.ultralytics_model import load_ultralytics

    path = tmp_path / "boxes.pt"
    load_ultralytics().YOLO("yolo11n.yaml").save(path)
    with pytest.raises(UnknownNetworkError, match="no pose head"):
        load_pose_network(path)
