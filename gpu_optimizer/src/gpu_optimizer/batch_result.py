"""How a search for a batch is to be done, and what it found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from gpu_optimizer.batch_search import MemoryLine
from gpu_optimizer.batch_trial import MIN_STEPS, TrialOutcome
from gpu_optimizer.units import format_bytes

Isolation = Literal["process", "none"]
LimitingTerm = Literal["items", "fixed", "waste", "max_batch"]


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """How to search.

    Attributes
    ----------
    n_steps : int
        Whole steps of each trial, at least 2; the evaluation comes before the last.
    max_batch : int
        No larger batch is tried.
    margin : float
        What `BatchSearchResult.n_safe` leaves free of PyTorch's limit, 0 to less than 1; 5 %
        chosen by us, for other shapes and for holes that grow over many steps.
    timeout_s : float
        How long a process may take to start, and for a trial.
    isolation : {"process", "none"}
        ``"none"`` searches in this process: for a step that no other process can import. Former
        trials then leave traces, and nothing is proven.
    context_bytes : int, optional
        Memory outside of PyTorch's allocator to count with, as of another card. By default it is
        measured.
    """

    n_steps: int = 3
    max_batch: int = 2**16
    margin: float = 0.05
    timeout_s: float = 180.0
    isolation: Isolation = "process"
    context_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.n_steps < MIN_STEPS:
            raise ValueError(f"n_steps must be at least {MIN_STEPS}, got {self.n_steps}")
        if self.max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, got {self.max_batch}")
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin must be 0 to less than 1, got {self.margin}")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s must be more than 0, got {self.timeout_s}")
        if self.isolation not in get_args(Isolation):
            raise ValueError(f"isolation must be 'process' or 'none', got {self.isolation!r}")
        if self.context_bytes is not None and self.context_bytes < 0:
            raise ValueError(f"context_bytes must not be negative, got {self.context_bytes}")


@dataclass(frozen=True, slots=True)
class BatchSearchResult:
    """What was found.

    Attributes
    ----------
    n_max : int
        The largest batch that runs, at least 1.
    n_safe : int
        The largest batch that was tried, ran without returning the allocator's cache, and left the
        margin free; 0 if none did.
    n_throughput : int
        The batch beyond which latency grows as fast as the batch, see
        `batch_search.throughput_batch`.
    n_forecast : int or None
        What was forecast for `n_max` without a GPU; None where no forecast could be made.
    budget_bytes, context_bytes, limit_bytes : int
        Of the card, with everything of this process; of that the CUDA context and what libraries
        take; and what was left for PyTorch's allocator.
    limiting_term : {"items", "fixed", "waste", "max_batch"}
        What takes most of the limit at `n_max`: what each item adds, what is there without any,
        what the allocator holds and does not use; or that no larger batch was to be tried.
    why : str
        The same in a sentence.
    device_bytes : int
        What the process of `n_max` had of the card at its peak, by what it measured itself. Kernels
        that only this batch loads may put it a little above the budget.
    is_proven : bool
        Whether `n_max` ran and the next batch did not, each in a fresh process.
    trials : tuple of TrialOutcome
        All, in order.
    seconds : float
        Of the whole search; NaN while it lasts.
    """

    n_max: int
    n_safe: int
    n_throughput: int
    n_forecast: int | None
    budget_bytes: int
    context_bytes: int
    limit_bytes: int
    limiting_term: LimitingTerm
    why: str
    device_bytes: int
    is_proven: bool
    trials: tuple[TrialOutcome, ...]
    seconds: float = math.nan

    def __post_init__(self) -> None:
        if not 0 <= self.n_safe <= self.n_max or self.n_max < 1:
            raise ValueError(
                f"n_safe must be 0 to n_max, and that at least 1, got {self.n_safe}, {self.n_max}"
            )


def limiting_term(
    outcome: TrialOutcome, line: MemoryLine | None, max_batch: int
) -> tuple[LimitingTerm, str]:
    """Return what takes most of the memory of the largest batch, and a sentence about it.

    Parameters
    ----------
    outcome : TrialOutcome
        Of the largest batch that runs.
    line : MemoryLine or None
        Of allocated memory over the batch; None where only one batch ran.
    max_batch : int
        The largest that might be tried.
    """
    batch, peak = outcome.batch, outcome.peak_allocated_bytes
    if batch == max_batch:
        return "max_batch", f"batch {batch} runs, and no larger one was to be tried"
    per_item = 0.0 if line is None else max(0.0, line.item_bytes)
    items = min(float(peak), per_item * batch)
    parts: dict[LimitingTerm, float] = {
        "items": items,
        "fixed": peak - items,
        "waste": float(outcome.peak_reserved_bytes - peak),
    }
    term = max(parts, key=lambda name: parts[name])
    return term, (
        f"batch {batch} runs and {batch + 1} does not: of {format_bytes(outcome.limit_bytes)} for "
        f"PyTorch it takes {format_bytes(int(parts['fixed']))} whatever the batch, "
        f"{format_bytes(int(per_item))} for each item, and {format_bytes(int(parts['waste']))} "
        "that its allocator holds without use"
    )


def best_safe_batch(trials: tuple[TrialOutcome, ...], usable_bytes: float, n_max: int) -> int:
    """Return the largest tried batch that ran without retries within so many bytes; 0 if none."""
    return max(
        (
            trial.batch
            for trial in trials
            if trial.ran
            and trial.n_retries == 0
            and trial.peak_allocated_bytes <= usable_bytes
            and trial.batch <= n_max
        ),
        default=0,
    )
