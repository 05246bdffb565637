"""What would have to change for a step to fit into a budget, each change with its own forecast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gpu_optimizer.memory_predictor import Forecast, ForecastRequest, Verdict
from gpu_optimizer.models import find_model
from gpu_optimizer.training_step import StepConfig

Predict = Callable[[ForecastRequest], Forecast]
_HELPFUL: Final = ("fits", "may just fit")
# Shorter sequences than this are no use of a language model; chosen by us.
_SHORTEST_SEQ: Final = 64


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
    verdict : {"fits", "may just fit", "may just not fit", "does not fit"}
        Whether it is within the budget, as `Forecast.verdict` tells.
    """

    what: str
    request: ForecastRequest
    forecast: Forecast
    verdict: Verdict

    @property
    def helps(self) -> bool:
        """Whether the request with the change is forecast to fit."""
        return self.verdict in _HELPFUL


def changes_to_fit(
    request: ForecastRequest, budget_bytes: int, predict: Predict
) -> tuple[Change, ...]:
    """Return the changes that are open to a request, and what came of each.

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
        A smaller batch, shorter sequences, each change of the step, and all of these; the smaller
        batch and the shorter sequences together with them only if nothing else helps. Of batches
        the largest that is sure to fit, of sequences the longest half, quarter, ...; the smallest
        if none is.
    """
    if budget_bytes <= 0:
        raise ValueError(f"the budget must be more than 0, got {budget_bytes}")

    def change(what: str, changed: ForecastRequest) -> Change:
        forecast = predict(changed)
        return Change(what, changed, forecast, forecast.verdict(budget_bytes))

    def smaller(start: ForecastRequest, first: str = "") -> list[Change]:
        found = []
        if start.batch > 1:
            batch = largest_batch(start, budget_bytes, predict)
            found.append(change(f"{first}batch {batch}", replace(start, batch=batch)))
        if lengths := _shorter(start):
            seq = _longest_seq(start, lengths, budget_bytes, predict)
            found.append(change(f"{first}seq {seq}", replace(start, seq=seq)))
        return found

    changes = smaller(request)
    steps = _step_changes(request)
    together = request
    for what, apply in steps.items():
        changes.append(change(what, replace(request, step=apply(request.step))))
        together = replace(together, step=apply(together.step))
    all_steps = " + ".join(steps)
    if len(steps) > 1:
        changes.append(change(all_steps, together))
    if steps and not any(one.helps for one in changes):
        changes += smaller(together, f"{all_steps} + ")
    return tuple(changes)


def largest_batch(request: ForecastRequest, budget_bytes: int, predict: Predict) -> int:
    """Return a batch below the request's that is sure to fit, by bisection; 1 if none is.

    It is the largest where memory grows with the batch. Where a kernel of a larger batch needs
    less, a larger one may fit too.
    """
    if request.batch > 2 and not _is_sure(replace(request, batch=1), budget_bytes, predict):
        return 1
    fits, fails = 1, request.batch
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if _is_sure(replace(request, batch=middle), budget_bytes, predict):
            fits = middle
        else:
            fails = middle
    return fits


def _is_sure(request: ForecastRequest, budget_bytes: int, predict: Predict) -> bool:
    return predict(request).verdict(budget_bytes) == "fits"


def _shorter(request: ForecastRequest) -> list[int]:
    """Return the lengths that a text may be cut to, the longest first."""
    if find_model(request.model).kind != "text":
        return []
    lengths: list[int] = []
    while (length := request.seq >> (len(lengths) + 1)) >= _SHORTEST_SEQ:
        lengths.append(length)
    return lengths


def _longest_seq(
    request: ForecastRequest, lengths: Sequence[int], budget_bytes: int, predict: Predict
) -> int:
    """Return the longest that is sure to fit, the shortest if none is."""
    if not _is_sure(replace(request, seq=lengths[-1]), budget_bytes, predict):
        return lengths[-1]
    return next(
        (seq for seq in lengths[:-1] if _is_sure(replace(request, seq=seq), budget_bytes, predict)),
        lengths[-1],
    )


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
