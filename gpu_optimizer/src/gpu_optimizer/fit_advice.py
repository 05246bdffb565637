"""What would have to change for a step to fit into a budget, each change with its own forecast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gpu_optimizer.memory_predictor import Forecast, ForecastRequest
from gpu_optimizer.models import find_model
from gpu_optimizer.training_step import StepConfig

Predict = Callable[[ForecastRequest], Forecast]


@dataclass(frozen=True, slots=True)
class Change:
    """One way to need less.

    Attributes
    ----------
    what : str
        In words.
    request : ForecastRequest
        The request with the change.
    forecast : Forecast
        Of that request.
    fits : bool
        Whether it is within the budget.
    """

    what: str
    request: ForecastRequest
    forecast: Forecast
    fits: bool


def changes_to_fit(
    request: ForecastRequest, budget_bytes: int, predict: Predict
) -> tuple[Change, ...]:
    """Return the changes that are open to a request, each alone and then all without the batch.

    Parameters
    ----------
    request : ForecastRequest
        What does not fit.
    budget_bytes : int
        More than 0.
    predict : callable
        Returns the forecast of a request.

    Returns
    -------
    tuple of Change
        Smaller batch first: the largest that fits, or 1 if none does.
    """
    if budget_bytes <= 0:
        raise ValueError(f"the budget must be more than 0, got {budget_bytes}")

    def change(what: str, changed: ForecastRequest) -> Change:
        forecast = predict(changed)
        return Change(what, changed, forecast, forecast.needed_bytes <= budget_bytes)

    changes = []
    if request.batch > 1:
        batch = largest_batch(request, budget_bytes, predict)
        changes.append(change(f"batch {batch}", replace(request, batch=batch)))
    steps = _step_changes(request)
    together = request
    for what, apply in steps.items():
        changes.append(change(what, replace(request, step=apply(request.step))))
        together = replace(together, step=apply(together.step))
    if len(steps) > 1:
        changes.append(change(" + ".join(steps), together))
    return tuple(changes)


def largest_batch(request: ForecastRequest, budget_bytes: int, predict: Predict) -> int:
    """Return a batch below the request's that fits, by bisection; 1 if none does.

    It is the largest where memory grows with the batch. Where a kernel of a larger batch needs
    less, a larger one may fit too.
    """
    fits, fails = 1, request.batch
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if predict(replace(request, batch=middle)).needed_bytes <= budget_bytes:
            fits = middle
        else:
            fails = middle
    return fits


def _step_changes(request: ForecastRequest) -> dict[str, Callable[[StepConfig], StepConfig]]:
    """Return what may be changed of a step so that it needs less, by name."""
    step = request.step
    changes: dict[str, Callable[[StepConfig], StepConfig]] = {}
    if step.precision != "bf16":
        changes["bf16"] = lambda step: replace(step, precision="bf16")
    if step.mode == "infer":
        return changes
    if step.optimizer != "sgd":
        changes["sgd"] = lambda step: replace(step, optimizer="sgd")
    if not step.is_checkpointed and find_model(request.model).can_checkpoint:
        changes["checkpointing"] = lambda step: replace(step, is_checkpointed=True)
    return changes
