"""The thin door to `torch.cuda` and NVML.

What runs above it runs under a test on a machine without a GPU, with a card that is made up.
"""

from __future__ import annotations

import gc
import importlib
from dataclasses import dataclass
from typing import Final, Protocol

import torch

from gpu_optimizer.errors import DeviceError

# PyTorch's allocator takes memory in multiples of this: CUDACachingAllocator, kSmallBuffer.
SEGMENT_BYTES: Final = 2 * 2**20


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU as it was when it was opened.

    Attributes
    ----------
    name : str
        What its driver calls it.
    total_bytes, free_bytes : int
        Of its memory; what this process and others hold is not free.
    context_bytes : int
        What being a user of it took of its memory.
    """

    name: str
    total_bytes: int
    free_bytes: int
    context_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What this process has taken of a card, in bytes.

    Attributes
    ----------
    allocated_bytes, peak_allocated_bytes : int
        In tensors and workspaces, now and at most since `Door.reset_peaks`.
    peak_reserved_bytes : int
        What PyTorch's allocator held of the card at most since then.
    context_bytes : int
        Outside of that allocator, now: CUDA context, kernels, what libraries take by themselves.
    n_retries : int
        How often the allocator had to return its whole cache for an allocation since then.
    n_ooms : int
        How often an allocation failed since then, also where the program went on.
    """

    allocated_bytes: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    context_bytes: int
    n_retries: int = 0
    n_ooms: int = 0


class Door(Protocol):
    """A card and the allocator on it: a real one, or one that is made up for a test."""

    def check(self) -> None:
        """Raise a `DeviceError` if there is no such card, without touching it."""

    def prepare(self) -> None:
        """Import what takes long, without touching the card."""

    def open(self) -> Card:
        """Make this process a user of the card."""

    def limit(self, limit_bytes: int) -> None:
        """Let the allocator hold at most so much."""

    def reset_peaks(self) -> None:
        """Begin to measure anew."""

    def use(self) -> MemoryUse:
        """Wait for the card and tell what is taken."""

    def synchronize(self) -> None:
        """Wait for the card."""

    def release(self) -> None:
        """Return everything that nobody uses any more to the card."""


class CudaDoor:
    """A real card.

    Parameters
    ----------
    index : int
        Which, from 0, among those that ``CUDA_VISIBLE_DEVICES`` shows.
    """

    def __init__(self, index: int = 0) -> None:
        self._index = index
        self._used_before: int | None = None
        self._counts_before = (0, 0)

    def check(self) -> None:
        """Raise a `DeviceError` if there is no such card, without making a context on it."""
        require_cuda(self._index)

    def prepare(self) -> None:
        """Import what an optimizer imports on its first step."""
        importlib.import_module("torch._dynamo")

    def open(self) -> Card:
        """Make the CUDA context of this process.

        Raises
        ------
        DeviceError
            If there is no such card, or its driver does not answer.
        """
        require_cuda(self._index)
        self._used_before = nvml_used_bytes(self._index)
        try:
            torch.cuda.set_device(self._index)
            torch.ones(1, device="cuda")
            torch.cuda.empty_cache()
            free, total = torch.cuda.mem_get_info(self._index)
        except RuntimeError as exc:
            raise DeviceError(f"GPU {self._index} does not answer ({exc}): see nvidia-smi") from exc
        context = self._context_bytes(torch.cuda.memory_reserved(self._index))
        return Card(torch.cuda.get_device_name(self._index), int(total), int(free), context)

    def limit(self, limit_bytes: int) -> None:
        """Let PyTorch hold at most so many bytes; it takes whole `SEGMENT_BYTES`."""
        _, total = torch.cuda.mem_get_info(self._index)
        # Half a segment more, so that rounding the fraction never costs a whole one.
        whole = limit_bytes // SEGMENT_BYTES * SEGMENT_BYTES + SEGMENT_BYTES // 2
        torch.cuda.set_per_process_memory_fraction(min(1.0, whole / total), self._index)

    def reset_peaks(self) -> None:
        """Begin to measure anew."""
        torch.cuda.synchronize(self._index)
        torch.cuda.reset_peak_memory_stats(self._index)
        self._counts_before = self._counts()

    def use(self) -> MemoryUse:
        """Wait for the card and tell what this process has of it."""
        torch.cuda.synchronize(self._index)
        reserved = torch.cuda.memory_reserved(self._index)
        retries, ooms = self._counts()
        return MemoryUse(
            allocated_bytes=torch.cuda.memory_allocated(self._index),
            peak_allocated_bytes=torch.cuda.max_memory_allocated(self._index),
            peak_reserved_bytes=torch.cuda.max_memory_reserved(self._index),
            context_bytes=self._context_bytes(reserved),
            n_retries=retries - self._counts_before[0],
            n_ooms=ooms - self._counts_before[1],
        )

    def synchronize(self) -> None:
        """Wait for the card."""
        torch.cuda.synchronize(self._index)

    def release(self) -> None:
        """Collect garbage, drop the workspaces of cuBLAS, and empty the allocator's cache."""
        gc.collect()
        clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
        if clear is not None:
            clear()
        torch.cuda.empty_cache()

    def _counts(self) -> tuple[int, int]:
        """Return how often the cache was returned, and how often that did not help."""
        stats = torch.cuda.memory_stats(self._index)
        return int(stats.get("num_alloc_retries", 0)), int(stats.get("num_ooms", 0))

    def _context_bytes(self, reserved: int) -> int:
        """Return the smaller of two measures: other programs can only add to each.

        All that is in use without what PyTorch holds; and by how much NVML saw that grow since
        before this process had a context.
        """
        free, total = torch.cuda.mem_get_info(self._index)
        measures = [int(total) - int(free) - reserved]
        now = nvml_used_bytes(self._index)
        if now is not None and self._used_before is not None:
            measures.append(now - self._used_before - reserved)
        return max(0, min(measures))


def require_cuda(index: int = 0) -> None:
    """Raise a `DeviceError` that says what to do if there is no such GPU."""
    if not torch.cuda.is_available():
        built = "" if torch.version.cuda else "; this PyTorch is built without CUDA"
        raise DeviceError(f"no CUDA device is here{built}: `gpu-optimizer doctor` tells why")
    if not 0 <= index < torch.cuda.device_count():
        raise DeviceError(f"there is no GPU {index}: there are {torch.cuda.device_count()}, from 0")


def nvml_used_bytes(index: int = 0) -> int | None:
    """Return what all programs use of a card by NVML, None where it cannot be asked.

    It needs no CUDA context and makes none.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        return int(torch.cuda.device_memory_used(index))
    except (pynvml.NVMLError, RuntimeError, AttributeError):
        return None
