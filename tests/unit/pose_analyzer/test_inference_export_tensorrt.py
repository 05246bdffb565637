"""The calls to TensorRT, on a module that records them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_network import noise_frames, tiny_network

from pose_analyzer.errors import DependencyMissingError, ExportError
from pose_analyzer.inference.export import ExportFrames, ExportRequest, export_network
from pose_analyzer.inference.export_formats import NetworkPlan, make_network
from pose_analyzer.inference.export_onnx import load_onnx
from pose_analyzer.inference.export_tensorrt import build_engine


class FakeTensorRT:
    """The part of `tensorrt` that is used: version 10, or 11, which has no flags for precision."""

    def __init__(self, *, version: int = 10, shape: tuple[int, ...] = (1, 3, 64, 64)) -> None:
        flags = {"FP16": "FP16", "INT8": "INT8"} if version == 10 else {}
        self.BuilderFlag = SimpleNamespace(**flags)
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.Logger = FakeLogger
        self.shape = shape
        self.parses = True
        self.engine: bytes | None = b"engine"
        self.parsed: Path | None = None
        self.creation_flags = -1
        self.flags: list[str] = []
        self.profiles: list[tuple[object, ...]] = []

    # The builder, the parser and the configuration are one object: each has names of its own.
    def Builder(self, _: object) -> FakeTensorRT:  # noqa: N802
        return self

    def OnnxParser(self, *_: object) -> FakeTensorRT:  # noqa: N802
        return self

    def create_network(self, flags: int) -> FakeTensorRT:
        self.creation_flags = flags
        return self

    def create_builder_config(self) -> FakeTensorRT:
        return self

    def create_optimization_profile(self) -> FakeTensorRT:
        return self

    def parse_from_file(self, path: str) -> bool:
        self.parsed = Path(path)
        self.precision_in_file = precision_of(self.parsed) if self.parses else ""
        return self.parses

    num_errors = 1

    def get_error(self, row: int) -> str:
        return f"operation {row} is not known"

    def set_memory_pool_limit(self, pool: str, n_bytes: int) -> None:
        assert pool == "workspace"
        assert n_bytes > 0

    def set_flag(self, flag: str) -> None:
        self.flags.append(flag)

    def get_input(self, index: int) -> SimpleNamespace:
        assert index == 0
        return SimpleNamespace(name="images", shape=self.shape)

    def set_shape(self, *shapes: object) -> None:
        self.profiles.append(shapes)

    def add_optimization_profile(self, profile: object) -> None:
        assert profile is self

    def build_serialized_network(self, network: object, config: object) -> bytes | None:
        assert network is config is self
        return self.engine


class FakeLogger:
    """A logger with a level."""

    WARNING = "warning"

    def __init__(self, level: str) -> None:
        assert level == self.WARNING


def precision_of(path: Path) -> str:
    """Return what an ONNX file computes in."""
    graph = load_onnx().load(str(path)).graph
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        return "int8"
    return "fp16" if any(weight.data_type == 10 for weight in graph.initializer) else "fp32"


def make(trt: FakeTensorRT, precision: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    plan = NetworkPlan(tiny_network(folder / "tiny.onnx"), "tensorrt", precision, (64, 96))
    return make_network(plan, noise_frames(4), folder / "tiny_engine", folder)


@pytest.mark.parametrize(
    ("version", "precision", "flags", "in_file"),
    [
        (10, "fp32", [], "fp32"),
        (10, "fp16", ["FP16"], "fp32"),
        (10, "int8", ["FP16", "INT8"], "int8"),
        (11, "fp16", [], "fp16"),
        (11, "int8", [], "int8"),
    ],
)
def test_precision_comes_from_flags_or_from_the_network(
    version: int,
    precision: str,
    flags: list[str],
    in_file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trt = FakeTensorRT(version=version)
    make(trt, precision, tmp_path, monkeypatch)
    assert trt.flags == flags
    assert trt.precision_in_file == in_file
    assert trt.creation_flags == (0 if version == 10 else 1 << 1)


def test_the_engine_follows_a_head_that_names_task_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make(FakeTensorRT(), "fp16", tmp_path, monkeypatch).read_bytes()
    length = int.from_bytes(content[:4], "little")
    head = json.loads(content[4 : 4 + length])
    assert (head["task"], head["imgsz"], head["kpt_shape"]) == ("pose", [64, 64], [17, 3])
    assert content[4 + length :] == b"engine"


def test_a_fixed_input_needs_no_profile_and_an_open_one_gets_its_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed, open_ = FakeTensorRT(), FakeTensorRT(shape=(-1, 3, -1, -1))
    for trt in (fixed, open_):
        make(trt, "fp16", tmp_path, monkeypatch)
    assert fixed.profiles == []
    assert open_.profiles == [("images", *((batch, 3, 64, 96) for batch in (1, 4, 32)))]


def test_a_network_that_tensorrt_cannot_read_or_build_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf, weak = FakeTensorRT(), FakeTensorRT()
    deaf.parses, weak.engine = False, None
    with pytest.raises(ExportError, match="operation 0 is not known"):
        make(deaf, "fp16", tmp_path, monkeypatch)
    with pytest.raises(ExportError, match="could not build"):
        make(weak, "fp16", tmp_path, monkeypatch)


def test_without_tensorrt_it_says_what_to_install_and_what_else_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    wanted = ExportRequest(tmp_path / "a.onnx", tmp_path / "out", "tensorrt", "fp16")
    with pytest.raises(DependencyMissingError, match=r"pip install tensorrt .* openvino or onnx"):
        export_network(wanted, ExportFrames("none", (), ()))
    with pytest.raises(DependencyMissingError, match="tensorrt"):
        build_engine(tmp_path / "a.onnx", tmp_path / "a.engine", "fp16", (64, 64))
