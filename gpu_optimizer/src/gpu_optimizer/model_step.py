"""A model of the registry as a step function for `BatchFinder`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from gpu_optimizer.batch_trial import BatchProgram
from gpu_optimizer.machines import DEFAULT_MACHINE, find_machine
from gpu_optimizer.memory_predictor import ForecastRequest, predict
from gpu_optimizer.models import find_model
from gpu_optimizer.training_step import (
    AUTOCAST_DTYPES,
    WEIGHT_DTYPES,
    Autocast,
    StepConfig,
    StepProgram,
    Workload,
    infer,
)


@dataclass(frozen=True, slots=True)
class ModelStep:
    """Makes a model with random weights, its optimizer and an example batch.

    Attributes
    ----------
    model : str
        A name that `models.find_model` knows.
    seq : int
        Tokens of each sequence; pictures do not use it.
    step : StepConfig
        What a step does.
    device : str
        Where.
    machine : str
        Whose constants `forecast_bytes` counts with; a name that `machines.find_machine` knows.
    """

    model: str
    seq: int = 512
    step: StepConfig = field(default_factory=StepConfig)
    device: str = "cuda"
    machine: str = DEFAULT_MACHINE

    def prepare(self) -> None:
        """Import the libraries of the model by making it without memory."""
        with torch.device("meta"):
            find_model(self.model).make(self.step.is_checkpointed)

    def __call__(self, batch: int) -> BatchProgram:
        """Return one whole step and, for training, an evaluation at the same batch.

        Raises
        ------
        ValueError
            If the model cannot do what is asked.
        UnknownModelError
            If no model has that name.
        """
        workload = find_model(self.model).workload_of(self.step, batch, self.seq)
        return program_of(workload, self.step, self.device)

    def forecast_bytes(self, batch: int) -> int:
        """Return the forecast peak of reserved memory, without a GPU.

        Raises
        ------
        TraceError
            If the model cannot be run without data.
        """
        request = ForecastRequest(self.model, batch, self.seq, self.step)
        return predict(request, find_machine(self.machine)).peak_reserved_bytes


def program_of(workload: Workload, config: StepConfig, device: str) -> BatchProgram:
    """Return one whole step of a workload and, for training, an evaluation at the same batch.

    Parameters
    ----------
    workload : Workload
        Made on the device, its weights in the type that the precision asks for.
    config : StepConfig
        What a step does.
    device : str
        Where.
    """
    with tensor_defaults(WEIGHT_DTYPES[config.precision], device):
        model, inputs = workload.model_fn(), workload.inputs_fn()
    is_training = config.mode == "train"
    model.train(is_training)
    autocast = autocast_of(config, device)
    program = StepProgram(model, inputs, workload.loss_fn, config, autocast, workload.optimizer_fn)

    def evaluate() -> None:
        model.eval()
        with torch.no_grad(), autocast():
            infer(model, inputs, 0)
        model.train()

    return BatchProgram(lambda: program.run(_ignore), evaluate if is_training else None)


def autocast_of(config: StepConfig, device: str) -> Autocast:
    """Return what makes the context of a forward pass, a null context without AMP."""
    dtype = AUTOCAST_DTYPES.get(config.precision)
    if dtype is None:
        return nullcontext
    kind = torch.device(device).type
    return lambda: torch.autocast(kind, dtype=dtype)


def _ignore(_: str) -> None:
    """Take no notice of a phase."""


@contextmanager
def tensor_defaults(dtype: torch.dtype, device: str) -> Iterator[None]:
    """Make new tensors of a type and on a device."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)
