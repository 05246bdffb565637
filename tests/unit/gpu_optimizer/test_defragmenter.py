from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from allocation_events import TraceWriter
from hypothesis import given, settings, strategies as st
from torch import nn

from gpu_optimizer.allocator_door import HostAllocator, apply_settings, door_to
from gpu_optimizer.defragmentation_advice import Remedies, advise
from gpu_optimizer.defragmenter import Defragmenter
from gpu_optimizer.errors import DeviceError
from gpu_optimizer.snapshot_fields import Record
from gpu_optimizer.storage_mover import GRAPH, REFERENCED


class FakeCuda(HostAllocator):
    """Memory of the host behind a door that tells what it was asked, as a GPU's would be."""

    def __init__(
        self, *, has_graph: bool = False, pool: tuple[int, int] | None = None, is_full: bool = False
    ) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._has_graph = has_graph
        self._pool = pool
        self._is_full = is_full

    def segments(self) -> Sequence[Record]:
        blocks = [
            {"size": 3 << 20, "state": "active_allocated", "requested_size": 3 << 20},
            {"size": 1 << 20, "state": "inactive"},
        ]
        private = [{"blocks": blocks, "segment_pool_id": self._pool}] if self._pool else []
        return ({"blocks": blocks}, *private)

    def has_foreign_pool(self) -> bool:
        return self._has_graph

    @contextmanager
    def new_pool(self) -> Iterator[None]:
        self.calls.append("pool")
        yield
        self.calls.append("end of pool")

    def reserve(self, n_bytes: int) -> None:
        if self._is_full:
            raise torch.OutOfMemoryError
        self.calls.append(f"reserve {n_bytes}")

    def empty_cache(self) -> None:
        self.calls.append("empty")


class Net(nn.Module):
    """Tied weights, batch statistics, and dropout, which draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.norm = nn.BatchNorm1d(16)
        self.hidden = nn.Linear(16, 16)
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.hidden(self.norm(self.embedding(tokens))))
        logits: torch.Tensor = self.head(nn.functional.dropout(hidden, 0.3, self.training))
        return logits


def make(name: str) -> tuple[Net, torch.optim.Optimizer]:
    torch.manual_seed(3)
    net = Net()
    if name == "adamw":
        return net, torch.optim.AdamW(net.parameters(), lr=1e-2, amsgrad=True)
    return net, torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9, nesterov=True)


def step(net: Net, optimizer: torch.optim.Optimizer, tokens: torch.Tensor) -> float:
    loss = nn.functional.cross_entropy(net(tokens), tokens)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def everything(net: Net, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    state = [value for one in optimizer.state.values() for value in one.values()]
    return [*net.state_dict().values(), *(one for one in state if isinstance(one, torch.Tensor))]


@pytest.mark.parametrize("name", ["adamw", "momentum"])
def test_training_goes_on_with_the_same_bits_after_every_compaction(name: str) -> None:
    tokens = torch.arange(12) % 30
    plain, plain_optimizer = make(name)
    expected = [step(plain, plain_optimizer, tokens) for _ in range(6)]
    plain_random = torch.rand(4)
    net, optimizer = make(name)
    losses = []
    with Defragmenter(net, optimizer) as defragmenter:
        for _ in range(6):
            losses.append(step(net, optimizer, tokens))
            defragmenter.step_boundary()
            assert not defragmenter.compact().move.stayed
    assert losses == expected
    assert torch.equal(torch.rand(4), plain_random)
    for mine, theirs in zip(
        everything(net, optimizer), everything(plain, plain_optimizer), strict=True
    ):
        assert torch.equal(mine, theirs)


@settings(deadline=None, max_examples=15)
@given(when=st.lists(st.booleans(), min_size=1, max_size=6), momentum=st.floats(0, 0.9))
def test_moves_at_any_steps_change_no_bit(when: list[bool], momentum: float) -> None:
    results = []
    for moves in (when, [False] * len(when)):
        torch.manual_seed(len(when))
        net = Net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=momentum)
        defragmenter = Defragmenter(net, optimizer)
        for does_move in moves:
            step(net, optimizer, torch.arange(9))
            if does_move:
                assert not defragmenter.compact().move.stayed
        results.append(everything(net, optimizer))
    for mine, theirs in zip(*results, strict=True):
        assert torch.equal(mine, theirs)


def test_identities_ties_hooks_and_keys_of_the_optimizer_stay() -> None:
    net, optimizer = make("adamw")
    seen: list[str] = []
    net.embedding.weight.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
        lambda _: seen.append("gradient")
    )
    step(net, optimizer, torch.arange(5))
    weight, state = net.embedding.weight, optimizer.state[net.embedding.weight]
    average = state["exp_avg"]
    addresses = weight.data_ptr(), average.data_ptr()
    Defragmenter(net, optimizer).compact()
    assert net.head.weight is net.embedding.weight is weight
    assert optimizer.state[weight] is state
    assert state["exp_avg"] is average
    assert weight.data_ptr() != addresses[0]
    assert average.data_ptr() != addresses[1]
    step(net, optimizer, torch.arange(5))
    assert seen == ["gradient"] * 2


def test_backward_is_right_when_a_move_comes_after_forward() -> None:
    net, optimizer = make("adamw")
    net.eval()
    tokens = torch.arange(7)
    nn.functional.cross_entropy(net(tokens), tokens).backward()  # type: ignore[no-untyped-call]
    expected = [parameter.grad for parameter in net.parameters()]
    net.zero_grad()
    loss = nn.functional.cross_entropy(net(tokens), tokens)
    assert Defragmenter(net, optimizer).compact().move.stayed
    loss.backward()  # type: ignore[no-untyped-call]
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        assert gradient is not None
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


def test_gradients_move_only_where_they_are_kept() -> None:
    net, optimizer = make("momentum")
    net(torch.arange(4)).sum().backward()
    gradient = net.hidden.weight.grad
    assert gradient is not None
    address = gradient.data_ptr()
    Defragmenter(net, optimizer).compact()
    assert gradient.data_ptr() == address
    Defragmenter(net, optimizer, keeps_gradients=True).compact()
    assert gradient.data_ptr() != address
    assert net.hidden.weight.grad is gradient


def test_state_moves_once_it_exists_and_not_again() -> None:
    net, optimizer = make("adamw")
    with Defragmenter(net, optimizer) as defragmenter:
        assert not defragmenter.report().compactions
        for _ in range(3):
            step(net, optimizer, torch.arange(5))
            defragmenter.step_boundary()
    report = defragmenter.report()
    assert [one.step for one in report.compactions] == [1]
    assert report.n_steps == 3


def test_a_model_that_only_infers_moves_at_once() -> None:
    with Defragmenter(make("adamw")[0]) as defragmenter:
        assert [one.step for one in defragmenter.report().compactions] == [0]


def test_a_view_of_the_user_is_reported_and_still_shows_the_weights() -> None:
    net, optimizer = make("adamw")
    view = net.hidden.weight[0]
    move = Defragmenter(net, optimizer).compact().move
    assert [(one.reason, one.n_storages) for one in move.stayed] == [(REFERENCED, 1)]
    with torch.no_grad():
        net.hidden.weight.fill_(5)
    assert view.tolist() == [5] * 16


def test_nothing_moves_while_a_cuda_graph_may_hold_addresses() -> None:
    net, optimizer = make("adamw")
    address = net.hidden.weight.data_ptr()
    move = Defragmenter(net, optimizer, door=FakeCuda(has_graph=True)).compact().move
    assert (move.n_storages, [one.reason for one in move.stayed]) == (0, [GRAPH])
    assert net.hidden.weight.data_ptr() == address


def test_a_compaction_measures_before_and_after_with_the_cache_emptied() -> None:
    net, optimizer = make("adamw")
    door = FakeCuda()
    compaction = Defragmenter(net, optimizer, door=door).compact()
    assert door.calls == ["empty", "pool", "reserve 0", "end of pool", "empty"]
    assert compaction.before == compaction.after
    assert compaction.before.fragmentation.waste == 0.25


def test_the_cache_is_emptied_at_each_phase() -> None:
    net, optimizer = make("adamw")
    door = FakeCuda()
    with Defragmenter(net, optimizer, Remedies(empties_cache=True), door=door) as defragmenter:
        step(net, optimizer, torch.arange(5))
        defragmenter.step_boundary()
        defragmenter.phase_change()
    assert door.calls == ["empty", "empty"]


def test_what_is_held_already_is_not_reserved_again() -> None:
    net, optimizer = make("adamw")
    door = FakeCuda()
    with Defragmenter(net, optimizer, Remedies(reserve_bytes=10 << 20), door=door) as defragmenter:
        assert door.calls == ["empty", f"reserve {6 << 20}"]
        assert defragmenter.report().reservation_bytes == 6 << 20
    assert door.calls[2:] == ["empty"]


def test_with_a_pool_of_its_own_only_free_memory_counts_towards_a_reservation() -> None:
    net, optimizer = make("adamw")
    door = FakeCuda(pool=(0, 5))
    remedies = Remedies(reserve_bytes=10 << 20, has_own_pool=True)
    with Defragmenter(net, optimizer, remedies, door=door) as defragmenter:
        assert door.calls == ["empty", f"reserve {9 << 20}"]
        step(net, optimizer, torch.arange(5))
        defragmenter.step_boundary()
        assert door.calls[-2:] == ["empty", f"reserve {9 << 20}"]


def test_where_enough_is_held_or_there_is_no_room_nothing_is_reserved() -> None:
    net, optimizer = make("adamw")
    door = FakeCuda()
    with Defragmenter(net, optimizer, Remedies(reserve_bytes=4 << 20), door=door) as defragmenter:
        assert door.calls == ["empty"]
    full = FakeCuda(is_full=True)
    with Defragmenter(net, optimizer, Remedies(reserve_bytes=9 << 20), door=full) as defragmenter:
        assert defragmenter.report().reservation_bytes == 0


def test_settings_are_applied_to_the_running_process_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    applied: list[str] = []
    monkeypatch.setattr("gpu_optimizer.defragmenter.apply_settings", applied.append)
    net, optimizer = make("adamw")
    door = FakeCuda()
    remedies = Remedies("expandable_segments:True")
    with Defragmenter(net, optimizer, remedies, door=door):
        assert not applied
    door.device = torch.device("cuda:0")
    with Defragmenter(net, optimizer, remedies, door=door):
        assert applied == ["expandable_segments:True"]


def test_advice_on_a_trace_is_that_of_the_replay() -> None:
    trace = TraceWriter().alloc("a", 2**25).free("a").trace
    assert Defragmenter(nn.Linear(2, 2)).advise(trace) == advise(trace)


def test_an_exception_leaves_the_state_where_it_is_and_passes() -> None:
    net, optimizer = make("adamw")
    defragmenter = Defragmenter(net, optimizer)

    def train() -> None:
        with defragmenter:
            step(net, optimizer, torch.arange(5))
            defragmenter.step_boundary()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert defragmenter.report().n_steps == 1
    assert step(net, optimizer, torch.arange(5)) > 0


def test_without_cuda_nothing_is_held() -> None:
    held = Defragmenter(nn.Linear(2, 2)).measure()
    assert (held.reserved_bytes, held.n_segments) == (0, 0)
    assert held.fragmentation.waste != held.fragmentation.waste


def test_a_model_on_no_or_on_two_devices_is_refused() -> None:
    two = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match="exactly one device, got cpu, meta"):
        Defragmenter(two)
    with pytest.raises(ValueError, match="exactly one device, got none"):
        Defragmenter(nn.ReLU())


def test_a_device_that_is_not_here_or_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="device must be cpu or cuda, got meta"):
        door_to(torch.device("meta"))
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="finds no CUDA device"):
            door_to(torch.device("cuda:0"))


def test_a_build_without_settings_at_run_time_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch._C, "_accelerator_setAllocatorSettings", raising=False)
    monkeypatch.delattr(torch.cuda.memory, "_set_allocator_settings", raising=False)
    with pytest.raises(DeviceError, match="set PYTORCH_ALLOC_CONF=expandable_segments:True"):
        apply_settings("expandable_segments:True")
