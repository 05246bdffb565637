"""What the allocator held at moments of a trace: the size of every block, segments, free memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.allocator_replay import segment_view
from gpu_optimizer.block_pool import Block
from gpu_optimizer.caching_allocator import CachingAllocator
from gpu_optimizer.event_table import ALLOC, FREE, IntColumn
from gpu_optimizer.types import AllocationTrace, Fragmentation, SegmentView

_DEFAULT: Final = AllocatorConfig()


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """What the allocator held after an event.

    Attributes
    ----------
    event : int
        Index into the events of the trace.
    segments : tuple of SegmentView
        By address.
    """

    event: int
    segments: tuple[SegmentView, ...]

    @property
    def fragmentation(self) -> Fragmentation:
        """The four numbers of this moment; free blocks are those of any stream and pool."""
        blocks = [(view, block) for view in self.segments for block in view.blocks]
        reserved = sum(view.size_bytes for view in self.segments)
        free = [block.size_bytes for _, block in blocks if block.block < 0]
        used = reserved - sum(free)
        unreleasable = sum(
            block.size_bytes
            for view, block in blocks
            if block.block < 0 and len(view.blocks) > 1 and not view.is_expandable
        )
        return Fragmentation(
            waste=1 - used / reserved if reserved else float("nan"),
            external=1 - max(free) / sum(free) if free else float("nan"),
            unreleasable_bytes=unreleasable,
            internal_bytes=used - sum(b.requested_bytes for _, b in blocks if b.block >= 0),
        )


@dataclass(frozen=True, slots=True, eq=False)
class MemoryWalk:
    """A trace walked through.

    Attributes
    ----------
    block_bytes : ndarray of int64, shape (B,)
        What the allocator gave for each block, by its number: rounded, with what is too little to
        be split off.
    reserved_bytes : ndarray of int64, shape (N,)
        Held from the driver after each event.
    maps : tuple of MemoryMap
        At the moments that were asked for.
    """

    block_bytes: IntColumn
    reserved_bytes: IntColumn
    maps: tuple[MemoryMap, ...]


Walker = Callable[[Sequence[int]], MemoryWalk]
"""Walks through a trace and stops at the events that it is given, which rise."""


def replay_walk(
    trace: AllocationTrace, moments: Sequence[int], config: AllocatorConfig = _DEFAULT
) -> MemoryWalk:
    """Return what PyTorch's CUDA allocator makes of a trace.

    Parameters
    ----------
    trace : AllocationTrace
        From any source.
    moments : sequence of int
        Events after which to look at the segments.
    """
    table = trace.table
    allocator = CachingAllocator(config, None, trace.segments)
    sizes = np.zeros(int(table.blocks.max(initial=-1)) + 1, np.int64)
    reserved = np.zeros(len(table), np.int64)
    wanted = frozenset(moments)
    maps: list[MemoryMap] = []
    live: dict[int, Block] = {}
    rows = zip(
        table.kinds.tolist(),
        table.blocks.tolist(),
        table.n_bytes.tolist(),
        table.streams.tolist(),
        table.pools.tolist(),
        strict=True,
    )
    for index, (kind, number, n_bytes, stream, pool) in enumerate(rows):
        if kind == ALLOC:
            block = allocator.allocate(n_bytes, stream, pool)
            if block is None:
                raise AssertionError("an allocator without a limit serves every request")
            block.number = number
            live[number] = block
            sizes[number] = block.size
        elif kind == FREE:
            allocator.free(live.pop(number))
        else:
            allocator.empty_cache()
        reserved[index] = allocator.reserved_bytes
        if index in wanted:
            views = sorted(map(segment_view, allocator.segments()), key=lambda view: view.address)
            maps.append(MemoryMap(index, tuple(views)))
    return MemoryWalk(sizes, reserved, tuple(maps))
