from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from gpu_optimizer.fit_advice import changes_to_fit, largest_batch
from gpu_optimizer.forecast_error import ErrorBand, ForecastError
from gpu_optimizer.machines import Machine
from gpu_optimizer.memory_predictor import Forecast, ForecastRequest, predict
from gpu_optimizer.training_step import StepConfig
from gpu_optimizer.types import AllocationTrace

EXACT = ForecastError(ErrorBand(0, 0), ErrorBand(0, 0), 0)
MACHINE = Machine("test", "Test", 2**40, 0, 8519680, "flash", 48, is_measured=True)
NO_EVENTS = AllocationTrace((), device="cuda:0", source="fake")


def line(request: ForecastRequest) -> Forecast:
    """Return 100 B, 10 B for each item, 1 B for each token; half of it in bf16 and with SGD."""
    n_bytes = 100 + 10 * request.batch + request.seq
    for cheaper in (request.step.precision == "bf16", request.step.optimizer == "sgd"):
        n_bytes //= 2 if cheaper else 1
    return Forecast(n_bytes, n_bytes, n_bytes, EXACT, (), (), "forward", 0, 0.0, NO_EVENTS)


def asked(batch: int, model: str = "resnet50", seq: int = 0, **step: str) -> ForecastRequest:
    return ForecastRequest(model, batch, seq, StepConfig(**step))  # type: ignore[arg-type]


@given(st.integers(2, 5000), st.integers(110, 60_000))
def test_the_largest_batch_fits_and_the_next_does_not(batch: int, budget: int) -> None:
    found = largest_batch(asked(batch), budget, line)
    assert line(asked(found)).needed_bytes <= budget
    if found + 1 < batch:
        assert line(asked(found + 1)).needed_bytes > budget


def test_each_change_has_its_own_forecast() -> None:
    changes = changes_to_fit(asked(20), 160, line)
    told = {change.what: (change.forecast.needed_bytes, change.helps) for change in changes}
    assert told == {
        "batch 6": (160, True),
        "bf16": (150, True),
        "sgd": (150, True),
        "bf16 + sgd": (75, True),
    }


@given(st.integers(1, 300), st.integers(10, 3000), st.sampled_from([0, 64, 2048]))
def test_whatever_is_said_to_help_fits_when_it_is_asked_for(
    batch: int, budget: int, seq: int
) -> None:
    request = asked(batch, "llama-7b" if seq else "resnet50", seq)
    for change in changes_to_fit(request, budget, line):
        assert change.helps == (line(change.request).needed_bytes <= budget)


def test_a_real_suggestion_is_forecast_to_fit() -> None:
    def forecast(request: ForecastRequest) -> Forecast:
        return predict(request, MACHINE)

    request = asked(9, "torchvision:squeezenet1_1", 1)
    budget = forecast(request).needed_range[1] * 3 // 4
    changes = changes_to_fit(request, budget, forecast)
    assert any(change.helps for change in changes)
    for change in changes:
        verdict = forecast(change.request).verdict(budget)
        assert change.helps == (verdict in {"fits", "may just fit"})


def test_if_no_change_is_enough_all_of_them_come_with_less_input() -> None:
    told = changes_to_fit(asked(20, "llama-7b", 2048), 60, line)
    assert [(one.what, one.helps) for one in told[-2:]] == [
        ("bf16 + sgd + checkpointing + batch 1", False),
        ("bf16 + sgd + checkpointing + seq 64", False),
    ]


def test_sequences_are_cut_by_halves_until_they_fit() -> None:
    changes = changes_to_fit(asked(1, "llama-7b", 2048), 700, line)
    assert next(change.what for change in changes if change.helps) == "seq 512"


def test_checkpointing_is_told_where_the_model_can() -> None:
    request = asked(1, "llama-7b", optimizer="sgd", precision="bf16")
    assert [change.what for change in changes_to_fit(request, 1, line)] == ["checkpointing"]


def test_inference_has_no_optimizer_to_change() -> None:
    request = asked(1, mode="infer", precision="bf16")
    assert changes_to_fit(request, 1, line) == ()


def test_a_budget_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="budget must be more than 0, got 0"):
        changes_to_fit(ForecastRequest("resnet50"), 0, line)
