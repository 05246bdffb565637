"""Autocast by the rules of CUDA, for tensors that stand for CUDA ones on a machine without a GPU.

Fake tensors of the device type "cuda" cannot run backward where there is no driver, so the trace is
made with the device type "cpu". Autocast for the CPU casts the same operators to low precision and
caches the casts of weights in the same way, but leaves many operators alone that CUDA runs in
float32. Those are added here for as long as the context lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch

# Operators that CUDA's autocast runs in float32 and the CPU's does not (PyTorch, "Automatic Mixed
# Precision package - torch.amp", section "CUDA Ops that can autocast to float32").
_FLOAT32_OPS: Final = (
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log1p", "log2", "reciprocal",
    "rsqrt", "sinh", "tan", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "softplus",
    "layer_norm", "native_layer_norm", "group_norm", "cosine_similarity", "cumprod", "cumsum",
    "logsumexp", "sum", "sum.dim_IntList", "softmax.int", "log_softmax.int", "linalg_vector_norm",
    "nll_loss", "nll_loss2d", "l1_loss", "smooth_l1_loss", "mse_loss", "kl_div",
    "binary_cross_entropy_with_logits", "norm.Scalar",
)  # fmt: skip
_KEY: Final = "AutocastCPU"
_HALVES: Final = (torch.float16, torch.bfloat16)


def _in_float32(operator: Callable[..., object]) -> Callable[..., object]:
    """Return the operator with its half precision tensors cast first."""

    def cast(value: object) -> object:
        if isinstance(value, torch.Tensor) and value.dtype in _HALVES:
            return value.to(torch.float32)
        return value

    def call(*args: object, **kwargs: object) -> object:
        autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
        with torch._C._ExcludeDispatchKeyGuard(autocast):
            return operator(*map(cast, args), **{key: cast(item) for key, item in kwargs.items()})

    return call


@contextmanager
def cuda_rules() -> Iterator[None]:
    """Make autocast for the CPU follow the rules of CUDA inside the block.

    The rules are those of the process: another thread that uses autocast for the CPU meanwhile
    would follow them too.
    """
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    try:
        for name in _FLOAT32_OPS:
            if torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", _KEY):
                continue
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
            library.impl(  # type: ignore[no-untyped-call]
                name, _in_float32(operator), _KEY
            )
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]
