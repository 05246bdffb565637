"""event_table: events as columns, and the histories that it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpu_optimizer.event_table import NO_BLOCK, AllocationEvent, EventTable

_EVENTS = (
    AllocationEvent("alloc", 4, 100, stream=1, pool=2, tag="forward|conv|activation", time_us=1.5),
    AllocationEvent("alloc", 5, 1),
    AllocationEvent("free", 4, 100, stream=1, pool=2, time_us=3.0),
    AllocationEvent("empty_cache", NO_BLOCK, 0),
)


def test_events_come_back_as_they_were_given() -> None:
    table = EventTable.of(_EVENTS)

    assert len(table) == 4
    assert table[0] == _EVENTS[0]
    assert math.isnan(table[1].time_us)
    assert [event.kind for event in table] == [event.kind for event in _EVENTS]
    assert [event.block for event in table[1:3]] == [5, 4]
    assert table == EventTable.of(tuple(table))


def test_tables_differ_where_a_tag_differs() -> None:
    other = (*_EVENTS[:1], AllocationEvent("alloc", 5, 1, tag="backward"), *_EVENTS[2:])

    assert EventTable.of(_EVENTS) != EventTable.of(other)
    assert EventTable.of(_EVENTS) != _EVENTS


def test_the_columns_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        EventTable.of(_EVENTS).n_bytes[0] = 7


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([AllocationEvent("alloc", 0, 0)], "n_bytes of event 0 .* got 0"),
        ([AllocationEvent("alloc", -1, 8)], "block of event 0 .* got -1"),
        ([AllocationEvent("empty_cache", 3, 0)], "block of event 0 .* got 3"),
        ([AllocationEvent("alloc", 0, 8, stream=-2)], "stream of event 0 .* got -2"),
        ([AllocationEvent("alloc", 0, 8, pool=-1)], "pool of event 0 .* got -1"),
        ([AllocationEvent("alloc", 0, 8)] * 2, "block 0 is allocated twice"),
        ([_EVENTS[0], _EVENTS[2], _EVENTS[2]], "block 4 is freed twice"),
        ([_EVENTS[2], _EVENTS[0]], "event 0 frees block 4"),
        ([_EVENTS[1], AllocationEvent("free", 9, 1)], "event 1 frees block 9"),
        ([AllocationEvent("malloc", 0, 8)], "kind must be one of alloc, free.* 'malloc'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_history_is_refused(events: list[AllocationEvent], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EventTable.of(events)


def test_columns_of_another_length_or_type_are_refused() -> None:
    column = np.zeros(2, np.int64)
    times = np.zeros(2)
    kinds = np.full(2, 2, np.int8)
    with pytest.raises(ValueError, match=r"streams must be int64 of shape \(2,\)"):
        EventTable(kinds, column - 1, column, column[:1], column, column, times)
    with pytest.raises(ValueError, match="kinds must be int8"):
        EventTable(column, column - 1, column, column, column, column, times)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tag of event 0 must be an index below 1"):
        EventTable(kinds, column - 1, column, column, column.copy(), column + 1, times)
