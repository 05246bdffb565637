"""snapshot_reader: the history of PyTorch's allocator, whole, cut off and damaged."""

from __future__ import annotations

import math

import pytest
from allocation_events import MIB, TraceWriter, traces
from hypothesis import given, settings, strategies as st
from recorded_history import recorded

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.allocator_replay import replay, segment_map
from gpu_optimizer.errors import TraceError
from gpu_optimizer.snapshot_reader import read_snapshot
from gpu_optimizer.types import AllocationTrace

_CONFIGS = st.sampled_from(
    [AllocatorConfig.parse(text) for text in ("", "max_split_size_mb:24")],
)
Entry = dict[str, object]


def _snapshot(*history: Entry, segments: tuple[Entry, ...] = ()) -> dict[str, object]:
    return {"segments": segments, "device_traces": [history]}


def _alloc(address: int, size: int = 512, **more: object) -> Entry:
    return {"action": "alloc", "addr": address, "size": size, "stream": 0, **more}


def _free(address: int, size: int = 512, *, action: str = "free_completed") -> Entry:
    return {"action": action, "addr": address, "size": size, "stream": 0}


def _segment(address: int, size: int, **more: object) -> Entry:
    return {"action": "segment_alloc", "addr": address, "size": size, "stream": 0, **more}


@settings(max_examples=40, deadline=None)
@given(traces(), _CONFIGS, st.none() | st.integers(20, 300).map(lambda n: n * MIB))
def test_a_whole_history_replays_to_the_recorded_memory(
    trace: AllocationTrace, config: AllocatorConfig, limit: int | None
) -> None:
    reading = read_snapshot(recorded(trace, config, limit_bytes=limit))
    expected = replay(trace, config, limit_bytes=limit)
    result = replay(reading.trace, config, limit_bytes=limit)

    assert result.peak_reserved_bytes == expected.peak_reserved_bytes == reading.peak_reserved_bytes
    assert result.peak_allocated_bytes == expected.peak_allocated_bytes
    assert result.fragmentation.unreleasable_bytes == expected.fragmentation.unreleasable_bytes
    assert not reading.trace.is_truncated
    assert bool(reading.out_of_memory) == expected.is_out_of_memory


@settings(max_examples=40, deadline=None)
@given(traces(), st.integers(1, 20))
def test_a_history_that_was_cut_off_is_told_and_keeps_its_blocks(
    trace: AllocationTrace, n_forgotten: int
) -> None:
    snapshot = recorded(trace, AllocatorConfig(), n_forgotten=n_forgotten)
    whole = read_snapshot(recorded(trace, AllocatorConfig()))
    histories = snapshot["device_traces"]
    assert isinstance(histories, list)
    if len(histories[0]) < 2:
        return
    reading = read_snapshot(snapshot)

    assert reading.trace.is_truncated or reading.trace.n_initial == 0
    end = replay(reading.trace).timeline.requested_bytes
    expected = replay(whole.trace).timeline.requested_bytes
    assert list(end[-1:]) == list(expected[-1:]) or not len(end)


def test_blocks_from_before_stand_at_the_start_by_address() -> None:
    block = {"address": 2048, "size": 1024, "requested_size": 1000, "state": "active_allocated"}
    segment = {"address": 0, "total_size": 2 * MIB, "stream": 7, "device": 0, "blocks": [block]}
    snapshot = _snapshot(_free(512), _alloc(4096), segments=(segment,))

    trace = read_snapshot(snapshot).trace

    assert (trace.n_initial, trace.is_truncated) == (2, True)
    assert [(e.kind, e.n_bytes) for e in trace.events] == [
        ("alloc", 512),
        ("alloc", 1000),
        ("free", 512),
        ("alloc", 512),
    ]
    assert all(math.isnan(event.time_us) for event in trace.events[:2])
    assert trace.events[1].stream == 1


def test_a_cache_from_before_is_told_even_if_nothing_was_alive() -> None:
    free = {"address": 512, "size": 2 * MIB - 512, "requested_size": 0, "state": "inactive"}
    used = {"address": 0, "size": 512, "requested_size": 512, "state": "active_allocated"}
    segment = {"address": 0, "total_size": 2 * MIB, "blocks": [used, free]}

    reading = read_snapshot(_snapshot(_alloc(0), segments=(segment,)))

    assert (reading.trace.n_initial, reading.trace.is_truncated) == (0, True)
    assert reading.peak_reserved_bytes == 2 * MIB


def test_a_block_awaiting_its_free_counts_as_alive() -> None:
    block = {"address": 0, "size": 512, "requested_size": 5, "state": "active_pending_free"}
    segment = {"address": 0, "total_size": 2 * MIB, "blocks": [block]}

    assert read_snapshot(_snapshot(_alloc(4096), segments=(segment,))).trace.n_initial == 1


def test_a_block_is_free_when_all_streams_are_done_with_it() -> None:
    history = (_alloc(0), _free(0, action="free_requested"), _alloc(512), _free(0))

    events = read_snapshot(_snapshot(*history)).trace.events

    assert [(e.kind, e.block) for e in events] == [("alloc", 0), ("alloc", 1), ("free", 0)]


def test_requests_to_free_serve_where_nothing_else_was_recorded() -> None:
    events = read_snapshot(_snapshot(_alloc(0), _free(0, action="free_requested"))).trace.events

    assert [event.kind for event in events] == ["alloc", "free"]


def test_tags_times_streams_and_pools_are_kept() -> None:
    entry = _alloc(0, time_us=12, stream=94_000, pool_id=[0, 3], user_metadata="forward|conv1|")
    event = read_snapshot(_snapshot(entry)).trace.events[0]

    assert (event.tag, event.time_us, event.stream, event.pool) == ("forward|conv1|", 12, 1, 1)


def test_a_pool_that_no_record_names_is_told_by_the_address() -> None:
    segment = {"address": 4096, "total_size": 2 * MIB, "segment_pool_id": (0, 9), "blocks": []}
    history = (_alloc(0), _alloc(4096), _alloc(4096 + 2 * MIB))

    events = read_snapshot(_snapshot(*history, segments=(segment,))).trace.events

    assert [event.pool for event in events] == [0, 1, 0]


def test_an_address_is_everybodys_until_its_first_segment_was_returned() -> None:
    private = {"address": 0, "total_size": 2 * MIB, "segment_pool_id": (0, 9), "blocks": []}
    returned = {**_segment(0, 2 * MIB), "action": "segment_free"}
    life = (_segment(0, 2 * MIB), _alloc(0), _free(0))

    events = read_snapshot(_snapshot(*life, returned, *life, segments=(private,))).trace.events

    assert [event.pool for event in events if event.kind == "alloc"] == [0, 1]


def test_returning_all_free_segments_empties_the_cache() -> None:
    history = (_segment(0, 40 * MIB), _alloc(0), _free(0), {**_segment(0, 40 * MIB)})
    returned = {**history[3], "action": "segment_free"}

    events = read_snapshot(_snapshot(*history[:3], returned, _alloc(99))).trace.events

    assert [event.kind for event in events] == ["alloc", "free", "empty_cache", "alloc"]


def test_returning_some_of_them_is_left_to_the_settings() -> None:
    history = (_segment(0, 40 * MIB), _segment(80 * MIB, 40 * MIB), _alloc(0), _free(0))
    returned = {**_segment(0, 40 * MIB), "action": "segment_free"}

    trace = read_snapshot(_snapshot(*history, returned)).trace

    assert [event.kind for event in trace.events] == ["alloc", "free"]
    assert trace.dropped == (("return of some of the free segments", 1),)


def test_segments_are_replayed_where_the_driver_put_them() -> None:
    places = (800 * MIB, 100 * MIB, 400 * MIB)
    history = [
        entry
        for address in places
        for entry in (_segment(address, 12 * MIB), _alloc(address, 12 * MIB))
    ]

    trace = read_snapshot(_snapshot(*history)).trace

    assert trace.segments == tuple((address, 12 * MIB) for address in places)
    segments = segment_map(trace, 2)
    assert [segment.address for segment in segments] == sorted(places)
    assert [segment.blocks[0].block for segment in segments] == [1, 2, 0]


def test_unmapped_pages_empty_the_cache_too() -> None:
    mapped = {**_segment(0, 20 * MIB), "action": "segment_map"}
    unmapped = {**mapped, "action": "segment_unmap"}

    reading = read_snapshot(_snapshot(mapped, _alloc(0), _free(0), unmapped))

    assert [e.kind for e in reading.trace.events] == ["alloc", "free", "empty_cache"]
    assert reading.peak_reserved_bytes == 20 * MIB
    assert not reading.trace.is_truncated


def test_snapshots_and_failures_are_places_in_the_trace() -> None:
    mark: Entry = {"action": "snapshot", "addr": 0, "size": 0, "stream": 0}
    failure: Entry = {"action": "oom", "size": 99, "device_free": 3, "stream": 0}

    reading = read_snapshot(_snapshot(mark, _alloc(0), mark, failure))

    assert (reading.marks, reading.out_of_memory) == ((0, 1), (1,))


def test_what_is_not_known_is_counted() -> None:
    strange: Entry = {"action": "segment_dream", "addr": 0, "size": 1}

    trace = read_snapshot(_snapshot(_alloc(0), _alloc(0), strange)).trace

    assert trace.dropped == (
        ("free that was not recorded", 1),
        ("unknown action 'segment_dream'", 1),
    )
    assert [event.kind for event in trace.events] == ["alloc", "free", "alloc"]


def test_reading_a_history_gives_the_events_of_the_trace() -> None:
    trace = TraceWriter().alloc("a", 5, stream=1).free("a").alloc("b", 7 * MIB).trace
    read = read_snapshot(recorded(trace, AllocatorConfig())).trace

    assert [(e.kind, e.stream) for e in read.events] == [("alloc", 1), ("free", 1), ("alloc", 0)]


@pytest.mark.parametrize(
    ("snapshot", "message"),
    [
        ([], "no snapshot of the CUDA allocator"),
        ({"segments": []}, "no 'device_traces'"),
        ({"segments": [], "device_traces": []}, "has 0 devices, none of index 0"),
        ({"segments": [], "device_traces": [[]]}, "no history of device 0; call"),
        ({"segments": [], "device_traces": [[3]]}, "'history' of its snapshot is no list"),
        ({"device_traces": [[_alloc(0)]]}, "'segments' of its snapshot is no list"),
        (_snapshot(_alloc(-4)), "corrupt: 'addr' must be a whole number of 0 or more, got -4"),
        (_snapshot(_alloc(0, 0)), "contradicts itself: n_bytes of event 0"),
        (_snapshot({"action": 7}), "corrupt: 'action' must be a text, got 7"),
        (_snapshot({"action": ["alloc"]}), "corrupt: 'action' must be a text"),
        (_snapshot(_alloc(0, pool_id=5)), "a pool must be two numbers, got 5"),
        (_snapshot(_alloc(0, pool_id=(None, 1))), "a pool must be two numbers"),
        (_snapshot(_alloc(0, 2**70)), "contradicts itself: Python int too large"),
        (_snapshot(_alloc(0, time_us=10**400)), "corrupt: 'time_us' must be a time, got 1000"),
        (_snapshot(_alloc(0, time_us=float("inf"))), "corrupt: 'time_us' must be a time, got inf"),
        (_snapshot({"action": "segment_alloc", "addr": 0, "size": 0}), "a segment has an address"),
    ],
)
def test_what_is_no_snapshot_is_refused_in_one_sentence(snapshot: object, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        read_snapshot(snapshot)


def test_a_device_index_is_not_negative() -> None:
    with pytest.raises(ValueError, match="device_index must not be negative, got -1"):
        read_snapshot(_snapshot(_alloc(0)), -1)
