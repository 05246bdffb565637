"""Follows a recorded history of the CUDA allocator by its addresses, from what it held before.

Where a replay chooses the block for a request, here the record says which it was. Only how much of
it was handed out is told by rule (``should_split`` in PyTorch's ``CUDACachingAllocator.cpp``), so
sizes are exact even where the history begins in the midst of a program.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from gpu_optimizer.allocator_config import MIN_BLOCK_BYTES, SMALL_BYTES, AllocatorConfig
from gpu_optimizer.block_pool import Block, BlockPool, SearchCount
from gpu_optimizer.snapshot_fields import Pools, Record, number, records, text
from gpu_optimizer.types import BlockView, SegmentView

_UNLIMITED: Final = 2**63


class PlacementError(Exception):
    """A record does not fit to what was there before it."""


@dataclass(slots=True)
class Placements:
    """What was followed so far.

    Attributes
    ----------
    initial_bytes : dict of int to int
        Size of each block that was in use at the beginning, by address.
    block_bytes : list of int
        Size of each block that was allocated since, in order.
    reserved_bytes : list of int
        After each allocation and free.
    views : dict of int to tuple of SegmentView
        After the wanted ones of these. The number of a block is its index in `block_bytes`; one
        that was there before has its address as a negative number below -1.
    """

    initial_bytes: dict[int, int] = field(default_factory=dict)
    block_bytes: list[int] = field(default_factory=list)
    reserved_bytes: list[int] = field(default_factory=list)
    views: dict[int, tuple[SegmentView, ...]] = field(default_factory=dict)


def follow(
    before: Sequence[Record],
    history: Sequence[Record],
    config: AllocatorConfig,
    wanted: frozenset[int] = frozenset(),
) -> Placements:
    """Return where everything of a history lay.

    Parameters
    ----------
    before : sequence of records
        The segments when the history began, as ``torch.cuda.memory_snapshot`` returns them.
    history : sequence of records
        All of it.
    config : AllocatorConfig
        The settings under which it was recorded.
    wanted : frozenset of int
        Numbers of allocations and frees, counted from 0, after which to look at the segments; -1 is
        the beginning.

    Raises
    ------
    PlacementError
        If a record contradicts those before it, as where some were lost.
    TraceError
        If a record is damaged.
    """
    memory = _Placed(before, config)
    placements = Placements(initial_bytes=dict(memory.initial_bytes))
    if -1 in wanted:
        placements.views[-1] = memory.views()
    is_completed = any(record.get("action") == "free_completed" for record in history)
    free_action = "free_completed" if is_completed else "free_requested"
    for record in history:
        action = text(record, "action")
        if action == "alloc":
            placements.block_bytes.append(memory.allocate(record, len(placements.block_bytes)))
        elif action == free_action:
            memory.free(number(record, "addr"))
        else:
            memory.move(action, record)
            continue
        index = len(placements.reserved_bytes)
        placements.reserved_bytes.append(memory.reserved_bytes)
        if index in wanted:
            placements.views[index] = memory.views()
    return placements


class _Placed:
    """All segments and blocks, by address."""

    def __init__(self, segments: Sequence[Record], config: AllocatorConfig) -> None:
        self._config = config
        self._max_split = config.max_split_bytes or _UNLIMITED
        self._pools_of = Pools(segments)
        self._pools: dict[tuple[int, int, bool], BlockPool] = {}
        self._blocks: dict[int, Block] = {}
        self.reserved_bytes = 0
        self.initial_bytes: dict[int, int] = {}
        for segment in segments:
            self._add_segment(segment)

    def allocate(self, record: Record, index: int) -> int:
        """Hand out the block that a record says; return its size."""
        address, n_bytes = number(record, "addr"), number(record, "size")
        block = self._blocks.get(address)
        size = self._config.block_bytes(n_bytes)
        if block is None or not block.is_free or block.size < size:
            raise PlacementError(f"no free block of {size} bytes lies at {address}")
        block.is_free = False
        block.requested = n_bytes
        block.number = index
        is_small = size <= SMALL_BYTES
        block.pool = self._pool(record, is_small=is_small)
        rest = block.size - size
        if is_small or self._config.expandable_segments:
            is_splitting = rest >= MIN_BLOCK_BYTES
        else:
            is_splitting = size < self._max_split and rest > SMALL_BYTES
        if is_splitting:
            after = block.split(size)
            self._blocks[after.address] = after
        return block.size

    def free(self, address: int) -> None:
        """Take a block back and merge it with free neighbours."""
        block = self._blocks.get(address)
        if block is None or block.is_free:
            raise PlacementError(f"no block in use lies at {address}")
        block.is_free, block.requested, block.number = True, 0, -1
        self._merge(block)

    def move(self, action: str, record: Record) -> None:
        """Take memory from the driver or give it back; nothing for other actions."""
        if action in {"segment_alloc", "segment_map"}:
            self._add(record, is_expandable=action == "segment_map")
        elif action == "segment_free":
            block = self._blocks.get(number(record, "addr"))
            if block is None or not block.is_free or block.is_split:
                raise PlacementError(f"no free segment lies at {number(record, 'addr')}")
            del self._blocks[block.address]
            self.reserved_bytes -= block.size
        elif action == "segment_unmap":
            self._unmap(number(record, "addr"), number(record, "size"))

    def views(self) -> tuple[SegmentView, ...]:
        """Return all segments as values."""
        heads = (block for block in self._blocks.values() if block.prev is None)
        return tuple(sorted(map(_view, heads), key=lambda view: view.address))

    def _add_segment(self, segment: Record) -> None:
        address = number(segment, "address")
        is_expandable = bool(segment.get("is_expandable", False))
        pool = self._pool(segment, is_small=segment.get("segment_type") == "small")
        last: Block | None = None
        for entry in records(segment, "blocks", "segments"):
            block = Block(number(entry, "address", address), number(entry, "size"), pool)
            block.is_expandable = is_expandable
            block.is_free = entry.get("state") == "inactive"
            if not block.is_free:
                block.requested = number(entry, "requested_size", block.size)
                block.number = -block.address
                self.initial_bytes[block.address] = block.size
            if last is not None:
                last.next, block.prev = block, last
            self._blocks[block.address] = last = block
            address = block.address + block.size
            self.reserved_bytes += block.size

    def _add(self, record: Record, *, is_expandable: bool) -> None:
        address, size = number(record, "addr"), number(record, "size")
        block = Block(address, size, self._pool(record, is_small=False))
        block.is_expandable = is_expandable
        self._blocks[address] = block
        self.reserved_bytes += size
        if is_expandable:
            self._join(block)
            self._merge(block)

    def _join(self, block: Block) -> None:
        """Link newly mapped memory with that of its segment around it."""
        after = self._blocks.get(block.address + block.size)
        if after is not None and after.is_expandable:
            block.next, after.prev = after, block
        for other in self._blocks.values():
            if other.is_expandable and other.address + other.size == block.address:
                other.next, block.prev = block, other
                return

    def _unmap(self, address: int, size: int) -> None:
        block = next(
            (b for b in self._blocks.values() if b.address <= address < b.address + b.size), None
        )
        if block is None or not block.is_free or address + size > block.address + block.size:
            raise PlacementError(f"no free memory lies at {address}")
        if block.address < address:
            block = block.split(address - block.address)
            self._blocks[address] = block
        if block.size > size:
            after = block.split(size)
            self._blocks[after.address] = after
        del self._blocks[address]
        self.reserved_bytes -= size
        for one, other in ((block.prev, "next"), (block.next, "prev")):
            if one is not None:
                setattr(one, other, None)

    def _merge(self, block: Block) -> None:
        after = block.next
        if after is not None and after.is_free:
            del self._blocks[after.address]
            block.absorb(after)
        before = block.prev
        if before is not None and before.is_free:
            del self._blocks[block.address]
            before.absorb(block)

    def _pool(self, record: Record, *, is_small: bool) -> BlockPool:
        pool = self._pools_of.of(record)[1]
        stream = number(record, "stream", 0)
        key = (pool, stream, is_small)
        found = self._pools.get(key)
        if found is None:
            found = self._pools[key] = BlockPool(pool, stream, SearchCount(), is_small=is_small)
        return found


def _view(head: Block) -> SegmentView:
    blocks = tuple(_block_views(head))
    last = blocks[-1]
    return SegmentView(
        address=head.address,
        size_bytes=last.address + last.size_bytes - head.address,
        stream=head.pool.stream,
        pool=head.pool.pool,
        is_small=head.pool.is_small,
        is_expandable=head.is_expandable,
        blocks=blocks,
    )


def _block_views(head: Block) -> Iterator[BlockView]:
    for block in head.chain():
        yield BlockView(block.address, block.size, block.requested, block.number)
