"""The door to PyTorch's allocators: everything that the defragmenter asks of one.

`CudaAllocator` speaks to the caching allocator of a GPU. `HostAllocator` stands where there is
none: memory of the host is moved in the same way, and nothing of it is held, pooled or reserved.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar, Protocol

import torch

from gpu_optimizer.errors import DeviceError
from gpu_optimizer.snapshot_fields import DEFAULT_POOL, Record, number, pool_id, records


class AllocatorDoor(Protocol):
    """What the defragmenter asks of an allocator."""

    @property
    def device(self) -> torch.device:
        """Whose memory it is."""
        ...

    def segments(self) -> Sequence[Record]:
        """Return the segments of the device, as ``torch.cuda.memory_snapshot`` lists them."""
        ...

    def has_foreign_pool(self) -> bool:
        """Return whether a CUDA graph or somebody else's ``MemPool`` holds memory."""
        ...

    def new_pool(self) -> AbstractContextManager[None]:
        """Return a context in which this thread's allocations go to a pool made for them."""
        ...

    def reserve(self, n_bytes: int) -> None:
        """Take one piece of memory and keep it cached; out of memory where there is no room."""
        ...

    def empty_cache(self) -> None:
        """Return what is cached and free to the driver."""
        ...

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given."""
        ...


class HostAllocator:
    """Memory of the host, which no caching allocator holds."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def segments(self) -> Sequence[Record]:
        """Return none."""
        return ()

    def has_foreign_pool(self) -> bool:
        """Return False."""
        return False

    @contextmanager
    def new_pool(self) -> Iterator[None]:
        """Change nothing: the host has no pools."""
        yield

    def reserve(self, n_bytes: int) -> None:
        """Do nothing: the host's memory is not cached."""
        del n_bytes

    def empty_cache(self) -> None:
        """Do nothing: the host's memory is not cached."""

    def synchronize(self) -> None:
        """Do nothing: the host works in order."""


class CudaAllocator:
    """The caching allocator of a GPU.

    Parameters
    ----------
    device : torch.device
        Which one.

    Raises
    ------
    DeviceError
        If there is no such GPU.

    """

    _own_ids: ClassVar[set[tuple[int, ...]]] = {DEFAULT_POOL}
    """Of all that were made: what was moved into one stays there when its maker has gone."""

    def __init__(self, device: torch.device) -> None:
        if not torch.cuda.is_available():
            raise DeviceError(f"{device} is not here: PyTorch finds no CUDA device")
        is_any = device == torch.device("cuda")
        index = torch.cuda.current_device() if is_any else device.index
        if index >= torch.cuda.device_count():
            raise DeviceError(f"{device} is not here: there are {torch.cuda.device_count()} GPUs")
        self.device = torch.device("cuda", index)
        self._pool: torch.cuda.MemPool | None = None

    def segments(self) -> Sequence[Record]:
        """Return the segments of this device, without the history of the allocator.

        Before PyTorch 2.11 the history comes with them, which takes longer.
        """
        known = inspect.signature(torch.cuda.memory_snapshot).parameters
        options = {"include_traces": False} if "include_traces" in known else {}
        found = records(
            {"segments": torch.cuda.memory_snapshot(**options)},  # type: ignore[no-untyped-call]
            "segments",
        )
        return [segment for segment in found if number(segment, "device", 0) == self.device.index]

    def has_foreign_pool(self) -> bool:
        """Return whether any segment belongs to a private pool that is not our own."""
        pools = {pool_id(segment) or DEFAULT_POOL for segment in self.segments()}
        return bool(pools - self._own_ids)

    @contextmanager
    def new_pool(self) -> Iterator[None]:
        """Route this thread's allocations to a new pool; the one before is let go of.

        What is still in that one stays valid, and its memory is returned once it is empty. Where
        this build refuses pools, as older ones do together with expandable segments, nothing is
        routed.
        """
        pool = torch.cuda.MemPool()
        self._own_ids.add(tuple(pool.id))
        if not self._can_use(pool):
            yield
            return
        with torch.cuda.use_mem_pool(pool, self.device):
            yield
        self._pool = pool

    def _can_use(self, pool: torch.cuda.MemPool) -> bool:
        """Return whether this build allocates from a pool under its present settings."""
        try:
            with torch.cuda.use_mem_pool(pool, self.device):
                torch.empty(1, device=self.device)
        except torch.OutOfMemoryError:
            return True
        except RuntimeError:
            return False
        return True

    def reserve(self, n_bytes: int) -> None:
        """Allocate a block and free it: its segment stays."""
        if n_bytes > 0:
            torch.empty(n_bytes, dtype=torch.uint8, device=self.device)

    def empty_cache(self) -> None:
        """Return what is cached and free to the driver."""
        with torch.cuda.device(self.device):
            torch.cuda.empty_cache()

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self.device)


def door_to(device: torch.device) -> AllocatorDoor:
    """Return the door to a device's allocator.

    Raises
    ------
    ValueError
        If it is neither a CPU nor a CUDA device.
    DeviceError
        If there is no such GPU.
    """
    if device.type == "cpu":
        return HostAllocator()
    if device.type == "cuda":
        return CudaAllocator(device)
    raise ValueError(f"device must be cpu or cuda, got {device}")


def apply_settings(text: str) -> None:
    """Change the allocator's settings in the running process, for memory that is taken from now on.

    Parameters
    ----------
    text : str
        As of ``PYTORCH_ALLOC_CONF``.

    Raises
    ------
    DeviceError
        If this build of PyTorch can be set only before it starts.
    """
    newer = getattr(torch._C, "_accelerator_setAllocatorSettings", None)
    older = getattr(torch.cuda.memory, "_set_allocator_settings", None)
    apply = newer or older
    if apply is None:
        raise DeviceError(
            "this build of PyTorch takes allocator settings only at its start: set "
            f"PYTORCH_ALLOC_CONF={text} before the program"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        apply(text)
