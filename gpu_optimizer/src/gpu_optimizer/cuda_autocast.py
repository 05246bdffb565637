"""Autocast by the rules of CUDA, for tensors that stand for CUDA ones on a machine without a GPU.

Fake tensors of the device type "cuda" cannot run backward where there is no driver, so the trace is
made with the device type "cpu". Autocast for the CPU casts the same operators to low precision and
caches the casts of weights in the same way, but leaves many operators alone that CUDA runs in
float32. Those are added here for as long as the context lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import torch

# Operators that CUDA's autocast runs in float32 and the CPU's does not (PyTorch, "Automatic Mixed
# Precision package - torch.amp", section "CUDA Ops that can autocast to float32").
_FLOAT32_OPS: Final = (
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log1p", "log2", "reciprocal",
    "rsqrt", "sinh", "tan", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "softplus",
    "layer_norm", "native_layer_norm", "group_norm", "cosine_similarity", "logsumexp",
    "nll_loss", "nll_loss2d", "l1_loss", "smooth_l1_loss", "mse_loss", "kl_div",
    "binary_cross_entropy_with_logits", "norm.Scalar",
)  # fmt: skip
# Those that take a dtype are told it, and cast within their kernel (there, "autocast to float32").
_DTYPE_OPS: Final = ("cumprod", "cumsum", "prod", "sum", "sum.dim_IntList", "linalg_vector_norm")
# From float16 these have a kernel that reads halves and writes floats, from bfloat16 they have not
# (PyTorch, "aten/src/ATen/native/SoftMax.cpp").
_SOFTMAX_OPS: Final = ("softmax.int", "log_softmax.int")
_KEY: Final = "AutocastCPU"
_HALVES: Final = (torch.float16, torch.bfloat16)


def _in_float32(operator: Callable[..., object]) -> Callable[..., object]:
    """Return the operator with its half precision tensors cast first."""

    def cast(value: object) -> object:
        if isinstance(value, torch.Tensor) and value.dtype in _HALVES:
            return value.to(torch.float32)
        return value

    def call(*args: object, **kwargs: object) -> object:
        named = {key: cast(item) for key, item in kwargs.items()}
        return _without_autocast(operator, [*map(cast, args)], named)

    return call


def _told_float32(operator: Callable[..., object]) -> Callable[..., object]:
    """Return the operator with float32 as its dtype where the caller names none."""

    def call(*args: object, **kwargs: object) -> object:
        if kwargs.get("dtype") is None and isinstance(first := args[0], torch.Tensor):
            kwargs["dtype"] = torch.float32 if first.dtype in _HALVES else None
        return _without_autocast(operator, args, kwargs)

    return call


def _softmax(operator: Callable[..., object]) -> Callable[..., object]:
    """Return a softmax that makes no float32 copy of a float16 tensor."""
    is_log = operator is torch.ops.aten.log_softmax.int
    fused = torch.ops.aten._log_softmax if is_log else torch.ops.aten._softmax
    cast = _in_float32(operator)

    def call(*args: object, **kwargs: object) -> object:
        if isinstance(first := args[0], torch.Tensor) and first.dtype == torch.float16:
            return _without_autocast(fused, (first, args[1], True), {})
        return cast(*args, **kwargs)

    return call


def _without_autocast(
    operator: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
) -> object:
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
    with torch._C._ExcludeDispatchKeyGuard(autocast):
        return operator(*args, **kwargs)


_RULES: Final = {
    **dict.fromkeys(_FLOAT32_OPS, _in_float32),
    **dict.fromkeys(_DTYPE_OPS, _told_float32),
    **dict.fromkeys(_SOFTMAX_OPS, _softmax),
}


@contextmanager
def cuda_rules() -> Iterator[None]:
    """Make autocast for the CPU follow the rules of CUDA inside the block.

    The rules are those of the process: another thread that uses autocast for the CPU meanwhile
    would follow them too.
    """
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    try:
        for name, wrap in _RULES.items():
            if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", _KEY):
                packet, _, overload = name.partition(".")
                operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
                library.impl(name, wrap(operator), _KEY)  # type: ignore[no-untyped-call]
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]
