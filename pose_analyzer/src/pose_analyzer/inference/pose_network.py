"""YOLO pose networks as PyTorch modules: from ``.pt``, from ``.onnx``, or untrained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pose_analyzer.errors import DependencyMissingError, DetectorError, UnknownNetworkError
from pose_analyzer.inference.backends.ultralytics_model import LOAD_ERRORS, load_ultralytics
from pose_analyzer.inference.convolution_matching import Graph, match_convolutions
from pose_analyzer.skeleton import N_COCO

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import Tensor
    from torch.autograd.graph import Node

ARCHITECTURES: Final = {
    16: ("yolo11n-pose.yaml", "yolov8n-pose.yaml"),
    32: ("yolo11s-pose.yaml", "yolov8s-pose.yaml"),
    48: ("yolov8m-pose.yaml",),
    64: ("yolo11m-pose.yaml", "yolo11l-pose.yaml", "yolov8l-pose.yaml"),
    80: ("yolov8x-pose.yaml",),
    96: ("yolo11x-pose.yaml",),
}
"""What the weights of an ONNX file are tried on, by the channels of the first convolution."""
_BINS: Final = 16
"""Bins of the distribution that a side of a box is read from, in every network named above."""
_BINS_SHAPE: Final = (1, _BINS, 1, 1)
"""Of the fixed convolution that reads the distributions, which is no part of what is loaded."""
_BRANCHES: Final = ("cv2", "cv3", "cv4")
"""Where the head keeps the layers of boxes, scores and keypoints, one of each grid."""
_TRACED_SIZE: Final = 64


@dataclass(frozen=True, slots=True)
class PoseNetwork:
    """A pose network up to where its own decoding would begin.

    Attributes
    ----------
    module : torch.nn.Module
        Batch normalisation folded in, in evaluation mode, FP32, on the CPU.
    strides : tuple of int
        Pixels of the input to one cell, of each grid of cells, finest first.
    """

    module: torch.nn.Module
    strides: tuple[int, ...]

    @property
    def head(self) -> torch.nn.Module:
        """The last layer, which in evaluation mode would decode what it finds."""
        *_, head = self.module.get_submodule("model").children()
        return head

    def head_branches(self) -> list[torch.nn.Sequential]:
        """Return the layers that give the boxes, scores and keypoints of each grid."""
        import torch

        found = (
            branch for name in _BRANCHES for branch in self.head.get_submodule(name).children()
        )
        return [branch for branch in found if isinstance(branch, torch.nn.Sequential)]

    def last_convolutions(self) -> list[torch.nn.Module]:
        """Return the last layer of each of `head_branches`."""
        return [branch[-1] for branch in self.head_branches()]

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the last convolutions give, for N cells of all grids, finest grid first.

        Parameters
        ----------
        pictures : tensor, shape (B, 3, H, W)
            RGB in [0, 1]; H and W multiples of the largest stride.

        Returns
        -------
        boxes : tensor, shape (B, 64, N)
            Left, top, right and bottom, each as the logits of 16 distances in cells.
        scores : tensor, shape (B, classes, N)
            Logits.
        keypoints : tensor, shape (B, 51, N)
            Of 17 points: x and y from the cell, and the logit of the confidence.
        """
        raw = self.module(pictures)
        return raw["boxes"], raw["scores"], raw["kpts"]


def load_pose_network(weights: Path) -> PoseNetwork:
    """Return the network of a file.

    Parameters
    ----------
    weights : Path
        ``.pt`` of Ultralytics, or ``.onnx`` of one of `ARCHITECTURES` in FP32 or FP16, whoever
        exported it: its convolutions are found by their shapes and by what they follow.

    Raises
    ------
    DependencyMissingError
        If ultralytics, or onnx for such a file, is not installed.
    UnknownNetworkError
        If it is no pose network of the COCO keypoints, or of another kind than the known ones.
    DetectorError
        If the file cannot be read.
    """
    if weights.suffix == ".onnx":
        return _from_onnx(weights)
    load_ultralytics()
    from ultralytics.nn.tasks import load_checkpoint

    try:
        model, _ = load_checkpoint(str(weights), device="cpu")  # type: ignore[no-untyped-call]
        return _network(model, weights.name)
    except LOAD_ERRORS as exc:
        raise DetectorError(f"{weights} cannot be loaded as a YOLO network: {exc}") from exc


def untrained_network(architecture: str = "yolo11n-pose.yaml", n_classes: int = 1) -> PoseNetwork:
    """Return a network with random weights, as fast as a trained one.

    Parameters
    ----------
    architecture : str
        A name that Ultralytics knows, such as those of `ARCHITECTURES`.
    n_classes : int
        Kinds of things it tells apart; a pose network has one, the person.
    """
    load_ultralytics()
    from ultralytics.nn.tasks import PoseModel

    model = PoseModel(architecture, nc=n_classes, verbose=False)  # type: ignore[no-untyped-call]
    return _network(model, architecture)


def _network(model: torch.nn.Module, name: str) -> PoseNetwork:
    """Fold the batch normalisation in and stop the head before its decoding."""
    fused: torch.nn.Module = model.float().eval().fuse(verbose=False)  # type: ignore[operator]
    network = PoseNetwork(
        fused.requires_grad_(False), tuple(int(stride) for stride in getattr(model, "stride", ()))
    )
    head = network.head
    is_readable = (
        tuple(getattr(head, "kpt_shape", ())) == (N_COCO, 3)
        and getattr(head, "reg_max", 0) == _BINS
        and not getattr(head, "end2end", False)
    )
    if not is_readable:
        raise UnknownNetworkError(
            f"{name} has no pose head of {N_COCO} COCO keypoints that the batched engine reads; "
            f"give a YOLO11 or YOLOv8 pose network"
        )
    # A head in training mode returns what its convolutions give; nothing else of it changes.
    head.training = True
    return network


def _from_onnx(weights: Path) -> PoseNetwork:
    """Return the known architecture that an ONNX file fits, with the file's weights."""
    graph = _read_onnx(weights)
    n_rows = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    n_classes = n_rows - 4 - 3 * N_COCO
    if n_classes < 1:
        raise UnknownNetworkError(
            f"{weights} is not a raw pose network of {N_COCO} COCO keypoints: its output has "
            f"{n_rows} rows, not 56"
        )
    found = _onnx_graph(graph)
    widths = {tensor.dims[0] for tensor in graph.initializer if tuple(tensor.dims[1:2]) == (3,)}
    for architecture in (name for width in widths for name in ARCHITECTURES.get(width, ())):
        network = untrained_network(architecture, n_classes)
        pairs = match_convolutions(found, _module_graph(network))
        if pairs is not None:
            _copy_weights(graph, pairs)
            network.module.requires_grad_(False)
            return network
    raise UnknownNetworkError(
        f"the convolutions of {weights} are those of no known architecture, YOLO11 or YOLOv8 of "
        f"any size; use it with device 'cpu', or give its .pt file"
    )


def _read_onnx(weights: Path) -> onnx.GraphProto:
    """Return the graph of an ONNX file."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError as exc:
        raise DependencyMissingError(
            'the batched engine reads .onnx files with onnx: pip install "pose-analyzer[export]"'
        ) from exc
    try:
        return onnx.load(weights).graph
    except (DecodeError, OSError) as exc:
        raise DetectorError(f"{weights} is not an ONNX file that can be read: {exc}") from exc


def _onnx_graph(graph: onnx.GraphProto) -> Graph[str]:
    """Return an ONNX graph with its values as nodes."""
    shapes = {name: tuple(tensor.dims) for name, tensor in _onnx_tensors(graph).items()}
    makers = {name: node for node in graph.node for name in node.output}

    def inputs(name: str) -> Sequence[str]:
        return makers[name].input if name in makers else ()

    def shape(name: str) -> tuple[int, ...] | None:
        if name not in makers or makers[name].op_type != "Conv":
            return None
        of_weight = shapes.get(makers[name].input[1])
        return None if of_weight == _BINS_SHAPE else of_weight

    return Graph([output.name for output in graph.output], inputs, shape)


def _onnx_tensors(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the stored tensors by all their names: exporters store equal ones once."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    return tensors


def _module_graph(network: PoseNetwork) -> Graph[Node]:
    """Return a module as the record of its calculation that PyTorch keeps for training."""
    import torch

    network.module.requires_grad_(True)
    with torch.enable_grad():
        outputs = network(torch.zeros(1, 3, _TRACED_SIZE, _TRACED_SIZE))

    def inputs(step: Node) -> Iterator[Node]:
        return (before for before, _ in step.next_functions if before is not None)

    def shape(step: Node) -> tuple[int, ...] | None:
        parameters = _parameters(step)
        return tuple(parameters[0].shape) if parameters else None

    return Graph([output.grad_fn for output in outputs if output.grad_fn], inputs, shape)


def _parameters(step: Node) -> list[torch.nn.Parameter]:
    """Return weight and bias of a convolution; none of any other step."""
    if not step.name().startswith("ConvolutionBackward"):
        return []
    keepers = (before for before, _ in step.next_functions[1:] if before is not None)
    return [keeper.variable for keeper in keepers]  # type: ignore[attr-defined]


def _copy_weights(graph: onnx.GraphProto, pairs: Sequence[tuple[str, Node]]) -> None:
    """Put the weights and biases of a file into the parameters of the module."""
    import torch
    from onnx import numpy_helper

    tensors = _onnx_tensors(graph)
    makers = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    for name, step in pairs:
        names = list(makers[name].input[1:])
        parameters = _parameters(step)
        if len(names) != len(parameters):
            raise UnknownNetworkError(
                f"convolution {name} has no bias: its normalisation is not fused"
            )
        for tensor_name, parameter in zip(names, parameters, strict=True):
            value = np.array(numpy_helper.to_array(tensors[tensor_name]), dtype=np.float32)
            parameter.data.copy_(torch.from_numpy(value))
