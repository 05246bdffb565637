from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from gpu_optimizer.allocator_door import CudaAllocator, apply_settings, door_to
from gpu_optimizer.errors import DeviceError


class FakePool:
    """A pool with an id of its own, as PyTorch gives to each."""

    n_made = 0

    def __init__(self) -> None:
        FakePool.n_made += 1
        self.id = (0, 1000 + FakePool.n_made)


class FakeCuda:
    """What `CudaAllocator` calls of ``torch.cuda``, of a machine with two devices."""

    def __init__(self) -> None:
        self.segments: list[dict[str, object]] = []
        self.pools: list[FakePool] = []
        self.refuses_pools = False

    @contextmanager
    def use_mem_pool(self, pool: FakePool, device: torch.device) -> Iterator[None]:
        if self.refuses_pools:
            raise RuntimeError("no pools with expandable segments")
        assert device == torch.device("cuda:1")
        self.pools.append(pool)
        yield

    def memory_snapshot(self, include_traces: bool = True) -> list[dict[str, object]]:
        assert not include_traces
        return self.segments


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "MemPool", FakePool)
    monkeypatch.setattr(torch.cuda, "use_mem_pool", fake.use_mem_pool)
    monkeypatch.setattr(torch.cuda, "memory_snapshot", fake.memory_snapshot)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    return fake


def test_only_segments_of_the_device_are_told_and_without_their_history(cuda: FakeCuda) -> None:
    cuda.segments = [{"device": 0}, {"device": 1, "blocks": []}]
    assert list(door_to(torch.device("cuda")).segments()) == [{"device": 1, "blocks": []}]


def test_memory_of_our_own_pools_is_not_foreign_even_to_another_door(cuda: FakeCuda) -> None:
    door = CudaAllocator(torch.device("cuda:1"))
    with door.new_pool():
        pass
    cuda.segments = [
        {"device": 1, "segment_pool_id": (0, 0)},
        {"device": 1, "segment_pool_id": cuda.pools[-1].id},
    ]
    assert not CudaAllocator(torch.device("cuda:1")).has_foreign_pool()
    cuda.segments.append({"device": 1, "segment_pool_id": (1, 0)})
    assert door.has_foreign_pool()


def test_where_pools_are_refused_allocations_are_not_routed(cuda: FakeCuda) -> None:
    cuda.refuses_pools = True
    entered = []
    with CudaAllocator(torch.device("cuda:1")).new_pool():
        entered.append(True)
    assert (entered, cuda.pools) == ([True], [])


def test_a_gpu_that_is_not_here_is_an_error(cuda: FakeCuda) -> None:
    assert not cuda.pools
    with pytest.raises(DeviceError, match="there are 2 GPUs"):
        CudaAllocator(torch.device("cuda:2"))


def test_settings_go_to_the_door_that_this_build_has(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[str] = []
    monkeypatch.delattr(torch._C, "_accelerator_setAllocatorSettings", raising=False)
    monkeypatch.setattr(torch.cuda.memory, "_set_allocator_settings", applied.append)
    apply_settings("expandable_segments:True")
    assert applied == ["expandable_segments:True"]
