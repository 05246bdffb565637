"""Compaction on a real GPU: addresses move into a pool, waste falls, and training goes on."""

from __future__ import annotations

import torch
from torch import nn

from gpu_optimizer.defragmentation_advice import Remedies
from gpu_optimizer.defragmenter import Defragmenter
from gpu_optimizer.storage_mover import GRAPH

MIB = 2**20


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(6)]).cuda()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, rows: int) -> float:
    generator = torch.Generator("cuda").manual_seed(rows)
    loss = model(torch.rand(rows, 1024, device="cuda", generator=generator)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def test_compaction_keeps_the_bits_and_the_live_set_and_returns_memory() -> None:
    rows = (512, 4096, 1024, 8192)
    plain, plain_optimizer = make()
    expected = [train(plain, plain_optimizer, n) for n in rows]
    model, optimizer = make()
    losses = []
    with Defragmenter(model, optimizer) as defragmenter:
        for n in rows:
            losses.append(train(model, optimizer, n))
            defragmenter.step_boundary()
    assert losses == expected
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    (compaction,) = defragmenter.report().compactions
    assert not any("held" in stayed.reason for stayed in compaction.move.stayed)
    assert compaction.move.n_bytes >= 3 * 6 * 4 * MIB
    assert compaction.after.requested_bytes == compaction.before.requested_bytes
    assert compaction.after.reserved_bytes <= compaction.before.reserved_bytes + 24 * MIB


def test_live_numbers_agree_with_the_statistics_of_pytorch() -> None:
    model, optimizer = make()
    train(model, optimizer, 777)
    held = Defragmenter(model, optimizer).measure()
    stats = torch.cuda.memory_stats()
    assert held.reserved_bytes == stats["reserved_bytes.all.current"]
    assert held.active_bytes == stats["active_bytes.all.current"]
    assert held.requested_bytes == stats["requested_bytes.all.current"]
    assert held.fragmentation.unreleasable_bytes == stats["inactive_split_bytes.all.current"]


def test_every_address_changes_and_no_value_does() -> None:
    model, optimizer = make()
    train(model, optimizer, 512)
    tensors = [*model.parameters(), *(one["exp_avg"] for one in optimizer.state.values())]
    before = [(one.data_ptr(), one.clone()) for one in tensors]
    assert Defragmenter(model, optimizer).compact().move.n_storages == 3 * 12
    for tensor, (address, values) in zip(tensors, before, strict=True):
        assert tensor.data_ptr() != address
        assert torch.equal(tensor, values)


def test_compacting_twice_holds_no_more_than_once() -> None:
    model, optimizer = make()
    train(model, optimizer, 512)
    defragmenter = Defragmenter(model, optimizer)
    once = defragmenter.compact().after.reserved_bytes
    assert defragmenter.compact().after.reserved_bytes <= once + 2 * MIB
    assert train(model, optimizer, 512) > 0


def test_a_reservation_is_what_is_missing_and_stays() -> None:
    model, optimizer = make()
    torch.cuda.empty_cache()
    with Defragmenter(model, optimizer, Remedies(reserve_bytes=300 * MIB)):
        assert 300 * MIB <= torch.cuda.memory_reserved() <= 320 * MIB
    torch.cuda.empty_cache()


def test_a_captured_graph_forbids_to_move_and_still_replays() -> None:
    layer = nn.Linear(64, 64).cuda()
    rows = torch.ones(8, 64, device="cuda")
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(side):
        layer(rows)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        output = layer(rows)
    move = Defragmenter(layer).compact().move
    assert (move.n_storages, {stayed.reason for stayed in move.stayed}) == (0, {GRAPH})
    graph.replay()
    torch.cuda.synchronize()
    with torch.no_grad():
        assert torch.equal(output, layer(rows))
