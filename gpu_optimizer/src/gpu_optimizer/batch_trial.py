"""One trial of a batch: whole steps, what they took, and a card that is as empty as before."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gpu_optimizer.device import Door, MemoryUse
from gpu_optimizer.out_of_memory import is_out_of_memory, lacks_engine

# The optimizer's state appears in the first step, and what was freed around it shapes the second;
# the one after the evaluation meets the holes that the evaluation left.
MIN_STEPS: Final = 2
_UNKNOWN: Final = MemoryUse(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class BatchProgram:
    """What a step function may return: a step, and an evaluation at the same batch.

    Attributes
    ----------
    step : callable
        Runs one whole step, with backward and optimizer where there are any.
    evaluate : callable, optional
        Runs one evaluation.
    """

    step: Callable[[], object]
    evaluate: Callable[[], object] | None = None


StepFn = Callable[[int], "BatchProgram | Callable[[], object] | None"]


@dataclass(frozen=True, slots=True)
class Failure:
    """What a step raised, in texts, so that nothing of the step is held by it.

    Attributes
    ----------
    error_type, message, trace : str
        Name of the type with its module, the text, and the traceback.
    is_out_of_memory : bool
        Whether it says that the card has no more memory.
    lacks_engine : bool
        Whether it does if the allocator saw an allocation fail, see `out_of_memory`.
    """

    error_type: str
    message: str
    trace: str
    is_out_of_memory: bool
    lacks_engine: bool = False

    @classmethod
    def of(cls, exc: BaseException) -> Failure:
        """Return what is to be told of an exception."""
        kind = type(exc)
        return cls(
            error_type=f"{kind.__module__}.{kind.__qualname__}",
            message=str(exc),
            trace="".join(traceback.format_exception(exc)),
            is_out_of_memory=is_out_of_memory(exc),
            lacks_engine=lacks_engine(exc),
        )


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """What came of a trial.

    Attributes
    ----------
    batch, limit_bytes : int
        What was tried, and how much PyTorch's allocator was allowed.
    is_fresh : bool
        Whether it was the first trial of its process.
    peak_allocated_bytes, peak_reserved_bytes, context_bytes : int
        As in `device.MemoryUse`. Where memory ran out, the peaks until then; 0 where the step
        failed otherwise, for then the card may no longer answer.
    n_retries : int
        How often the whole cache was returned for an allocation.
    step_seconds : tuple of float
        Of each step that was completed.
    evaluate_seconds : float
        NaN without an evaluation.
    seconds : float
        Of the whole trial with making the model and cleaning up.
    left_bytes : int
        Still allocated after cleaning up: what the step function keeps.
    failure : Failure or None
        None if everything ran.
    """

    batch: int
    limit_bytes: int
    is_fresh: bool
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    context_bytes: int
    n_retries: int
    step_seconds: tuple[float, ...]
    evaluate_seconds: float
    seconds: float
    left_bytes: int
    failure: Failure | None

    @property
    def ran(self) -> bool:
        """Whether all steps and the evaluation ran."""
        return self.failure is None

    @property
    def latency_s(self) -> float:
        """The fastest step after the first, which is slow for other reasons; NaN without one."""
        return min(self.step_seconds[1:], default=math.nan)


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """What to try.

    Attributes
    ----------
    batch : int
        At least 1.
    limit_bytes : int
        What PyTorch's allocator may hold.
    n_steps : int
        Whole steps, at least `MIN_STEPS`; the evaluation comes before the last.
    is_fresh : bool
        Whether the process has tried nothing before.
    """

    batch: int
    limit_bytes: int
    n_steps: int
    is_fresh: bool


class _Timed:
    """The seconds of the parts of a trial, kept when a later part fails."""

    def __init__(self, door: Door, clock: Callable[[], float]) -> None:
        self._door = door
        self._clock = clock
        self.steps: list[float] = []
        self.evaluation = math.nan

    def _run(self, call: Callable[[], object]) -> float:
        start_s = self._clock()
        call()
        self._door.synchronize()
        return self._clock() - start_s

    def run_program(self, step_fn: StepFn, request: TrialRequest) -> None:
        """Make the program and run its steps, with the evaluation before the last of them."""
        made_s = self._clock()
        made = step_fn(request.batch)
        self._door.synchronize()
        made_s = self._clock() - made_s
        program = _program(step_fn, made, request.batch)
        if made is None:  # the call was the first step
            self.steps.append(made_s)
        while len(self.steps) < request.n_steps - 1:
            self.steps.append(self._run(program.step))
        if program.evaluate is not None:
            self.evaluation = self._run(program.evaluate)
        self.steps.append(self._run(program.step))


def _program(step_fn: StepFn, made: object, batch: int) -> BatchProgram:
    if made is None:
        return BatchProgram(lambda: step_fn(batch))
    if isinstance(made, BatchProgram):
        return made
    if callable(made):
        return BatchProgram(made)
    raise TypeError(
        "a step function returns a BatchProgram, a function that runs one step, or None if it ran "
        f"the step itself, got {type(made).__name__}"
    )


def run_trial(
    step_fn: StepFn, request: TrialRequest, door: Door, clock: Callable[[], float]
) -> TrialOutcome:
    """Run a trial in this process and clean up after it.

    Parameters
    ----------
    step_fn : callable
        ``step_fn(batch)`` makes model, optimizer and input and returns what runs them.
    request : TrialRequest
        What to try.
    door : Door
        The card, opened.
    clock : callable
        Seconds, rising.

    Returns
    -------
    TrialOutcome
        Also where the step fails. KeyboardInterrupt and SystemExit pass.
    """
    start_s = clock()
    door.limit(request.limit_bytes)
    door.reset_peaks()
    timed = _Timed(door, clock)
    failure: Failure | None = None
    try:
        timed.run_program(step_fn, request)
    except Exception as exc:  # noqa: BLE001 - whatever a user's step raises is told to the user
        failure = Failure.of(exc)
    # Only here, when the exception is gone, do its frames no longer hold the tensors of the step.
    is_usable = failure is None or failure.is_out_of_memory or failure.lacks_engine
    use = door.use() if is_usable else _UNKNOWN
    if failure is not None and failure.lacks_engine and use.n_ooms:
        failure = replace(failure, is_out_of_memory=True)
    if is_usable:
        door.release()
    return TrialOutcome(
        batch=request.batch,
        limit_bytes=request.limit_bytes,
        is_fresh=request.is_fresh,
        peak_allocated_bytes=use.peak_allocated_bytes,
        peak_reserved_bytes=use.peak_reserved_bytes,
        context_bytes=use.context_bytes,
        n_retries=use.n_retries,
        step_seconds=tuple(timed.steps),
        evaluate_seconds=timed.evaluation,
        seconds=clock() - start_s,
        left_bytes=door.use().allocated_bytes if is_usable else 0,
        failure=failure,
    )
