from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from gpu_optimizer.errors import TraceError
from gpu_optimizer.live_memory import held_memory

MIB = 2**20


def segment(*blocks: tuple[str, int], is_expandable: bool = False) -> dict[str, object]:
    return {
        "is_expandable": is_expandable,
        "blocks": [
            {"state": state, "size": size, "requested_size": size - 100} for state, size in blocks
        ],
    }


def test_the_four_numbers_of_two_segments() -> None:
    held = held_memory(
        [
            segment(("active_allocated", 6 * MIB), ("inactive", 2 * MIB)),
            segment(("inactive", 6 * MIB)),
            segment(("active_awaiting_free", 4 * MIB), ("inactive", 2 * MIB), is_expandable=True),
        ]
    )
    assert (held.reserved_bytes, held.active_bytes, held.n_segments) == (20 * MIB, 10 * MIB, 3)
    numbers = held.fragmentation
    assert (numbers.waste, numbers.external) == (0.5, 1 - 6 / 10)
    assert (numbers.unreleasable_bytes, numbers.internal_bytes) == (2 * MIB, 200)


def test_nothing_held_has_no_ratios() -> None:
    held = held_memory([])
    assert (held.reserved_bytes, held.n_segments) == (0, 0)
    assert math.isnan(held.fragmentation.waste)
    assert math.isnan(held.fragmentation.external)


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["inactive", "active_allocated"]), st.integers(512, MIB)),
            min_size=1,
        )
    )
)
def test_active_free_and_unreleasable_add_up(rows: list[list[tuple[str, int]]]) -> None:
    held = held_memory([segment(*row) for row in rows])
    n_free = sum(size for row in rows for state, size in row if state == "inactive")
    assert held.reserved_bytes - held.active_bytes == n_free
    assert held.fragmentation.unreleasable_bytes <= n_free


@pytest.mark.parametrize("wrong", [{}, {"blocks": 3}, {"blocks": [{"size": "much"}]}])
def test_what_is_no_segment_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(TraceError):
        held_memory([wrong])
