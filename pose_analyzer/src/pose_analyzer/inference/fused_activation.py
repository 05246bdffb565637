"""Fewer launches and roundings: convolutions whose bias and activation are one step behind them."""

from __future__ import annotations

import itertools
from typing import Any, Final

import torch
from torch import Tensor, nn

from pose_analyzer.inference.device_letterbox import has_triton

_CHANNELS: Final = 16
"""What `align_channels` rounds up to: 32 bytes in FP16, 64 in FP32 (chosen by us)."""


class BiasActivation(nn.Module):
    """Adds the bias of a convolution and applies SiLU or nothing, in FP32.

    On a GPU one kernel does both, in place. The bias is no parameter, so that it stays in FP32
    when a network is moved to FP16.

    Parameters
    ----------
    bias : tensor, shape (C,)
        On the device of the network.
    is_silu : bool
        Whether SiLU follows.

    Attributes
    ----------
    is_widened : bool
        Whether it returns FP32 whatever it is given; no more in place then.
    """

    def __init__(self, bias: Tensor, *, is_silu: bool) -> None:
        super().__init__()
        self.is_widened = False
        self._bias = bias.detach().float().clone()
        self._is_silu = is_silu

    def forward(self, values: Tensor) -> Tensor:
        """Return the activations of a convolution's output without bias, which is used up.

        Parameters
        ----------
        values : tensor, shape (B, C, H, W)
            FP16 or FP32.
        """
        dtype = torch.float32 if self.is_widened else values.dtype
        if values.is_cuda and has_triton():
            from pose_analyzer.inference.activation_kernel import launch

            values = values.contiguous(memory_format=torch.channels_last)
            out = values if dtype == values.dtype else torch.empty_like(values, dtype=dtype)
            launch(values, self._bias, out, is_silu=self._is_silu)
            return out
        total = values.float() + self._bias.view(1, -1, 1, 1)
        return (nn.functional.silu(total) if self._is_silu else total).to(dtype)


class PointwiseProduct(nn.Module):
    """A convolution of single cells as one product of matrices in FP32.

    Parameters
    ----------
    convolution : torch.nn.Conv2d
        With a kernel of 1 x 1; its weight and bias are taken over.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight.detach().float()
        self.weight = nn.Parameter(weight.flatten(1).clone(), requires_grad=False)
        self.bias = convolution.bias

    def forward(self, values: Tensor) -> Tensor:
        """Return what the convolution gives, shape (B, C, H, W), channels last, for FP32."""
        product = nn.functional.linear(values.permute(0, 2, 3, 1), self.weight, self.bias)
        return product.permute(0, 3, 1, 2)


def fuse_activations(module: nn.Module) -> int:
    """Take the bias out of each convolution that an activation follows, and join the two.

    Parameters
    ----------
    module : torch.nn.Module
        On its device, in FP32. Where a part of it has a ``conv`` with a bias and then an ``act``,
        SiLU or none, as Ultralytics' convolutions have once they are fused, both are changed.

    Returns
    -------
    int
        How many were.
    """
    n_fused = 0
    for part in module.modules():
        convolution: Any = getattr(part, "conv", None)
        activation = getattr(part, "act", None)
        if not isinstance(convolution, nn.Conv2d) or convolution.bias is None:
            continue
        if isinstance(activation, nn.SiLU | nn.Identity):
            is_silu = isinstance(activation, nn.SiLU)
            part.act = BiasActivation(convolution.bias, is_silu=is_silu)
            convolution.bias = None
            n_fused += 1
    return n_fused


def align_channels(branch: nn.Sequential) -> None:
    """Round the channels between the convolutions of a branch up, with zeros that change nothing.

    Parameters
    ----------
    branch : torch.nn.Sequential
        Convolutions with biases, each of which feeds the next, perhaps through SiLU, which keeps
        zeros. Left as it is if one of them works on groups of channels.

    References
    ----------
    .. [1] NVIDIA, "Convolutional Layers User's Guide": tensor cores take channels in multiples of 8
       in FP16 and of 4 in TF32; cuDNN copies others into padded tensors at each run.
    """
    convolutions = [part for part in branch.modules() if isinstance(part, nn.Conv2d)]
    if any(each.groups > 1 or each.bias is None for each in convolutions):
        return
    for before, after in itertools.pairwise(convolutions):
        n_more = -before.out_channels % _CHANNELS
        if n_more and before.bias is not None:
            before.weight = _padded(before.weight, (0, 0, 0, 0, 0, 0, 0, n_more))
            before.bias = _padded(before.bias, (0, n_more))
            after.weight = _padded(after.weight, (0, 0, 0, 0, 0, n_more))
            before.out_channels += n_more
            after.in_channels += n_more


def _padded(parameter: Tensor, places: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(nn.functional.pad(parameter.detach(), places), requires_grad=False)
