"""PyTorch's caching allocator for CUDA, with numbers instead of memory.

Each rule below is that of the function named beside it in PyTorch 2.11,
``c10/cuda/CUDACachingAllocator.cpp``. Simplified:

- Private pools live to the end: their segments are never returned (PyTorch returns them once the
  graphs and ``MemPool`` objects that own them are gone). No capture is ever under way.
- The driver never refuses and its own rounding is not known; only `limit_bytes` ends memory.
- The driver's addresses are those of the recording, or rise; see `driver_memory`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gpu_optimizer import expandable_memory
from gpu_optimizer.allocator_config import MIN_BLOCK_BYTES, SMALL_BYTES, AllocatorConfig
from gpu_optimizer.block_pool import Block, BlockPool, SearchCount
from gpu_optimizer.driver_memory import DriverMemory
from gpu_optimizer.types import Fragmentation

_UNLIMITED: Final = 2**63


class CachingAllocator:
    """Serves requests from cached blocks, and from new segments where none fits.

    Parameters
    ----------
    config : AllocatorConfig
        Its settings.
    limit_bytes : int or None
        The most that may be reserved, as by ``set_per_process_memory_fraction``; None for no limit.
        As in PyTorch an expandable segment may exceed it by less than one page.
    recorded : sequence of (int, int)
        Address and bytes of the segments of a recording, as `AllocationTrace.segments`.

    Attributes
    ----------
    requested_bytes, allocated_bytes, unreleasable_bytes : int
        Now; as in `ReplayTimeline`.
    n_retries : int
        How often everything cached was returned for an allocation.
    """

    def __init__(
        self,
        config: AllocatorConfig,
        limit_bytes: int | None = None,
        recorded: Sequence[tuple[int, int]] = (),
    ) -> None:
        if limit_bytes is not None and limit_bytes < 0:
            raise ValueError(f"limit_bytes must be None or not negative, got {limit_bytes}")
        self.config = config
        self.limit_bytes = limit_bytes
        self.requested_bytes = 0
        self.allocated_bytes = 0
        self.unreleasable_bytes = 0
        self.n_retries = 0
        self._memory = DriverMemory(config.page_bytes, recorded)
        self._pools: dict[tuple[int, int, bool], BlockPool] = {}
        self._searches: dict[tuple[int, bool], SearchCount] = {}
        self._max_split = config.max_split_bytes or _UNLIMITED
        self._is_expandable = config.expandable_segments
        threshold = config.garbage_collection_threshold
        self._collect_above = int(threshold * limit_bytes) if threshold and limit_bytes else None
        self._block_bytes: dict[int, int] = {}

    @property
    def reserved_bytes(self) -> int:
        """Bytes held from the driver now."""
        return self._memory.reserved_bytes

    @property
    def n_segments(self) -> int:
        """Segments held now, as `DriverMemory.n_segments`."""
        return self._memory.n_segments

    @property
    def n_driver_calls(self) -> int:
        """Calls of the driver so far, as `DriverMemory.n_calls`."""
        return self._memory.n_calls

    def allocate(self, n_bytes: int, stream: int = 0, pool: int = 0) -> Block | None:
        """Return a block for a request, None where it does not fit (``malloc``)."""
        size = self._block_bytes.get(n_bytes)
        if size is None:
            size = self._block_bytes[n_bytes] = self.config.block_bytes(n_bytes)
        key = (pool, stream, size <= SMALL_BYTES)
        blocks = self._pools.get(key) or self._new_pool(key)
        if self._collect_above is not None:
            blocks.searches.n += 1
        block = self._cached(blocks, size)
        if block is not None:
            blocks.remove(block)
            if not block.is_expandable and block.is_split:
                self.unreleasable_bytes -= block.size
        else:
            block = self._grown(blocks, size)
            if block is None:
                return None
        self._hand_out(block, size)
        block.requested = n_bytes
        self.requested_bytes += n_bytes
        self.allocated_bytes += block.size
        return block

    def free(self, block: Block) -> None:
        """Put a block back and merge it with free neighbours (``free_block``)."""
        self.allocated_bytes -= block.size
        self.requested_bytes -= block.requested
        block.requested = 0
        block.number = -1
        block.is_free = True
        pool = block.pool
        n_merged = 0
        after = block.next
        if after is not None and after.is_free and after.is_mapped:
            pool.remove(after)
            n_merged += after.size
            block.absorb(after)
        before = block.prev
        if before is not None and before.is_free and before.is_mapped:
            pool.remove(before)
            n_merged += before.size
            before.absorb(block)
            block = before
        pool.add(block)
        if not block.is_expandable:
            self.unreleasable_bytes += (block.size if block.is_split else 0) - n_merged

    def empty_cache(self) -> None:
        """Return every segment that is wholly free (``release_cached_blocks``)."""
        for pool in tuple(self._pools.values()):
            if pool.pool:
                continue
            for block in pool:
                if not block.is_expandable and not block.is_split:
                    self._release(block)
            expandable_memory.release(self._memory, pool)

    def fragmentation(self) -> Fragmentation:
        """Return the four numbers of this moment."""
        waste, external = self.ratios()
        return Fragmentation(
            waste=waste,
            external=external,
            unreleasable_bytes=self.unreleasable_bytes,
            internal_bytes=self.allocated_bytes - self.requested_bytes,
        )

    def ratios(self) -> tuple[float, float]:
        """Return waste and external fragmentation, as in `Fragmentation`."""
        reserved = self.reserved_bytes
        n_free = reserved - self.allocated_bytes
        largest = max((pool.largest_bytes for pool in self._pools.values()), default=0)
        return (
            n_free / reserved if reserved else float("nan"),
            1 - largest / n_free if n_free else float("nan"),
        )

    def segments(self) -> Iterator[list[Block]]:
        """Yield the blocks of each segment, as `DriverMemory.segments`."""
        return self._memory.segments()

    def _new_pool(self, key: tuple[int, int, bool]) -> BlockPool:
        pool, stream, is_small = key
        searches = self._searches.setdefault((pool, is_small), SearchCount())
        self._pools[key] = BlockPool(pool, stream, searches, is_small=is_small)
        return self._pools[key]

    def _cached(self, pool: BlockPool, size: int) -> Block | None:
        """Return the cached block for a size; it stays in the pool (``get_free_block``)."""
        block = pool.best_fit_expandable(size) if self._is_expandable else pool.best_fit(size)
        if block is None:
            return None
        if size < self._max_split:
            return block if block.size < self._max_split else None
        most = size + self.config.max_non_split_rounding_bytes
        return block if block.size < most else None

    def _grown(self, pool: BlockPool, size: int) -> Block | None:
        """Return a block of a new segment, returning cached memory if it must (``malloc``)."""
        if self._collect_above is not None:
            self._collect(self.reserved_bytes - self._collect_above)
        block = self._new_block(pool, size)
        if block is None and self._release_oversize(pool, size):
            block = self._new_block(pool, size)
        if block is None:
            self.empty_cache()
            self.n_retries += 1
            block = self._new_block(pool, size)
        return block

    def _new_block(self, pool: BlockPool, size: int) -> Block | None:
        """Return a block of new memory, None where the limit forbids it (``alloc_block``)."""
        n_bytes = self.config.segment_bytes(size)
        if self.limit_bytes is not None and self.reserved_bytes + n_bytes > self.limit_bytes:
            return None
        if self._is_expandable:
            return expandable_memory.allocate(self._memory, pool, size)
        block = Block(0, n_bytes, pool)
        self._memory.add(block)
        return block

    def _hand_out(self, block: Block, size: int) -> None:
        """Mark a block as used, and put back what it has too much (``should_split``)."""
        block.is_free = False
        n_rest = block.size - size
        if block.pool.is_small or self._is_expandable:
            is_splitting = n_rest >= MIN_BLOCK_BYTES
        else:
            is_splitting = size < self._max_split and n_rest > SMALL_BYTES
        if is_splitting:
            rest = block.split(size)
            block.pool.add(rest)
            if not rest.is_expandable:
                self.unreleasable_bytes += rest.size

    def _release(self, block: Block) -> None:
        """Return a segment that is one free block (``release_block``)."""
        block.pool.remove(block)
        self._memory.drop(block)

    def _release_oversize(self, pool: BlockPool, size: int) -> bool:
        """Return blocks too large to be split until one that large fits.

        ``release_available_cached_blocks``: one that is large enough, or the largest ones.
        """
        if self._max_split == _UNLIMITED:
            return False
        wanted = max(size, self._max_split)
        block = pool.best_fit(wanted)
        if block is not None and not block.is_expandable:
            self._release(block)
            return True
        n_released = 0
        for block in reversed(tuple(pool)):
            if n_released >= wanted or block.size < self._max_split:
                break
            if not block.is_expandable:
                n_released += block.size
                self._release(block)
        return n_released >= wanted

    def _collect(self, n_wanted: int) -> None:
        """Return old free segments above the threshold (``garbage_collect_cached_blocks``)."""
        large = [pool for key, pool in self._pools.items() if not key[0] and not key[2]]
        aged = [(b.pool.searches.n - b.born, b) for pool in large for b in pool if not b.is_split]
        while n_wanted > 0 and aged:
            mean_age = sum(age for age, _ in aged) / len(aged)
            old = [b for age, b in aged if age >= mean_age and not b.is_expandable]
            if not old:
                return
            aged = [(age, b) for age, b in aged if age < mean_age or b.is_expandable]
            for block in old:
                n_wanted -= block.size
                self._release(block)
