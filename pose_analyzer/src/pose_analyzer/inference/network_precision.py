"""In what numbers a pose network calculates on a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

from pose_analyzer.inference.pose_network import PoseNetwork

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Precision: TypeAlias = Literal["fp16", "tf32", "fp32"]
"""``"fp16"``: layers in FP16, the last convolution of each output in FP32. ``"tf32"``: FP32 whose
products round their factors to ten bits. ``"fp32"``: whole."""


def move_network(network: PoseNetwork, device: torch.device, precision: Precision) -> torch.dtype:
    """Move a network to a device and a precision; return the type of the pictures that it takes.

    A CPU takes ``"fp32"`` only.

    Notes
    -----
    Neighbouring cells see the same person with nearly the same score. FP16 has steps of 0.002 in
    the logits of sure people, so that several cells tie and another than the best gives the
    keypoints. With the logits in FP32 that is as rare as in TF32 (see reports/gpu_pose_engine.md).
    """
    import torch

    dtype = torch.float16 if precision == "fp16" else torch.float32
    network.module.to(device, dtype)
    # No overload of its stub knows the argument, which it documents.
    network.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if precision == "fp16":
        for convolution in network.last_convolutions():
            convolution.float().register_forward_pre_hook(_widened)
    return dtype


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
