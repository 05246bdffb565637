"""allocator_replay: what holds for every trace, and what the result says."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from allocation_events import MIB, TraceWriter, freed, n_alive, traces
from hypothesis import given, settings, strategies as st

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.allocator_replay import replay, replay_at, segment_map
from gpu_optimizer.types import AllocationTrace, ReplayResult, SegmentView

_CONFIGS = st.sampled_from(
    [
        AllocatorConfig.parse(text)
        for text in (
            "",
            "expandable_segments:True",
            "max_split_size_mb:24",
            "roundup_power2_divisions:4",
            "garbage_collection_threshold:0.3",
            "expandable_segments:True,roundup_power2_divisions:[1:2,>:8],large_segment_size_mb:15",
        )
    ]
)
_LIMITS = st.none() | st.integers(0, 300).map(lambda n: n * MIB)
_QUICK = settings(max_examples=40, deadline=None)


def _last(trace: AllocationTrace, result: ReplayResult) -> int:
    return len(trace.events) - 1 if result.at_event is None else result.at_event


def _in_use(segments: tuple[SegmentView, ...]) -> int:
    return sum(b.size_bytes for s in segments for b in s.blocks if b.block >= 0)


@_QUICK
@given(traces(), _CONFIGS, _LIMITS)
def test_what_is_allocated_and_what_is_free_is_reserved(
    trace: AllocationTrace, config: AllocatorConfig, limit: int | None
) -> None:
    result = replay(trace, config, limit_bytes=limit)
    at = _last(trace, result)
    segments = segment_map(trace, at, config, limit_bytes=limit)

    assert result.peak_requested_bytes <= result.peak_allocated_bytes <= result.peak_reserved_bytes
    if result.at_event is None:
        assert sum(s.size_bytes for s in segments) == result.timeline.reserved_bytes[-1]
        assert _in_use(segments) == result.timeline.allocated_bytes[-1]


@_QUICK
@given(traces(), _CONFIGS)
def test_blocks_tile_their_segments_and_nothing_overlaps(
    trace: AllocationTrace, config: AllocatorConfig
) -> None:
    segments = segment_map(trace, len(trace.events) - 1, config)

    end = 0
    for segment in segments:
        assert segment.address >= end
        end = segment.address
        for block in segment.blocks:
            assert block.address == end
            end += block.size_bytes
        assert end == segment.address + segment.size_bytes
    numbers = [b.block for s in segments for b in s.blocks if b.block >= 0]
    assert len(numbers) == len(set(numbers)) == n_alive(trace)


@_QUICK
@given(traces(), _CONFIGS)
def test_free_neighbours_are_one_block(trace: AllocationTrace, config: AllocatorConfig) -> None:
    for segment in segment_map(trace, len(trace.events) - 1, config):
        free = [block.block < 0 for block in segment.blocks]
        assert not any(one and next_one for one, next_one in pairwise(free))


@_QUICK
@given(traces(), _CONFIGS)
def test_the_map_agrees_with_the_numbers(trace: AllocationTrace, config: AllocatorConfig) -> None:
    at = len(trace.events) - 1
    point = replay_at(trace, [at], config)
    segments = segment_map(trace, at, config)
    free = [b.size_bytes for s in segments for b in s.blocks if b.block < 0]
    split = [s for s in segments if len(s.blocks) > 1 and not s.is_expandable]

    assert point.requested_bytes[0] == sum(b.requested_bytes for s in segments for b in s.blocks)
    assert point.unreleasable_bytes[0] == sum(
        b.size_bytes for s in split for b in s.blocks if b.block < 0
    )
    if free:
        assert point.external[0] == pytest.approx(1 - max(free) / sum(free))
        assert point.waste[0] == pytest.approx(sum(free) / point.reserved_bytes[0])
    else:
        assert math.isnan(point.external[0])


@_QUICK
@given(traces(), _CONFIGS, st.data())
def test_frees_in_any_order_end_equal(
    trace: AllocationTrace, config: AllocatorConfig, data: st.DataObject
) -> None:
    order = list(range(n_alive(trace)))
    shuffled = data.draw(st.permutations(order))
    ends = [freed(trace, order), freed(trace, shuffled)]
    maps = [segment_map(end, len(end.events) - 1, config) for end in ends]

    assert maps[0] == maps[1]
    assert _in_use(maps[0]) == 0
    assert all(len(segment.blocks) == 1 for segment in maps[0])


@_QUICK
@given(traces(), _CONFIGS, st.integers(0, 300).map(lambda n: n * MIB))
def test_a_limit_is_respected(trace: AllocationTrace, config: AllocatorConfig, limit: int) -> None:
    result = replay(trace, config, limit_bytes=limit)
    page = config.page_bytes if config.expandable_segments else 0

    assert result.peak_reserved_bytes <= limit + page


@_QUICK
@given(traces(is_freeing=False, n_streams=1))
def test_expandable_segments_reserve_at_most_a_page_more_of_each_size(
    trace: AllocationTrace,
) -> None:
    default = replay(trace).peak_reserved_bytes
    expandable = replay(trace, AllocatorConfig(expandable_segments=True)).peak_reserved_bytes

    # One segment of small blocks, one of large ones, of each the last page partly empty
    assert expandable < default + 2 * MIB + 20 * MIB


@_QUICK
@given(traces(), _CONFIGS)
def test_the_peak_is_where_the_result_says(trace: AllocationTrace, config: AllocatorConfig) -> None:
    result = replay(trace, config)
    if result.peak_event < 0:
        assert result.peak_reserved_bytes == 0
        return
    point = replay_at(trace, [result.peak_event], config)

    assert point.reserved_bytes[0] == result.peak_reserved_bytes
    assert point.waste[0] == result.fragmentation.waste
    assert point.unreleasable_bytes[0] == result.fragmentation.unreleasable_bytes
    assert result.n_segments == len(segment_map(trace, result.peak_event, config))


@_QUICK
@given(traces(), _CONFIGS, st.lists(st.tuples(st.integers(0, 99), st.integers(1, 30)), max_size=20))
def test_segments_do_not_overlap_wherever_the_driver_put_them(
    trace: AllocationTrace, config: AllocatorConfig, places: list[tuple[int, int]]
) -> None:
    recorded = tuple((2 * MIB * address, 2 * MIB * size) for address, size in places)
    placed = replace(trace, segments=recorded)
    segments = segment_map(placed, len(trace.events) - 1, config)

    ends = [segment.address + segment.size_bytes for segment in segments]
    assert all(s.address >= end for s, end in zip(segments[1:], ends, strict=False))


def test_fragmentation_at_the_peak_by_hand() -> None:
    # 5 + 5 + 5 of 20 MiB; freeing the second leaves 5 and 5 MiB, the new 12 MiB do not fit
    trace = TraceWriter().alloc("a", 5 * MIB).alloc("b", 5 * MIB).alloc("c", 5 * MIB).free("b")
    result = replay(trace.alloc("d", 12 * MIB).trace)

    assert (result.peak_reserved_bytes, result.n_segments) == (32 * MIB, 2)
    assert result.peak_event == 4
    assert result.fragmentation.waste == pytest.approx(10 / 32)
    assert result.fragmentation.external == pytest.approx(0.5)
    assert result.fragmentation.unreleasable_bytes == 10 * MIB
    assert result.fragmentation.internal_bytes == 0


def test_of_equal_peaks_that_with_the_most_in_use_counts() -> None:
    trace = TraceWriter().alloc("a", 5 * MIB).free("a").alloc("b", 9 * MIB).free("b").trace

    result = replay(trace)

    assert result.peak_event == 2
    assert result.fragmentation.waste == pytest.approx(11 / 20)


def test_a_replay_ends_where_memory_runs_out() -> None:
    trace = TraceWriter().alloc("a", 30 * MIB).alloc("b", 30 * MIB).free("a").trace

    result = replay(trace, limit_bytes=50 * MIB)

    assert (result.is_out_of_memory, result.at_event) == (True, 1)
    assert result.peak_reserved_bytes == 30 * MIB
    assert result.timeline.events.tolist() == [0]
    assert not replay(trace, limit_bytes=60 * MIB).is_out_of_memory


def test_the_cache_is_returned_where_the_trace_says_so() -> None:
    trace = TraceWriter().alloc("a", 30 * MIB).free("a").empty_cache().alloc("b", 40 * MIB).trace

    assert replay(trace).timeline.reserved_bytes.tolist() == [30 * MIB, 30 * MIB, 0, 40 * MIB]


def test_the_timeline_has_so_many_points_and_the_last_event() -> None:
    writer = TraceWriter()
    for index in range(1000):
        writer.alloc(str(index), MIB)
    timeline = replay(writer.trace, n_samples=10).timeline

    assert len(timeline) <= 10
    assert timeline.events[-1] == 999


def test_an_empty_trace_needs_nothing() -> None:
    result = replay(AllocationTrace((), "cuda:0", "test"))

    assert result.peak_reserved_bytes == result.n_segments == 0
    assert math.isnan(result.fragmentation.waste)
    assert len(result.timeline) == 0


def test_events_that_are_not_there_are_refused() -> None:
    trace = TraceWriter().alloc("a", 5).trace
    with pytest.raises(ValueError, match="at_event must be 0 to 0, got 1"):
        segment_map(trace, 1)
    with pytest.raises(ValueError, match="events must be 0 to 0"):
        replay_at(trace, [0, 3])
    with pytest.raises(ValueError, match="n_samples must be at least 2, got 1"):
        replay(trace, n_samples=1)


@_QUICK
@given(traces(), _CONFIGS)
def test_the_driver_is_called_for_every_segment_that_came_and_went(
    trace: AllocationTrace, config: AllocatorConfig
) -> None:
    result = replay(trace, config)
    assert (result.n_driver_calls > 0) == (result.peak_reserved_bytes > 0)
    if not config.expandable_segments:
        assert result.n_driver_calls >= result.n_segments


def test_a_segment_that_comes_and_goes_and_comes_is_three_calls_of_the_driver() -> None:
    trace = TraceWriter().alloc("a", 30 * MIB).free("a").empty_cache().alloc("b", MIB * 30).trace
    assert replay(trace).n_driver_calls == 3
    assert replay(trace, AllocatorConfig(expandable_segments=True)).n_driver_calls == 3


@_QUICK
@given(traces(), _CONFIGS)
def test_peaks_from_the_first_event_on_are_all_peaks(
    trace: AllocationTrace, config: AllocatorConfig
) -> None:
    every, later = replay(trace, config), replay(trace, config, first_event=len(trace.events))
    from_first = replay(trace, config, first_event=1)
    assert from_first.peak_event == every.peak_event
    assert repr(from_first.fragmentation) == repr(every.fragmentation)
    assert later.peak_allocated_bytes <= every.peak_allocated_bytes
    assert later.peak_reserved_bytes <= every.peak_reserved_bytes


def test_a_reserved_peak_counts_what_is_held_from_before_and_not_what_was_used() -> None:
    trace = TraceWriter().alloc("a", 90 * MIB).free("a").alloc("b", 10 * MIB).trace
    result = replay(trace, first_event=2)
    assert result.peak_reserved_bytes == 90 * MIB
    assert result.peak_allocated_bytes == 10 * MIB
    assert result.fragmentation.waste == pytest.approx(8 / 9)
    with pytest.raises(ValueError, match="first_event must not be negative, got -1"):
        replay(trace, first_event=-1)
