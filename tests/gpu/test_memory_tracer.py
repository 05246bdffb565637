"""On a GPU a trace says what PyTorch's own counters say, and leaves nothing behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from gpu_optimizer.memory_tracer import MemoryTracer

_MIB = 2**20


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    torch.cuda.empty_cache()


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32)]
    layers += [nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(2048, 512)]
    return nn.Sequential(*layers).cuda()


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: int = 37) -> None:
    optimizer.zero_grad()
    images = torch.rand(batch, 3, 111, 97, device="cuda")
    model(images).square().mean().backward()
    optimizer.step()


def _fill(n_blocks: int) -> list[torch.Tensor]:
    return [torch.empty(100 * _MIB, dtype=torch.uint8, device="cuda") for _ in range(n_blocks)]


def test_the_peak_is_that_of_the_allocator() -> None:
    model = _model()
    optimizer = torch.optim.AdamW(model.parameters())
    _step(model, optimizer)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    with MemoryTracer(model, optimizer) as trace:
        for batch in (37, 5, 61):
            _step(model, optimizer, batch)
        torch.cuda.synchronize()
        allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    profile = trace.profile
    assert profile.peak_bytes == pytest.approx(allocated, rel=1e-3)
    assert profile.peak_reserved_bytes == pytest.approx(reserved, rel=1e-3)
    assert sum(layer.at_peak_bytes for layer in profile.layers) == profile.peak_bytes
    assert profile.trace.source == "cuda history"


def test_layers_and_purposes_are_told_apart() -> None:
    model = _model()
    optimizer = torch.optim.AdamW(model.parameters())
    _step(model, optimizer)
    with MemoryTracer(model, optimizer) as trace:
        _step(model, optimizer)
    owners = {(owner.module, owner.category) for owner in trace.profile.owners}
    assert {("0", "activations"), ("5", "parameters"), ("5", "gradients")} <= owners
    assert ("5", "optimizer state") in owners
    assert {phase.name for phase in trace.profile.phases} >= {"forward", "backward", "optimizer"}


def test_a_bounded_history_says_what_it_lost() -> None:
    model = _model()
    with MemoryTracer(model, max_entries=20) as trace:
        for _ in range(5):
            model(torch.rand(4, 3, 32, 32, device="cuda"))
    assert trace.profile.n_lost > 0


def test_running_out_of_memory_is_told_and_goes_on() -> None:
    model = _model()
    total = torch.cuda.get_device_properties(0).total_memory
    limit = torch.cuda.memory_reserved() + 600 * _MIB
    torch.cuda.set_per_process_memory_fraction(limit / total)
    trace = MemoryTracer(model)
    with pytest.raises(torch.OutOfMemoryError), trace:
        _fill(20)
    found = trace.profile.out_of_memory
    assert found is not None
    assert found.asked_bytes is not None
    assert found.asked_bytes >= 100 * _MIB
    assert found.allocated_bytes >= 400 * _MIB


def test_no_memory_stays_behind() -> None:
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _step(model, optimizer)
    model.zero_grad()
    torch._C._cuda_clearCublasWorkspaces()
    held = torch.cuda.memory_allocated()
    with MemoryTracer(model, optimizer) as trace:
        _step(model, optimizer)
    model.zero_grad()
    torch._C._cuda_clearCublasWorkspaces()
    assert torch.cuda.memory_allocated() == held
    assert trace.profile.peak_bytes > held
    assert torch.cuda.memory._snapshot()["device_traces"][0] == []
