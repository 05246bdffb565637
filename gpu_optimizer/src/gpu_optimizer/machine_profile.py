"""Measures what a GPU takes besides a program's tensors, what it moves, and what it computes.

Meant for a process of its own: the CUDA context is measured as it is after a first matrix product
and a few convolutions, whose kernels it then holds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_optimizer.device import CudaDoor
from gpu_optimizer.machines import Machine

# Batch, channels in, side, channels out, kernel; none of a model on which forecasts are judged.
_CONVOLUTIONS: Final = ((48, 96, 40, 96, 3), (24, 48, 80, 192, 1), (40, 3, 160, 48, 7))
_PRECISIONS: Final[Mapping[str, tuple[torch.dtype, str]]] = {
    "fp32": (torch.float32, "highest"),
    "tf32": (torch.float32, "high"),
    "fp16": (torch.float16, "highest"),
    "bf16": (torch.bfloat16, "highest"),
}
RATES: Final = (
    "h2d_pinned_gb_s",
    "h2d_pageable_gb_s",
    "d2h_pinned_gb_s",
    "d2h_pageable_gb_s",
    *(f"matmul_{name}_tflops" for name in _PRECISIONS),
)
"""Copies from the host and to it, in 10^9 bytes a second; products of square matrices, in 10^12
multiplications and additions a second."""


@dataclass(frozen=True, slots=True)
class RateSizes:
    """How large the pieces are whose time is measured.

    Attributes
    ----------
    copy_bytes : int
        Of each copy.
    matrix_side : int
        Of each square matrix.
    n_repeats : int
        How often each is timed; the fastest counts.
    """

    copy_bytes: int = 2**28
    matrix_side: int = 8192
    n_repeats: int = 5


def profile_machine(
    index: int = 0, sizes: RateSizes | None = None, clock: Callable[[], float] = time.perf_counter
) -> Machine:
    """Return a GPU with everything measured, in a process that has not used it.

    Raises
    ------
    DeviceError
        If there is no such GPU.
    """
    door = CudaDoor(index)
    card = door.open()
    workspace = cublas_workspace_bytes()
    run_convolutions()
    attention = attention_kernel()
    door.release()
    context = door.use().context_bytes
    rates = measure_rates(torch.device("cuda", index), sizes or RateSizes(), clock)
    door.release()
    return Machine(
        name=machine_name(card.name),
        gpu=card.name,
        total_bytes=card.total_bytes,
        context_bytes=context,
        cublas_workspace_bytes=workspace,
        attention=attention,
        n_processors=torch.cuda.get_device_properties(index).multi_processor_count,
        is_measured=True,
        rates=rates,
    )


def machine_name(gpu: str) -> str:
    """Return the short name of a card: ``"rtx-3070-ti"`` of ``"NVIDIA GeForce RTX 3070 Ti"``."""
    words = re.sub(r"[^a-z0-9]+", " ", gpu.lower()).split()
    short = [word for word in words if word not in {"nvidia", "geforce", "tesla"}]
    return "-".join(short or words) or "gpu"


def cublas_workspace_bytes() -> int:
    """Return what the first matrix product of a process allocates besides its result."""
    matrix = torch.ones(256, 256, device="cuda")
    before = torch.cuda.memory_allocated()
    product = matrix @ matrix
    return torch.cuda.memory_allocated() - before - product.numel() * product.element_size()


def run_convolutions() -> None:
    """Run a few convolutions both ways, whose kernels and handles the context then holds."""
    for batch, channels, side, filters, kernel in _CONVOLUTIONS:
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            shape = (batch, channels, side, side)
            image = torch.ones(shape, device="cuda", dtype=dtype, requires_grad=True)
            layer = nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False)
            layer.to("cuda", dtype)(image).sum().backward()


class _Names(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the names of all operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def attention_kernel() -> str:
    """Return which kernel attention takes in half precision without a mask."""
    rows = torch.ones(1, 2, 128, 64, device="cuda", dtype=torch.float16)
    with _Names() as names:
        functional.scaled_dot_product_attention(rows, rows, rows)
    return "cudnn" if any("cudnn_attention" in name for name in names.seen) else "flash"


def measure_rates(
    device: torch.device, sizes: RateSizes, clock: Callable[[], float]
) -> dict[str, float]:
    """Return the rates of a device by the names of `RATES`; without pinned memory on a CPU."""
    rates = {}
    for is_pinned in (True, False) if device.type == "cuda" else (False,):
        host = torch.zeros(sizes.copy_bytes, dtype=torch.uint8, pin_memory=is_pinned)
        there = torch.zeros(sizes.copy_bytes, dtype=torch.uint8, device=device)
        kind = "pinned" if is_pinned else "pageable"
        for way, target, source in (("h2d", there, host), ("d2h", host, there)):
            seconds = _fastest(_copy(target, source), device, sizes.n_repeats, clock)
            rates[f"{way}_{kind}_gb_s"] = sizes.copy_bytes / seconds / 1e9
    for name, (dtype, precision) in _PRECISIONS.items():
        matrix = torch.ones(sizes.matrix_side, sizes.matrix_side, dtype=dtype, device=device)
        with _matmul_precision(precision):
            seconds = _fastest(_product(matrix), device, sizes.n_repeats, clock)
        rates[f"matmul_{name}_tflops"] = 2 * sizes.matrix_side**3 / seconds / 1e12
    return {name: rates[name] for name in RATES if name in rates}


def _copy(target: torch.Tensor, source: torch.Tensor) -> Callable[[], object]:
    return lambda: target.copy_(source, non_blocking=True)


def _product(matrix: torch.Tensor) -> Callable[[], object]:
    return lambda: matrix @ matrix


@contextmanager
def _matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _fastest(
    call: Callable[[], object], device: torch.device, n: int, clock: Callable[[], float]
) -> float:
    """Return the seconds of the fastest of n calls, after one that is not timed."""
    times = []
    for _ in range(n + 1):
        start_s = clock()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - start_s)
    return min(times[1:])
