"""A TensorRT engine of an ONNX network, for the GPU and the TensorRT of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pose_analyzer.errors import DependencyMissingError, ExportError
from pose_analyzer.skeleton import N_COCO

if TYPE_CHECKING:
    from types import ModuleType

_WORKSPACE_BYTES: Final = 4 << 30
"""Most memory that the builder may try kernels in (chosen by us)."""
_FLAGS: Final = {"fp32": (), "fp16": ("FP16",), "int8": ("FP16", "INT8")}
BATCHES: Final = (1, 4, 32)
"""Smallest, usual and largest batch of an engine whose network leaves the batch open."""


def load_tensorrt() -> ModuleType:
    """Return the tensorrt module.

    Raises
    ------
    DependencyMissingError
        If it is not installed.
    """
    try:
        import tensorrt
    except ImportError as exc:
        raise DependencyMissingError(
            "a TensorRT export needs NVIDIA's tensorrt package and a GPU: pip install tensorrt on "
            "the machine that will run the engine, or export to openvino or onnx instead"
        ) from exc
    module: ModuleType = tensorrt
    return module


def is_strongly_typed(trt: Any) -> bool:
    """Return whether this TensorRT takes precisions from the network alone, as 11 does."""
    return not hasattr(trt.BuilderFlag, "FP16")


def build_engine(onnx_file: Path, target: Path, precision: str, size: tuple[int, int]) -> None:
    """Build an engine and write it with the head that Ultralytics reads.

    Parameters
    ----------
    onnx_file : Path
        In FP32; in FP16 for FP16 where TensorRT `is_strongly_typed`; or with explicit
        quantise and dequantise operations for INT8: TensorRT takes their scales and calibrates
        nothing.
    target : Path
        The ``.engine`` to write.
    precision : str
        ``"fp32"``, ``"fp16"`` or ``"int8"``; INT8 leaves the rest to FP16.
    size : tuple of int
        Height and width of the input in pixels, for what the network leaves open.

    Raises
    ------
    DependencyMissingError
        If tensorrt is not installed.
    ExportError
        If TensorRT cannot read the network or build the engine.

    References
    ----------
    .. [1] NVIDIA, "TensorRT Python API", classes Builder, OnnxParser, IBuilderConfig.
    """
    trt: Any = load_tensorrt()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    is_typed = is_strongly_typed(trt)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if is_typed else 0
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_file)):
        reasons = "; ".join(str(parser.get_error(row)) for row in range(parser.num_errors))
        raise ExportError(f"TensorRT cannot read {onnx_file.name}: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    for flag in () if is_typed else _FLAGS[precision]:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    tensor = network.get_input(0)
    if -1 in tuple(tensor.shape):
        profile = builder.create_optimization_profile()
        profile.set_shape(tensor.name, *(_shape(tensor.shape, size, batch) for batch in BATCHES))
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ExportError(
            f"TensorRT could not build an engine of {onnx_file.name}; its log says why"
        )
    target.write_bytes(_head(tuple(tensor.shape), size) + bytes(engine))


def _shape(shape: tuple[int, ...], size: tuple[int, int], batch: int) -> tuple[int, ...]:
    """Return a shape with its open sides filled in."""
    filled = (batch, 3, *size)
    return tuple(new if old == -1 else old for old, new in zip(shape, filled, strict=True))


def _head(shape: tuple[int, ...], size: tuple[int, int]) -> bytes:
    """Return the description that Ultralytics reads before an engine: its length, then JSON."""
    batch, _, height, width = _shape(shape, size, BATCHES[-1])
    facts = {
        "task": "pose",
        "stride": 32,
        "batch": batch,
        "imgsz": [height, width],
        "names": {"0": "person"},
        "kpt_shape": [N_COCO, 3],
    }
    text = json.dumps(facts).encode()
    return len(text).to_bytes(4, byteorder="little", signed=True) + text
