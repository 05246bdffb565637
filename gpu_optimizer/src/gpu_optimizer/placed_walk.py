"""A recorded history as a walk through memory: real sizes, real segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.event_table import ALLOC, EMPTY_CACHE, IntColumn
from gpu_optimizer.memory_walk import MemoryMap, MemoryWalk
from gpu_optimizer.placed_memory import PlacementError, Placements, follow
from gpu_optimizer.snapshot_fields import Record, number
from gpu_optimizer.types import AllocationTrace, BlockView, SegmentView


class PlacedWalk:
    """Walks through a recorded history by its addresses.

    Parameters
    ----------
    trace : AllocationTrace
        Read from the history.
    addresses : sequence of int
        Where each block of the trace lies, by its number.
    before, history : sequence of records
        The segments when it began, and all of it.
    config : AllocatorConfig
        The settings under which it was recorded.

    Raises
    ------
    PlacementError
        If these contradict each other, as where records were lost.
    """

    def __init__(
        self,
        trace: AllocationTrace,
        addresses: Sequence[int],
        before: Sequence[Record],
        history: Sequence[Record],
        config: AllocatorConfig,
    ) -> None:
        self._n_initial = trace.n_initial
        self._history, self._before, self._config = history, before, config
        table = trace.table
        is_move = table.kinds != EMPTY_CACHE
        is_move[: trace.n_initial] = False
        self._ordinals: IntColumn = np.cumsum(is_move) - 1
        is_birth = table.kinds == ALLOC
        is_birth[: trace.n_initial] = False
        self._born = table.blocks[is_birth]
        self._initial = {
            addresses[block]: block for block in table.blocks[: trace.n_initial].tolist()
        }
        placements = follow(before, history, config)
        if len(placements.block_bytes) != self._born.size:
            raise PlacementError("the trace has other allocations than the history")
        if set(self._initial) - set(placements.initial_bytes):
            raise PlacementError("some blocks were there before and are not in its segments")
        self._block_bytes = self._sizes(placements, len(addresses))
        first = sum(number(one, "total_size") for one in before)
        after = np.array([first, *placements.reserved_bytes], np.int64)
        self._reserved = after[self._ordinals + 1]

    def __call__(self, moments: Sequence[int]) -> MemoryWalk:
        """Return the sizes, and the segments at some moments.

        What an ``"empty_cache"`` returned is gone only after the next event.
        """
        maps: list[MemoryMap] = []
        if moments:
            ordinals = [int(self._ordinals[moment]) for moment in moments]
            views = follow(self._before, self._history, self._config, frozenset(ordinals)).views
            maps = [
                MemoryMap(moment, tuple(map(self._numbered, views[ordinal])))
                for moment, ordinal in zip(moments, ordinals, strict=True)
            ]
        return MemoryWalk(self._block_bytes, self._reserved, tuple(maps))

    def _sizes(self, placements: Placements, n_blocks: int) -> IntColumn:
        sizes = np.zeros(n_blocks, np.int64)
        sizes[self._born] = placements.block_bytes
        for address, block in self._initial.items():
            sizes[block] = placements.initial_bytes[address]
        return sizes

    def _numbered(self, view: SegmentView) -> SegmentView:
        """Return a segment with the numbers that its blocks have in the trace."""
        blocks = tuple(
            BlockView(one.address, one.size_bytes, one.requested_bytes, self._number(one.block))
            for one in view.blocks
        )
        return SegmentView(
            view.address,
            view.size_bytes,
            view.stream,
            view.pool,
            view.is_small,
            view.is_expandable,
            blocks,
        )

    def _number(self, block: int) -> int:
        if block >= 0:
            return int(self._born[block])
        return -1 if block == -1 else self._initial[-block]
