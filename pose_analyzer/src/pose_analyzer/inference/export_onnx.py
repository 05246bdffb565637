"""A YOLO pose network as one ONNX file, in FP32, FP16 or INT8."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pose_analyzer.errors import DependencyMissingError, ExportError
from pose_analyzer.inference.backends.ultralytics_model import load_ultralytics
from pose_analyzer.inference.preprocess import NetworkArray

if TYPE_CHECKING:
    from types import ModuleType

    from onnx import GraphProto, ModelProto


def load_onnx() -> ModuleType:
    """Return the onnx module.

    Raises
    ------
    DependencyMissingError
        If it is not installed.
    """
    try:
        import onnx
    except ImportError as exc:
        raise DependencyMissingError(
            'an export needs onnx: pip install "pose-analyzer[export]"'
        ) from exc
    module: ModuleType = onnx
    return module


def source_onnx(weights: Path, size: tuple[int, int], folder: Path) -> Path:
    """Return the source network as an ``.onnx`` file in FP32, made in ``folder`` if need be.

    Parameters
    ----------
    weights : Path
        ``.onnx``, returned as is, or ``.pt``, exported by Ultralytics.
    size : tuple of int
        Height and width of the input that a ``.pt`` is exported with, in pixels.
    folder : Path
        Where a ``.pt`` is copied to and exported.

    Raises
    ------
    ExportError
        If the weights are of another kind, or Ultralytics cannot export them.
    """
    if weights.suffix == ".onnx":
        return weights
    if weights.suffix != ".pt":
        raise ExportError(f"an export starts from .pt or .onnx weights, not from {weights.name}")
    load_onnx()
    ultralytics = load_ultralytics()
    # Ultralytics writes beside the weights, whose folder may be read-only.
    copy = Path(shutil.copy2(weights, folder / weights.name))
    try:
        model = ultralytics.YOLO(str(copy), task="pose", verbose=False)
        with warnings.catch_warnings():
            # Ultralytics takes PyTorch's older exporter, which says at each use that it is older.
            warnings.simplefilter("ignore", DeprecationWarning)
            made = model.export(format="onnx", imgsz=list(size), simplify=False, verbose=False)
    except (OSError, RuntimeError, TypeError, ValueError, KeyError, AttributeError) as exc:
        raise ExportError(f"Ultralytics cannot export {weights.name} to ONNX: {exc}") from exc
    return Path(made)


def half_precision(source: Path, target: Path) -> None:
    """Write a copy of a network in FP16; its input and output stay FP32.

    Raises
    ------
    DependencyMissingError
        If onnx or onnxruntime is not installed.
    """
    onnx = load_onnx()
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as exc:
        raise DependencyMissingError(
            'an ONNX export in fp16 needs onnxruntime: pip install "pose-analyzer[onnx]"'
        ) from exc
    model: ModelProto = onnx.load(str(source))
    onnx.save(convert_float_to_float16(model, keep_io_types=True), str(target))


class _Calibration:
    """Inputs, one after another, as ONNX Runtime asks for them."""

    def __init__(self, name: str, inputs: Sequence[NetworkArray]) -> None:
        self._feeds = iter([{name: array} for array in inputs])

    def get_next(self) -> dict[str, NetworkArray] | None:
        return next(self._feeds, None)


def quantised_onnx(
    source: Path,
    inputs: Sequence[NetworkArray],
    target: Path,
    kept_share: float,
    *,
    symmetric: bool,
) -> None:
    """Write a copy of a network whose convolutions are in INT8.

    Quantise and dequantise operations stand explicitly around each; weights have a scale a channel.

    Parameters
    ----------
    source : Path
        In FP32.
    inputs : sequence of arrays, shape (B, 3, H, W)
        What the ranges of activations are taken from.
    target : Path
        The ``.onnx`` to write.
    kept_share : float
        Share of all convolutions, counted from the output, that stay in FP32 besides the head.
    symmetric : bool
        Whether activations have no zero point, as TensorRT wants it.

    Raises
    ------
    DependencyMissingError
        If onnx or onnxruntime is not installed.
    """
    onnx = load_onnx()
    try:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as exc:
        raise DependencyMissingError(
            'an ONNX export in int8 needs onnxruntime: pip install "pose-analyzer[onnx]"'
        ) from exc
    graph: GraphProto = onnx.load(str(source)).graph
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    last = convolutions[len(convolutions) - int(kept_share * len(convolutions)) :]
    kind = quantization.QuantType
    # The shapes of all tensors, which the quantiser asks for; the nodes keep their names.
    prepared = target.with_suffix(".shapes.onnx")
    quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared),
        str(target),
        _Calibration(graph.input[0].name, inputs),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=kind.QInt8 if symmetric else kind.QUInt8,
        weight_type=kind.QInt8,
        nodes_to_exclude=[*head_nodes(graph), *last],
        extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": not symmetric},
    )
    prepared.unlink()


def head_nodes(graph: GraphProto) -> tuple[str, ...]:
    """Return the names of the last convolutions of a network and the nodes after them."""
    maker = {output: node for node in graph.node for output in node.output}
    channels = {weight.name: int(weight.dims[0]) for weight in graph.initializer if weight.dims}
    names: list[str] = []
    waiting = [output.name for output in graph.output]
    while waiting:
        node = maker.get(waiting.pop())
        if node is None or node.name in names:
            continue
        names.append(node.name)
        if node.op_type != "Conv" or channels.get(node.input[1]) == 1:
            waiting.extend(node.input)
    return tuple(names)
