"""A recorded history gives back the sizes, segments and tags of the allocator that made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from allocation_events import MIB, TraceWriter, traces
from hypothesis import assume, given, settings, strategies as st
from recorded_history import recorded

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.cuda_history import CudaHistory, read_recording, settings_from
from gpu_optimizer.errors import TraceError
from gpu_optimizer.memory_walk import replay_walk
from gpu_optimizer.profile_builder import build_profile
from gpu_optimizer.recording import StorageNames
from gpu_optimizer.types import AllocationEvent, AllocationTrace

_CONFIG = AllocatorConfig()
_UNPLACED = "allocation whose place is not known"


def _tagged(*rows: tuple[str, int, int, str]) -> AllocationTrace:
    events = [
        AllocationEvent(kind, block, size, tag=tag)  # type: ignore[arg-type]
        for kind, block, size, tag in rows
    ]
    return AllocationTrace(events, "cuda:0", "test")


def _records(snapshot: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = snapshot["device_traces"][0]
    return found


def _segments(snapshot: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = snapshot["segments"]
    return found


@given(traces())
@settings(max_examples=40, deadline=None)
def test_following_addresses_gives_the_sizes_of_the_allocator(trace: AllocationTrace) -> None:
    recording = read_recording(recorded(trace, _CONFIG), 0, [])
    expected = replay_walk(trace, ())
    walk = recording.walk(())
    sizes = expected.block_bytes[expected.block_bytes > 0]
    assert sorted(walk.block_bytes.tolist()) == sorted(sizes.tolist())
    assert walk.reserved_bytes.max(initial=0) == expected.reserved_bytes.max(initial=0)
    assert _UNPLACED not in dict(recording.trace.dropped)


@given(traces(n_streams=1), st.data())
@settings(max_examples=40, deadline=None)
def test_sizes_are_exact_where_the_history_begins_midway(
    trace: AllocationTrace, data: st.DataObject
) -> None:
    n_before = data.draw(st.integers(1, len(trace.events)))
    first = AllocationTrace(trace.events[:n_before], "cuda:0", "test")
    earlier = recorded(first, _CONFIG)
    n_forgotten = len(_records(earlier)) - 1
    recording = read_recording(
        recorded(trace, _CONFIG, n_forgotten=n_forgotten), 0, _segments(earlier)
    )
    profile = build_profile(recording, StorageNames())
    whole = replay_walk(trace, range(n_before - 1, len(trace.events)))
    used = [
        sum(b.size_bytes for view in one.segments for b in view.blocks if b.block >= 0)
        for one in whole.maps
    ]
    assert profile.peak_bytes == max(used)
    assert _UNPLACED not in dict(recording.trace.dropped)


@given(traces(n_streams=1))
@settings(max_examples=30, deadline=None)
def test_the_segments_are_those_of_the_allocator(trace: AllocationTrace) -> None:
    rows = [row for row, event in enumerate(trace.events) if event.kind != "empty_cache"]
    assume(rows)
    until = rows[-1]
    trace = AllocationTrace(trace.events[: until + 1], "cuda:0", "test")
    recording = read_recording(recorded(trace, _CONFIG), 0, [])
    found = recording.walk([len(recording.trace.events) - 1]).maps[-1]
    expected = replay_walk(trace, [until]).maps[-1]
    sizes = [[b.size_bytes for b in view.blocks] for view in expected.segments]
    assert [[b.size_bytes for b in view.blocks] for view in found.segments] == sizes
    assert found.fragmentation.internal_bytes == expected.fragmentation.internal_bytes
    assert found.fragmentation.unreleasable_bytes == expected.fragmentation.unreleasable_bytes


def test_tags_become_layers_and_phases() -> None:
    trace = _tagged(
        ("alloc", 0, 3 * MIB, "forward|conv|"),
        ("alloc", 1, 5 * MIB, "forward|head|"),
        ("free", 1, 0, ""),
        ("free", 0, 0, ""),
    )
    profile = build_profile(read_recording(recorded(trace, _CONFIG), 0, []), StorageNames())
    assert {row.module: row.at_peak_bytes for row in profile.layers if row.at_peak_bytes} == {
        "conv": 3 * MIB,
        "head": 5 * MIB,
    }
    assert profile.attribution == "metadata"


def test_counts_at_each_change_of_tag_tell_the_same_as_tags() -> None:
    rows = (
        ("alloc", 0, 100, "forward|a|"),
        ("alloc", 1, 100, "forward|b|"),
        ("alloc", 2, 100, "forward|b|"),
    )
    plain = _tagged(*((kind, block, size, "") for kind, block, size, _ in rows))
    marks = [(0, "other||"), (0, "forward|a|"), (1, "forward|b|")]
    recording = read_recording(recorded(plain, _CONFIG), 0, [], marks=marks)
    assert recording.trace.table.tag_list() == [tag for *_, tag in rows]
    assert recording.attribution == "memory_stats"


def test_an_overflown_history_says_how_many_events_it_lost() -> None:
    trace = TraceWriter().alloc("a", 3 * MIB).alloc("b", MIB).free("a").alloc("c", 700).trace
    snapshot = recorded(trace, _CONFIG, n_forgotten=2)
    recording = read_recording(snapshot, 0, [], n_events=len(trace.events))
    assert recording.n_lost == 1
    assert _UNPLACED in dict(recording.trace.dropped)
    assert build_profile(recording, StorageNames()).n_lost == 1


def test_a_failed_allocation_is_told_with_what_was_asked() -> None:
    trace = TraceWriter().alloc("a", 30 * MIB).alloc("b", 40 * MIB).trace
    snapshot = recorded(trace, _CONFIG, limit_bytes=50 * MIB)
    found = build_profile(read_recording(snapshot, 0, []), StorageNames()).out_of_memory
    assert found is not None
    assert (found.asked_bytes, found.missing_bytes) == (40 * MIB, 40 * MIB)
    assert (found.allocated_bytes, found.reserved_bytes) == (30 * MIB, 30 * MIB)
    assert "40.00 MiB was asked for" in found.sentence()


def test_below_a_limit_of_the_process_the_largest_owners_are_told() -> None:
    trace = _tagged(("alloc", 0, 30 * MIB, "forward|conv|"), ("alloc", 1, 40 * MIB, "forward|b|"))
    snapshot = recorded(trace, _CONFIG, limit_bytes=50 * MIB)
    (failed,) = [one for one in _records(snapshot) if one["action"] == "oom"]
    failed["device_free"] = 900 * MIB
    found = build_profile(read_recording(snapshot, 0, []), StorageNames()).out_of_memory
    assert found is not None
    assert found.missing_bytes == 0
    assert [size for _, size in found.would_have_to_go] == [30 * MIB]


def test_a_device_without_a_history_gives_an_empty_recording() -> None:
    recording = read_recording({"segments": [], "device_traces": [[]]}, 0, [])
    assert build_profile(recording, StorageNames()).peak_bytes == 0


def test_settings_come_from_the_environment() -> None:
    environment = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    assert settings_from(environment).expandable_segments
    assert settings_from({}) == _CONFIG
    assert settings_from({"PYTORCH_CUDA_ALLOC_CONF": "of:another,version:1"}) == _CONFIG


class _FakeCuda:
    """PyTorch's functions as `CudaHistory` calls them, around a recorded trace."""

    def __init__(self, trace: AllocationTrace) -> None:
        self.snapshot = recorded(trace, _CONFIG)
        self.calls: list[tuple[str | None, dict[str, object]]] = []
        self.n_events = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        memory: Any = torch.cuda.memory
        monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
        monkeypatch.setattr(torch.cuda, "memory_snapshot", self._segments)
        monkeypatch.setattr(torch._C, "_cuda_memoryStats", self._stats, raising=False)
        monkeypatch.setattr(memory, "_record_memory_history", self._record)
        monkeypatch.setattr(memory, "_snapshot", lambda: self.snapshot)

    def _segments(self, include_traces: bool = True) -> list[object]:
        assert not include_traces
        return []

    def _stats(self, _: int) -> dict[str, dict[str, dict[str, int]]]:
        return {"allocation": {"all": {"allocated": self.n_events, "freed": 0}}}

    def _record(self, enabled: str | None, **options: object) -> None:
        self.calls.append((enabled, options))


def _one_block() -> AllocationTrace:
    return _tagged(("alloc", 0, 3 * MIB, "forward|conv|"))


def test_the_history_is_bounded_and_has_no_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _FakeCuda(_one_block())
    fake.install(monkeypatch)
    history = CudaHistory(0, 1000)
    history.start()
    enabled, options = fake.calls[0]
    assert enabled == "all"
    assert (options["max_entries"], options["context"]) == (1000, None)
    assert history.stop().trace.table.tag_list() == ["forward|conv|"]
    assert fake.calls[-1] == (None, {})


def test_without_tags_in_this_build_changes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _FakeCuda(_tagged(("alloc", 0, 3 * MIB, "")))
    fake.install(monkeypatch)
    monkeypatch.delattr(torch._C, "_cuda_setMemoryMetadata", raising=False)
    history = CudaHistory(0, 1000)
    history.start()
    history.put("forward|conv|")
    fake.n_events = 1
    history.put("backward|conv|")
    recording = history.stop()
    assert recording.trace.table.tag_list() == ["forward|conv|"]
    assert recording.attribution == "memory_stats"


def test_a_build_without_a_history_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cuda.memory, "_record_memory_history")
    with pytest.raises(TraceError, match="keeps no history"):
        CudaHistory(0, 10).start()
