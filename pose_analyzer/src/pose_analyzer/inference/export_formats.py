"""One network in one of the formats and precisions that an export offers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pose_analyzer.inference.backends.onnx_runtime import open_session
from pose_analyzer.inference.backends.openvino_model import load_openvino
from pose_analyzer.inference.export_onnx import half_precision, load_onnx, quantised_onnx
from pose_analyzer.inference.export_openvino import (
    load_nncf,
    quantised,
    read_network,
    save_network,
)
from pose_analyzer.inference.export_tensorrt import build_engine, is_strongly_typed, load_tensorrt
from pose_analyzer.inference.preprocess import Letterbox, NetworkArray, network_input
from pose_analyzer.types import Frame

FORMATS: Final = ("openvino", "onnx", "tensorrt")
PRECISIONS: Final = ("fp32", "fp16", "int8")


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What to make of a network.

    Attributes
    ----------
    source : Path
        The ``.onnx`` in FP32.
    format, precision : str
        One of `FORMATS` and of `PRECISIONS`.
    image_size : tuple of int
        Height and width of the input in pixels, where the network leaves it open.
    kept_share : float
        Share of the convolutions, counted from the output, that INT8 leaves in higher precision;
        the last ones, the head, it always does.
    """

    source: Path
    format: str
    precision: str
    image_size: tuple[int, int] = (640, 640)
    kept_share: float = 0.0


def require_libraries(format_name: str, precision: str) -> None:
    """Fail before any work if a library of an export is missing.

    Raises
    ------
    DependencyMissingError
        Says which, and what to install.
    """
    if format_name == "tensorrt":
        load_tensorrt()
    if format_name != "openvino":
        load_onnx()
        return
    load_openvino()
    if precision == "int8":
        load_nncf()


def make_network(
    plan: NetworkPlan, calibration: Sequence[Frame], target: Path, workshop: Path
) -> Path:
    """Write a network and return its path.

    Parameters
    ----------
    plan : NetworkPlan
        What to make.
    calibration : sequence of Frame
        What INT8 takes the ranges of its activations from.
    target : Path
        Where to write, without an ending.
    workshop : Path
        A folder for files in between.
    """
    if plan.format == "openvino":
        return _make_openvino(plan, calibration, target.with_suffix(".xml"))
    if plan.format == "onnx":
        made = _onnx_file(plan, calibration, workshop)
        return Path(shutil.copyfile(made, target.with_suffix(".onnx")))
    # TensorRT up to 10 lowers an FP32 network to FP16 itself, and knows better where.
    lowers = plan.precision == "fp16" and not is_strongly_typed(load_tensorrt())
    made = plan.source if lowers else _onnx_file(plan, calibration, workshop)
    engine = target.with_suffix(".engine")
    build_engine(made, engine, plan.precision, plan.image_size)
    return engine


def network_inputs(plan: NetworkPlan, frames: Sequence[Frame]) -> list[NetworkArray]:
    """Return frames as inputs of the plan's network, repeated to fill a batch that is fixed."""
    (tensor,) = open_session(plan.source, "cpu", 1).get_inputs()
    batch, _, *sides = tensor.shape
    height, width = (
        side if isinstance(side, int) else wanted
        for side, wanted in zip(sides, plan.image_size, strict=True)
    )
    copies = batch if isinstance(batch, int) else 1
    boxes = [Letterbox.fit(frame.image.shape, height, width) for frame in frames]
    return [
        np.repeat(network_input([frame.image], [box]), copies, axis=0)
        for frame, box in zip(frames, boxes, strict=True)
    ]


def _make_openvino(plan: NetworkPlan, calibration: Sequence[Frame], target: Path) -> Path:
    model = read_network(plan.source)
    if plan.precision == "int8":
        inputs = network_inputs(plan, calibration)
        model = quantised(model, inputs, plan.kept_share)
    save_network(model, target, half=plan.precision != "fp32")
    return target


def _onnx_file(plan: NetworkPlan, calibration: Sequence[Frame], workshop: Path) -> Path:
    """Return the network as ONNX in the plan's precision."""
    if plan.precision == "fp32":
        return plan.source
    target = workshop / f"{plan.precision}.onnx"
    if plan.precision == "fp16":
        half_precision(plan.source, target)
    else:
        inputs = network_inputs(plan, calibration)
        symmetric = plan.format == "tensorrt"
        quantised_onnx(plan.source, inputs, target, plan.kept_share, symmetric=symmetric)
    return target
