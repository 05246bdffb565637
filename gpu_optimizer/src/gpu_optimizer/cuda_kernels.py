"""What CUDA kernels allocate and fake ones do not, and the calls that CUDA decides otherwise.

Corrections, each with its source:

========================  ======================================================================
cuBLAS workspace          one for each thread that multiplies matrices, kept: forward runs in one,
                          backward in another (PyTorch, "CUDA semantics", section "cuBLAS
                          workspaces"; size by machine, `machines`)
flash attention           backward takes a float32 accumulator of dQ and one row sum for each query,
                          rounded up to tiles (Dao, "FlashAttention-2", section 3.1.2, algorithm 2)
efficient attention       backward takes one row sum for each query, and in half precision a float32
                          accumulator of dQ (Rabe and Staats, "Self-attention Does Not Need O(n²)
                          Memory"; xFormers' backward kernel)
cuDNN convolution         tensor cores want channels last: a contiguous operand is copied within the
                          workspace (NVIDIA, "Convolutional Layers User's Guide", section "Tensor
                          layouts"); how much of it is a constant of the machine
attention, dropout        CUDA has fused operators where the CPU has others, see `cuda_choices`
========================  ======================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch.nn import functional

_ATEN: Final = torch.ops.aten
MATRIX_PRODUCTS: Final = frozenset(
    {
        _ATEN.mm.default,
        _ATEN.addmm.default,
        _ATEN.bmm.default,
        _ATEN.baddbmm.default,
        _ATEN.linear.default,
        _ATEN.addmv.default,
        _ATEN.mv.default,
        _ATEN.dot.default,
    }
)
_FLASH_HEAD_DIM: Final = 256
_QUERY_TILE: Final = 128
_HALVES: Final = (torch.float16, torch.bfloat16)


def workspace_bytes(operator: object, args: Sequence[object], convolution_copies: float) -> int:
    """Return what the CUDA kernel of an operator takes besides its outputs, and gives back.

    Parameters
    ----------
    operator : torch.ops operator
        An overload of ``aten``.
    args : sequence
        Of the call.
    convolution_copies : float
        How much of a convolution's operands cuDNN copies, from 0.
    """
    rule = _WORKSPACES.get(operator)
    if rule is None:
        return 0
    if operator in _CONVOLUTIONS:
        return int(rule(args) * convolution_copies)
    return rule(args)


def _flash_backward(args: Sequence[object]) -> int:
    query = _tensor(args[1])
    batch, heads, length, width = query.shape
    rounded = math.ceil(length / _QUERY_TILE) * _QUERY_TILE
    width = math.ceil(width / 32) * 32
    return 4 * batch * heads * rounded * (width + 1)


def _efficient_backward(args: Sequence[object]) -> int:
    query = _tensor(args[1])
    row_sums = 4 * query.numel() // query.shape[-1]
    return row_sums + (4 * query.numel() if query.dtype in _HALVES else 0)


def _convolution(args: Sequence[object]) -> int:
    """Return the bytes of input, weight and output of a forward convolution."""
    image, weight = _tensor(args[0]), _tensor(args[1])
    stride, padding, dilation = (_integers(args[index]) for index in (3, 4, 5))
    if _is_transparent(image, weight, _groups(args[8])) or args[6]:
        return 0
    n_outputs = image.shape[0] * weight.shape[0]
    for axis, size in enumerate(image.shape[2:]):
        reach = dilation[axis] * (weight.shape[axis + 2] - 1) + 1
        n_outputs *= (size + 2 * padding[axis] - reach) // stride[axis] + 1
    return _bytes(image) + _bytes(weight) + n_outputs * image.element_size()


def _convolution_backward(args: Sequence[object]) -> int:
    """Return the bytes of the output's gradient, the input and the weight."""
    gradient, image, weight = _tensor(args[0]), _tensor(args[1]), _tensor(args[2])
    if _is_transparent(image, weight, _groups(args[9])):
        return 0
    return _bytes(gradient) + _bytes(image) + _bytes(weight)


def _is_transparent(image: torch.Tensor, weight: torch.Tensor, groups: int) -> bool:
    """Return whether no copy is made: channels last already, or a depthwise kernel."""
    is_depthwise = groups > 1 and groups == image.shape[1] == weight.shape[0]
    is_last = image.dim() == 4 and image.is_contiguous(memory_format=torch.channels_last)
    return is_depthwise or (is_last and not image.is_contiguous())


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensor(value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"an operator's argument must be a tensor here, got {type(value)}")
    return value


def _integers(value: object) -> list[int]:
    return [int(item) for item in value] if isinstance(value, Sequence) else []


def _groups(value: object) -> int:
    return value if isinstance(value, int) else 1


_WORKSPACES: Final[Mapping[object, Callable[[Sequence[object]], int]]] = {
    _ATEN._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    _ATEN._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
    _ATEN.convolution.default: _convolution,
    _ATEN.convolution_backward.default: _convolution_backward,
}
_CONVOLUTIONS: Final = frozenset({_ATEN.convolution.default, _ATEN.convolution_backward.default})


@contextmanager
def cuda_choices() -> Iterator[None]:
    """Let attention and dropout take the operators that they take on a GPU.

    Attention is flash in half precision without a mask, memory-efficient otherwise, as PyTorch
    prefers them ("torch.nn.attention.sdpa_kernel"); fused dropout keeps a mask of bytes. The fast
    path of `nn.MultiheadAttention` has no fake kernels and is off.
    """
    saved = functional.scaled_dot_product_attention, functional.dropout
    fast_path = torch.backends.mha.get_fastpath_enabled()
    functional.scaled_dot_product_attention, functional.dropout = _attention, _dropout
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        functional.scaled_dot_product_attention, functional.dropout = saved
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _dropout(
    input: torch.Tensor,  # noqa: A002 - the names of torch.nn.functional.dropout
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> torch.Tensor:
    if not training or p == 0.0:
        return input
    dropped: torch.Tensor = torch.native_dropout(input, p, train=True)[0]
    return input.copy_(dropped) if inplace else dropped


def _attention(  # noqa: PLR0913, PLR0917 - the signature of torch.nn.functional's
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    is_grouped = enable_gqa and query.shape[1] != key.shape[1]
    is_flash = query.dtype in _HALVES and attn_mask is None and query.dim() == 4
    output: torch.Tensor
    if is_flash and query.shape[-1] <= _FLASH_HEAD_DIM:
        output = _ATEN._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, scale=scale
        )[0]
        return output
    if query.dim() == 4 and not is_grouped:
        needs_graph = torch.is_grad_enabled() and any(
            tensor.requires_grad for tensor in (query, key, value)
        )
        output = _ATEN._scaled_dot_product_efficient_attention(
            query, key, value, _bias(attn_mask, query, key), needs_graph, dropout_p, is_causal,
            scale=scale,
        )[0]  # fmt: skip
        return output
    output = _ATEN._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )[0]
    return output


def _bias(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor | None:
    """Return the mask as the additive bias of every head."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -math.inf)
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
