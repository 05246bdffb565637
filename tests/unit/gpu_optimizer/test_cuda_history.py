"""A recorded history gives back the sizes and segments of the allocator that made it."""

from __future__ import annotations

from allocation_events import traces
from hypothesis import given, settings
from recorded_history import recorded

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.cuda_history import read_recording
from gpu_optimizer.memory_walk import replay_walk
from gpu_optimizer.types import AllocationEvent, AllocationTrace

_CONFIG = AllocatorConfig()


def _trace(*rows: tuple[str, int, int, str]) -> AllocationTrace:
    events = [AllocationEvent(kind, block, size, tag=tag) for kind, block, size, tag in rows]  # type: ignore[arg-type]
    return AllocationTrace(tuple(events), "cuda:0", "test")


@given(traces())
@settings(max_examples=60, deadline=None)
def test_following_addresses_gives_the_sizes_of_the_allocator(trace: AllocationTrace) -> None:
    recording = read_recording(recorded(trace, _CONFIG), 0, [])
    expected = replay_walk(trace, ())
    walk = recording.walk(())
    assert sorted(walk.block_bytes.tolist()) == sorted(
        expected.block_bytes[expected.block_bytes > 0].tolist()
    )
    assert walk.reserved_bytes.max(initial=0) == expected.reserved_bytes.max(initial=0)
    assert not dict(recording.trace.dropped).get("allocation whose place is not known")
