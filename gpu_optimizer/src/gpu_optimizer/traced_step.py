"""One real step of a model of the registry, with random weights, traced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Final

import torch

from gpu_optimizer.errors import DeviceError
from gpu_optimizer.host_memory import available_host_bytes
from gpu_optimizer.memory_tracer import MemoryTracer, traceable_device
from gpu_optimizer.models import find_model
from gpu_optimizer.out_of_memory import is_out_of_host_memory, is_out_of_memory
from gpu_optimizer.training_step import (
    AUTOCAST_DTYPES,
    WEIGHT_DTYPES,
    Autocast,
    OptimizerName,
    StepConfig,
    StepProgram,
    Workload,
    default_dtype,
)
from gpu_optimizer.units import format_bytes

_N_STATES: Final[Mapping[OptimizerName, int]] = {"adamw": 2, "momentum": 1, "sgd": 0}
"""Tensors as large as the weights that an optimizer keeps."""


@contextmanager
def prepared(workload: Workload, step: StepConfig, device: str) -> Iterator[StepProgram]:
    """Give the program of a step on a device; its memory is free again afterwards.

    Raises
    ------
    ValueError
        If the device is neither the CPU nor a CUDA device.
    DeviceError
        If it is not there, or too small for the weights.
    """
    place = traceable_device(device)
    with default_dtype(WEIGHT_DTYPES[step.precision]):
        with _fitting(place), place:
            model, batch = workload.model_fn().to(place), workload.inputs_fn()
            model.train(step.mode == "train")
        dtype = AUTOCAST_DTYPES.get(step.precision)
        autocast: Autocast = nullcontext
        if dtype is not None:
            autocast = partial(torch.autocast, place.type, dtype=dtype)
        yield StepProgram(model, batch, workload.loss_fn, step, autocast, workload.optimizer_fn)


@contextmanager
def _fitting(place: torch.device) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as exc:
        why = str(exc).splitlines()[0]
        raise DeviceError(f"the weights do not fit on {place}: {why}") from exc


def trace_workload(
    workload: Workload, step: StepConfig, device: str, n_warmup: int = 1
) -> MemoryTracer:
    """Return the trace of a step after others that are not traced.

    Parameters
    ----------
    workload : Workload
        Made on the device, with random weights.
    step : StepConfig
        What a step does.
    device : str
        ``"cuda"``, ``"cuda:1"`` or ``"cpu"``.
    n_warmup : int
        Steps before it, from 0; the optimizer's state appears in the first.

    Returns
    -------
    MemoryTracer
        A step that ran out of memory is not an error here: its profile tells of it.

    Raises
    ------
    ValueError
        If `n_warmup` is negative.
    DeviceError
        If the device is not there.
    """
    if n_warmup < 0:
        raise ValueError(f"n_warmup must not be negative, got {n_warmup}")
    with prepared(workload, step, device) as program:
        with _out_of_memory_is_no_error():
            for _ in range(n_warmup):
                program.run(_ignore)
        trace = MemoryTracer(program.model, program.optimizer, device=device)
        with _out_of_memory_is_no_error(), trace:
            program.run(_ignore)
    return trace


@contextmanager
def _out_of_memory_is_no_error() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as exc:
        if not (is_out_of_memory(exc) or is_out_of_host_memory(exc)):
            raise


def trace_model(
    name: str, batch: int, seq: int, step: StepConfig, device: str, n_warmup: int = 1
) -> MemoryTracer:
    """Return the trace of a step of a model of the registry.

    Raises
    ------
    ValueError
        If a size is less than 1, or the model cannot do what is asked.
    UnknownModelError
        If no model has that name.
    DeviceError
        If the device is not there.
    """
    entry = find_model(name)
    workload = entry.workload_of(step, batch, seq)
    if traceable_device(device).type == "cpu":
        _refuse_too_large(workload, step)
    return trace_workload(workload, step, device, n_warmup)


def _refuse_too_large(workload: Workload, step: StepConfig) -> None:
    """Raise DeviceError where the host would kill the process instead of refusing memory."""
    available = available_host_bytes()
    if available is None:
        return
    place = torch.device("cpu")
    with default_dtype(WEIGHT_DTYPES[step.precision]), _fitting(place), torch.device("meta"):
        model = workload.model_fn()
    weights = sum(one.nbytes for one in (*model.parameters(), *model.buffers()))
    n_copies = 1 if step.mode == "infer" else 2 + _N_STATES[step.optimizer]
    if weights * n_copies > available:
        what = "weights" if n_copies == 1 else "weights, gradients and optimizer state"
        raise DeviceError(
            f"{what} take {format_bytes(weights * n_copies)} and this machine has "
            f"{format_bytes(available)} of memory left: trace a smaller model, or forecast this "
            "one with gpu-optimizer predict, which needs no weights"
        )


def _ignore(_: str) -> None:
    """Take no notice of a phase: hooks tell it."""
