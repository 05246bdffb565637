"""allocator_config: the settings as PyTorch reads them, and how sizes are rounded under them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, strategies as st

from gpu_optimizer.allocator_config import MIB, AllocatorConfig

_DIVISIONS = st.tuples(*[st.sampled_from([0, 1, 2, 4, 8, 64])] * 16)
_CONFIGS = st.builds(
    AllocatorConfig,
    expandable_segments=st.booleans(),
    max_split_size_mb=st.none() | st.integers(40, 10_000),
    max_non_split_rounding_mb=st.none() | st.integers(40, 10_000),
    roundup_power2_divisions=_DIVISIONS,
    garbage_collection_threshold=st.just(0.0) | st.floats(0.01, 0.99),
    large_segment_size_mb=st.integers(11, 40),
    per_process_memory_fraction=st.floats(0.01, 1),
)


@given(_CONFIGS)
def test_the_text_of_a_config_reads_back(config: AllocatorConfig) -> None:
    assert AllocatorConfig.parse(config.to_text()) == config


def test_no_text_is_the_default() -> None:
    assert AllocatorConfig.parse("") == AllocatorConfig.parse("backend:native") == AllocatorConfig()


def test_all_keys_are_read_with_spaces_between() -> None:
    text = (
        " expandable_segments:True, max_split_size_mb : 128,garbage_collection_threshold:0.6,"
        "roundup_power2_divisions:[256:1, 512:2,1024:4,>:8],pinned_num_register_threads:8 "
    )
    config = AllocatorConfig.parse(text)

    assert config.expandable_segments
    assert config.max_split_bytes == 128 * MIB
    assert config.garbage_collection_threshold == 0.6
    # 1 to 256 MiB are the intervals 0 to 8, then 512 MiB, 1 GiB, and all above
    assert config.roundup_power2_divisions == (1,) * 9 + (2, 4) + (8,) * 5


def test_one_number_of_divisions_serves_every_size() -> None:
    config = AllocatorConfig.parse("roundup_power2_divisions:4")

    # Between 1024 and 2048 KiB four steps of 256 KiB
    assert config.block_bytes(1100 * 1024) == 1280 * 1024
    assert config.block_bytes(1024 * 1024) == 1024 * 1024
    # Not above 512 * 4 bytes: rounded to 512
    assert config.block_bytes(2048) == 2048
    assert config.block_bytes(1900) == 2048
    # Between 2048 and 4096 steps of 512
    assert config.block_bytes(2049) == 2560


def test_divisions_are_those_of_the_interval_of_the_size() -> None:
    config = AllocatorConfig.parse("roundup_power2_divisions:[2:0,4:2,>:1]")

    assert config.block_bytes(3 * MIB + 1) == 3 * MIB + 512
    assert config.block_bytes(5 * MIB) == 6 * MIB
    assert config.block_bytes(9 * MIB) == 9 * MIB


@pytest.mark.parametrize(
    ("n_bytes", "block"), [(1, 512), (511, 512), (512, 512), (513, 1024), (MIB + 1, MIB + 512)]
)
def test_blocks_are_multiples_of_512_bytes(n_bytes: int, block: int) -> None:
    assert AllocatorConfig().block_bytes(n_bytes) == block


@pytest.mark.parametrize(
    ("block_mb", "segment_mb"), [(0.5, 2), (1, 2), (1.5, 20), (9.5, 20), (10, 10), (10.5, 12)]
)
def test_segments_are_of_2_or_20_mib_or_rounded_to_2_mib(block_mb: float, segment_mb: int) -> None:
    assert AllocatorConfig().segment_bytes(int(block_mb * MIB)) == segment_mb * MIB


@given(st.integers(1, 2**40), _CONFIGS)
def test_a_block_holds_its_request_and_is_at_most_twice_as_large(
    n_bytes: int, config: AllocatorConfig
) -> None:
    block = config.block_bytes(n_bytes)

    assert n_bytes <= block <= max(2 * n_bytes, 512)
    assert block % 512 == 0
    assert config.segment_bytes(block) >= block


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("expandable_segments:true", "expandable_segments must be True or False, got 'true'"),
        ("max_split_size_mb:10", "max_split_size_mb must be at least 20, got 10"),
        ("max_split_size_mb:1.5", "max_split_size_mb must be a whole number, got '1.5'"),
        ("max_split_size_mb:", "max_split_size_mb must be a whole number, got ''"),
        ("max_non_split_rounding_mb:19", "max_non_split_rounding_mb must be at least 20"),
        ("large_segment_size_mb:10", "large_segment_size_mb must be above 10, got 10"),
        ("garbage_collection_threshold:1", "must be above 0 and below 1, got 1.0"),
        ("garbage_collection_threshold:0", "garbage_collection_threshold must be above 0"),
        ("garbage_collection_threshold:often", "got 'often'"),
        ("per_process_memory_fraction:2", "must be above 0 and at most 1, got 2.0"),
        ("roundup_power2_divisions:0", "a power of two, or a list in which 0 disables it"),
        ("roundup_power2_divisions:3", "16 times 0 or a power of two"),
        ("roundup_power2_divisions:[3:2]", "powers of two, got '3'"),
        ("roundup_power2_divisions:[256]", r"a number or \[MiB:divisions"),
        ("roundup_power2_divisions:[256:x]", "a whole number, got 'x'"),
        ("roundup_power2_divisions:[256:1", "'key:value' with commas"),
        ("max_split:128", "unknown allocator setting 'max_split'; known are backend"),
        ("backend:cudaMallocAsync", "backend must be 'native'"),
        ("max_split_size_mb=128", "'key:value' with commas between"),
        ("max_split_size_mb:64 128", "'key:value' with commas between"),
    ],
)
def test_an_error_names_the_key_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AllocatorConfig.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "backend:native",
        "expandable_segments:True",
        "expandable_segments:true",
        "foo:1",
        "garbage_collection_threshold:0.5",
        "garbage_collection_threshold:1",
        "large_segment_size_mb:10",
        "large_segment_size_mb:11",
        "large_segment_size_mb:40,max_split_size_mb:30",
        "max_non_split_rounding_mb:10",
        "max_split_size_mb:128,",
        "max_split_size_mb:19",
        "max_split_size_mb:20 , expandable_segments:False",
        "max_split_size_mb:30,large_segment_size_mb:40",
        "pinned_num_register_threads:8",
        "roundup_power2_divisions:0",
        "roundup_power2_divisions:3",
        "roundup_power2_divisions:[256:1,512:2,>:8]",
        "roundup_power2_divisions:[3:2]",
        "roundup_power2_divisions:[>:4]",
    ],
)
def test_what_is_refused_is_what_pytorch_refuses(text: str) -> None:
    torch_set = torch._C._accelerator_setAllocatorSettings
    defaults = "large_segment_size_mb:20,expandable_segments:False"  # PyTorch keeps these two
    torch_set(defaults)

    assert _is_accepted(AllocatorConfig.parse, text) == _is_accepted(torch_set, text)
    torch_set(defaults)


def _is_accepted(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except (ValueError, RuntimeError):
        return False
    return True
