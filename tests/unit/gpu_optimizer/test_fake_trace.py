from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gpu_optimizer.errors import TraceError
from gpu_optimizer.fake_trace import FakeTrace, KernelConstants, trace_step
from gpu_optimizer.memory_predictor import blocks_at_peak
from gpu_optimizer.training_step import Batch, StepConfig, Workload
from gpu_optimizer.types import AllocationEvent

WIDTH = 256
ROWS = 16
WEIGHT_BYTES = 4 * WIDTH * WIDTH
ROW_BYTES = 4 * ROWS * WIDTH
ROWS_ELSEWHERE = torch.zeros(4, 8)


def mean_square(model: nn.Module, batch: Batch) -> torch.Tensor:
    output: torch.Tensor = model(batch["images"])
    return output.square().mean()


def workload(make: Callable[[], nn.Module]) -> Workload:
    return Workload(make, lambda: {"images": torch.zeros(ROWS, WIDTH)}, mean_square)


def linear() -> nn.Module:
    return nn.Linear(WIDTH, WIDTH, bias=False)


def traced(
    make: Callable[[], nn.Module], step: StepConfig | None = None, n_steps: int = 2
) -> FakeTrace:
    return trace_step(workload(make), step or StepConfig(optimizer="sgd"), n_steps=n_steps)


def allocs(fake: FakeTrace, phase: str = "", category: str = "") -> list[AllocationEvent]:
    """Return the allocations of the last step, or of the setup, with such a tag."""
    start = 0 if phase == "setup" else fake.step_starts[-1]
    return [
        event
        for event in fake.trace.events[start:]
        if event.kind == "alloc"
        and event.tag.startswith(phase)
        and event.tag.endswith(f"|{category}" if category else "")
    ]


def peak_by_category(fake: FakeTrace) -> Counter[str]:
    totals: Counter[str] = Counter()
    for event in blocks_at_peak(fake):
        totals[event.tag.rpartition("|")[2]] += event.n_bytes
    return totals


def test_a_linear_layer_with_sgd_is_known_to_the_byte() -> None:
    fake = traced(linear)
    assert [event.n_bytes for event in allocs(fake, "setup")] == [WEIGHT_BYTES, ROW_BYTES]
    # output, its square (freed), their mean and the mean over accumulated passes
    assert [event.n_bytes for event in allocs(fake, "forward")] == [ROW_BYTES, ROW_BYTES, 4, 4]
    assert [event.n_bytes for event in allocs(fake, "forward", "activation")] == [ROW_BYTES, 4]
    assert [event.n_bytes for event in allocs(fake, "backward", "gradient")] == [WEIGHT_BYTES]
    assert allocs(fake, "optimizer") == []


def test_the_peak_of_a_linear_layer_is_its_weight_gradient_and_what_makes_it() -> None:
    totals = peak_by_category(traced(linear))
    assert totals["parameter"] == totals["gradient"] == WEIGHT_BYTES
    assert totals["input"] == ROW_BYTES
    assert ROW_BYTES <= totals["temporary"] < 2 * ROW_BYTES


@pytest.mark.parametrize(("optimizer", "copies"), [("adamw", 2), ("momentum", 1), ("sgd", 0)])
def test_optimizer_state_is_a_number_of_copies_of_the_parameters(
    optimizer: str, copies: int
) -> None:
    step = StepConfig(optimizer=optimizer)  # type: ignore[arg-type]
    fake = traced(linear, step, n_steps=1)
    state = [event.n_bytes for event in allocs(fake, category="optimizer state")]
    assert state == [WEIGHT_BYTES] * copies


def test_state_is_made_in_the_first_step_alone() -> None:
    assert allocs(traced(linear, StepConfig()), category="optimizer state") == []


def test_adamw_takes_one_more_copy_while_it_steps() -> None:
    fake = traced(linear, StepConfig())
    assert [event.n_bytes for event in allocs(fake, "optimizer", "temporary")] == [WEIGHT_BYTES]


def test_bf16_halves_weights_gradients_and_state() -> None:
    fake = traced(linear, StepConfig(precision="bf16"), n_steps=1)
    assert allocs(fake, "setup", "parameter")[0].n_bytes == WEIGHT_BYTES // 2
    assert allocs(fake, category="gradient")[0].n_bytes == WEIGHT_BYTES // 2
    assert allocs(fake, category="optimizer state")[0].n_bytes == WEIGHT_BYTES // 2


def test_inference_frees_what_the_next_layer_no_longer_needs() -> None:
    fake = traced(lambda: nn.Sequential(*(linear() for _ in range(8))), StepConfig("infer"))
    assert peak_by_category(fake)["temporary"] == 2 * ROW_BYTES
    assert peak_by_category(fake)["activation"] == 0


def test_training_keeps_the_input_of_every_layer() -> None:
    fake = traced(lambda: nn.Sequential(*(linear() for _ in range(8))))
    sizes = [event.n_bytes for event in allocs(fake, "forward", "activation")]
    assert sizes.count(ROW_BYTES) == 8


class Checkpointed(nn.Module):
    """Four blocks of two layers each, recomputed or not."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(linear(), nn.Tanh(), linear(), nn.Tanh()) for _ in range(4)
        )
        self.is_on = True

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            rows = checkpoint(block, rows, use_reentrant=False) if self.is_on else block(rows)
        return rows


def test_checkpointing_keeps_one_tensor_for_each_block() -> None:
    def plain() -> nn.Module:
        model = Checkpointed()
        model.is_on = False
        return model

    def n_kept(make: Callable[[], nn.Module]) -> int:
        kept = allocs(traced(make), "forward", "activation")
        return [event.n_bytes for event in kept].count(ROW_BYTES)

    assert n_kept(plain) == 4 * 2
    assert n_kept(Checkpointed) == 4


def test_the_low_precision_weight_of_amp_is_made_once_for_two_uses() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear()

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.layer(self.layer(rows))
            return output

    fake = traced(Twice, StepConfig(optimizer="sgd", precision="amp"))
    sizes = [event.n_bytes for event in allocs(fake, "forward")]
    assert sizes.count(WEIGHT_BYTES // 2) == 1


def test_amp_normalizes_in_float32_as_cuda_does_and_leaves_no_rule_behind() -> None:
    fake = traced(
        lambda: nn.Sequential(linear(), nn.LayerNorm(WIDTH)), StepConfig("infer", precision="amp")
    )
    assert allocs(fake, "forward")[-1].n_bytes <= 4 * ROWS
    assert ROW_BYTES in [event.n_bytes for event in allocs(fake, "forward")]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = torch.zeros(2, 4, dtype=torch.bfloat16)
        norm = torch.ones(4, dtype=torch.bfloat16)
        assert nn.functional.layer_norm(rows, (4,), norm, norm).dtype == torch.bfloat16


def test_an_activation_in_place_allocates_nothing() -> None:
    def forward_bytes(*, inplace: bool) -> int:
        fake = traced(
            lambda: nn.Sequential(linear(), nn.ReLU(inplace=inplace)), StepConfig("infer")
        )
        return sum(event.n_bytes for event in allocs(fake, "forward"))

    assert forward_bytes(inplace=False) - forward_bytes(inplace=True) == ROW_BYTES


def test_views_allocate_nothing() -> None:
    fake = traced(lambda: nn.Sequential(nn.Unflatten(1, (16, 16)), nn.Flatten()), _infer())
    assert allocs(fake, "forward") == []


def _infer() -> StepConfig:
    return StepConfig("infer")


def test_accumulated_gradients_are_added_in_place() -> None:
    fake = traced(linear, StepConfig(optimizer="sgd", n_accumulate=3))
    made = [event for event in allocs(fake, "backward") if event.n_bytes == WEIGHT_BYTES]
    assert [event.tag.rpartition("|")[2] for event in made] == ["gradient"] + ["temporary"] * 2


def test_two_gradients_of_one_tensor_are_added_in_place() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear()

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            output = self.layer(rows)
            return torch.sigmoid(output) + torch.tanh(output)

    fake = traced(Branches)
    rows = [event for event in allocs(fake, "backward") if event.n_bytes == ROW_BYTES]
    # four of the mean and the square, one of each branch, none for their sum
    assert len(rows) == 4 + 2


def test_fused_dropout_keeps_a_mask_of_bytes() -> None:
    fake = traced(lambda: nn.Sequential(linear(), nn.Dropout(0.5)))
    assert ROWS * WIDTH in [event.n_bytes for event in allocs(fake, "forward", "activation")]


def test_backward_is_booked_on_the_module_that_ran_forward() -> None:
    fake = traced(lambda: nn.Sequential(linear(), nn.Tanh(), linear()))
    modules = [event.tag.split("|")[1] for event in allocs(fake, category="gradient")]
    assert modules == ["2", "0"]


def test_cublas_has_a_workspace_for_forward_and_one_for_backward() -> None:
    constants = KernelConstants(cublas_workspace_bytes=8519680)
    train = trace_step(workload(linear), StepConfig(), constants)
    infer = trace_step(workload(linear), StepConfig("infer"), constants)
    assert peak_by_category(train)["workspace"] == 2 * 8519680
    assert peak_by_category(infer)["workspace"] == 8519680


def test_every_block_is_freed_at_most_once_and_after_it_was_made() -> None:
    live: set[int] = set()
    for event in traced(lambda: nn.Sequential(linear(), nn.Dropout(), linear())).trace.events:
        if event.kind == "alloc":
            assert event.block not in live
            live.add(event.block)
        else:
            live.remove(event.block)


def test_the_last_step_ends_with_as_much_as_it_began() -> None:
    fake = traced(linear, StepConfig(), n_steps=3)

    def live_bytes(end: int) -> int:
        return sum(
            event.n_bytes * (1 if event.kind == "alloc" else -1)
            for event in fake.trace.events[:end]
        )

    assert live_bytes(fake.step_starts[2]) == live_bytes(len(fake.trace.events))


def test_a_model_that_reads_values_is_a_trace_error() -> None:
    class Curious(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows * float(rows.sum().item())

    with pytest.raises(TraceError, match="cannot be traced without data"):
        traced(Curious, _infer())


def test_an_exception_of_the_model_passes_through_and_leaves_no_patch() -> None:
    attention = nn.functional.scaled_dot_product_attention

    class Broken(nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        traced(Broken, _infer())
    assert nn.functional.scaled_dot_product_attention is attention
    assert torch.get_default_dtype() == torch.float32


def test_an_optimizer_of_the_user_steps_in_place_of_a_known_one() -> None:
    def rms(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(model.parameters(), momentum=0.9)

    fake = trace_step(replace(workload(linear), optimizer_fn=rms), StepConfig())
    assert peak_by_category(fake)["optimizer state"] == 2 * WEIGHT_BYTES
    # On a GPU all squares are made at once.
    assert any(event.n_bytes == WEIGHT_BYTES for event in allocs(fake, "optimizer", "temporary"))


def test_sparse_gradients_are_traced() -> None:
    sparse = Workload(
        lambda: nn.Embedding(1000, 8, sparse=True),
        lambda: torch.zeros(4, dtype=torch.long),
        lambda model, tokens: model(tokens).mean(),
    )
    assert trace_step(sparse, StepConfig(optimizer="sgd")).trace.events


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda model, rows: {"loss": model(rows).mean()}, "dict"),
        (lambda model, rows: (model(rows).mean(), 1), "tuple"),
        (lambda model, rows: model(rows), "a tensor of 32"),
        (lambda _, __: 0.5, "float"),
    ],
)
def test_a_loss_that_is_no_number_is_an_error(
    loss: Callable[[nn.Module, torch.Tensor], torch.Tensor], got: str
) -> None:
    own = Workload(lambda: nn.Linear(8, 8), lambda: torch.zeros(4, 8), loss)
    with pytest.raises(TypeError, match=f"tensor of one number, got {got}: return the loss alone"):
        trace_step(own, StepConfig())


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (lambda model, rows: (model(rows) - ROWS_ELSEWHERE).mean(), "make it in inputs_fn"),
        (lambda model, rows: model(rows.cuda()).mean(), "leave the device out"),
        (lambda model, rows: model(rows)[model(rows) > 0].mean(), "reads the values of tensors"),
    ],
)
def test_what_fake_tensors_cannot_do_is_said_in_a_sentence(
    loss: Callable[[nn.Module, torch.Tensor], torch.Tensor],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = Workload(lambda: nn.Linear(8, 8), lambda: torch.zeros(4, 8), loss)
    with pytest.raises(TraceError, match=reason):
        trace_step(own, StepConfig())
    assert not caplog.records


def test_a_model_and_an_input_that_exist_take_what_new_ones_do() -> None:
    model, rows = nn.Linear(64, 64), torch.zeros(4, 64)

    def loss(model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = model(rows)
        return output.mean()

    made = Workload(lambda: nn.Linear(64, 64), lambda: torch.zeros(4, 64), loss)
    given = Workload(lambda: model, lambda: rows, loss)
    first, second = (
        [(event.kind, event.block, event.n_bytes, event.tag) for event in trace.events]
        for trace in (trace_step(one, StepConfig()).trace for one in (made, given))
    )
    assert first == second
    assert model.weight.grad is None


def test_no_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
        traced(linear, n_steps=0)


class Attention(nn.Module):
    """Attention of each sequence to itself: 1 sequence, 4 heads, 16 tokens, 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        heads = self.layer(rows).view(1, ROWS, 4, WIDTH // 4).transpose(1, 2)
        output = nn.functional.scaled_dot_product_attention(heads, heads, heads)
        return output.transpose(1, 2).reshape(ROWS, WIDTH)


@pytest.mark.parametrize(("precision", "rows"), [("bf16", 16), ("fp32", 32)])
def test_attention_keeps_a_float32_sum_for_each_query_and_no_scores(
    precision: str, rows: int
) -> None:
    # memory-efficient attention, which float32 takes, rounds the queries up to 32
    step = StepConfig(optimizer="sgd", precision=precision)  # type: ignore[arg-type]
    kept = [event.n_bytes for event in allocs(traced(Attention, step), "forward", "activation")]
    assert 4 * 4 * rows in kept
    assert max(kept) <= ROW_BYTES
    assert len([size for size in kept if size > 4 * 4 * rows]) == 2


@pytest.mark.slow
def test_generation_keeps_keys_and_values_of_every_token() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
    )

    def n_caches(n_new_tokens: int) -> int:
        generation = Workload(
            lambda: transformers.LlamaForCausalLM(config),
            lambda: {"input_ids": torch.zeros(1, 32, dtype=torch.long)},
            mean_square,
        )
        step = StepConfig("infer", n_new_tokens=n_new_tokens)
        caches = [
            event.n_bytes
            for event in trace_step(generation, step).trace.events
            if event.kind == "alloc" and event.n_bytes == 4 * 64 * (32 + n_new_tokens)
        ]
        return len(caches)

    # two steps, two layers, keys and values
    assert n_caches(3) == 2 * 2 * 2
