"""A YOLO pose network as an OpenVINO folder, in FP32, FP16 or INT8."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pose_analyzer.errors import DependencyMissingError, ExportError
from pose_analyzer.inference.backends.openvino_model import load_openvino
from pose_analyzer.inference.preprocess import NetworkArray

if TYPE_CHECKING:
    from types import ModuleType

    from openvino import Model, Node

_CONVOLUTIONS: Final = ("Convolution", "GroupConvolution")


def load_nncf() -> ModuleType:
    """Return the nncf module, quiet, and without the usage events that it would send.

    Raises
    ------
    DependencyMissingError
        If it is not installed.
    """
    os.environ.setdefault("NNCF_CI", "1")
    try:
        import nncf
    except ImportError as exc:
        raise DependencyMissingError(
            'an INT8 export needs nncf: pip install "pose-analyzer[export]"'
        ) from exc
    logging.getLogger("nncf").setLevel(logging.ERROR)
    module: ModuleType = nncf
    return module


def read_network(onnx_file: Path) -> Model:
    """Return a network with its shapes folded and each SiLU as one operation.

    Without that, NNCF takes the two halves of a SiLU for operations of their own and quantises
    between them: each becomes a pass over memory of its own behind its convolution.

    Raises
    ------
    DependencyMissingError
        If openvino is not installed.
    ExportError
        If OpenVINO cannot read the file.
    """
    openvino = load_openvino()
    from openvino._offline_transformations import apply_moc_transformations

    try:
        model: Model = openvino.Core().read_model(str(onnx_file))
        # As in convert_model, which would also send usage events.
        apply_moc_transformations(model, cf=True, smart_reshape=True)
    except (RuntimeError, ValueError) as exc:
        raise ExportError(
            f"OpenVINO cannot read {onnx_file.name}: {str(exc).strip().splitlines()[-1]}; "
            "export the weights to ONNX anew"
        ) from exc
    return model


def save_network(model: Model, target: Path, *, half: bool) -> None:
    """Write an ``.xml`` and its ``.bin``; with ``half`` the weights are kept in FP16."""
    load_openvino().save_model(model, str(target), compress_to_fp16=half)


def quantised(
    model: Model, inputs: Sequence[NetworkArray], kept_share: float, *, keep_head: bool = True
) -> Model:
    """Return a network in INT8, its weights by channel, its activations by tensor.

    Activations are quantised with a zero point where they have a sign (NNCF's preset MIXED), as
    those of a SiLU do.

    Parameters
    ----------
    model : openvino.Model
        In FP32. Not modified.
    inputs : sequence of arrays, shape (B, 3, H, W)
        What the ranges of activations are taken from.
    kept_share : float
        Share of all convolutions, counted from the output, that stay in FP32, in [0, 1).
    keep_head : bool
        Whether the head (`head_operations`) stays in FP32.
    """
    nncf = load_nncf()
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() in _CONVOLUTIONS]
    last = nodes[len(nodes) - int(kept_share * len(nodes)) :]
    head = head_operations(model) if keep_head else ()
    kept = [*dict.fromkeys((*head, *(node.get_friendly_name() for node in last)))]
    scope = nncf.IgnoredScope(names=kept, validate=False) if kept else None
    result: Model = nncf.quantize(
        model.clone(),
        nncf.Dataset(inputs),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(inputs),
        ignored_scope=scope,
    )
    return result


def head_operations(model: Model) -> tuple[str, ...]:
    """Return the last convolutions of a network and the arithmetic after them, by name.

    The last convolutions give boxes, scores and keypoints; what follows turns them into pixels. One
    step of 8 bits over 640 pixels would be 2.5 pixels. The convolution to one channel that weighs a
    box's distance bins belongs to the arithmetic.
    """
    names: list[str] = []
    waiting = [node for result in model.get_results() for node in _parents(result)]
    while waiting:
        node = waiting.pop()
        name = node.get_friendly_name()
        if name in names or node.get_type_name() in ("Parameter", "Constant"):
            continue
        names.append(name)
        if node.get_type_name() not in _CONVOLUTIONS or _channels(node) == 1:
            waiting.extend(_parents(node))
    return tuple(names)


def _parents(node: Node) -> Iterator[Node]:
    return (value.get_node() for value in node.input_values())


def _channels(node: Node) -> int:
    return int(node.get_output_partial_shape(0)[1].get_length())
