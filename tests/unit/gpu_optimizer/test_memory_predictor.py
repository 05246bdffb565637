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

MACHINE_CONTEXT = 300 * 2**20
MACHINE = Machine(
    "test", "Test", 8 * 2**30, MACHINE_CONTEXT, 8519680, "flash", 48, is_measured=True
)
UNKNOWN = Machine("test", "Test", 8 * 2**30, None, 0, "flash", 48, is_measured=False)


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
    told = forecast(1000, StepConfig("infer"), UNKNOWN)
    assert told.device_bytes is None
    assert told.needed_bytes == told.peak_reserved_bytes


def test_the_verdict_is_sure_outside_of_the_range_and_says_so_within() -> None:
    told = forecast(3000, StepConfig())
    least, most = told.needed_range
    assert told.needed_bytes == MACHINE_CONTEXT + told.peak_reserved_bytes
    assert least < told.needed_bytes < most
    assert told.verdict(most) == "fits"
    assert told.verdict(most - 1) == "may just fit"
    assert told.verdict(told.needed_bytes) == "may just fit"
    assert told.verdict(least + 2**20) == "may just not fit"
    assert told.verdict(least - 2**20) == "does not fit"


def test_a_step_may_fit_where_the_cache_has_to_be_returned() -> None:
    # Rows for the first layer, then fewer and larger ones: what is cached of the first is no use.
    workload = Workload(
        lambda: nn.Sequential(nn.Linear(64, 5000), nn.Linear(5000, 9000)),
        lambda: {"rows": torch.zeros(3000, 64)},
        mean,
    )
    told = predict_workload(workload, StepConfig(), MACHINE)
    assert told.peak_reserved_bytes - told.peak_allocated_bytes > 16 * 2**20
    limit = told.peak_reserved_bytes - 2 * 2**20
    assert told.runs_within(limit)
    assert told.verdict(limit + MACHINE_CONTEXT) == "may just fit"
    assert not told.runs_within(told.peak_allocated_bytes - 1)


def test_a_step_with_convolutions_is_less_sure_and_a_card_nobody_measured_too() -> None:
    def convolving(machine: Machine) -> Forecast:
        workload = Workload(
            lambda: nn.Conv2d(3, 4, 3), lambda: {"rows": torch.zeros(2, 3, 9, 9)}, mean
        )
        return predict_workload(workload, StepConfig("infer"), machine)

    plain, known, unknown = forecast(9, StepConfig()), convolving(MACHINE), convolving(UNKNOWN)
    assert plain.error.reserved.above < known.error.reserved.above
    assert known.error.reserved.above < unknown.error.reserved.above
    assert unknown.needed_range[1] > unknown.reserved_range[1] + 700 * 2**20


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
