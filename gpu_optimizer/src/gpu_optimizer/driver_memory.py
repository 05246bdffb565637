"""The memory that an allocator holds from the driver: its segments, their sum, their addresses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from gpu_optimizer.allocator_config import SMALL_SEGMENT_BYTES
from gpu_optimizer.block_pool import Block

N_EXPANDABLE_PAGES: Final = 2**21
"""Addresses of an expandable segment, in pages; chosen by us, more than any card has."""


class DriverMemory:
    """Hands out addresses that rise and counts what is reserved.

    Parameters
    ----------
    large_page_bytes : int
        What an expandable segment of large blocks grows by; one of small blocks grows by 2 MiB.

    Attributes
    ----------
    reserved_bytes : int
        Backed by memory now.
    n_segments : int
        Of them; of an expandable one each mapped range counts.
    """

    def __init__(self, large_page_bytes: int) -> None:
        self.large_page_bytes = large_page_bytes
        self.reserved_bytes = 0
        self.n_segments = 0
        self._alignment = math.lcm(large_page_bytes, SMALL_SEGMENT_BYTES)
        self._next_address = self._alignment
        self._heads: dict[int, Block] = {}

    def page_bytes(self, *, is_small: bool) -> int:
        """Return what an expandable segment grows by."""
        return SMALL_SEGMENT_BYTES if is_small else self.large_page_bytes

    def add(self, block: Block) -> None:
        """Take in a new segment of one block and give it its address."""
        block.address = self._next_address
        self._next_address += -(-block.size // self._alignment) * self._alignment
        self._heads[block.address] = block
        if block.is_mapped:
            self.reserved_bytes += block.size
            self.n_segments += 1

    def drop(self, block: Block) -> None:
        """Return a segment that is one block again."""
        del self._heads[block.address]
        if block.is_mapped:
            self.reserved_bytes -= block.size
            self.n_segments -= 1

    def segments(self) -> Iterator[list[Block]]:
        """Yield the blocks of each segment, of an expandable one those of each mapped range."""
        for head in self._heads.values():
            mapped: list[Block] = []
            for block in head.chain():
                if block.is_mapped:
                    mapped.append(block)
                elif mapped:
                    yield mapped
                    mapped = []
            if mapped:
                yield mapped
