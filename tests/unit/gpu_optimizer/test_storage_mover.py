from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as distributed
from hypothesis import given, settings, strategies as st
from torch import nn

from gpu_optimizer.storage_mover import (
    ELSEWHERE,
    FOREIGN,
    HELD,
    KEPT,
    NO_ROOM,
    REFERENCED,
    SUBCLASS,
    UNKNOWN,
    Move,
    long_lived_tensors,
    move_storages,
)

CPU = torch.device("cpu")


def moved(tensors: list[torch.Tensor], refusal: str = "") -> Move:
    return move_storages(tensors, CPU, lambda _: None, refusal)


def reasons(move: Move) -> list[str]:
    return [stayed.reason for stayed in move.stayed]


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=8),
    cut=st.integers(0, 40),
    seed=st.integers(0, 99),
)
def test_every_storage_moves_once_with_all_its_views_and_the_same_bits(
    sizes: list[int], cut: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    bases = [torch.randn(size, generator=generator) for size in sizes]
    views = [base[cut % base.numel() :] for base in bases]
    before = [base.clone() for base in bases]
    addresses = [base.data_ptr() for base in bases]
    move = moved([*bases, *views])
    assert (move.n_storages, move.n_bytes) == (len(sizes), 4 * sum(sizes))
    assert not move.stayed
    for base, view, values, address in zip(bases, views, before, addresses, strict=True):
        assert base.data_ptr() != address
        assert torch.equal(base, values)
        assert view.data_ptr() == base.data_ptr() + 4 * (cut % base.numel())


def test_the_largest_moves_first_and_room_is_made_for_the_large_ones() -> None:
    reserved: list[int] = []
    tensors = [torch.zeros(10), torch.zeros(2**20), torch.zeros(2**19 + 1)]
    move_storages(tensors, CPU, reserved.append)
    assert reserved == [4 * 2**20 + 2 * 2**20 + 512]


def test_without_room_for_all_at_once_each_still_moves() -> None:
    def refuse(_: int) -> None:
        raise torch.OutOfMemoryError

    assert move_storages([torch.ones(4)], CPU, refuse).n_storages == 1


def test_what_has_no_room_for_a_copy_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.UntypedStorage, "resize_", refuse)
    tensor = torch.ones(4)
    move = moved([tensor])
    assert (move.n_storages, reasons(move)) == (0, [NO_ROOM])
    assert tensor.tolist() == [1, 1, 1, 1]


def test_a_build_that_leaves_a_storage_in_place_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.UntypedStorage, "resize_", lambda *_: None)
    assert reasons(moved([torch.ones(4)])) == [KEPT]


def test_what_a_view_of_the_user_refers_to_stays_and_is_counted() -> None:
    weight = nn.Linear(8, 4).weight
    view = weight[0]
    address = weight.data_ptr()
    move = moved([weight])
    assert reasons(move) == [REFERENCED]
    assert move.stayed[0].n_bytes == 4 * 8 * 4
    assert view.data_ptr() == weight.data_ptr() == address


def test_what_an_exported_address_points_to_stays() -> None:
    array = np.zeros(6, np.float32)
    exported, shared = torch.zeros(6), torch.zeros(6).share_memory_()  # type: ignore[no-untyped-call]
    kept = exported.numpy()
    move = moved([torch.from_numpy(array), exported, shared])
    assert (move.n_storages, reasons(move)) == (0, [FOREIGN])
    assert move.stayed[0].n_storages == 3
    kept[0] = 7
    assert exported[0] == 7


def test_a_capsule_of_another_library_keeps_the_memory_where_it_is() -> None:
    tensor = torch.ones(5)
    capsule = tensor.__dlpack__()
    assert reasons(moved([tensor])) == [HELD]
    del capsule
    assert moved([tensor]).n_storages == 1


def test_what_autograd_will_need_in_backward_stays() -> None:
    layer = nn.Conv2d(1, 1, 3)
    loss = layer(torch.ones(1, 1, 4, 4)).sum()
    assert reasons(moved([layer.weight])) == [HELD]
    loss.backward()
    assert not moved([layer.weight]).stayed


def test_what_distributed_training_holds_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        model = nn.Linear(4, 4)
        wrapped = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        wrapped(torch.ones(2, 4)).sum().backward()
        tensors = long_lived_tensors(model, None, with_gradients=True)
        move = moved(tensors)
        assert move.n_storages == 0
        assert set(reasons(move)) <= {HELD, REFERENCED}
    finally:
        distributed.destroy_process_group()


def test_subclasses_and_other_devices_stay() -> None:
    class Shard(torch.Tensor):
        pass

    shard = torch.ones(3).as_subclass(Shard)
    assert reasons(moved([shard])) == [SUBCLASS]
    elsewhere = move_storages([torch.ones(3)], torch.device("cuda:0"), lambda _: None)
    assert reasons(elsewhere) == [ELSEWHERE]


def test_a_refusal_moves_nothing_and_counts_everything() -> None:
    move = moved([torch.ones(3), torch.ones(5)], "a graph")
    assert (move.n_storages, move.stayed[0].n_storages, reasons(move)) == (0, 2, ["a graph"])


def test_a_build_that_counts_no_users_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "_storage_Use_Count")
    assert reasons(moved([torch.ones(3)])) == [UNKNOWN]


def test_meta_sparse_and_empty_tensors_are_passed_over() -> None:
    tensors = [torch.empty(3, device="meta"), torch.eye(3).to_sparse(), torch.empty(0)]
    assert moved(tensors) == Move(0, 0, ())


def test_tied_weights_buffers_and_nested_state_are_found_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    optimizer = torch.optim.LBFGS(model.parameters(), history_size=3)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value: torch.Tensor = model(torch.ones(3, 4)).square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    found = long_lived_tensors(model, optimizer)
    assert len({id(tensor) for tensor in found}) == len(found)
    n_model = len(list(model.parameters())) + len(list(model.buffers()))
    assert len(found) > n_model
    with_gradients = long_lived_tensors(model, optimizer, with_gradients=True)
    assert len(with_gradients) == len(found) + sum(
        parameter.grad is not None for parameter in model.parameters()
    )
