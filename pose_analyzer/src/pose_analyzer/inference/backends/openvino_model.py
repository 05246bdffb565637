"""YOLO pose networks run by OpenVINO: IR folders, ``.xml`` and ``.onnx`` files."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pose_analyzer.errors import DependencyMissingError, DetectorError
from pose_analyzer.inference.backends.onnx_runtime import available_cores
from pose_analyzer.inference.preprocess import NetworkArray

if TYPE_CHECKING:
    from types import ModuleType

    from openvino import CompiledModel


@dataclass(frozen=True, slots=True)
class InputInfo:
    """The input of a network, in the words of ONNX Runtime.

    Attributes
    ----------
    name : str
        Of the tensor.
    shape : tuple of int or None
        Batch, channels, height, width; None where any size is taken.
    type : str
        ``"tensor(float)"`` or ``"tensor(float16)"``.
    """

    name: str
    shape: tuple[int | None, ...]
    type: str


def has_openvino() -> bool:
    """Return whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def load_openvino() -> ModuleType:
    """Return the openvino module.

    Raises
    ------
    DependencyMissingError
        If it is not installed.
    """
    try:
        import openvino
    except ImportError as exc:
        raise DependencyMissingError(
            'an OpenVINO network needs openvino: pip install "pose-analyzer[export]"'
        ) from exc
    module: ModuleType = openvino
    return module


class OpenVinoSession:
    """One compiled network with the interface of an ONNX Runtime session.

    So `OnnxPose` gives it the same pre- and postprocessing, and the two runtimes differ in nothing
    but speed. One session serves one thread.

    Parameters
    ----------
    compiled : openvino.CompiledModel
        With one input of shape (B, 3, H, W).
    """

    def __init__(self, compiled: CompiledModel) -> None:
        (tensor,) = compiled.inputs
        shape = tuple(
            None if side.is_dynamic else side.get_length() for side in tensor.get_partial_shape()
        )
        is_half = tensor.get_element_type().get_type_name() == "f16"
        kind = "tensor(float16)" if is_half else "tensor(float)"
        names = tensor.get_names()
        self._info = InputInfo(min(names) if names else "images", shape, kind)
        self._request = compiled.create_infer_request()

    def get_inputs(self) -> Sequence[InputInfo]:
        """Return the one input."""
        return [self._info]

    def run(
        self, output_names: Sequence[str] | None, input_feed: dict[str, NetworkArray]
    ) -> Sequence[NetworkArray]:
        """Return all outputs, as copies that the next run leaves alone.

        Raises
        ------
        ValueError
            If single outputs are asked for.
        """
        if output_names is not None:
            raise ValueError(f"output_names must be None for all outputs, got {output_names}")
        results = self._request.infer({0: input_feed[self._info.name]}, share_inputs=True)
        return [np.array(value) for value in results.values()]


def open_openvino_session(
    path: Path, device: str | None = None, threads: int | None = None
) -> OpenVinoSession:
    """Return a session of OpenVINO on the CPU, set for the least time of one call.

    Parameters
    ----------
    path : Path
        An ``.xml`` with its ``.bin`` beside it, or an ``.onnx``.
    device : str, optional
        ``"cpu"`` or None.
    threads : int, optional
        Of one inference; all cores that this process may use unless given.

    Raises
    ------
    DependencyMissingError
        If openvino is not installed.
    DetectorError
        If the file is not a network, or another device is asked for.

    Notes
    -----
    What is not INT8 is computed in FP32. OpenVINO's own choice on a processor with BF16 is BF16,
    whose 8 significant bits do not hold a coordinate of 640 pixels to one pixel.
    """
    if device not in (None, "cpu"):
        raise DetectorError(
            f"OpenVINO runs on the CPU here, not on device {device!r}: use device 'cpu', "
            "or a .pt, .onnx or .engine file for a GPU"
        )
    openvino = load_openvino()
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": available_cores() if threads is None else threads,
    }
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", options)
        return OpenVinoSession(compiled)
    except (RuntimeError, ValueError) as exc:
        cause = str(exc).strip().splitlines()[-1]
        raise DetectorError(f"{path} is not a model that OpenVINO can load: {cause}") from exc
