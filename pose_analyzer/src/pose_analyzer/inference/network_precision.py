"""In what numbers a pose network calculates on a GPU."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

from pose_analyzer.inference.pose_network import PoseNetwork

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Precision: TypeAlias = Literal["fp16", "tf32", "fp32"]
"""``"fp16"``: layers in FP16, the last convolution of each output in FP32. ``"tf32"``: FP32 whose
products round their factors to ten bits. ``"fp32"``: whole."""


def move_network(
    network: PoseNetwork, device: torch.device, precision: Precision, *, is_fused: bool = False
) -> torch.dtype:
    """Move a network to a device and a precision; return the type of the pictures that it takes.

    A CPU takes ``"fp32"`` only.

    Parameters
    ----------
    network : PoseNetwork
        Changed.
    device : torch.device
        Where it goes.
    precision : str
        As `Precision`.
    is_fused : bool
        Whether biases and activations are joined as `fuse_activations` does, the channels of the
        head are aligned, and the last convolutions become products of matrices: for a GPU, where
        it saves a third of the launches.

    Notes
    -----
    Neighbouring cells see the same person with nearly the same score. FP16 has steps of 0.002 in
    the logits of sure people, so that several cells tie and another than the best gives the
    keypoints. With the logits in FP32 that is as rare as in TF32 (see reports/gpu_pose_engine.md).
    """
    import torch

    dtype = torch.float16 if precision == "fp16" else torch.float32
    network.module.to(device)
    if is_fused:
        _fuse(network, is_widened=precision == "fp16")
    last = network.last_convolutions() if precision == "fp16" else []
    whole = [copy.deepcopy(layer.state_dict()) for layer in last]
    # No overload of its stub knows the argument, which it documents.
    network.module.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer, weights in zip(last, whole, strict=True):
        layer.float().load_state_dict(weights)
        layer.register_forward_pre_hook(_widened)
    return dtype


def _fuse(network: PoseNetwork, *, is_widened: bool) -> None:
    """Join biases with activations; the last of each branch then give FP32, if asked for."""
    from torch import nn

    from pose_analyzer.inference.fused_activation import (
        BiasActivation,
        PointwiseProduct,
        align_channels,
        fuse_activations,
    )

    for branch in network.head_branches():
        align_channels(branch)
    fuse_activations(network.module)
    for branch in network.head_branches():
        *_, last = (part for part in branch.modules() if isinstance(part, BiasActivation))
        last.is_widened = is_widened
        convolution = branch[-1]
        if isinstance(convolution, nn.Conv2d):
            branch[-1] = PointwiseProduct(convolution)


def _widened(_: torch.nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the arguments of a layer in FP32."""
    return tuple(argument.float() for argument in arguments)


@contextlib.contextmanager
def library_choices(precision: Precision) -> Iterator[None]:
    """Let cuDNN time its kernels for each shape, and round products only where that was asked for.

    Both are settings of the process, so they are put back.
    """
    import torch

    is_rounded = precision == "tf32"
    matmul_tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = is_rounded
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=is_rounded):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul_tf32
