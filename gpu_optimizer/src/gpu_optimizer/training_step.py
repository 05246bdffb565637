"""One step of training or inference, the same on a real GPU and on fake tensors.

The predictor and the measurement that it is judged by both run this code, so that tensors are held
by the same names for the same time in both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import nn

Mode = Literal["train", "infer"]
OptimizerName = Literal["adamw", "sgd", "momentum"]
Precision = Literal["fp32", "bf16", "amp", "amp-bf16"]
Batch = Mapping[str, torch.Tensor]
LossFn = Callable[..., torch.Tensor]
OptimizerFn = Callable[[nn.Module], torch.optim.Optimizer]
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
        Make the model and its input on the default device in the default dtype. The input is a
        tensor, or a mapping or sequence that has tensors in it. For mode ``infer`` see `infer`.
    loss_fn : callable
        ``loss_fn(model, input)`` is a tensor of one number; not called for mode ``infer``.
    optimizer_fn : callable, optional
        ``optimizer_fn(model)`` makes an optimizer in place of `StepConfig.optimizer`.
    """

    model_fn: Callable[[], nn.Module]
    inputs_fn: Callable[[], object]
    loss_fn: LossFn
    optimizer_fn: OptimizerFn | None = None


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
        Whether blocks are recomputed in backward; only for models of the registry that know how. A
        `Workload` of your own does so in its ``model_fn``.
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
    """Return an optimizer over all parameters, foreach as PyTorch's default on a GPU.

    Raises
    ------
    ValueError
        If the model has nothing to learn.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("no parameter of the model requires a gradient: take mode 'infer'")
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
    batch : object
        What `loss` reads.
    loss : callable
        ``loss(model, batch)`` is a tensor of one number.
    config : StepConfig
        What a step does.
    autocast : callable
        Makes the context in which forward runs; a null context without AMP.
    optimizer_fn : callable, optional
        Makes the optimizer in place of `config`'s.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: object,
        loss: LossFn,
        config: StepConfig,
        autocast: Autocast,
        optimizer_fn: OptimizerFn | None = None,
    ) -> None:
        self.model = model
        self._batch = batch
        self._loss = loss
        self._config = config
        self._autocast = autocast
        self.optimizer: torch.optim.Optimizer | None = None
        if config.mode == "train":
            self.optimizer = (
                make_optimizer(model, config.optimizer)
                if optimizer_fn is None
                else _foreach(optimizer_fn(model))
            )

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
                value = _one_number(self._loss(self.model, self._batch)) / self._config.n_accumulate
            on_phase("backward")
            value.backward()  # type: ignore[no-untyped-call]
            del value
        on_phase("optimizer")
        self.optimizer.step()


def _one_number(loss: object) -> torch.Tensor:
    """Return what a user's loss function returned, if that can be learned from."""
    if isinstance(loss, torch.Tensor) and loss.numel() == 1:
        return loss
    got = type(loss).__name__
    if isinstance(loss, torch.Tensor):
        got = f"a tensor of {loss.numel()}"
    raise TypeError(
        f"loss_fn(model, input) must return a tensor of one number, got {got}: return the loss "
        "alone"
    )


def _foreach(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Let an optimizer of PyTorch's do as it does on a GPU, unless it was told otherwise."""
    for group in optimizer.param_groups:
        if "foreach" in group and group["foreach"] is None and not group.get("fused"):
            group["foreach"] = True
    return optimizer


def infer(model: nn.Module, inputs: object, n_new_tokens: int) -> None:
    """Run a forward pass, and generate tokens one by one if any are asked for.

    Parameters
    ----------
    model : nn.Module
        With the interface of Hugging Face's models if tokens are generated.
    inputs : object
        A tensor is the model's argument, a tuple or list are several. A mapping whose keys are all
        names of parameters of ``forward`` is passed by name; of any other the first entry counts,
        the others being for the loss.
    n_new_tokens : int
        From 0; more needs ``input_ids`` in a mapping.

    Raises
    ------
    ValueError
        If there is no input, or no tokens to go on from.
    """
    if not n_new_tokens:
        arguments, options = _arguments(model, inputs)
        model(*arguments, **options)
        return
    if not isinstance(inputs, Mapping) or "input_ids" not in inputs:
        raise ValueError("n_new_tokens needs an input with 'input_ids' to go on from")
    output = model(input_ids=inputs["input_ids"], use_cache=True)
    for _ in range(n_new_tokens):
        token = output.logits[:, -1:].argmax(-1)
        output = model(input_ids=token, past_key_values=output.past_key_values, use_cache=True)


def _arguments(model: nn.Module, inputs: object) -> tuple[Sequence[object], dict[str, object]]:
    """Return what a forward pass is called with."""
    if isinstance(inputs, list | tuple):
        return inputs, {}
    if not isinstance(inputs, Mapping):
        return (inputs,), {}
    if not inputs:
        raise ValueError("inputs_fn must return an input, got an empty mapping")
    parameters = inspect.signature(model.forward).parameters
    if not inputs.keys() <= parameters.keys():
        return (next(iter(inputs.values())),), {}
    # Models of Hugging Face keep keys and values of all tokens unless they are told not to.
    cache = {"use_cache": False} if "use_cache" in parameters else {}
    return (), {**cache, **inputs}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors of a type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
