"""What CUDA kernels allocate and fake ones do not, and the calls that CUDA decides otherwise.

Corrections, each with its source:

========================  ======================================================================
cuBLAS workspace          one for each thread that multiplies matrices, kept: forward runs in one,
                          backward in another (PyTorch, "CUDA semantics", section "cuBLAS
                          workspaces"; size by machine, `machines`)
flash attention           backward takes a float32 accumulator of dQ and one row sum for each query,
                          rounded up to tiles (Dao, "FlashAttention-2", section 3.1.2, algorithm 2)
efficient attention       backward takes the products that row sums of each query are made of, and
                          then a float32 accumulator of dQ: whole in half precision, in tiles in
                          float32 (Rabe and Staats, "Self-attention Does Not Need O(n²) Memory";
                          xFormers' backward kernel; as recorded in float32)
cuDNN attention           takes the place of flash attention on some machines; backward takes a
                          float32 accumulator of dQ and one row sum for each query (as recorded)
sum over outer axes       blocks of threads leave their parts in a buffer (PyTorch,
                          "aten/src/ATen/native/cuda/Reduce.cuh", `setReduceConfig`)
cuDNN convolution         see `convolution_kernels`
attention, dropout        CUDA has fused operators where the CPU has others, see `cuda_choices`
========================  ======================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch.nn import functional

from gpu_optimizer.convolution_kernels import (
    Temporaries,
    as_tensor,
    backward_temporaries,
    forward_temporaries,
)
from gpu_optimizer.convolution_layer import is_channels_last

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
_CUDNN_ROOM_BYTES: Final = 256
_EFFICIENT_TILE: Final = 64
_TILE_ROOM_BYTES: Final = 16
LAYER_NORM: Final = _ATEN.native_layer_norm.default
_FLASH_BACKWARD: Final = _ATEN._scaled_dot_product_flash_attention_backward.default
_EFFICIENT_BACKWARD: Final = _ATEN._scaled_dot_product_efficient_attention_backward.default
# PyTorch's sum over outer axes: four columns a thread, 128 threads a block, 16 to 256 values each.
_VECTOR: Final = 4
_WARP: Final = 32
_SUM_THREADS: Final = 128
_PROCESSOR_THREADS: Final = 2048
_ADDED_EACH: Final = 16
_MIN_ADDED: Final = 256
_HALVES: Final = (torch.float16, torch.bfloat16)


def temporaries(
    operator: object, args: Sequence[object], attention: str, n_processors: int
) -> Temporaries:
    """Return what the CUDA kernel of an operator takes besides its outputs, and gives back.

    Parameters
    ----------
    operator : torch.ops operator
        An overload of ``aten``.
    args : sequence
        Of the call.
    attention : {"cudnn", "flash"}
        The kernel of attention in half precision without a mask.
    n_processors : int
        Streaming multiprocessors, at least 1.
    """
    if operator is _ATEN.convolution.default:
        return forward_temporaries(args)
    if operator is _ATEN.convolution_backward.default:
        taken = backward_temporaries(args)
        gradient = as_tensor(args[0])
        if is_channels_last(gradient) and not taken.held:
            axes = (gradient, [0, 2, 3])
            return Temporaries((), (*taken.pulses, _sum(axes, n_processors)))
        return taken
    if operator is _ATEN.sum.dim_IntList:
        return Temporaries(pulses=(_sum(args, n_processors),))
    if operator is LAYER_NORM and not as_tensor(args[0]).is_contiguous():
        return Temporaries(held=(as_tensor(args[0]).numel() * as_tensor(args[0]).element_size(),))
    if operator is _FLASH_BACKWARD:
        rule = _cudnn_backward if attention == "cudnn" else _flash_backward
        return Temporaries((rule(args),))
    if operator is _EFFICIENT_BACKWARD:
        return Temporaries(pulses=_efficient_backward(args))
    return Temporaries()


def output_bytes(operator: object, index: int, tensor: torch.Tensor) -> int:
    """Return the bytes of an output's storage: statistics of layer norm are always float32."""
    n_bytes = tensor.untyped_storage().nbytes()
    is_narrow = operator is LAYER_NORM and index > 0 and tensor.dtype in _HALVES
    return 2 * n_bytes if is_narrow else n_bytes


def _flash_backward(args: Sequence[object]) -> int:
    query = as_tensor(args[1])
    batch, heads, length, width = query.shape
    rounded = math.ceil(length / _QUERY_TILE) * _QUERY_TILE
    width = math.ceil(width / 32) * 32
    return 4 * batch * heads * rounded * (width + 1)


def _cudnn_backward(args: Sequence[object]) -> int:
    query = as_tensor(args[1])
    batch, heads, length, width = query.shape
    return 4 * batch * heads * length * (width + 1) + _CUDNN_ROOM_BYTES


def _efficient_backward(args: Sequence[object]) -> tuple[int, ...]:
    query = as_tensor(args[1])
    batch, heads, length, width = query.shape
    row_sums = 4 * batch * heads * length
    if query.dtype in _HALVES:
        return 0, 0, row_sums + 4 * query.numel()
    n_tiles = math.ceil(length / _EFFICIENT_TILE) * math.ceil(width / _EFFICIENT_TILE)
    tile_bytes = 4 * _EFFICIENT_TILE**2 + _TILE_ROOM_BYTES
    return 0, 0, 4 * query.numel(), batch * heads * n_tiles * tile_bytes


def _sum(args: Sequence[object], n_processors: int) -> int:
    """Return the buffer in which blocks of threads leave their parts of a sum over outer axes."""
    rows = as_tensor(args[0])
    axes = [int(axis) % rows.dim() for axis in args[1]] if isinstance(args[1], Sequence) else []
    kept = [axis for axis in range(rows.dim()) if axis not in axes]
    n_added = math.prod(rows.shape[axis] for axis in axes)
    n_sums = math.prod(rows.shape[axis] for axis in kept)
    is_outer = bool(kept) and min(rows.stride(axis) for axis in kept if rows.shape[axis] > 1 or
                                  len(kept) == 1) == 1  # fmt: skip
    if not is_outer or n_sums < _VECTOR or n_added < _MIN_ADDED:
        return 0
    width = min(2 ** int(math.log2(n_sums // _VECTOR)), _WARP)
    height = _SUM_THREADS // width
    n_each = math.ceil(n_added / height)
    if n_each < _MIN_ADDED:
        return 0
    n_columns = math.ceil(n_sums / (width * _VECTOR))
    n_blocks = math.ceil(n_processors * (_PROCESSOR_THREADS // _SUM_THREADS) / n_columns)
    n_blocks = max(min(n_blocks, math.ceil(n_each / _ADDED_EACH)), math.ceil(n_each / _MIN_ADDED))
    return 4 * n_sums * n_blocks * width * _VECTOR if n_blocks > 1 else 0


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
