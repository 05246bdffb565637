"""caching_allocator: each rule of PyTorch's allocator in a case small enough to do by hand."""

from __future__ import annotations

import pytest

from gpu_optimizer.allocator_config import MIB, AllocatorConfig
from gpu_optimizer.block_pool import Block
from gpu_optimizer.caching_allocator import CachingAllocator


def _allocator(text: str = "", limit_mb: int | None = None) -> CachingAllocator:
    limit = None if limit_mb is None else limit_mb * MIB
    return CachingAllocator(AllocatorConfig.parse(text), limit)


def _take(allocator: CachingAllocator, megabytes: float, stream: int = 0, pool: int = 0) -> Block:
    block = allocator.allocate(int(megabytes * MIB), stream, pool)
    assert block is not None
    return block


def test_small_requests_share_segments_of_2_mib() -> None:
    allocator = _allocator()
    for _ in range(4):
        _take(allocator, 0.5)
    assert allocator.reserved_bytes == 2 * MIB

    # 4 * 0.5 MiB fill the first; 1 byte more opens another, of which 512 bytes are in use
    block = allocator.allocate(1)
    assert block is not None
    assert block.size == 512
    assert (allocator.reserved_bytes, allocator.n_segments) == (4 * MIB, 2)
    assert allocator.unreleasable_bytes == 2 * MIB - 512


def test_requests_below_10_mib_share_segments_of_20_mib() -> None:
    allocator = _allocator()
    _take(allocator, 9)
    _take(allocator, 9)
    # 20 - 18 = 2 MiB are left, which 2 MiB fill
    _take(allocator, 2)
    assert allocator.reserved_bytes == 20 * MIB
    assert allocator.unreleasable_bytes == 0


def test_larger_requests_get_a_segment_rounded_to_2_mib() -> None:
    allocator = _allocator()
    block = _take(allocator, 10.5)
    # The rest of 12 - 10.5 = 1.5 MiB is more than 1 MiB: split off
    assert (allocator.reserved_bytes, block.size) == (12 * MIB, int(10.5 * MIB))
    block = _take(allocator, 11)
    # The rest of 1 MiB is not: the whole segment is handed out
    assert (allocator.reserved_bytes, block.size) == (24 * MIB, 12 * MIB)
    assert allocator.allocated_bytes - allocator.requested_bytes == MIB


def test_small_and_large_blocks_do_not_serve_each_other() -> None:
    allocator = _allocator()
    allocator.free(_take(allocator, 5))
    _take(allocator, 0.5)
    assert allocator.reserved_bytes == 22 * MIB


def test_a_small_rest_of_512_bytes_is_split_off() -> None:
    allocator = _allocator()
    first = allocator.allocate(2 * 512)
    second = allocator.allocate(512)
    assert first is not None
    assert second is not None
    allocator.free(first)
    again = allocator.allocate(1)
    assert again is not None
    assert (again.address, again.size) == (first.address, 512)
    assert allocator.unreleasable_bytes == 2 * MIB - 2 * 512


def test_the_smallest_block_that_fits_is_chosen() -> None:
    allocator = _allocator()
    large, _, small = _take(allocator, 16), _take(allocator, 30), _take(allocator, 12)
    address = small.address
    allocator.free(large)
    allocator.free(small)
    assert _take(allocator, 11.5).address == address


def test_of_equal_blocks_that_with_the_lowest_address_is_chosen() -> None:
    allocator = _allocator()
    blocks = [_take(allocator, 12) for _ in range(3)]
    for block in reversed(blocks):
        allocator.free(block)
    assert _take(allocator, 12).address == blocks[0].address


def test_neighbours_merge_on_both_sides() -> None:
    allocator = _allocator()
    a, b, c, d = (_take(allocator, 5) for _ in range(4))
    allocator.free(a)
    allocator.free(c)
    assert allocator.unreleasable_bytes == 10 * MIB
    assert allocator.fragmentation().external == 0.5
    allocator.free(b)
    # a, b and c are one block of 15 MiB: 14 MiB fit in, d remains
    assert allocator.fragmentation().external == 0
    assert _take(allocator, 14).address == a.address
    assert allocator.reserved_bytes == 20 * MIB
    assert d.address == a.address + 15 * MIB


def test_a_stream_does_not_use_what_another_freed() -> None:
    allocator = _allocator()
    allocator.free(_take(allocator, 12, stream=1))
    _take(allocator, 12, stream=2)
    assert allocator.reserved_bytes == 24 * MIB
    _take(allocator, 12, stream=1)
    assert allocator.reserved_bytes == 24 * MIB


def test_a_private_pool_keeps_to_itself_and_to_the_end() -> None:
    allocator = _allocator()
    allocator.free(_take(allocator, 12, pool=1))
    allocator.free(_take(allocator, 12, pool=0))
    allocator.empty_cache()
    # Only the segment of the default pool is returned
    assert allocator.reserved_bytes == 12 * MIB
    _take(allocator, 12, pool=1)
    assert allocator.reserved_bytes == 12 * MIB


def test_empty_cache_returns_what_is_wholly_free() -> None:
    allocator = _allocator()
    _take(allocator, 5)
    allocator.free(_take(allocator, 5))
    allocator.free(_take(allocator, 40))
    assert allocator.reserved_bytes == 60 * MIB
    allocator.empty_cache()
    assert allocator.reserved_bytes == 20 * MIB
    assert allocator.unreleasable_bytes == 15 * MIB


def test_at_the_limit_the_cache_is_returned_before_giving_up() -> None:
    allocator = _allocator(limit_mb=50)
    allocator.free(_take(allocator, 30))
    # 30 + 40 > 50: the 30 are returned, then 40 fit
    _take(allocator, 40)
    assert (allocator.reserved_bytes, allocator.n_retries) == (40 * MIB, 1)
    assert allocator.allocate(12 * MIB) is None
    assert allocator.reserved_bytes == 40 * MIB


def test_blocks_of_max_split_size_are_not_split() -> None:
    allocator = _allocator("max_split_size_mb:32")
    allocator.free(_take(allocator, 40))
    # 12 MiB are below 32: the block of 40 is not for them
    _take(allocator, 12)
    assert allocator.reserved_bytes == 52 * MIB
    # 36 MiB are not, and 40 < 36 + 20: the whole block is handed out
    assert _take(allocator, 36).size == 40 * MIB
    assert allocator.reserved_bytes == 52 * MIB


def test_a_block_much_larger_than_the_request_is_not_wasted_on_it() -> None:
    allocator = _allocator("max_split_size_mb:32")
    allocator.free(_take(allocator, 56))
    # 56 are not fewer than 36 + 20
    _take(allocator, 36)
    assert allocator.reserved_bytes == 92 * MIB
    allocator = _allocator("max_split_size_mb:32,max_non_split_rounding_mb:21")
    allocator.free(_take(allocator, 56))
    # They are fewer than 36 + 21
    assert _take(allocator, 36).size == 56 * MIB


def test_one_block_not_to_be_split_is_returned_before_the_whole_cache() -> None:
    allocator = _allocator("max_split_size_mb:32", limit_mb=130)
    for block in [_take(allocator, 40), _take(allocator, 70)]:
        allocator.free(block)
    # 110 + 36 > 130. The smallest of at least 36 MiB, that of 40, would fit: 40 < 36 + 20
    _take(allocator, 36)
    assert allocator.reserved_bytes == 110 * MIB
    # 70 >= 45 + 20, so it is not used, but returned: 40 + 46 = 86
    _take(allocator, 45)
    assert (allocator.reserved_bytes, allocator.n_retries) == (86 * MIB, 0)


def test_of_blocks_that_are_too_small_the_largest_are_returned_until_it_fits() -> None:
    allocator = _allocator("max_split_size_mb:32", limit_mb=120)
    for block in [_take(allocator, size) for size in (34, 36, 40)]:
        allocator.free(block)
    # 110 + 76 > 120: 40 and 36 are returned, which are 76; 34 stay
    _take(allocator, 76)
    assert (allocator.reserved_bytes, allocator.n_retries) == (110 * MIB, 0)


def test_old_blocks_are_collected_above_the_threshold() -> None:
    allocator = _allocator("garbage_collection_threshold:0.5", limit_mb=100)
    young, old = _take(allocator, 20), _take(allocator, 40)
    allocator.free(old)
    for _ in range(4):
        allocator.free(_take(allocator, 12, stream=1))
    allocator.free(young)
    # Reserved 20 + 40 + 12 = 72 > 50. Searches so far: 2 + 4; with this one ages are
    # 7 - 2 = 5 (40 MiB), 7 - 6 = 1 (12 MiB), 7 - 6 = 1 (20 MiB), mean 7 / 3: 40 are returned
    _take(allocator, 24)
    assert allocator.reserved_bytes == (20 + 12 + 24) * MIB


def test_nothing_is_collected_without_a_limit_or_below_the_threshold() -> None:
    for allocator in (
        _allocator("garbage_collection_threshold:0.5"),
        _allocator("garbage_collection_threshold:0.5", limit_mb=200),
    ):
        allocator.free(_take(allocator, 40))
        _take(allocator, 50)
        assert allocator.reserved_bytes == 90 * MIB


def test_a_limit_is_not_negative() -> None:
    with pytest.raises(ValueError, match="limit_bytes must be None or not negative, got -1"):
        CachingAllocator(AllocatorConfig(), -1)


def test_an_expandable_segment_grows_by_pages() -> None:
    allocator = _allocator("expandable_segments:True")
    first = _take(allocator, 15)
    assert allocator.reserved_bytes == 20 * MIB
    second = _take(allocator, 15)
    # 30 MiB are two pages of 20 MiB of one segment
    assert (allocator.reserved_bytes, allocator.n_segments) == (40 * MIB, 1)
    assert second.address == first.address + 15 * MIB
    _take(allocator, 0.25)
    # Small blocks have a segment of their own, of 2 MiB pages
    assert (allocator.reserved_bytes, allocator.n_segments) == (42 * MIB, 2)


def test_a_free_end_of_an_expandable_segment_grows_instead_of_being_left_behind() -> None:
    allocator = _allocator("expandable_segments:True")
    first = _take(allocator, 20)
    allocator.free(first)
    # The 20 MiB at the end grow by 20 MiB; the default allocator would reserve 20 + 40
    assert _take(allocator, 40).address == first.address
    assert allocator.reserved_bytes == 40 * MIB


def test_best_fit_counts_the_room_to_grow() -> None:
    allocator = _allocator("expandable_segments:True")
    first, _ = _take(allocator, 24), _take(allocator, 6)
    allocator.free(first)
    # Free: 24 MiB in front, and 10 MiB at the end that could grow without bound
    assert _take(allocator, 8).address == first.address


def test_expandable_rests_of_512_bytes_are_split_off() -> None:
    allocator = _allocator("expandable_segments:True")
    block = allocator.allocate(11 * MIB + 1)
    assert block is not None
    assert block.size == 11 * MIB + 512
    assert allocator.fragmentation().unreleasable_bytes == 0


def test_empty_cache_unmaps_whole_free_pages_and_they_are_mapped_again() -> None:
    allocator = _allocator("expandable_segments:True")
    first, middle, last = _take(allocator, 30), _take(allocator, 60), _take(allocator, 10)
    allocator.free(middle)
    # 100 MiB mapped. Free are 30 to 90, whole pages in it 40 to 80
    allocator.empty_cache()
    assert (allocator.reserved_bytes, allocator.n_segments) == (60 * MIB, 2)
    # The hole of 60 MiB takes 55: 10 free, two pages mapped again, 5 of the last 10 used
    again = _take(allocator, 55)
    assert again.address == first.address + 30 * MIB
    assert (allocator.reserved_bytes, allocator.n_segments) == (100 * MIB, 1)
    for block in (first, last, again):
        allocator.free(block)
    allocator.empty_cache()
    assert (allocator.reserved_bytes, allocator.n_segments) == (0, 0)
    assert not list(allocator.segments())


def test_an_expandable_segment_exceeds_the_limit_by_less_than_a_page() -> None:
    allocator = _allocator("expandable_segments:True", limit_mb=30)
    # 0 + 26 <= 30 passes the check; two pages are mapped
    _take(allocator, 25)
    assert allocator.reserved_bytes == 40 * MIB
    assert allocator.allocate(16 * MIB) is None


def test_rounding_is_internal_fragmentation() -> None:
    allocator = _allocator("roundup_power2_divisions:2")
    assert allocator.allocate(5 * MIB) is not None
    # Between 4 and 8 MiB two steps of 2 MiB: 6 MiB
    assert allocator.fragmentation().internal_bytes == MIB
    assert allocator.allocate(1024 + 1) is not None
    # Above 512 * 2 bytes; between 1 and 2 KiB two steps of 512 bytes: 1536
    assert allocator.fragmentation().internal_bytes == MIB + 1536 - 1024 - 1


def test_new_segments_take_recorded_places_that_are_vacant() -> None:
    places = ((64 * MIB, 12 * MIB), (70 * MIB, 12 * MIB), (32 * MIB, 12 * MIB))
    allocator = CachingAllocator(AllocatorConfig(), None, places)
    blocks = [_take(allocator, 12) for _ in range(3)]

    # The second place overlaps the first and is passed over; the fourth segment is above all
    assert [block.address for block in blocks[:2]] == [64 * MIB, 32 * MIB]
    assert blocks[2].address >= 82 * MIB
    assert _take(allocator, 30).address >= blocks[2].address + 12 * MIB
