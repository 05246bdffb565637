"""Trials of batches in this very process."""

from __future__ import annotations

from collections.abc import Callable

from gpu_optimizer.batch_trial import StepFn, TrialOutcome, TrialRequest, run_trial
from gpu_optimizer.device import Card, Door
from gpu_optimizer.errors import StepFailedError


class InProcessTrials:
    """Trials in this process, for steps that no other one can import.

    Parameters
    ----------
    step_fn : callable
        As `BatchFinder` takes it.
    door : Door
        To the card.
    n_steps : int
        Steps of each trial.
    clock : callable
        Seconds.
    """

    def __init__(
        self, step_fn: StepFn, door: Door, n_steps: int, clock: Callable[[], float]
    ) -> None:
        self._step_fn = step_fn
        self._door = door
        self._n_steps = n_steps
        self._clock = clock
        self._card: Card | None = None
        self._is_fresh = True

    def start(self) -> None:
        """Have nothing to start."""

    def open(self) -> Card:
        """Return the card."""
        self._card = self._door.open()
        return self._card

    def rough(self, batch: int, limit_bytes: int) -> TrialOutcome:
        """Return the outcome of a trial."""
        request = TrialRequest(batch, limit_bytes, self._n_steps, self._is_fresh)
        self._is_fresh = False
        outcome = run_trial(self._step_fn, request, self._door, self._clock)
        failure = outcome.failure
        if failure is not None and not failure.is_out_of_memory:
            raise StepFailedError(batch, failure.error_type, failure.message, failure.trace)
        return outcome

    proof = rough

    def close(self) -> None:
        """Let this process have the whole card again."""
        if self._card is not None:
            self._door.limit(self._card.total_bytes)
