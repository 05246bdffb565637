from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from gpu_optimizer import device
from gpu_optimizer.device import SEGMENT_BYTES, CudaDoor, nvml_used_bytes, require_cuda
from gpu_optimizer.errors import DeviceError

MIB = 2**20
TOTAL = 140 * 1024 * MIB + 12345


class FakeCuda:
    """What `torch.cuda` says of a card of which others use a part."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fractions: list[float] = []
        self.others = self.reserved = self.context = self.allocated = 0
        self.stats = {"num_alloc_retries": 0, "num_ooms": 0}
        answers = {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "mem_get_info": lambda _: (TOTAL - self.used, TOTAL),
            "set_per_process_memory_fraction": lambda part, _: self.fractions.append(part),
            "synchronize": lambda _: None,
            "reset_peak_memory_stats": lambda _: None,
            "memory_reserved": lambda _: self.reserved,
            "memory_allocated": lambda _: self.allocated,
            "max_memory_allocated": lambda _: self.allocated,
            "max_memory_reserved": lambda _: self.reserved,
            "memory_stats": lambda _: self.stats,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(device, "nvml_used_bytes", lambda _: self.used + 600 * MIB)

    @property
    def used(self) -> int:
        return self.others + self.reserved + self.context


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@given(limit=st.integers(SEGMENT_BYTES, TOTAL))
def test_a_limit_allows_the_whole_segments_within_it_and_no_more(limit: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        cuda = FakeCuda(monkeypatch)
        CudaDoor().limit(limit)
    allowed = int(cuda.fractions[0] * TOTAL)
    assert cuda.fractions[0] <= 1
    assert allowed // SEGMENT_BYTES == limit // SEGMENT_BYTES


def test_the_context_is_what_is_used_beside_the_allocator(cuda: FakeCuda) -> None:
    cuda.reserved, cuda.context = 300 * MIB, 500 * MIB
    assert CudaDoor().use().context_bytes == 500 * MIB


def test_what_others_use_is_no_context(cuda: FakeCuda) -> None:
    door = CudaDoor()
    cuda.others = 7000 * MIB
    door._used_before = device.nvml_used_bytes(0)
    cuda.reserved, cuda.context = 300 * MIB, 500 * MIB
    assert door.use().context_bytes == 500 * MIB


def test_retries_and_failures_count_from_the_last_reset(cuda: FakeCuda) -> None:
    cuda.stats = {"num_alloc_retries": 5, "num_ooms": 2}
    door = CudaDoor()
    door.reset_peaks()
    cuda.stats = {"num_alloc_retries": 6, "num_ooms": 4}
    assert (door.use().n_retries, door.use().n_ooms) == (1, 2)


def test_a_card_that_is_not_there_is_told(cuda: FakeCuda) -> None:
    assert cuda.fractions == []
    with pytest.raises(DeviceError, match="there is no GPU 3: there are 1, from 0"):
        require_cuda(3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_the_door_says_what_to_do() -> None:
    with pytest.raises(DeviceError, match="doctor"):
        CudaDoor().check()
    assert nvml_used_bytes() is None
