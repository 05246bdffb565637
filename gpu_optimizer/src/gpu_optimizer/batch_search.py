"""Finds the largest batch that runs, with few trials. Pure: what a trial is, others decide.

Memory is nearly a line over the batch, but not quite: cuDNN chooses other kernels, blocks are
rounded, holes remain. The line therefore only says where to look; what is returned was tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gpu_optimizer.batch_trial import TrialOutcome

Try = Callable[[int], TrialOutcome]

# A larger batch is worth it while it gives this much more throughput; chosen by us, above the
# noise of two timed steps.
_WORTHWHILE_GAIN: Final = 1.05


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """Bytes as a line over the batch: ``fixed_bytes + item_bytes * batch``."""

    fixed_bytes: float
    item_bytes: float

    @classmethod
    def through(cls, points: Iterable[tuple[int, int]]) -> MemoryLine | None:
        """Return the line through the point of the largest batch and that of about half of it.

        None without two batches. Neighbours would make a poor line: they differ by the rounding of
        blocks and the choice of kernels.
        """
        known = sorted(dict(points).items())
        if len(known) < 2:
            return None
        second, second_bytes = known[-1]
        lower = [point for point in known[:-1] if 2 * point[0] <= second]
        first, first_bytes = lower[-1] if lower else known[0]
        slope = (second_bytes - first_bytes) / (second - first)
        return cls(first_bytes - slope * first, slope)

    def largest_batch(self, limit_bytes: float, most: int) -> int:
        """Return the largest batch of 0 to ``most`` that needs no more than the limit."""
        if self.item_bytes <= 0:
            return most if self.fixed_bytes <= limit_bytes else 0
        return max(0, min(most, math.floor((limit_bytes - self.fixed_bytes) / self.item_bytes)))


def measured_line(outcomes: Iterable[TrialOutcome]) -> MemoryLine | None:
    """Return the line of peak allocated memory over the batches that ran."""
    return MemoryLine.through((o.batch, o.peak_allocated_bytes) for o in outcomes if o.ran)


def climb(trial: Try, most: int, fits: Callable[[int], bool]) -> list[TrialOutcome]:
    """Try batches of 1, 2, 4, ... and return what came of them, in order.

    Parameters
    ----------
    trial : callable
        Tries a batch.
    most : int
        No batch is larger, from 1.
    fits : callable
        Whether a batch is likely to run; asked before each but the first.

    Returns
    -------
    list of TrialOutcome
        Not empty. Only the last may not have run.
    """
    outcomes = [trial(1)]
    while outcomes[-1].ran:
        batch = 2 * outcomes[-1].batch
        if batch > most or not fits(batch):
            break
        outcomes.append(trial(batch))
    return outcomes


def largest_that_runs(runs: Callable[[int], bool], guess: int, most: int) -> int:
    """Return a batch that runs while the next does not, both tried.

    Looks from the guess in steps that double until it has passed the edge, and then bisects.

    Parameters
    ----------
    runs : callable
        Tries a batch. It is asked once for each.
    guess : int
        Where to begin; brought into 1 to ``most``.
    most : int
        No batch is larger, from 1.

    Returns
    -------
    int
        0 if a batch of 1 does not run, `most` if that runs. If memory does not grow with the batch
        everywhere, there may be several such edges, and it is one of them.
    """
    low, high = 0, most + 1
    batch, stride = max(1, min(guess, most)), 1
    while high - low > 1:
        if runs(batch):
            low = batch
        else:
            high = batch
        if high > most:
            batch = min(low + stride, most)
        elif low == 0:
            batch = max(high - stride, 1)
        else:
            batch = (low + high) // 2
        stride *= 2
    return low


def throughput_batch(outcomes: Iterable[TrialOutcome]) -> int:
    """Return the batch beyond which latency grows as fast as the batch; 0 if nothing was timed.

    Goes through the batches that ran and were timed, upwards, and stops before the first at which
    latency has grown by as much as the batch: where a batch was doubled, where latency doubles. A
    gain in throughput below 5 % counts as none (chosen by us, see
    ``scripts/gpu_batch_finder_check.py``).
    """
    latencies = {o.batch: o.latency_s for o in outcomes if o.ran and o.latency_s > 0}
    batches = sorted(latencies)
    if not batches:
        return 0
    best = batches[0]
    for batch in batches[1:]:
        gain = (batch / latencies[batch]) / (best / latencies[best])
        if gain < _WORTHWHILE_GAIN:
            break
        best = batch
    return best


def safe_guess(outcomes: Sequence[TrialOutcome], usable_bytes: float, n_max: int) -> int:
    """Return the largest batch to ``n_max`` that is likely to need no more than so many bytes.

    From the trials' peaks of allocated memory; a proportion where only one of them ran.
    """
    line = measured_line(outcomes)
    if line is not None:
        return line.largest_batch(usable_bytes, n_max)
    peaks = [o.peak_allocated_bytes for o in outcomes if o.ran]
    return n_max if peaks and peaks[0] <= usable_bytes else 0
