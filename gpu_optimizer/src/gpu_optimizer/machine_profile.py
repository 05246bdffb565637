"""Measures what a GPU takes besides a program's tensors, what it moves, and what it computes.

Meant for a process of its own: the CUDA context is measured as it is after a first matrix product
and a few convolutions, whose kernels it then holds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

import torch
from torch import nn

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
    copies = convolution_copies()
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
        convolution_copies=copies,
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


def convolution_copies() -> float:
    """Return how much of a convolution's operands cuDNN copies in its workspace, from 0.

    The median over forward and backward of a few shapes and types.
    """
    ratios = [ratio for shape in _CONVOLUTIONS for ratio in _convolution_ratios(*shape)]
    return max(float(median(ratios)), 0.0)


def _convolution_ratios(
    batch: int, channels: int, side: int, filters: int, kernel: int
) -> Iterator[float]:
    """Yield the workspace of forward and backward over the bytes of the operands."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        image = torch.ones(batch, channels, side, side, device="cuda", dtype=dtype)
        image.requires_grad_()
        layer = nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False)
        layer = layer.to("cuda", dtype)
        operands = sum(t.numel() for t in (image, layer.weight)) * image.element_size()
        base = _reset_peak()
        output = layer(image)
        n_bytes = output.numel() * output.element_size()
        yield (_peak() - base - n_bytes) / (operands + n_bytes)
        gradient = torch.ones_like(output)
        base = _reset_peak()
        output.backward(gradient)
        yield (_peak() - base - operands) / (operands + n_bytes)


def _reset_peak() -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak() -> int:
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


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
