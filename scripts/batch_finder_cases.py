"""The steps on which the batch finder is judged, and the budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import nn

from gpu_optimizer.batch_trial import BatchProgram
from gpu_optimizer.machines import DEFAULT_MACHINE, find_machine
from gpu_optimizer.memory_predictor import predict_workload
from gpu_optimizer.model_step import program_of
from gpu_optimizer.models import find_model
from gpu_optimizer.training_step import Batch, StepConfig, Workload

GIB: Final = 2**30
BUDGETS_GIB: Final = (8, 12, 16)
_N_BLOCKS: Final = 2
_SEQ: Final = 512


@dataclass(frozen=True, slots=True)
class CaseStep:
    """A step that makes its workload by name, in whatever process it is called."""

    model: str
    step: StepConfig = field(default_factory=StepConfig)
    device: str = "cuda"

    def prepare(self) -> None:
        """Import the libraries of the model by making it without memory."""
        with torch.device("meta"):
            self.workload(1).model_fn()

    def workload(self, batch: int) -> Workload:
        """Return the model, an input of that batch and its loss."""
        if self.model == "llama-blocks":
            return _block_workload(batch)
        return find_model(self.model).workload(batch)

    def __call__(self, batch: int) -> BatchProgram:
        """Return one whole step and an evaluation."""
        return program_of(self.workload(batch), self.step, self.device)

    def forecast_bytes(self, batch: int) -> int:
        """Return the forecast peak of reserved memory."""
        machine = find_machine(DEFAULT_MACHINE)
        return predict_workload(self.workload(batch), self.step, machine).peak_reserved_bytes


class BlockStack(nn.Module):
    """Blocks of Llama-7B alone, from hidden states to hidden states."""

    def __init__(self, n_blocks: int = _N_BLOCKS) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaModel

        self.blocks = LlamaModel(LlamaConfig(num_hidden_layers=n_blocks, vocab_size=32))
        self.width = int(self.blocks.config.hidden_size)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return hidden states, shape (B, T, D) as those given."""
        output: torch.Tensor = self.blocks(inputs_embeds=states, use_cache=False).last_hidden_state
        return output


def _block_workload(batch: int) -> Workload:
    def inputs() -> Batch:
        return {"states": torch.zeros(batch, _SEQ, 4096)}

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        output: torch.Tensor = model(batch["states"])
        return output.float().square().mean()

    return Workload(BlockStack, inputs, loss)


STEPS: Final[Mapping[str, CaseStep]] = {
    "resnet50": CaseStep("resnet50", StepConfig("train", "momentum", "fp32")),
    "vit_b_16": CaseStep("vit_b_16", StepConfig("train", "adamw", "amp-bf16")),
    "llama-blocks": CaseStep("llama-blocks", StepConfig("train", "adamw", "bf16")),
}
