"""types: what the values of the memory model refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpu_optimizer.types import (
    AllocationEvent,
    AllocationTrace,
    Fragmentation,
    ReplayResult,
    ReplayTimeline,
)

_EVENTS = (AllocationEvent("alloc", 0, 8), AllocationEvent("free", 0, 8))
_NOTHING = Fragmentation(math.nan, math.nan, 0, 0)


def _timeline(*events: int) -> ReplayTimeline:
    zeros = np.zeros(len(events), np.int64)
    ratios = np.zeros(len(events))
    return ReplayTimeline(np.array(events), zeros, zeros, zeros, ratios, ratios, zeros, zeros)


def test_a_trace_keeps_any_iterable_of_events_as_a_table() -> None:
    trace = AllocationTrace(events=_EVENTS, device="cuda:0", source="fake")

    assert trace.table.n_bytes.tolist() == [8, 8]
    assert [event.kind for event in trace.events] == ["alloc", "free"]
    assert trace == AllocationTrace(list(_EVENTS), "cuda:0", "fake")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": ""}, "device must be a text"),
        ({"source": ""}, "source must be a text"),
        ({"n_initial": 3}, "n_initial must be 0 to 2, the events, got 3"),
        ({"segments": ((-4, 8),)}, "a segment has an address and bytes, got -4, 8"),
        ({"n_initial": 2}, "first 2 events must be allocations"),
    ],
)
def test_a_trace_refuses(arguments: dict[str, str | int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AllocationTrace(**{"events": _EVENTS, "device": "cpu", "source": "fake", **arguments})  # type: ignore[arg-type]


def test_fragmentation_is_a_ratio_or_unknown() -> None:
    with pytest.raises(ValueError, match=r"waste must be 0 to 1 or NaN, got 1\.5"):
        Fragmentation(1.5, 0, 0, 0)
    with pytest.raises(ValueError, match="external must be 0 to 1 or NaN, got -1"):
        Fragmentation(0, -1, 0, 0)
    with pytest.raises(ValueError, match="must not be negative"):
        Fragmentation(0, 0, -1, 0)


def test_a_timeline_rises_and_has_one_length() -> None:
    with pytest.raises(ValueError, match="must rise"):
        _timeline(3, 3)
    zeros = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="waste must have the shape"):
        ReplayTimeline(zeros, zeros, zeros, zeros, np.zeros(1), np.zeros(2), zeros, zeros)
    assert len(_timeline(1, 2)) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"peak_requested_bytes": 5, "peak_allocated_bytes": 4, "peak_reserved_bytes": 9},
        {"is_out_of_memory": True},
        {"at_event": 3},
    ],
)
def test_a_result_that_contradicts_itself_is_refused(arguments: dict[str, int]) -> None:
    peaks = dict.fromkeys(
        ("peak_requested_bytes", "peak_allocated_bytes", "peak_reserved_bytes"), 0
    )
    with pytest.raises(ValueError, match=r"must hold|at_event says"):
        ReplayResult(
            **{**peaks, **arguments},  # type: ignore[arg-type]
            peak_event=-1,
            n_segments=0,
            fragmentation=_NOTHING,
            timeline=_timeline(),
        )
