from __future__ import annotations

import pytest
from allocation_events import MIB, TraceWriter, traces
from hypothesis import assume, given, settings

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.allocator_replay import replay
from gpu_optimizer.defragmentation_advice import (
    EQUAL_SHARE,
    MAX_DRIVER_CALLS,
    Remedies,
    advise,
    replay_candidate,
)
from gpu_optimizer.trace_edits import trace_parts
from gpu_optimizer.types import AllocationTrace


def growing(n_steps: int = 12, n_rounds: int = 4) -> AllocationTrace:
    """Each step needs a little more than the one before, so that no cached block is enough."""
    writer = TraceWriter().alloc("weights", 40 * MIB)
    for _ in range(n_rounds):
        for step in range(n_steps):
            writer.alloc(f"{step}", (40 + 20 * step) * MIB).free(f"{step}")
    return writer.trace


def test_a_loop_that_grows_is_told_to_expand_its_segments() -> None:
    advice = advise(growing())
    assert advice.default.waste > 0.25
    assert advice.settings.startswith("expandable_segments:True")
    assert advice.chosen.waste < 0.05
    assert advice.chosen.peak_reserved_bytes < advice.default.peak_reserved_bytes


def test_a_loop_that_wastes_nothing_is_left_alone() -> None:
    writer = TraceWriter().alloc("weights", 40 * MIB)
    for step in range(4):
        writer.alloc(f"{step}", 60 * MIB).free(f"{step}")
    advice = advise(writer.trace)
    assert advice.chosen is advice.default
    assert (advice.settings, advice.code) == ("", "")


@settings(deadline=None, max_examples=30)
@given(traces())
def test_the_choice_is_never_worse_than_the_default_nor_calls_the_driver_too_often(
    trace: AllocationTrace,
) -> None:
    assume(any(event.kind == "alloc" for event in trace.events))
    advice = advise(trace)
    default, chosen = advice.default, advice.chosen
    assert chosen.peak_reserved_bytes <= default.peak_reserved_bytes * (1 + EQUAL_SHARE)
    assert chosen.n_driver_calls <= MAX_DRIVER_CALLS * default.n_driver_calls
    plain = replay(trace)
    assert default.peak_reserved_bytes == plain.peak_reserved_bytes
    for one in advice.candidates:
        config = AllocatorConfig.parse(one.remedies.settings)
        assert not (config.expandable_segments and config.max_split_size_mb)


def test_a_reservation_does_not_hide_waste() -> None:
    trace = growing(2)
    candidate = replay_candidate(trace, trace_parts(trace), Remedies(reserve_bytes=1000 * MIB))
    assert candidate.peak_reserved_bytes >= 1000 * MIB
    assert candidate.waste == pytest.approx(0.9)


def test_garbage_collection_is_tried_with_a_limit_only() -> None:
    trace = growing(4)
    names = [one.remedies.name for one in advise(trace, 2**30).candidates]
    assert any("garbage_collection" in name for name in names)
    assert not any("garbage" in one.remedies.name for one in advise(trace).candidates)


def test_where_all_run_out_of_memory_the_advice_says_so() -> None:
    assert advise(growing(3), 20 * MIB).chosen.is_out_of_memory


def test_remedies_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be combined"):
        Remedies("expandable_segments:True,max_split_size_mb:64")
    with pytest.raises(ValueError, match="reserve_bytes must not be negative, got -1"):
        Remedies(reserve_bytes=-1)
    with pytest.raises(ValueError, match="of no use with empties_cache"):
        Remedies(reserve_bytes=1, empties_cache=True)
    with pytest.raises(ValueError, match="unknown allocator setting 'speed'"):
        Remedies("speed:11")


def test_a_trace_without_allocations_is_refused() -> None:
    with pytest.raises(ValueError, match="has no allocation"):
        advise(AllocationTrace([], "cuda:0", "fake"))


def test_the_code_to_write_names_only_what_is_not_a_setting() -> None:
    remedies = Remedies("expandable_segments:True", 5, has_own_pool=True)
    assert remedies.name == "expandable_segments:True + own pool + reserve"
    assert remedies.n_remedies == 3
