"""What the caching allocator makes of a trace: reserved memory, fragmentation, its end."""

from __future__ import annotations

from typing import Final

import numpy as np

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.block_pool import Block
from gpu_optimizer.caching_allocator import CachingAllocator
from gpu_optimizer.event_table import ALLOC, FREE, EventTable
from gpu_optimizer.types import (
    AllocationTrace,
    BlockView,
    ReplayResult,
    ReplayTimeline,
    SegmentView,
)

_DEFAULT: Final = AllocatorConfig()


def replay(
    trace: AllocationTrace,
    config: AllocatorConfig = _DEFAULT,
    *,
    limit_bytes: int | None = None,
    n_samples: int = 1000,
    first_event: int = 0,
) -> ReplayResult:
    """Return what the allocator reserves for a trace, and how much of it is wasted.

    Parameters
    ----------
    trace : AllocationTrace
        Recorded or forecast. A free is where the block could be used again: with several streams
        that is when the last of them was done with it, not when the program let go of it.
    config : AllocatorConfig
        Any settings, not only those under which the trace was recorded.
    limit_bytes : int or None
        The most that may be reserved; None for no limit.
    n_samples : int
        Points of the timeline at most, at equal distances in events, at least 2; the last event is
        always one.
    first_event : int
        Peaks are those from right before this event on, as if they were reset there.

    Raises
    ------
    ValueError
        If `limit_bytes` or `first_event` is negative or `n_samples` less than 2.

    Notes
    -----
    The allocator's rules and what is simplified stand in `caching_allocator`.
    """
    if n_samples < 2:
        raise ValueError(f"n_samples must be at least 2, got {n_samples}")
    if first_event < 0:
        raise ValueError(f"first_event must not be negative, got {first_event}")
    allocator = CachingAllocator(config, limit_bytes, trace.segments)
    recorder = _Recorder(allocator, len(trace.events), n_samples, first_event=first_event)
    failed = _run(allocator, trace.table, recorder)
    return recorder.result(failed)


def replay_at(
    trace: AllocationTrace,
    events: list[int],
    config: AllocatorConfig = _DEFAULT,
    *,
    limit_bytes: int | None = None,
) -> ReplayTimeline:
    """Return the allocator after the given events, which must rise.

    Raises
    ------
    ValueError
        If an event is not in the trace or they do not rise.
    """
    if events and not 0 <= min(events) <= max(events) < len(trace.events):
        raise ValueError(f"events must be 0 to {len(trace.events) - 1}, got {events}")
    allocator = CachingAllocator(config, limit_bytes, trace.segments)
    recorder = _Recorder(allocator, len(trace.events), 2, frozenset(events))
    _run(allocator, trace.table, recorder)
    return recorder.timeline()


def segment_map(
    trace: AllocationTrace,
    at_event: int,
    config: AllocatorConfig = _DEFAULT,
    *,
    limit_bytes: int | None = None,
) -> tuple[SegmentView, ...]:
    """Return every segment and what is in it after an event, by address.

    Parameters
    ----------
    at_event : int
        Index into the events of the trace. If memory ran out before it, the map is that of then.

    Raises
    ------
    ValueError
        If there is no such event.
    """
    if not 0 <= at_event < len(trace.events):
        raise ValueError(f"at_event must be 0 to {len(trace.events) - 1}, got {at_event}")
    allocator = CachingAllocator(config, limit_bytes, trace.segments)
    _run(allocator, trace.table, None, at_event + 1)
    views = (segment_view(blocks) for blocks in allocator.segments())
    return tuple(sorted(views, key=lambda view: view.address))


def segment_view(blocks: list[Block]) -> SegmentView:
    """Return the blocks of a segment as values."""
    first, last = blocks[0], blocks[-1]
    return SegmentView(
        address=first.address,
        size_bytes=last.address + last.size - first.address,
        stream=first.pool.stream,
        pool=first.pool.pool,
        is_small=first.pool.is_small,
        is_expandable=first.is_expandable,
        blocks=tuple(BlockView(b.address, b.size, b.requested, b.number) for b in blocks),
    )


def _run(
    allocator: CachingAllocator,
    table: EventTable,
    recorder: _Recorder | None,
    n_events: int | None = None,
) -> int | None:
    """Let the allocator serve the events; return the index of the one that does not fit."""
    live: dict[int, Block] = {}
    rows = zip(
        table.kinds[:n_events].tolist(),
        table.blocks[:n_events].tolist(),
        table.n_bytes[:n_events].tolist(),
        table.streams[:n_events].tolist(),
        table.pools[:n_events].tolist(),
        strict=True,
    )
    for index, (kind, number, n_bytes, stream, pool) in enumerate(rows):
        if kind == ALLOC:
            block = allocator.allocate(n_bytes, stream, pool)
            if block is None:
                return index
            block.number = number
            live[number] = block
        elif kind == FREE:
            allocator.free(live.pop(number))
        else:
            allocator.empty_cache()
        if recorder is not None:
            recorder.after(index)
    return None


class _Recorder:
    """Keeps the peaks and the samples of a replay."""

    def __init__(
        self,
        allocator: CachingAllocator,
        n_events: int,
        n_samples: int,
        chosen: frozenset[int] | None = None,
        first_event: int = 0,
    ) -> None:
        self._allocator = allocator
        self._first_event = first_event
        last = n_events - 1
        if chosen is None:
            stride = max(-(-n_events // (n_samples - 1)), 1)
            chosen = frozenset((*range(0, n_events, stride), last))
        self._chosen = chosen
        self._samples: list[tuple[int, int, int, int, float, float, int, int]] = []
        self._peak_requested = self._peak_allocated = self._peak_reserved = 0
        self._most_in_use = 0
        self._peak_event = -1
        self._n_segments = 0
        self._fragmentation = allocator.fragmentation()

    def after(self, index: int) -> None:
        """Look at the allocator after an event."""
        if index < self._first_event - 1:
            return
        allocator = self._allocator
        allocated = allocator.allocated_bytes
        self._peak_requested = max(self._peak_requested, allocator.requested_bytes)
        self._peak_allocated = max(self._peak_allocated, allocated)
        reserved = allocator.reserved_bytes
        if reserved > self._peak_reserved or (
            reserved == self._peak_reserved and allocated > self._most_in_use
        ):
            self._peak_reserved = reserved
            self._most_in_use = allocated
            self._peak_event = index
            self._fragmentation = allocator.fragmentation()
            self._n_segments = allocator.n_segments
        if index in self._chosen:
            self._sample(index)

    def result(self, failed: int | None) -> ReplayResult:
        """Return all of it."""
        return ReplayResult(
            peak_requested_bytes=self._peak_requested,
            peak_allocated_bytes=self._peak_allocated,
            peak_reserved_bytes=self._peak_reserved,
            peak_event=self._peak_event,
            n_segments=self._n_segments,
            fragmentation=self._fragmentation,
            timeline=self.timeline(),
            is_out_of_memory=failed is not None,
            at_event=failed,
            n_retries=self._allocator.n_retries,
            n_driver_calls=self._allocator.n_driver_calls,
        )

    def timeline(self) -> ReplayTimeline:
        """Return the samples."""
        columns = list(zip(*self._samples, strict=True)) or [()] * 8
        events, requested, allocated, reserved, waste, external, unreleasable, segments = columns
        return ReplayTimeline(
            events=np.array(events, np.int64),
            requested_bytes=np.array(requested, np.int64),
            allocated_bytes=np.array(allocated, np.int64),
            reserved_bytes=np.array(reserved, np.int64),
            waste=np.array(waste, np.float64),
            external=np.array(external, np.float64),
            unreleasable_bytes=np.array(unreleasable, np.int64),
            n_segments=np.array(segments, np.int64),
        )

    def _sample(self, index: int) -> None:
        allocator = self._allocator
        self._samples.append(
            (
                index,
                allocator.requested_bytes,
                allocator.allocated_bytes,
                allocator.reserved_bytes,
                *allocator.ratios(),
                allocator.unreleasable_bytes,
                allocator.n_segments,
            )
        )
