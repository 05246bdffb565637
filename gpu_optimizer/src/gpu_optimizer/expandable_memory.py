"""Segments that grow and shrink by pages, as with ``expandable_segments:True``.

A segment reserves addresses for more than any card holds and maps pages of 2 MiB (small blocks) or
20 MiB (large ones) at the lowest address that gives a request enough room. Returning memory unmaps
every page that is wholly free. Source: "Note [Expandable Segments]", ``find_expandable_block``,
``map_block``, ``unmap_block`` and ``release_blocks`` in PyTorch 2.11,
``c10/cuda/CUDACachingAllocator.cpp``.

Simplified: a segment never runs out of addresses, so each stream of a pool has one for small and
one for large blocks.
"""

from __future__ import annotations

from gpu_optimizer.block_pool import Block, BlockPool
from gpu_optimizer.driver_memory import N_EXPANDABLE_PAGES, DriverMemory


def allocate(memory: DriverMemory, pool: BlockPool, size: int) -> Block:
    """Return a free block of at least `size` bytes outside of the pool, mapping what it lacks."""
    page_bytes = memory.page_bytes(is_small=pool.is_small)
    block = _lowest_room(pool, size) or _new_segment(memory, pool, page_bytes)
    if not block.is_mapped:
        block = _map(memory, block, min(block.size, size), page_bytes)
    while block.size < size and block.next is not None:
        block = _map(memory, block.next, min(size - block.size, block.next.size), page_bytes)
    pool.remove(block)
    return block


def release(memory: DriverMemory, pool: BlockPool) -> None:
    """Unmap every page of the pool that is wholly free."""
    page_bytes = memory.page_bytes(is_small=pool.is_small)
    for block in [block for block in pool if block.is_expandable]:
        _unmap(memory, block, page_bytes)
    for _, block in tuple(pool.unmapped):
        if not block.is_split:
            pool.remove_unmapped(block)
            memory.drop(block)


def _lowest_room(pool: BlockPool, size: int) -> Block | None:
    """Return the first of the free or unmapped blocks that together have room for the request."""
    for _, unmapped in pool.unmapped:
        before = unmapped.prev
        first = before if before is not None and before.is_free else unmapped
        room = 0
        for block in first.chain():
            if room >= size or not block.is_free:
                break
            room += block.size
        if room >= size:
            return first
    return None


def _new_segment(memory: DriverMemory, pool: BlockPool, page_bytes: int) -> Block:
    block = Block(0, N_EXPANDABLE_PAGES * page_bytes, pool)
    block.is_expandable = True
    block.is_mapped = False
    memory.add(block)
    pool.add_unmapped(block)
    return block


def _map(memory: DriverMemory, block: Block, size: int, page_bytes: int) -> Block:
    """Back the start of an unmapped block with pages; return the free block that it becomes."""
    pool = block.pool
    pool.remove_unmapped(block)
    n_mapped = -(-size // page_bytes) * page_bytes
    if n_mapped < block.size:
        pool.add_unmapped(block.split(n_mapped))
    block.is_mapped = True
    memory.reserved_bytes += n_mapped
    memory.n_calls += 1
    memory.n_segments += 1 - _n_mapped_neighbours(block)
    after = block.next
    if after is not None and after.is_free and after.is_mapped:
        pool.remove(after)
        block.absorb(after)
    before = block.prev
    if before is not None and before.is_free and before.is_mapped:
        pool.remove(before)
        before.absorb(block)
        block = before
    pool.add(block)
    return block


def _unmap(memory: DriverMemory, block: Block, page_bytes: int) -> None:
    """Return the whole pages of a free block to the driver."""
    pool = block.pool
    first = -(-block.address // page_bytes) * page_bytes
    end = (block.address + block.size) // page_bytes * page_bytes
    if first >= end:
        return
    pool.remove(block)
    if first > block.address:
        head, block = block, block.split(first - block.address)
        pool.add(head)
    if end < block.address + block.size:
        pool.add(block.split(end - block.address))
    block.is_mapped = False
    memory.reserved_bytes -= end - first
    memory.n_calls += 1
    memory.n_segments += _n_mapped_neighbours(block) - 1
    after = block.next
    if after is not None and not after.is_mapped:
        pool.remove_unmapped(after)
        block.absorb(after)
    before = block.prev
    if before is not None and not before.is_mapped:
        before.absorb(block)
    else:
        pool.add_unmapped(block)


def _n_mapped_neighbours(block: Block) -> int:
    return sum(other is not None and other.is_mapped for other in (block.prev, block.next))
