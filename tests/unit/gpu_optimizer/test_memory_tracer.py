"""A traced program does what it does without, and its profile adds up."""

from __future__ import annotations

import gc
import weakref
from threading import Thread

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from gpu_optimizer.block_owners import OUTSIDE
from gpu_optimizer.errors import DeviceError, TraceError
from gpu_optimizer.memory_profile import MemoryProfile
from gpu_optimizer.memory_tracer import MemoryTracer

KIB = 1024


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 8))


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss = model(torch.ones(32, 64)).square().mean()
    loss.backward()
    optimizer.step()


def _run_then_raise(
    model: nn.Module, n_rows: int, kept: list[torch.Tensor], error: Exception
) -> None:
    kept.append(model(torch.ones(n_rows, 64)))
    raise error


def _profile(n_warmup: int = 1) -> MemoryProfile:
    model = _model()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(n_warmup):
        _step(model, optimizer)
    with MemoryTracer(model, optimizer) as trace:
        _step(model, optimizer)
    return trace.profile


def test_the_layers_and_the_blocks_add_up_to_the_peak() -> None:
    profile = _profile()
    assert sum(layer.at_peak_bytes for layer in profile.layers) == profile.peak_bytes
    assert sum(block.size_bytes for block in profile.at_peak) == profile.peak_bytes
    assert sum(size for _, size in profile.by_category) == profile.peak_bytes


def test_weights_and_their_state_are_known_by_their_sizes() -> None:
    profile = _profile()
    totals = dict(profile.by_category)
    weights = 64 * 256 * 4 + 256 * 4 + 256 * 8 * 4 + 512
    assert totals["parameters"] == weights
    assert totals["optimizer state"] >= 2 * weights
    assert profile.start_bytes <= profile.peak_bytes


def test_gradients_belong_to_the_layer_of_their_parameter() -> None:
    model = _model()
    with MemoryTracer(model) as trace:
        model(torch.ones(32, 64)).square().mean().backward()
    gradients = {
        block.owner.module: block.size_bytes
        for block in trace.profile.at_peak
        if block.owner.category == "gradients" and block.size_bytes > KIB
    }
    assert gradients["2"] == 256 * 8 * 4


def test_activations_are_what_lives_from_forward_into_backward() -> None:
    model = nn.Sequential(nn.Linear(64, 512), nn.Sigmoid())
    with MemoryTracer(model) as trace:
        model(torch.ones(128, 64)).square().mean().backward()
    table = trace.profile.trace.table
    kept = {tag for tag in table.tags if tag == "forward|1|activations"}
    assert kept


def test_optimizer_state_that_the_trace_makes_is_known() -> None:
    totals = {owner.category for owner in _profile(n_warmup=0).owners}
    assert {"optimizer state", "gradients", "activations", "parameters"} <= totals


def test_a_traced_step_computes_the_same() -> None:
    plain, traced = _model(), _model()
    _step(plain, torch.optim.AdamW(plain.parameters()))
    optimizer = torch.optim.AdamW(traced.parameters())
    with MemoryTracer(traced, optimizer):
        _step(traced, optimizer)
    assert all(
        torch.equal(one, other)
        for one, other in zip(plain.parameters(), traced.parameters(), strict=True)
    )


def test_phases_have_what_they_allocated() -> None:
    phases = {phase.name: phase for phase in _profile().phases}
    assert {"forward", "backward", "optimizer"} <= set(phases)
    assert phases["forward"].retained_bytes >= 32 * 256 * 4
    assert max(phase.peak_bytes for phase in phases.values()) == _profile().peak_bytes


def test_inference_is_evaluation() -> None:
    model = _model().eval()
    with MemoryTracer(model) as trace, torch.no_grad():
        model(torch.ones(4, 64))
    assert trace.profile.peak_phase == "evaluation"
    assert trace.profile.trace.source == "cpu dispatch"


def test_an_empty_trace_is_valid() -> None:
    with MemoryTracer(nn.Identity(), device="cpu") as trace:
        pass
    assert (trace.profile.peak_bytes, trace.profile.layers) == (0, ())


def test_a_trace_in_which_nothing_happens_tells_what_was_there() -> None:
    with MemoryTracer(_model()) as trace:
        pass
    assert trace.profile.peak_bytes == trace.profile.start_bytes == trace.profile.end_bytes > 0


def test_an_exception_goes_on_and_the_partial_trace_is_kept() -> None:
    model = _model()
    trace = MemoryTracer(model)
    kept: list[torch.Tensor] = []
    with pytest.raises(KeyError, match="my own"), trace:
        _run_then_raise(model, 4, kept, KeyError("my own"))
    assert trace.profile.error == "KeyError"
    assert trace.profile.out_of_memory is None
    assert any(owner.phase == "forward" for owner in trace.profile.owners)


def test_running_out_of_memory_is_recognised_by_type_and_told() -> None:
    model = _model()
    trace = MemoryTracer(model)
    kept: list[torch.Tensor] = []
    with pytest.raises(torch.OutOfMemoryError), trace:
        _run_then_raise(model, 4096, kept, torch.OutOfMemoryError("whatever it says"))
    found = trace.profile.out_of_memory
    assert found is not None
    assert found.asked_bytes is None
    assert found.would_have_to_go[0] == ("1: activations", 4096 * 256 * 4)
    assert found.allocated_bytes == sum(size for _, size in found.by_category)


def test_an_error_that_only_speaks_of_memory_is_not_taken_for_it() -> None:
    trace = MemoryTracer(_model())
    with pytest.raises(RuntimeError), trace:
        raise RuntimeError("CUDA out of memory")
    assert trace.profile.out_of_memory is None


def test_a_tracer_within_another_is_refused_and_the_outer_one_goes_on() -> None:
    model = _model()
    with MemoryTracer(model) as outer:
        with pytest.raises(TraceError, match="another MemoryTracer"), MemoryTracer(model):
            raise AssertionError("not reached")
        kept = model(torch.ones(4, 64))
    assert any(owner.phase == "forward" for owner in outer.profile.owners)
    with MemoryTracer(model):
        del kept


def test_a_tracer_in_another_thread_is_refused_too() -> None:
    model = _model()
    refused: list[str] = []

    def trace() -> None:
        try:
            with MemoryTracer(model):
                pass
        except TraceError as error:
            refused.append(str(error))

    with MemoryTracer(model):
        thread = Thread(target=trace)
        thread.start()
        thread.join()
    assert len(refused) == 1
    trace()
    assert len(refused) == 1


def test_an_entry_that_fails_lets_the_next_one_in(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model()
    with monkeypatch.context() as patch:
        patch.setattr(model[0], "register_forward_hook", None)
        with pytest.raises(TypeError), MemoryTracer(model):
            raise AssertionError("not reached")
    with MemoryTracer(model) as trace:
        model(torch.ones(1, 64))
    assert trace.profile.peak_bytes > 0


def test_fake_tensors_take_no_memory() -> None:
    with MemoryTracer(_model()) as trace, FakeTensorMode():
        torch.ones(1000, 1000)
    assert trace.profile.peak_bytes == trace.profile.start_bytes


def test_a_tracer_records_once() -> None:
    tracer = MemoryTracer(_model())
    with tracer:
        pass
    with pytest.raises(TraceError, match="once"), tracer:
        raise AssertionError("not reached")


def test_there_is_no_profile_before_the_end() -> None:
    with MemoryTracer(_model()) as trace, pytest.raises(TraceError, match="after the with block"):
        _ = trace.profile


def test_nothing_is_kept_alive() -> None:
    model = _model()
    output = None
    with MemoryTracer(model) as trace:
        output = model(torch.ones(4, 64))
    storage = weakref.ref(output.untyped_storage())
    layer = weakref.ref(model[0])
    del output, model
    gc.collect()
    assert storage() is None
    assert layer() is None
    assert trace.profile.peak_bytes > 0


def test_a_full_history_says_how_much_was_lost() -> None:
    model = _model()
    with MemoryTracer(model, max_entries=5) as trace:
        for _ in range(4):
            model(torch.ones(4, 64))
    assert trace.profile.n_lost > 0
    assert trace.profile.peak_bytes > 0


def test_functions_outside_of_all_modules_have_a_row() -> None:
    model = _model()
    with MemoryTracer(model) as trace:
        kept = model(torch.ones(4, 64)).repeat(1000, 1)
    rows = {layer.module: layer for layer in trace.profile.layers}
    assert rows[OUTSIDE].at_peak_bytes >= kept.numel() * 4


@pytest.mark.parametrize(("option", "value"), [("device", "meta"), ("max_entries", 0)])
def test_a_nonsense_option_is_refused(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=option):
        MemoryTracer(_model(), **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": 5}, "model must be an nn.Module, got 5"),
        ({"optimizer": "adamw"}, "optimizer must be an Optimizer or None, got adamw"),
        ({"max_entries": 5.5}, "max_entries must be an int, got 5.5"),
    ],
)
def test_an_argument_of_another_kind_is_told(options: dict[str, object], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        MemoryTracer(**{"model": _model(), **options})  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(DeviceError, match="no CUDA device"):
        MemoryTracer(_model(), device="cuda")


def test_sparse_gradients_do_not_disturb_the_program() -> None:
    model = nn.Embedding(100, 8, sparse=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.weight.detach().clone()
    model(torch.arange(10)).sum().backward()
    with MemoryTracer(model, optimizer) as trace:
        model(torch.arange(10)).sum().backward()
        optimizer.step()
    assert not torch.equal(before, model.weight)
    assert dict(trace.profile.by_category)["parameters"] == 7 * 512  # Of 3200, as CUDA rounds.


def test_a_lazy_model_is_traced_through_its_first_forward() -> None:
    model = nn.Sequential(nn.LazyLinear(16))
    with MemoryTracer(model, device="cpu") as trace:
        model(torch.ones(2, 8)).sum().backward()
    assert trace.profile.peak_bytes >= 16 * 8 * 4


def test_running_out_of_host_memory_is_told() -> None:
    trace = MemoryTracer(_model())
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"), trace:
        torch.empty(10**15)
    assert trace.profile.out_of_memory is not None


def _blocks_of(profile: MemoryProfile, n_bytes: int) -> list[tuple[str, str, str]]:
    """Return phase, module and category of the allocations of a size, in their order."""
    table = profile.trace.table
    rows = ((table.kinds == 0) & (table.n_bytes == n_bytes)).nonzero()[0]
    owners = [profile.owners[profile.owner_of_block[block]] for block in table.blocks[rows]]
    return [(one.phase, one.module, one.category) for one in owners]


def test_batches_that_no_operator_made_count_when_they_come() -> None:
    model = nn.Linear(64, 4)
    with MemoryTracer(model) as trace:
        for _ in range(10):
            rows = torch.from_numpy(np.ones((64, 64), np.float32))
            model(rows).sum().backward()
    batches = _blocks_of(trace.profile, 64 * 64 * 4)
    assert batches == [("other", OUTSIDE, "other")] * 10
    assert trace.profile.peak_bytes < 3 * 64 * 64 * 4


def test_a_batch_and_what_autograd_saved_before_the_trace_were_there_before() -> None:
    model = nn.Sequential(nn.Linear(64, 80), nn.Sigmoid())
    rows = torch.from_numpy(np.ones((64, 64), np.float32))
    loss = model(rows).sum()
    with MemoryTracer(model) as trace:
        loss.backward()
    assert ("before", OUTSIDE, "other") in _blocks_of(trace.profile, 64 * 80 * 4)
    assert _blocks_of(trace.profile, 64 * 64 * 4) == [("before", OUTSIDE, "other")]


def test_a_storage_that_grows_counts_with_its_new_size() -> None:
    with MemoryTracer(_model()) as trace:
        grown = torch.empty(1000)
        grown.resize_(5000)
    assert trace.profile.end_bytes - trace.profile.start_bytes == 20480
    assert grown.numel() == 5000


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_gradients_that_are_stepped_within_backward_are_told(
    kind: type[torch.optim.AdamW | torch.optim.SGD],
) -> None:
    model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(3)))
    optimizers = {one: kind([one], lr=0.1) for one in model.parameters()}

    def step(parameter: nn.Parameter) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for one in model.parameters():
        one.register_post_accumulate_grad_hook(step)  # type: ignore[no-untyped-call]
    with MemoryTracer(model) as trace:
        model(torch.ones(32, 64)).sum().backward()
    made = [one for one in _blocks_of(trace.profile, 64 * 64 * 4) if one[0] == "backward"]
    assert made == [("backward", name, "gradients") for name in ("2", "1", "0")]


def test_gradients_that_no_optimizer_sees_are_told() -> None:
    model = nn.Linear(64, 64, bias=False)
    with MemoryTracer(model) as trace:
        for _ in range(2):
            model(torch.ones(8, 64)).sum().backward()
            model.weight.grad = None
    made = [one for one in _blocks_of(trace.profile, 64 * 64 * 4) if one[0] == "backward"]
    assert made == [("backward", "(model)", "gradients")] * 2


def test_the_state_of_an_optimizer_that_asks_for_closures_is_told() -> None:
    model = nn.Linear(64, 32, bias=False)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def closure() -> float:
        optimizer.zero_grad()
        loss = model(torch.ones(4, 64)).square().sum()
        loss.backward()
        return float(loss.detach())

    with MemoryTracer(model) as trace:
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = _blocks_of(trace.profile, 64 * 32 * 4)
    assert ("optimizer", "(model)", "optimizer state") in found
    assert not any(phase == "other" for phase, _, _ in found)


@pytest.mark.parametrize("is_reentrant", [False, True])
def test_what_checkpointing_computes_again_is_activations(*, is_reentrant: bool) -> None:
    model = nn.Sequential(nn.Linear(64, 80), nn.Sigmoid(), nn.Linear(80, 64))
    rows = torch.ones(32, 64, requires_grad=True)
    with MemoryTracer(model) as trace:
        checkpoint(model, rows, use_reentrant=is_reentrant).sum().backward()
    again = [one for one in _blocks_of(trace.profile, 32 * 80 * 4) if one[0] == "backward"]
    assert [one[1:] for one in again[:2]] == [("0", "activations"), ("1", "activations")]
    assert {one[2] for one in again[2:]} == {"activation gradients"}


def test_parameters_that_move_are_not_taken_for_what_comes_after() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    with MemoryTracer(model) as trace:
        model.to(torch.bfloat16)
        kept = [torch.ones(64, 64) for _ in range(6)]
    assert len(kept) == 6
    made = [one for one in _blocks_of(trace.profile, 64 * 64 * 4) if one[0] != "before"]
    assert made == [("other", OUTSIDE, "other")] * 6
    assert _blocks_of(trace.profile, 64 * 64 * 2)[1] == ("other", "1", "parameters")


def test_what_torch_tensor_makes_is_of_where_it_is_made() -> None:
    model = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    with MemoryTracer(model) as trace:
        optimizer.step()
    made = [one for one in trace.profile.owners if one.category == "optimizer state"]
    assert {one.phase for one in made} == {"optimizer"}
