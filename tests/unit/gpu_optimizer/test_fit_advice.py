from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from gpu_optimizer.fit_advice import changes_to_fit, largest_batch
from gpu_optimizer.memory_predictor import Forecast, ForecastRequest
from gpu_optimizer.training_step import StepConfig


def line(request: ForecastRequest) -> Forecast:
    """Return 100 B and 10 B for each picture, half as much in bf16 and with SGD."""
    n_bytes = 100 + 10 * request.batch
    for cheaper in (request.step.precision == "bf16", request.step.optimizer == "sgd"):
        n_bytes //= 2 if cheaper else 1
    return Forecast(n_bytes, n_bytes, n_bytes, 0.05, (), (), "forward", 0, 0.0)


@given(st.integers(2, 5000), st.integers(110, 60_000))
def test_the_largest_batch_fits_and_the_next_does_not(batch: int, budget: int) -> None:
    found = largest_batch(ForecastRequest("resnet50", batch), budget, line)
    assert line(ForecastRequest("resnet50", found)).needed_bytes <= budget
    if found + 1 < batch:
        assert line(ForecastRequest("resnet50", found + 1)).needed_bytes > budget


def test_each_change_has_its_own_forecast() -> None:
    changes = changes_to_fit(ForecastRequest("resnet50", 20), 160, line)
    told = {change.what: (change.forecast.needed_bytes, change.fits) for change in changes}
    assert told == {
        "batch 6": (160, True),
        "bf16": (150, True),
        "sgd": (150, True),
        "bf16 + sgd": (75, True),
    }


def test_checkpointing_is_told_where_the_model_can() -> None:
    request = ForecastRequest("llama-7b", step=StepConfig(optimizer="sgd", precision="bf16"))
    assert [change.what for change in changes_to_fit(request, 1, line)] == ["checkpointing"]


def test_inference_has_no_optimizer_to_change() -> None:
    request = ForecastRequest("resnet50", step=StepConfig("infer", precision="bf16"))
    assert changes_to_fit(request, 1, line) == ()


def test_a_budget_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="budget must be more than 0, got 0"):
        changes_to_fit(ForecastRequest("resnet50"), 0, line)
