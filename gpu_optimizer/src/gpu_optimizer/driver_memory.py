"""The memory that an allocator holds from the driver: its segments, their sum, their addresses.

Which of several free blocks of the same size is chosen depends on their addresses, and these are
the driver's choice. Where it was recorded, a segment gets the address that the next segment of its
size had; otherwise addresses rise.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Final

from gpu_optimizer.allocator_config import SMALL_SEGMENT_BYTES
from gpu_optimizer.block_pool import Block

N_EXPANDABLE_PAGES: Final = 2**21
"""Addresses of an expandable segment, in pages; chosen by us, more than any card has."""


class DriverMemory:
    """Hands out addresses and counts what is reserved.

    Parameters
    ----------
    large_page_bytes : int
        What an expandable segment of large blocks grows by; one of small blocks grows by 2 MiB.
    recorded : sequence of (int, int)
        Address and bytes of the segments of a recording, in order.

    Attributes
    ----------
    reserved_bytes : int
        Backed by memory now.
    n_segments : int
        Of them; of an expandable one each mapped range counts.
    n_calls : int
        How often memory was taken from the driver or returned to it; a range of pages that is
        mapped or unmapped at once counts as one.
    """

    def __init__(self, large_page_bytes: int, recorded: Sequence[tuple[int, int]] = ()) -> None:
        self.large_page_bytes = large_page_bytes
        self.reserved_bytes = 0
        self.n_segments = 0
        self.n_calls = 0
        self._alignment = math.lcm(large_page_bytes, SMALL_SEGMENT_BYTES)
        highest = max((address + n_bytes for address, n_bytes in recorded), default=1)
        self._next_address = -(-highest // self._alignment) * self._alignment
        self._recorded: defaultdict[int, deque[int]] = defaultdict(deque)
        for address, n_bytes in recorded:
            self._recorded[n_bytes].append(address)
        self._heads: dict[int, Block] = {}
        self._addresses: list[int] = []

    def page_bytes(self, *, is_small: bool) -> int:
        """Return what an expandable segment grows by."""
        return SMALL_SEGMENT_BYTES if is_small else self.large_page_bytes

    def add(self, block: Block) -> None:
        """Take in a new segment of one block and give it its address."""
        block.address = self._address(block)
        self._heads[block.address] = block
        insort(self._addresses, block.address)
        if block.is_mapped:
            self.reserved_bytes += block.size
            self.n_segments += 1
            self.n_calls += 1

    def drop(self, block: Block) -> None:
        """Return a segment that is one block again."""
        del self._heads[block.address]
        del self._addresses[bisect_left(self._addresses, block.address)]
        if block.is_mapped:
            self.reserved_bytes -= block.size
            self.n_segments -= 1
            self.n_calls += 1

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

    def _address(self, block: Block) -> int:
        """Return where a new segment goes; a recorded place that is taken is passed over."""
        places = self._recorded[block.size]
        while places and not block.is_expandable:
            address = places.popleft()
            if self._is_vacant(address, address + block.size):
                return address
        address = self._next_address
        self._next_address += -(-block.size // self._alignment) * self._alignment
        return address

    def _is_vacant(self, start: int, end: int) -> bool:
        index = bisect_left(self._addresses, end)
        if index == 0:
            return True
        head = self._heads[self._addresses[index - 1]]
        return head.address + sum(block.size for block in head.chain()) <= start
