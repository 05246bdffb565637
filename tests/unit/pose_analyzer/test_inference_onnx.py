"""OnnxPose on sessions that need no weights: fixed and open batch sizes and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pose_analyzer.errors import DetectorError
from pose_analyzer.inference.backends.onnx_runtime import OnnxPose, available_cores, open_session
from pose_analyzer.inference.preprocess import NetworkArray
from pose_analyzer.types import Frame


@dataclass(frozen=True)
class Tensor:
    """An input as ONNX Runtime describes it."""

    shape: Sequence[int | str | None]
    type: str = "tensor(float)"
    name: str = "images"


class PaleSquareSession:
    """A network that finds a person where the brightest pixel is, and remembers its inputs."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.inputs: list[NetworkArray] = []

    def get_inputs(self) -> Sequence[Tensor]:
        return [self.tensor]

    def run(
        self, output_names: Sequence[str] | None, input_feed: dict[str, NetworkArray]
    ) -> Sequence[NetworkArray]:
        assert output_names is None
        images = input_feed["images"]
        self.inputs.append(images)
        output = np.zeros((len(images), 56, 10), dtype=np.float32)
        for row, image in enumerate(images):
            brightness = image.sum(axis=0)
            y, x = np.unravel_index(brightness.argmax(), brightness.shape)
            if brightness.max() > 2.5:
                output[row, :5, 4] = (x + 0.5, y + 0.5, 20.0, 40.0, 0.9)
                output[row, 5:, 4] = np.tile([x + 0.5, y + 0.5, 0.8], 17)
        return [output]


def frame(x: int, y: int, shape: tuple[int, int] = (360, 640)) -> Frame:
    """Return a black frame with a white spot, or no spot if x is negative."""
    image = np.zeros((*shape, 3), dtype=np.uint8)
    if x >= 0:
        image[y - 4 : y + 5, x - 4 : x + 5] = 255
        image[y, x] = 255
    return Frame(image, 0.0, 0)


FRAMES = [frame(100, 200), frame(-1, 0), frame(500, 50)]


@pytest.mark.parametrize("batch", [1, 2, 4, "batch", None])
def test_every_batch_size_gives_the_same_people(batch: int | str | None) -> None:
    backend = OnnxPose(PaleSquareSession(Tensor([batch, 3, 640, 640])), 0.25, 640)
    found = backend.infer(FRAMES)
    assert [people.n_people for people in found] == [1, 0, 1]
    np.testing.assert_allclose(found[0].keypoints[0, 0], [100.0, 200.0], atol=5.0)
    np.testing.assert_allclose(found[2].keypoints[0, 0], [500.0, 50.0], atol=5.0)


@pytest.mark.parametrize(("batch", "runs"), [(1, 3), (2, 2), (4, 1), ("batch", 1)])
def test_a_fixed_batch_is_filled_and_an_open_one_takes_all(batch: int | str, runs: int) -> None:
    session = PaleSquareSession(Tensor([batch, 3, 640, 640]))
    OnnxPose(session, 0.25, 640).infer(FRAMES)
    assert len(session.inputs) == runs
    expected = batch if isinstance(batch, int) else len(FRAMES)
    assert all(len(given) == expected for given in session.inputs)


def test_an_open_size_is_the_smallest_rectangle_around_the_frame() -> None:
    session = PaleSquareSession(Tensor(["batch", 3, "height", "width"]))
    (found,) = OnnxPose(session, 0.25, 320).infer([frame(100, 200)])
    assert session.inputs[0].shape == (1, 3, 192, 320)
    np.testing.assert_allclose(found.keypoints[0, 0], [100.0, 200.0], atol=5.0)


def test_frames_of_different_sizes_share_one_square_batch() -> None:
    session = PaleSquareSession(Tensor(["batch", 3, "height", "width"]))
    found = OnnxPose(session, 0.25, 320).infer([frame(100, 200), frame(50, 300, (640, 360))])
    assert session.inputs[0].shape == (2, 3, 320, 320)
    np.testing.assert_allclose(found[1].keypoints[0, 0], [50.0, 300.0], atol=5.0)


def test_a_half_precision_network_is_fed_half_precision() -> None:
    session = PaleSquareSession(Tensor([1, 3, 640, 640], type="tensor(float16)"))
    OnnxPose(session, 0.25, 640).infer(FRAMES)
    assert session.inputs[0].dtype == np.float16


def constant_network(path: Path, batch: int | str) -> Path:
    """Write a real ONNX file that answers any picture with one person at (320, 320)."""
    answer = np.zeros((1, 56, 4), dtype=np.float32)
    answer[0, :5, 2] = (320.0, 320.0, 100.0, 200.0, 0.9)
    answer[0, 5:, 2] = np.tile([320.0, 320.0, 0.8], 17)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Squeeze", ["mean", "last"], ["level"]),
        helper.make_node("Mul", ["level", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 640, 640])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, 56, 4])],
        [
            helper.make_tensor("answer", TensorProto.FLOAT, answer.shape, answer.ravel()),
            helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("last", TensorProto.INT64, [1], [3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_real_session_runs(tmp_path: Path, batch: int | str) -> None:
    path = constant_network(tmp_path / "constant.onnx", batch)
    found = OnnxPose(open_session(path, "cpu", 1), 0.25, 640).infer(FRAMES)
    assert [people.n_people for people in found] == [1, 1, 1]
    np.testing.assert_allclose(found[2].keypoints[0, 5], [320.0, 180.0])


def test_a_file_that_is_no_model_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_text("no model")
    with pytest.raises(DetectorError, match=r"broken\.onnx is not a model"):
        open_session(path, "cpu", 1)


def test_a_gpu_that_this_onnx_runtime_cannot_use_is_refused(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has a GPU")
    path = constant_network(tmp_path / "constant.onnx", 1)
    with pytest.raises(DetectorError, match="onnxruntime-gpu"):
        open_session(path, "cuda:0", 1)


def test_at_least_one_core_is_available() -> None:
    assert available_cores() >= 1
