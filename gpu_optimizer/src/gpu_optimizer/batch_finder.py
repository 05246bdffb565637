"""The largest batch that runs within a budget of GPU memory, proven in fresh processes.

A rough search in one process finds the place, guided by a line through the trials' peaks. What it
says is then proven: the batch runs in a process of its own, and the next larger one, in another,
runs out of memory. If the proof says otherwise, the search goes on with fresh processes alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from gpu_optimizer.batch_result import (
    BatchSearchResult,
    SearchConfig,
    best_safe_batch,
    limiting_term,
)
from gpu_optimizer.batch_search import (
    MemoryLine,
    climb,
    largest_that_runs,
    measured_line,
    safe_guess,
    throughput_batch,
)
from gpu_optimizer.batch_trial import StepFn, TrialOutcome
from gpu_optimizer.device import SEGMENT_BYTES, Card, CudaDoor, Door
from gpu_optimizer.errors import (
    DeviceError,
    GpuOptimizerError,
    NoBatchFitsError,
    OutOfMemoryError,
)
from gpu_optimizer.in_process_trials import InProcessTrials
from gpu_optimizer.packed_step import packed_step
from gpu_optimizer.trial_process import ProcessTrials
from gpu_optimizer.units import format_bytes, parse_bytes

OnTrial = Callable[[TrialOutcome], None]
# Large enough that activations make the peak and not the optimizer, whose need does not grow.
_FORECAST_BATCHES: Final = (8, 16)
_SAFE_TRIES: Final = 3


class _Trials(Protocol):
    """Where trials are made: in processes of their own, or in this one."""

    def start(self) -> None: ...
    def open(self) -> Card: ...
    def rough(self, batch: int, limit_bytes: int) -> TrialOutcome: ...
    def proof(self, batch: int, limit_bytes: int) -> TrialOutcome: ...
    def close(self) -> None: ...


class BatchFinder:
    """Finds the largest batch that runs within a budget.

    Parameters
    ----------
    step_fn : callable or str
        ``step_fn(batch)`` makes model, optimizer and input on the GPU and returns a function that
        runs one whole step, or a `BatchProgram` with an evaluation as well; it returns None if it
        ran a step itself, and is then called for each step. It must be importable by a new
        process: a function at the top of a module, an object of a class there, or the text
        ``"module:function"``. If it has a method ``prepare``, each process calls that before it
        touches the GPU.
    budget : int or str, optional
        Memory of the card in bytes, or ``"8GiB"``, for everything that the process of the step
        takes, its CUDA context included: an 8 GiB card is emulated by ``"8GiB"``. By default all
        that other programs leave.
    config : SearchConfig, optional
        How to search.
    door : Door, optional
        The card; the first one by default.
    on_trial : callable, optional
        Told of each trial as it ends.

    Raises
    ------
    ValueError
        If the budget is nonsense, or no other process can import the step.

    Examples
    --------
    >>> from gpu_optimizer.model_step import ModelStep
    >>> finder = BatchFinder(ModelStep("resnet50"), budget="8GiB")
    >>> result = finder.find()  # doctest: +SKIP
    >>> result.n_max, result.n_safe, result.why  # doctest: +SKIP
    """

    def __init__(
        self,
        step_fn: StepFn | str,
        budget: int | str | None = None,
        config: SearchConfig | None = None,
        *,
        door: Door | None = None,
        on_trial: OnTrial | None = None,
    ) -> None:
        self._step_fn = step_fn
        self._budget_bytes = _bytes(budget)
        self._config = SearchConfig() if config is None else config
        self._door = CudaDoor() if door is None else door
        self._on_trial = on_trial
        if self._config.isolation == "process":
            packed_step(step_fn)
        elif isinstance(step_fn, str):
            raise ValueError(f"isolation='none' takes a function, not its name, got {step_fn!r}")

    def find(self, clock: Callable[[], float] = time.perf_counter) -> BatchSearchResult:
        """Search, and leave neither processes nor memory behind.

        Raises
        ------
        ValueError
            If the budget is larger than the card.
        NoBatchFitsError
            If not even a batch of 1 runs.
        StepFailedError
            If the step fails for another reason than memory.
        DeviceError
            If there is no usable GPU, or other programs hold too much of it.
        """
        start_s = clock()
        self._door.check()
        trials = self._trials(clock)
        try:
            trials.start()
            forecast = self._forecast()
            search = _Search(trials, self._config, self._on_trial, forecast)
            found = search.run(self._budget_bytes)
        finally:
            trials.close()
        return replace(found, seconds=clock() - start_s)

    def _trials(self, clock: Callable[[], float]) -> _Trials:
        config = self._config
        if config.isolation == "process":
            packed = packed_step(self._step_fn)
            return ProcessTrials(packed, self._door, config.timeout_s, config.n_steps)
        assert not isinstance(self._step_fn, str)  # noqa: S101 - refused by __init__
        return InProcessTrials(self._step_fn, self._door, config.n_steps, clock)

    def _forecast(self) -> MemoryLine | None:
        """Return what is forecast without a GPU, while the first process starts."""
        forecast = getattr(self._step_fn, "forecast_bytes", None)
        if forecast is None:
            return None
        try:
            line = MemoryLine.through((batch, forecast(batch)) for batch in _FORECAST_BATCHES)
        except GpuOptimizerError:
            return None  # a model that cannot be run on fake tensors is searched without
        return line if line is not None and line.item_bytes > 0 else None


def _bytes(budget: int | str | None) -> int | None:
    if budget is None:
        return None
    n_bytes = parse_bytes(budget) if isinstance(budget, str) else budget
    if n_bytes <= 0:
        raise ValueError(f"the budget must be more than 0, got {budget!r}")
    return n_bytes


class _Search:
    """One search: what was tried, and what the limit is by now."""

    def __init__(
        self,
        trials: _Trials,
        config: SearchConfig,
        on_trial: OnTrial | None,
        forecast: MemoryLine | None,
    ) -> None:
        self._trials = trials
        self._config = config
        self._on_trial = on_trial
        self._forecast = forecast
        self._outcomes: list[TrialOutcome] = []
        self._budget_bytes = self._context_bytes = self._limit_bytes = 0

    def run(self, budget_bytes: int | None) -> BatchSearchResult:
        """Search roughly, find a safe batch, and prove the largest."""
        most = self._config.max_batch
        self._set_budget(self._trials.open(), budget_bytes)
        climb(self._climbing, most, self._is_likely)
        n_max = largest_that_runs(self._rough_runs, self._guess(), most)
        self._try_safe(n_max)
        is_isolated = self._config.isolation == "process"
        if is_isolated:
            n_max = largest_that_runs(self._proof_runs, n_max, most)
        if n_max == 0:
            raise self._no_batch_fits()
        return self._result(n_max, is_proven=is_isolated and n_max < most)

    def _set_budget(self, card: Card, budget_bytes: int | None) -> None:
        if budget_bytes is None:
            budget_bytes = card.free_bytes + card.context_bytes
        if budget_bytes > card.total_bytes:
            raise ValueError(
                f"the budget must be at most {format_bytes(card.total_bytes)}, the memory of "
                f"{card.name}, got {format_bytes(budget_bytes)}"
            )
        self._budget_bytes = budget_bytes
        known = self._config.context_bytes
        self._set_context(card.context_bytes if known is None else known)
        # What the context will take yet is free now: its growth is left out of the comparison.
        if card.free_bytes + card.context_bytes < budget_bytes:
            raise DeviceError(
                f"only {format_bytes(card.free_bytes)} of {card.name} are free: end the programs "
                "that nvidia-smi lists, or give a smaller budget"
            )

    def _set_context(self, context_bytes: int) -> None:
        self._context_bytes = context_bytes
        left = self._budget_bytes - context_bytes
        self._limit_bytes = left // SEGMENT_BYTES * SEGMENT_BYTES
        if self._limit_bytes <= 0:
            raise OutOfMemoryError("the CUDA context alone", context_bytes, self._budget_bytes)

    def _climbing(self, batch: int) -> TrialOutcome:
        """Try a batch, and measure by it what remains outside of PyTorch's allocator."""
        outcome = self._kept(self._trials.rough(batch, self._limit_bytes))
        if self._config.context_bytes is None and outcome.context_bytes > self._context_bytes:
            self._set_context(outcome.context_bytes)
        return outcome

    def _kept(self, outcome: TrialOutcome) -> TrialOutcome:
        self._outcomes.append(outcome)
        if self._on_trial is not None:
            self._on_trial(outcome)
        return outcome

    def _line(self) -> MemoryLine | None:
        return measured_line(self._outcomes) or self._forecast

    def _is_likely(self, batch: int) -> bool:
        line = self._line()
        return line is None or line.largest_batch(self._limit_bytes, batch) == batch

    def _guess(self) -> int:
        """Return where the line says the edge is, within what was tried."""
        most = self._config.max_batch
        ran = max((o.batch for o in self._outcomes if o.ran), default=0)
        failed = min((o.batch for o in self._outcomes if not o.ran), default=most + 1)
        line = self._line()
        guess = most if line is None else line.largest_batch(self._limit_bytes, most)
        return max(ran, min(guess, failed - 1))

    def _rough_runs(self, batch: int) -> bool:
        """Try a batch, unless it lies beyond one whose outcome is known."""
        if any(outcome.ran and outcome.batch >= batch for outcome in self._outcomes):
            return True
        if any(not outcome.ran and outcome.batch <= batch for outcome in self._outcomes):
            return False
        return self._kept(self._trials.rough(batch, self._limit_bytes)).ran

    def _proof_runs(self, batch: int) -> bool:
        return self._kept(self._trials.proof(batch, self._limit_bytes)).ran

    @property
    def _usable_bytes(self) -> float:
        return (1 - self._config.margin) * self._limit_bytes

    def _try_safe(self, n_max: int) -> None:
        """Try the largest batch that should leave the margin free, and smaller ones if not so."""
        batch = safe_guess(self._outcomes, self._usable_bytes, n_max)
        for _ in range(_SAFE_TRIES):
            if batch <= best_safe_batch(tuple(self._outcomes), self._usable_bytes, n_max):
                return
            self._kept(self._trials.rough(batch, self._limit_bytes))
            if best_safe_batch(tuple(self._outcomes), self._usable_bytes, n_max) < batch:
                batch -= max(1, batch // 32)

    def _no_batch_fits(self) -> NoBatchFitsError:
        failed = next(outcome for outcome in reversed(self._outcomes) if not outcome.ran)
        message = "" if failed.failure is None else failed.failure.message
        return NoBatchFitsError(failed.peak_allocated_bytes, self._limit_bytes, message)

    def _result(self, n_max: int, *, is_proven: bool) -> BatchSearchResult:
        trials = tuple(self._outcomes)
        most = self._config.max_batch
        last = next(o for o in reversed(trials) if o.ran and o.batch == n_max)
        ran = tuple(outcome for outcome in trials if outcome.batch <= n_max)
        term, why = limiting_term(last, measured_line(ran), most)
        forecast = self._forecast
        return BatchSearchResult(
            n_max=n_max,
            n_safe=best_safe_batch(trials, self._usable_bytes, n_max),
            n_throughput=throughput_batch(_doublings(ran, n_max)),
            n_forecast=None
            if forecast is None
            else forecast.largest_batch(self._limit_bytes, most),
            budget_bytes=self._budget_bytes,
            context_bytes=self._context_bytes,
            limit_bytes=self._limit_bytes,
            limiting_term=term,
            why=why,
            device_bytes=last.peak_reserved_bytes + last.context_bytes,
            is_proven=is_proven,
            trials=trials,
        )


def _doublings(outcomes: tuple[TrialOutcome, ...], n_max: int) -> list[TrialOutcome]:
    """Return the trials of 1, 2, 4, ... and of the largest batch, which are timed alike."""
    return [o for o in outcomes if o.batch == n_max or o.batch & (o.batch - 1) == 0]
