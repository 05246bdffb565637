from __future__ import annotations

from typing import Final

import numpy as np
import pytest
from allocation_events import MIB, TraceWriter, traces
from hypothesis import given, settings, strategies as st

from gpu_optimizer.allocator_replay import replay
from gpu_optimizer.trace_edits import (
    trace_parts,
    with_emptied_cache,
    with_own_pool,
    with_reservation,
)
from gpu_optimizer.types import AllocationEvent, AllocationTrace


def two_steps() -> AllocationTrace:
    writer = TraceWriter().alloc("weights", 8 * MIB)
    for name in "ab":
        writer.alloc(name, 30 * MIB).alloc(f"{name}2", 20 * MIB).free(name, f"{name}2")
    return writer.trace


def test_what_lives_through_half_the_trace_is_long_lived() -> None:
    parts = trace_parts(two_steps())
    assert np.flatnonzero(parts.long_lived).tolist() == [0]
    assert (parts.long_lived_bytes, parts.short_lived_bytes) == (8 * MIB, 50 * MIB)


def test_tags_tell_better_what_is_long_lived() -> None:
    events = [
        AllocationEvent("alloc", 0, 100, tag="setup||input"),
        AllocationEvent("alloc", 1, 200, tag="optimizer||optimizer state"),
        AllocationEvent("free", 1, 0, tag="optimizer||optimizer state"),
    ]
    parts = trace_parts(AllocationTrace(events, "cuda:0", "fake"))
    assert parts.long_lived.tolist() == [False, True, True]


def test_a_phase_ends_where_short_lived_memory_has_gone() -> None:
    assert trace_parts(two_steps()).phase_ends == (4, 8)


@settings(deadline=None)
@given(traces())
def test_edits_leave_what_the_program_asks_for(trace: AllocationTrace) -> None:
    parts = trace_parts(trace)
    pooled = with_own_pool(trace, parts.long_lived)
    emptied = with_emptied_cache(trace, parts.phase_ends)
    reserved = with_reservation(trace, 5 * MIB)
    assert len(pooled.events) == len(trace.events)
    assert len(emptied.events) == len(trace.events) + len(parts.phase_ends)
    assert reserved.table.blocks[2:].tolist() == trace.table.blocks.tolist()
    requested = replay(trace).peak_requested_bytes
    assert replay(pooled).peak_requested_bytes == requested
    assert replay(emptied).peak_requested_bytes == requested
    assert replay(reserved, first_event=2).peak_requested_bytes == requested


@settings(deadline=None)
@given(traces(), st.integers(1, 64))
def test_at_least_the_reservation_is_reserved_and_it_is_not_active(
    trace: AllocationTrace, size_mib: int
) -> None:
    result = replay(with_reservation(trace, size_mib * MIB), first_event=2)
    assert result.peak_reserved_bytes >= size_mib * MIB
    assert result.peak_allocated_bytes <= replay(trace).peak_allocated_bytes + _UNSPLIT


def test_a_reservation_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="n_bytes must be at least 1, got 0"):
        with_reservation(two_steps(), 0)


def test_an_empty_trace_has_no_parts() -> None:
    parts = trace_parts(AllocationTrace([], "cuda:0", "fake"))
    assert (parts.long_lived_bytes, parts.short_lived_bytes, parts.phase_ends) == (0, 0, ())


_UNSPLIT: Final = 64 * MIB
