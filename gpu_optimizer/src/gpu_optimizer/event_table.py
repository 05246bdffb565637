"""Allocations and frees in the order in which they happened, a million of them in a few columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args, overload

import numpy as np
import numpy.typing as npt

EventKind = Literal["alloc", "free", "empty_cache"]
KINDS: Final[tuple[EventKind, ...]] = get_args(EventKind)
"""In the order of their numbers in `EventTable.kinds`."""
ALLOC: Final = 0
FREE: Final = 1
EMPTY_CACHE: Final = 2
NO_BLOCK: Final = -1
"""The block of an event that is not about one."""

IntColumn = npt.NDArray[np.int64]
FloatColumn = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AllocationEvent:
    """One thing that a program asked of the allocator.

    Attributes
    ----------
    kind : str
        ``"alloc"``, ``"free"`` or ``"empty_cache"``, which returns cached memory to the driver.
    block : int
        The allocation's number, 0 or more, unique in a trace; -1 for ``"empty_cache"``.
    n_bytes : int
        As requested, before any rounding; at least 1 for ``"alloc"``, as nothing is allocated for
        an empty tensor. A free repeats the size of its allocation or says 0.
    stream : int
        0 is the default stream. Memory that a stream freed serves only that stream.
    pool : int
        0 is the pool of everybody; others are private, of CUDA graphs and ``MemPool``.
    tag : str
        Whose it is, ``"phase|module|category"``, empty where nobody said so.
    time_us : float
        Since any fixed moment, NaN where not measured.
    """

    kind: EventKind
    block: int
    n_bytes: int
    stream: int = 0
    pool: int = 0
    tag: str = ""
    time_us: float = math.nan


@dataclass(frozen=True, slots=True, eq=False)
class EventTable(Sequence[AllocationEvent]):
    """A sequence of `AllocationEvent` that is kept as columns.

    Attributes
    ----------
    kinds : ndarray of int8, shape (N,)
        Index into `KINDS`.
    blocks, n_bytes, streams, pools : ndarray of int64, shape (N,)
        As in `AllocationEvent`.
    tag_indices : ndarray of int64, shape (N,)
        Index into `tags`.
    times_us : ndarray of float64, shape (N,)
        NaN where not measured.
    tags : tuple of str
        The different tags.

    Raises
    ------
    ValueError
        If the columns differ in length, or hold what an `AllocationEvent` may not, or if a block
        is allocated twice, freed twice, or freed without or before its allocation.

    Notes
    -----
    The columns are made read-only; they are not copied.
    """

    kinds: npt.NDArray[np.int8]
    blocks: IntColumn
    n_bytes: IntColumn
    streams: IntColumn
    pools: IntColumn
    tag_indices: IntColumn
    times_us: FloatColumn
    tags: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        columns = (
            ("kinds", self.kinds, np.int8),
            ("blocks", self.blocks, np.int64),
            ("n_bytes", self.n_bytes, np.int64),
            ("streams", self.streams, np.int64),
            ("pools", self.pools, np.int64),
            ("tag_indices", self.tag_indices, np.int64),
            ("times_us", self.times_us, np.float64),
        )
        for name, column, dtype in columns:
            if column.shape != self.kinds.shape or column.ndim != 1 or column.dtype != dtype:
                raise ValueError(
                    f"{name} must be {np.dtype(dtype)} of shape ({self.kinds.size},), "
                    f"got {column.dtype} of shape {column.shape}"
                )
            column.setflags(write=False)
        _check_ranges(self)
        _check_lives(self)

    @classmethod
    def of(cls, events: Iterable[AllocationEvent]) -> EventTable:
        """Return the table of some events; ValueError where they make no history."""
        rows = tuple(events)
        kinds = {kind: number for number, kind in enumerate(KINDS)}
        for row in rows:
            if row.kind not in kinds:
                raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {row.kind!r}")
        tags: dict[str, int] = {"": 0}
        return cls(
            kinds=np.array([kinds[row.kind] for row in rows], np.int8),
            blocks=np.array([row.block for row in rows], np.int64),
            n_bytes=np.array([row.n_bytes for row in rows], np.int64),
            streams=np.array([row.stream for row in rows], np.int64),
            pools=np.array([row.pool for row in rows], np.int64),
            tag_indices=np.array([tags.setdefault(row.tag, len(tags)) for row in rows], np.int64),
            times_us=np.array([row.time_us for row in rows], np.float64),
            tags=tuple(tags),
        )

    def __len__(self) -> int:
        return self.kinds.size

    @overload
    def __getitem__(self, index: int) -> AllocationEvent: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[AllocationEvent, ...]: ...
    def __getitem__(self, index: int | slice) -> AllocationEvent | tuple[AllocationEvent, ...]:
        if isinstance(index, slice):
            return tuple(self._event(row) for row in range(*index.indices(len(self))))
        return self._event(index)

    def __iter__(self) -> Iterator[AllocationEvent]:
        return (self._event(row) for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EventTable):
            return NotImplemented
        return (
            all(
                np.array_equal(mine, theirs)
                for mine, theirs in (
                    (self.kinds, other.kinds),
                    (self.blocks, other.blocks),
                    (self.n_bytes, other.n_bytes),
                    (self.streams, other.streams),
                    (self.pools, other.pools),
                )
            )
            and np.array_equal(self.times_us, other.times_us, equal_nan=True)
            and self.tag_list() == other.tag_list()
        )

    __hash__ = None  # type: ignore[assignment]

    def tag_list(self) -> list[str]:
        """Return the tag of every event."""
        return [self.tags[index] for index in self.tag_indices.tolist()]

    def _event(self, row: int) -> AllocationEvent:
        return AllocationEvent(
            kind=KINDS[self.kinds[row]],
            block=int(self.blocks[row]),
            n_bytes=int(self.n_bytes[row]),
            stream=int(self.streams[row]),
            pool=int(self.pools[row]),
            tag=self.tags[self.tag_indices[row]],
            time_us=float(self.times_us[row]),
        )


def _check_ranges(table: EventTable) -> None:
    """Raise ValueError at the first value that no event may have."""
    is_alloc = table.kinds == ALLOC
    is_of_block = table.kinds != EMPTY_CACHE
    is_tag = (table.tag_indices >= 0) & (table.tag_indices < len(table.tags))
    is_kind = (table.kinds >= 0) & (table.kinds < len(KINDS))
    is_block = np.where(is_of_block, table.blocks >= 0, table.blocks == NO_BLOCK)
    rules = (
        ("kind", table.kinds, is_kind, f"0 to {len(KINDS) - 1}"),
        ("block", table.blocks, is_block, f"0 or more, {NO_BLOCK} of an empty_cache"),
        ("n_bytes", table.n_bytes, table.n_bytes >= is_alloc, "0 or more, of an alloc at least 1"),
        ("stream", table.streams, table.streams >= 0, "0 or more"),
        ("pool", table.pools, table.pools >= 0, "0 or more"),
        ("tag", table.tag_indices, is_tag, f"an index below {len(table.tags)}"),
    )
    for name, column, is_right, allowed in rules:
        if not is_right.all():
            row = int(is_right.argmin())
            raise ValueError(f"{name} of event {row} must be {allowed}, got {int(column[row])}")


def _check_lives(table: EventTable) -> None:
    """Raise ValueError unless each block is allocated once and freed at most once, later."""
    alloc_rows = np.flatnonzero(table.kinds == ALLOC)
    free_rows = np.flatnonzero(table.kinds == FREE)
    order = np.argsort(table.blocks[alloc_rows], kind="stable")
    born = table.blocks[alloc_rows][order]
    _refuse_twice(born, "allocated")
    _refuse_twice(np.sort(table.blocks[free_rows]), "freed")
    freed = table.blocks[free_rows]
    place = np.searchsorted(born, freed)
    is_known = place < born.size
    is_known[is_known] = born[place[is_known]] == freed[is_known]
    is_known[is_known] = alloc_rows[order][place[is_known]] < free_rows[is_known]
    if not is_known.all():
        row = int(free_rows[is_known.argmin()])
        raise ValueError(
            f"event {row} frees block {int(table.blocks[row])}, which was not allocated before"
        )


def _refuse_twice(ordered: IntColumn, what: str) -> None:
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if twice.size:
        raise ValueError(
            f"block {int(ordered[twice[0]])} is {what} twice; its number must be unique"
        )
