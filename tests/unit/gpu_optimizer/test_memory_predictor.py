from __future__ import annotations

import resource

import pytest
import torch
from torch import nn

from gpu_optimizer.machines import Machine
from gpu_optimizer.memory_predictor import (
    UNSPLIT,
    Forecast,
    ForecastRequest,
    predict,
    predict_workload,
)
from gpu_optimizer.training_step import Batch, StepConfig, Workload

MACHINE = Machine("test", "Test", 8 * 2**30, 300 * 2**20, 8519680, "flash", 48, is_measured=True)


def mean(model: nn.Module, batch: Batch) -> torch.Tensor:
    output: torch.Tensor = model(batch["rows"])
    return output.mean()


def forecast(width: int, step: StepConfig, machine: Machine = MACHINE) -> Forecast:
    workload = Workload(
        lambda: nn.Linear(width, width), lambda: {"rows": torch.zeros(4, width)}, mean
    )
    ticks = iter((1.0, 3.5))
    return predict_workload(workload, step, machine, clock=lambda: next(ticks))


def test_a_model_of_many_times_this_memory_takes_none_of_it() -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = forecast(300_000, StepConfig())
    assert told.peak_allocated_bytes > 5 * 4 * 300_000**2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 300 * 1024


def test_categories_and_modules_add_up_to_the_peak() -> None:
    told = forecast(1000, StepConfig())
    assert sum(size for _, size in told.by_category) == told.peak_allocated_bytes
    assert sum(size for _, size in told.by_module) == told.peak_allocated_bytes
    assert {"parameter", "optimizer state", UNSPLIT} <= dict(told.by_category).keys()


def test_device_memory_is_what_is_reserved_and_the_context() -> None:
    told = forecast(1000, StepConfig("infer"))
    assert told.device_bytes == told.peak_reserved_bytes + 300 * 2**20 == told.needed_bytes
    assert told.peak_allocated_bytes <= told.peak_reserved_bytes
    assert told.seconds == pytest.approx(2.5)


def test_without_a_measured_context_there_is_no_device_memory() -> None:
    unknown = Machine("test", "Test", 8 * 2**30, None, 0, "flash", 48, is_measured=False)
    told = forecast(1000, StepConfig("infer"), unknown)
    assert told.device_bytes is None
    assert told.needed_bytes == told.peak_reserved_bytes


def test_adamw_peaks_while_it_steps() -> None:
    assert forecast(2000, StepConfig()).peak_phase == "optimizer"


def test_resnet50_holds_its_parameters_and_more_with_a_larger_batch() -> None:
    small, large = (
        predict(ForecastRequest("resnet50", batch, step=StepConfig(optimizer="sgd")), MACHINE)
        for batch in (2, 4)
    )
    # 25 557 032 parameters and 53 120 running statistics, each tensor rounded up
    parameters = dict(small.by_category)["parameter"]
    assert 0 <= parameters - 4 * (25_557_032 + 53_120) < 512 * 320
    assert large.peak_allocated_bytes > small.peak_allocated_bytes


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (StepConfig("infer", n_new_tokens=3), "generates no tokens"),
        (StepConfig(is_checkpointed=True), "has no blocks"),
    ],
)
def test_what_a_model_cannot_do_is_an_error(step: StepConfig, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        predict(ForecastRequest("resnet50", step=step), MACHINE)


def test_a_batch_of_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        predict(ForecastRequest("resnet50", batch=0), MACHINE)
