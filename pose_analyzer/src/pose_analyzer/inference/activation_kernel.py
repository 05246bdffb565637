"""Bias and activation for CUDA: one launch behind a convolution, where PyTorch takes two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK: Final = 1024
"""Values of one program: sixteen bytes of FP16 for each thread of four warps (chosen by us)."""


def launch(values: Tensor, bias: Tensor, out: Tensor, *, is_silu: bool) -> None:
    """Write ``values`` plus the bias of each channel, perhaps through SiLU, into ``out``.

    Parameters
    ----------
    values, out : tensors, shape (B, C, H, W)
        With the channels last in memory; they may be the same.
    bias : float32 tensor, shape (C,)
    is_silu : bool
        Whether the sum goes through SiLU.
    """
    n_values = values.numel()
    _add_and_activate[triton.cdiv(n_values, _BLOCK),](
        values, bias, out, n_values, CHANNELS=values.shape[1], IS_SILU=is_silu, BLOCK=_BLOCK
    )


@triton.jit  # type: ignore[untyped-decorator]
def _add_and_activate(  # type: ignore[no-untyped-def] # noqa: PLR0913, PLR0917 - a kernel takes no objects
    values,
    bias,
    out,
    n_values,
    CHANNELS: tl.constexpr,  # noqa: N803 - Triton writes its constants so
    IS_SILU: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Write up to BLOCK values, calculated in FP32."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_value = place < n_values
    value = tl.load(values + place, mask=is_value, other=0.0).to(tl.float32)
    value += tl.load(bias + place % CHANNELS, mask=is_value, other=0.0)
    if IS_SILU:
        value = value / (1.0 + tl.exp(-value))
    tl.store(out + place, value.to(out.dtype.element_ty), mask=is_value)
