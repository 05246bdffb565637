"""The values of the memory model: what was asked of an allocator, and what it made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from gpu_optimizer.event_table import AllocationEvent, EventTable, FloatColumn, IntColumn

__all__ = [
    "AllocationEvent",
    "AllocationTrace",
    "BlockView",
    "Fragmentation",
    "ReplayResult",
    "ReplayTimeline",
    "SegmentView",
]


@dataclass(frozen=True, slots=True)
class AllocationTrace:
    """Everything that a program asked of an allocator, in order.

    Attributes
    ----------
    events : sequence of AllocationEvent
        Any iterable of events may be given; it is kept as an `EventTable`.
    device : str
        ``"cuda:0"``, or what a trace without a GPU stands for.
    source : str
        Where it comes from: ``"cuda history"``, ``"fake"``.
    n_initial : int
        How many events at the start are allocations from before the trace began. Their order is
        that of their addresses, their times are NaN.
    is_truncated : bool
        Whether the history does not reach back to the first allocation. What was cached when it
        began is then unknown, and a replay reserves at most what the program did.
    dropped : tuple of (str, int)
        How many records of the source are not among the events, by cause.
    segments : tuple of (int, int)
        Address and bytes of each segment that the driver gave while it was recorded, in order; a
        replay puts its segments there too. Empty where that is not known.

    Raises
    ------
    ValueError
        If the events make no history, if the first `n_initial` are not allocations, if a text is
        empty, or if a segment has a negative address or no bytes.
    """

    events: Sequence[AllocationEvent]
    device: str
    source: str
    n_initial: int = 0
    is_truncated: bool = False
    dropped: tuple[tuple[str, int], ...] = ()
    segments: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.events, EventTable):
            object.__setattr__(self, "events", EventTable.of(self.events))
        for name, text in (("device", self.device), ("source", self.source)):
            if not text:
                raise ValueError(f"{name} must be a text that is not empty, got {text!r}")
        if not 0 <= self.n_initial <= len(self.events):
            raise ValueError(
                f"n_initial must be 0 to {len(self.events)}, the events, got {self.n_initial}"
            )
        if self.table.kinds[: self.n_initial].any():
            raise ValueError(f"the first {self.n_initial} events must be allocations")
        for address, n_bytes in self.segments:
            if address < 0 or n_bytes < 1:
                raise ValueError(f"a segment has an address and bytes, got {address}, {n_bytes}")

    @property
    def table(self) -> EventTable:
        """The events as columns."""
        return cast(EventTable, self.events)


@dataclass(frozen=True, slots=True)
class Fragmentation:
    """Four numbers of memory that is held and not used, at one moment.

    Attributes
    ----------
    waste : float
        1 - active / reserved, 0 to 1; NaN where nothing is reserved.
    external : float
        1 - largest free block / all free bytes, 0 to 1; NaN where nothing is free.
    unreleasable_bytes : int
        Free blocks of segments that are partly in use, which `empty_cache` cannot return. Those of
        expandable segments do not count, as in ``inactive_split_bytes`` of
        ``torch.cuda.memory_stats``.
    internal_bytes : int
        Allocated - requested: what rounding added.

    References
    ----------
    The ratio of active to reserved memory: Guo et al., "GMLake: Efficient and Transparent GPU
    Memory Defragmentation for Large-scale DNN Training with Virtual Memory Stitching" (2024).
    """

    waste: float
    external: float
    unreleasable_bytes: int
    internal_bytes: int

    def __post_init__(self) -> None:
        for name, ratio in (("waste", self.waste), ("external", self.external)):
            if not (math.isnan(ratio) or 0 <= ratio <= 1):
                raise ValueError(f"{name} must be 0 to 1 or NaN, got {ratio}")
        if min(self.unreleasable_bytes, self.internal_bytes) < 0:
            raise ValueError(f"bytes of fragmentation must not be negative, got {self}")


@dataclass(frozen=True, slots=True, eq=False)
class ReplayTimeline:
    """The allocator after some of the events.

    Attributes
    ----------
    events : ndarray of int64, shape (S,)
        Index of the event, rising.
    requested_bytes, allocated_bytes, reserved_bytes : ndarray of int64, shape (S,)
        After that event.
    waste, external : ndarray of float64, shape (S,)
        As in `Fragmentation`.
    unreleasable_bytes : ndarray of int64, shape (S,)
        As in `Fragmentation`; the internal one is `allocated_bytes` - `requested_bytes`.
    n_segments : ndarray of int64, shape (S,)
        As in `ReplayResult`.
    """

    events: IntColumn
    requested_bytes: IntColumn
    allocated_bytes: IntColumn
    reserved_bytes: IntColumn
    waste: FloatColumn
    external: FloatColumn
    unreleasable_bytes: IntColumn
    n_segments: IntColumn

    def __post_init__(self) -> None:
        for name in self.__slots__:
            column = getattr(self, name)
            if column.shape != (self.events.size,):
                raise ValueError(
                    f"{name} must have the shape ({self.events.size},), got {column.shape}"
                )
            column.setflags(write=False)
        if np.any(np.diff(self.events) <= 0):
            raise ValueError("the events of a timeline must rise")

    def __len__(self) -> int:
        return self.events.size


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What an allocator made of a trace.

    Attributes
    ----------
    peak_requested_bytes, peak_allocated_bytes, peak_reserved_bytes : int
        Each at its own moment.
    peak_event : int
        Index of the event at which the most was reserved, and of these the one with the most in
        use, the earliest; -1 where nothing was allocated.
    n_segments : int
        Pieces of memory from the driver at `peak_event`; of expandable segments each mapped range
        counts, as in ``torch.cuda.memory_snapshot``.
    fragmentation : Fragmentation
        At `peak_event`.
    timeline : ReplayTimeline
        Over time, sampled.
    is_out_of_memory : bool
        Whether an allocation did not fit, even after all cached memory was returned. The replay
        ends there, as the program would.
    at_event : int or None
        Index of that allocation.
    n_retries : int
        How often all cached memory was returned to the driver for an allocation.
    n_driver_calls : int
        How often memory was taken from the driver or returned to it, a range of pages at once.
    """

    peak_requested_bytes: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    peak_event: int
    n_segments: int
    fragmentation: Fragmentation
    timeline: ReplayTimeline
    is_out_of_memory: bool = False
    at_event: int | None = None
    n_retries: int = 0
    n_driver_calls: int = 0

    def __post_init__(self) -> None:
        peaks = (self.peak_requested_bytes, self.peak_allocated_bytes, self.peak_reserved_bytes)
        if not 0 <= peaks[0] <= peaks[1] <= peaks[2]:
            raise ValueError(f"requested <= allocated <= reserved must hold, got {peaks}")
        if self.is_out_of_memory != (self.at_event is not None):
            raise ValueError(
                "at_event says where memory ran out and is None where it did not, "
                f"got {self.at_event} with is_out_of_memory={self.is_out_of_memory}"
            )


@dataclass(frozen=True, slots=True)
class BlockView:
    """A piece of a segment.

    Attributes
    ----------
    address, size_bytes : int
        In the addresses of the replay, which are not those of a real card.
    requested_bytes : int
        Of the allocation that holds it, 0 where it is free.
    block : int
        Number of that allocation in the trace, -1 where it is free.
    """

    address: int
    size_bytes: int
    requested_bytes: int
    block: int


@dataclass(frozen=True, slots=True)
class SegmentView:
    """A piece of memory from the driver and what is in it, in the order of addresses.

    Attributes
    ----------
    address, size_bytes : int
        Where it begins and how long it is.
    stream, pool : int
        Whom it serves, as in `AllocationEvent`.
    is_small, is_expandable : bool
        Whether it serves requests of at most 1 MiB; whether it can grow.
    blocks : tuple of BlockView
        Without gaps.
    """

    address: int
    size_bytes: int
    stream: int
    pool: int
    is_small: bool
    is_expandable: bool
    blocks: tuple[BlockView, ...]
