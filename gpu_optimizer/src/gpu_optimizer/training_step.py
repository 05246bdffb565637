"""One step of training or inference, the same on a real GPU and on fake tensors.

The predictor and the measurement that it is judged by both run this code, so that tensors are held
by the same names for the same time in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import nn

Mode = Literal["train", "infer"]
OptimizerName = Literal["adamw", "sgd", "momentum"]
Precision = Literal["fp32", "bf16", "amp", "amp-bf16"]
Batch = Mapping[str, torch.Tensor]
LossFn = Callable[[nn.Module, Batch], torch.Tensor]
Autocast = Callable[[], AbstractContextManager[object]]

WEIGHT_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "amp": torch.float32,
    "amp-bf16": torch.float32,
}
AUTOCAST_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "amp": torch.float16,
    "amp-bf16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, an input and a loss, made where and when they are asked for.

    Attributes
    ----------
    model_fn, inputs_fn : callable
        Make the model and its batch on the default device in the default dtype.
    loss_fn : callable
        ``loss_fn(model, batch)`` is a scalar.
    """

    model_fn: Callable[[], nn.Module]
    inputs_fn: Callable[[], Batch]
    loss_fn: LossFn


@dataclass(frozen=True, slots=True)
class StepConfig:
    """What a step does.

    Attributes
    ----------
    mode : {"train", "infer"}
        Forward, backward and optimizer, or forward alone without a graph.
    optimizer : {"adamw", "sgd", "momentum"}
        As PyTorch makes it by default, ``momentum`` being SGD with one of 0.9. Unused by ``infer``.
    precision : {"fp32", "bf16", "amp", "amp-bf16"}
        ``bf16`` holds weights, gradients and optimizer state in bfloat16. ``amp`` is autocast to
        float16 over float32 weights, ``amp-bf16`` to bfloat16.
    n_accumulate : int
        Backward passes before the optimizer steps, at least 1.
    n_new_tokens : int
        Tokens that ``infer`` generates after the prompt with a key-value cache, from 0; only for
        language models.
    is_checkpointed : bool
        Whether blocks are recomputed in backward; only for models that know how.
    """

    mode: Mode = "train"
    optimizer: OptimizerName = "adamw"
    precision: Precision = "fp32"
    n_accumulate: int = 1
    n_new_tokens: int = 0
    is_checkpointed: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("mode", Mode), ("optimizer", OptimizerName), ("precision", Precision)):
            if getattr(self, name) not in get_args(kind):
                allowed = ", ".join(get_args(kind))
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.n_accumulate < 1:
            raise ValueError(f"n_accumulate must be at least 1, got {self.n_accumulate}")
        if self.n_new_tokens < 0:
            raise ValueError(f"n_new_tokens must not be negative, got {self.n_new_tokens}")
        if self.n_new_tokens and self.mode == "train":
            raise ValueError("n_new_tokens needs mode 'infer', got 'train'")


def make_optimizer(model: nn.Module, name: OptimizerName) -> torch.optim.Optimizer:
    """Return an optimizer over all parameters, foreach as PyTorch's default on a GPU."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=1e-4, foreach=True)
    momentum = 0.9 if name == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr=1e-4, momentum=momentum, foreach=True)


class StepProgram:
    """A model, its input and what a step does with them.

    Parameters
    ----------
    model : nn.Module
        Already in training or evaluation mode.
    batch : mapping of str to Tensor
        What `loss` reads.
    loss : callable
        ``loss(model, batch)`` is a scalar.
    config : StepConfig
        What a step does.
    autocast : callable
        Makes the context in which forward runs; a null context without AMP.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        loss: LossFn,
        config: StepConfig,
        autocast: Autocast,
    ) -> None:
        self.model = model
        self._batch = batch
        self._loss = loss
        self._config = config
        self._autocast = autocast
        self.optimizer = make_optimizer(model, config.optimizer) if config.mode == "train" else None

    def run(self, on_phase: Callable[[str], None]) -> None:
        """Run one step and call ``on_phase`` with the name of each phase as it begins."""
        if self.optimizer is None:
            on_phase("forward")
            with torch.no_grad(), self._autocast():
                infer(self.model, self._batch, self._config.n_new_tokens)
            return
        self.optimizer.zero_grad(set_to_none=True)
        for _ in range(self._config.n_accumulate):
            on_phase("forward")
            with self._autocast():
                value = self._loss(self.model, self._batch) / self._config.n_accumulate
            on_phase("backward")
            value.backward()  # type: ignore[no-untyped-call]
            del value
        on_phase("optimizer")
        self.optimizer.step()


def infer(model: nn.Module, batch: Batch, n_new_tokens: int) -> None:
    """Run a forward pass, and generate tokens one by one if any are asked for.

    Parameters
    ----------
    model : nn.Module
        Given ``input_ids``, or else the first entry of the batch.
    batch : mapping of str to Tensor
        At least one entry.
    n_new_tokens : int
        From 0; more needs ``input_ids`` and a model with the interface of Hugging Face's.
    """
    if "input_ids" not in batch:
        model(next(iter(batch.values())))
        return
    output = model(input_ids=batch["input_ids"], use_cache=n_new_tokens > 0)
    for _ in range(n_new_tokens):
        token = output.logits[:, -1:].argmax(-1)
        output = model(input_ids=token, past_key_values=output.past_key_values, use_cache=True)
