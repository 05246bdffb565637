"""Sums of a profile hold for any trace, and every block has one owner."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from allocation_events import MIB, traces
from hypothesis import given, settings, strategies as st

from gpu_optimizer.block_owners import CATEGORIES, OUTSIDE, find_owners
from gpu_optimizer.event_table import EventTable
from gpu_optimizer.memory_profile import MemoryProfile
from gpu_optimizer.memory_walk import replay_walk
from gpu_optimizer.profile_builder import build_profile
from gpu_optimizer.recording import Recording, StorageNames
from gpu_optimizer.types import AllocationEvent, AllocationTrace

_TAGS = ("", "other||", "forward|a|", "forward|a.b|", "backward|a|", "optimizer||", "evaluation|a|")


def _recording(trace: AllocationTrace) -> Recording:
    n_blocks = int(trace.table.blocks.max(initial=-1)) + 1
    return Recording(trace, tuple(range(n_blocks)), partial(replay_walk, trace), "metadata")


def _tagged(trace: AllocationTrace, indices: list[int]) -> AllocationTrace:
    table = trace.table
    columns = (table.kinds, table.blocks, table.n_bytes, table.streams, table.pools)
    tags = EventTable(*columns, np.array(indices, np.int64), table.times_us, _TAGS)
    return AllocationTrace(tags, trace.device, trace.source)


@st.composite
def _profiles(draw: st.DrawFn) -> MemoryProfile:
    trace = draw(traces())
    n_events = len(trace.events)
    indices = draw(st.lists(st.integers(0, len(_TAGS) - 1), min_size=n_events, max_size=n_events))
    return build_profile(_recording(_tagged(trace, indices)), StorageNames())


@given(_profiles())
@settings(max_examples=60, deadline=None)
def test_all_ways_to_count_the_peak_agree(profile: MemoryProfile) -> None:
    assert sum(size for _, size in profile.by_category) == profile.peak_bytes
    assert sum(block.size_bytes for block in profile.at_peak) == profile.peak_bytes
    assert profile.timeline.category_bytes.sum(axis=1).max() == profile.peak_bytes
    assert max(phase.peak_bytes for phase in profile.phases) == profile.peak_bytes
    peak = next(moment for moment in profile.moments if moment.event == profile.peak_event)
    assert sum(size for _, size in peak.owner_bytes) == profile.peak_bytes


@given(_profiles())
@settings(max_examples=60, deadline=None)
def test_no_part_is_larger_than_the_whole(profile: MemoryProfile) -> None:
    for layer in profile.layers:
        assert layer.at_peak_bytes <= layer.own_peak_bytes <= profile.peak_bytes
        for phase in layer.phases:
            assert 0 <= phase.retained_bytes <= layer.own_peak_bytes
            assert phase.peak_bytes <= profile.peak_bytes
    assert (profile.timeline.reserved_bytes <= profile.peak_reserved_bytes).all()


def _categories(*rows: tuple[str, int, str], names: StorageNames | None = None) -> dict[int, str]:
    events = [
        AllocationEvent(kind, block, MIB if kind == "alloc" else 0, tag=tag)  # type: ignore[arg-type]
        for kind, block, tag in rows
    ]
    owners = find_owners(
        _recording(AllocationTrace(events, "cuda:0", "test")), names or StorageNames()
    )
    return {row: owners.owners[index].category for row, index in enumerate(owners.of_block)}


def test_the_life_of_a_block_tells_what_it_is_for() -> None:
    found = _categories(
        ("alloc", 0, "forward|a|"),
        ("alloc", 1, "forward|a|"),
        ("free", 1, "forward|a|"),
        ("alloc", 2, "forward|b|"),
        ("alloc", 3, "backward|b|"),
        ("free", 2, "backward|b|"),
        ("alloc", 4, "backward|b|"),
        ("free", 3, "backward|a|"),
        ("free", 0, "backward|a|"),
        ("alloc", 5, "optimizer||"),
        ("alloc", 6, "optimizer||"),
        ("free", 6, "optimizer||"),
        names=StorageNames(gradients={4: ["b"]}, states={5: "b"}),
    )
    assert found == {
        0: "activations",
        1: "workspace",
        2: "activations",
        3: "activation gradients",
        4: "gradients",
        5: "optimizer state",
        6: "workspace",
    }
    assert set(found.values()) < set(CATEGORIES)


def test_an_address_that_is_used_again_does_not_make_a_gradient() -> None:
    found = _categories(
        ("alloc", 0, "forward|a|"),
        ("free", 0, "backward|a|"),
        names=StorageNames(gradients={0: ["a"]}),
    )
    assert found == {0: "activations"}


def test_what_forward_keeps_beyond_a_whole_step_is_not_an_activation() -> None:
    found = _categories(("alloc", 0, "forward|a|"), ("alloc", 1, "backward|a|"))
    assert found[0] == "other"


def test_blocks_without_a_module_are_outside_of_all() -> None:
    events = [AllocationEvent("alloc", 0, MIB, tag="forward||")]
    profile = build_profile(
        _recording(AllocationTrace(events, "cuda:0", "test")), StorageNames(), "KeyError"
    )
    assert [layer.module for layer in profile.layers] == [OUTSIDE]
    assert profile.error == "KeyError"
    assert profile.at_peak[0].owner.tag() == f"forward|{OUTSIDE}|activations"
    assert profile.timeline.events.tolist() == [0]
    assert profile.peak_bytes == pytest.approx(MIB)
