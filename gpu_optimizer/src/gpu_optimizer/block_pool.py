"""Blocks of memory, and the free ones of a stream in the order in which they are chosen.

Best fit: the smallest free block of the stream that is large enough, and of these the one with
the lowest address (``BlockComparatorSize`` in PyTorch's ``c10/cuda/CUDACachingAllocator.cpp``).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator


class SearchCount:
    """How often a pool was searched, the clock of garbage collection."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Block:
    """A piece of a segment, linked with its neighbours.

    `prev` and `next` are the neighbours in the same segment. A block of an expandable segment that
    is not backed by memory has `is_mapped` False. `born` is the search at which it became free.
    """

    __slots__ = (
        "address",
        "born",
        "is_expandable",
        "is_free",
        "is_mapped",
        "next",
        "number",
        "pool",
        "prev",
        "requested",
        "size",
    )

    def __init__(self, address: int, size: int, pool: BlockPool) -> None:
        self.address = address
        self.size = size
        self.pool = pool
        self.requested = 0
        self.number = -1
        self.is_free = True
        self.is_mapped = True
        self.is_expandable = False
        self.prev: Block | None = None
        self.next: Block | None = None
        self.born = 0

    @property
    def is_split(self) -> bool:
        """Whether its segment holds other blocks too."""
        return self.prev is not None or self.next is not None

    def split(self, size: int) -> Block:
        """Keep the first `size` bytes and return the rest as a new block behind."""
        rest = Block(self.address + size, self.size - size, self.pool)
        rest.is_expandable = self.is_expandable
        rest.is_mapped = self.is_mapped
        rest.prev = self
        rest.next = self.next
        if self.next is not None:
            self.next.prev = rest
        self.next = rest
        self.size = size
        return rest

    def absorb(self, after: Block) -> None:
        """Take over the block right behind, which is then no more."""
        self.size += after.size
        self.next = after.next
        if after.next is not None:
            after.next.prev = self

    def chain(self) -> Iterator[Block]:
        """Yield this block and all behind it."""
        block: Block | None = self
        while block is not None:
            yield block
            block = block.next


class BlockPool:
    """The free blocks of one stream, small or large, of one pool of memory.

    Parameters
    ----------
    pool, stream : int
        Whose they are.
    is_small : bool
        Whether they serve requests of at most 1 MiB.
    searches : SearchCount
        Shared by the streams of a pool.
    """

    __slots__ = ("_blocks", "is_small", "pool", "searches", "stream", "unmapped")

    def __init__(self, pool: int, stream: int, searches: SearchCount, *, is_small: bool) -> None:
        self.pool = pool
        self.stream = stream
        self.is_small = is_small
        self.searches = searches
        self._blocks: list[tuple[int, int, Block]] = []
        self.unmapped: list[tuple[int, Block]] = []
        """Pieces of expandable segments without memory, by address."""

    def __iter__(self) -> Iterator[Block]:
        """Yield the free blocks from the smallest to the largest."""
        return (block for _, _, block in tuple(self._blocks))

    @property
    def largest_bytes(self) -> int:
        """The size of the largest free block, 0 where none is free."""
        return self._blocks[-1][0] if self._blocks else 0

    def add(self, block: Block) -> None:
        """Take a free block in."""
        block.born = self.searches.n
        insort(self._blocks, (block.size, block.address, block))

    def remove(self, block: Block) -> None:
        """Take a free block out; its size and address must be those with which it came."""
        index = bisect_left(self._blocks, (block.size, block.address))
        del self._blocks[index]

    def best_fit(self, size: int) -> Block | None:
        """Return the smallest block of at least this size, which stays in the pool."""
        index = bisect_left(self._blocks, (size,))
        return self._blocks[index][2] if index < len(self._blocks) else None

    def best_fit_expandable(self, size: int) -> Block | None:
        """Return the best fit, where a block that can grow counts with the size it can grow to."""
        index = bisect_left(self._blocks, (size,))
        if index == len(self._blocks):
            return None
        block = self._blocks[index][2]
        while index + 1 < len(self._blocks):
            larger = self._blocks[index + 1][2]
            if _room(larger) >= _room(block):
                break
            block = larger
            index += 1
        return block

    def add_unmapped(self, block: Block) -> None:
        """Take in a piece of an expandable segment that has no memory."""
        insort(self.unmapped, (block.address, block))

    def remove_unmapped(self, block: Block) -> None:
        """Take such a piece out."""
        del self.unmapped[bisect_left(self.unmapped, (block.address,))]


def _room(block: Block) -> int:
    """Return the size of a block with the unmapped room behind it."""
    after = block.next
    return block.size if after is None or after.is_mapped else block.size + after.size
