"""Records are followed by address: fixed and expandable segments, and what contradicts itself."""

from __future__ import annotations

import pytest

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.placed_memory import PlacementError, Placements, follow
from gpu_optimizer.snapshot_fields import Record

MIB = 2**20
_PAGE = 2 * MIB


def _followed(*rows: tuple[str, int, int], before: tuple[Record, ...] = ()) -> Placements:
    history = [{"action": action, "addr": addr, "size": size} for action, addr, size in rows]
    config = AllocatorConfig(expandable_segments=any("map" in row[0] for row in rows))
    n_moves = sum(action in {"alloc", "free_completed"} for action, *_ in rows)
    return follow(before, history, config, frozenset(range(-1, n_moves)))


def _shape(placements: Placements, moment: int) -> list[list[tuple[int, bool]]]:
    """Return size and use of the blocks of each segment."""
    views = placements.views[moment]
    return [[(b.size_bytes, b.requested_bytes > 0) for b in view.blocks] for view in views]


def test_a_large_block_keeps_what_is_too_little_to_split() -> None:
    found = _followed(
        ("segment_alloc", 0, 20 * MIB), ("alloc", 0, 19 * MIB + 1), ("free_completed", 0, 0)
    )
    assert found.block_bytes == [20 * MIB]
    assert _shape(found, 1) == [[(20 * MIB, False)]]


def test_a_small_block_is_split_at_512_bytes() -> None:
    found = _followed(("segment_alloc", 0, 2 * MIB), ("alloc", 0, 513), ("alloc", 1024, 1))
    assert found.block_bytes == [1024, 512]
    assert _shape(found, 1) == [[(1024, True), (512, True), (2 * MIB - 1536, False)]]


def test_freed_neighbours_become_one_block() -> None:
    rows = [("segment_alloc", 0, 2 * MIB), ("alloc", 0, 512), ("alloc", 512, 512)]
    found = _followed(*rows, ("free_completed", 512, 0), ("free_completed", 0, 0))
    assert _shape(found, 3) == [[(2 * MIB, False)]]
    assert _followed(*rows[:1], ("segment_free", 0, 0), *rows[:1], rows[1]).block_bytes == [512]


def test_mapped_pages_join_the_free_memory_before_and_behind_them() -> None:
    found = _followed(
        ("segment_map", 0, _PAGE),
        ("segment_map", 2 * _PAGE, _PAGE),
        ("segment_map", _PAGE, _PAGE),
        ("alloc", 0, 3 * _PAGE),
    )
    assert found.block_bytes == [3 * _PAGE]
    assert found.reserved_bytes == [3 * _PAGE]


def test_unmapping_the_middle_leaves_two_segments() -> None:
    found = _followed(
        ("segment_map", 0, 3 * _PAGE),
        ("segment_unmap", _PAGE, _PAGE),
        ("alloc", 0, _PAGE),
        ("alloc", 2 * _PAGE, 512),
    )
    assert _shape(found, 1) == [[(_PAGE, True)], [(512, True), (_PAGE - 512, False)]]
    assert found.reserved_bytes[-1] == 2 * _PAGE


def test_blocks_from_before_keep_their_sizes() -> None:
    blocks = [
        {"address": 4096, "size": 2048, "requested_size": 1000, "state": "active_allocated"},
        {"address": 6144, "size": 1024, "requested_size": 0, "state": "inactive"},
        {"address": 7168, "size": 512, "requested_size": 9, "state": "active_pending_free"},
    ]
    segment = {"address": 4096, "total_size": 3584, "segment_type": "small", "blocks": blocks}
    found = _followed(("free_completed", 7168, 0), ("alloc", 6144, 1300), before=(segment,))
    assert found.initial_bytes == {4096: 2048, 7168: 512}
    assert found.block_bytes == [1536]
    assert found.reserved_bytes == [3584, 3584]


@pytest.mark.parametrize(
    "rows",
    [
        [("alloc", 0, 512)],
        [("segment_alloc", 0, 2 * MIB), ("alloc", 0, 3 * MIB)],
        [("segment_alloc", 0, 2 * MIB), ("alloc", 0, 512), ("alloc", 0, 512)],
        [("free_completed", 0, 512)],
        [("segment_alloc", 0, 2 * MIB), ("alloc", 0, 512), ("segment_free", 0, 0)],
        [("segment_map", 0, _PAGE), ("segment_unmap", _PAGE, _PAGE)],
    ],
)
def test_a_record_that_cannot_follow_is_refused(rows: list[tuple[str, int, int]]) -> None:
    with pytest.raises(PlacementError):
        _followed(*rows)
