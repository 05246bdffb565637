"""What a step will need of a GPU's memory, told without one.

The step runs twice on fake tensors (`fake_trace`); the second is the steady state, in which the
optimizer has its state. What lives at its peak is the forecast, by category and by module.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from gpu_optimizer.allocator_replay import replay
from gpu_optimizer.fake_trace import FakeTrace, KernelConstants, trace_step
from gpu_optimizer.forecast_error import ForecastError, forecast_error
from gpu_optimizer.machines import Machine
from gpu_optimizer.models import find_model
from gpu_optimizer.training_step import StepConfig, Workload
from gpu_optimizer.types import AllocationEvent, AllocationTrace

Verdict = Literal["fits", "may just fit", "may just not fit", "does not fit"]
_BLOCK_BYTES: Final = 512
# What the allocator did not split off blocks that were larger than asked for.
UNSPLIT: Final = "(unsplit)"


@dataclass(frozen=True, slots=True)
class ForecastRequest:
    """What to forecast: a model of the registry and what is done with it.

    Attributes
    ----------
    model : str
        A name that `models.find_model` knows.
    batch, seq : int
        Pictures or sequences at once; tokens of each sequence, unused by pictures. At least 1.
    step : StepConfig
        What a step does.
    """

    model: str
    batch: int = 1
    seq: int = 512
    step: StepConfig = field(default_factory=StepConfig)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The memory that a step will need at its peak, in bytes.

    Attributes
    ----------
    peak_allocated_bytes : int
        Of tensors and library workspaces, as ``torch.cuda.max_memory_allocated`` counts them: in
        blocks of 512 B, with what is too little to be split off a larger block.
    peak_reserved_bytes : int
        What PyTorch holds of the card, by a replay of its allocator.
    device_bytes : int or None
        What the card has in use, with the CUDA context; None if that was not measured there.
    error : ForecastError
        Where the true values are expected.
    by_category : tuple of (str, int)
        Allocated bytes at the peak, the largest first; they add up to `peak_allocated_bytes`.
    by_module : tuple of (str, int)
        The same by the full name of the module, empty for what belongs to none.
        ``(unsplit)`` is `UNSPLIT` in both.
    peak_phase : str
        ``forward``, ``backward`` or ``optimizer``.
    n_events : int
        Allocations and frees of all steps.
    seconds : float
        How long the forecast took.
    trace : AllocationTrace
        What the allocator is asked for in both steps.
    """

    peak_allocated_bytes: int
    peak_reserved_bytes: int
    device_bytes: int | None
    error: ForecastError
    by_category: tuple[tuple[str, int], ...]
    by_module: tuple[tuple[str, int], ...]
    peak_phase: str
    n_events: int
    seconds: float
    trace: AllocationTrace = field(repr=False, compare=False)

    @property
    def needed_bytes(self) -> int:
        """What is compared with a budget: device memory, or what PyTorch reserves without it."""
        return self.peak_reserved_bytes if self.device_bytes is None else self.device_bytes

    @property
    def context_bytes(self) -> int:
        """What is counted for the CUDA context; 0 where it was not measured."""
        return self.needed_bytes - self.peak_reserved_bytes

    @property
    def allocated_range(self) -> tuple[int, int]:
        """The least and the most that `peak_allocated_bytes` may turn out to be."""
        return self.error.allocated.bytes_around(self.peak_allocated_bytes)

    @property
    def reserved_range(self) -> tuple[int, int]:
        """The least and the most that `peak_reserved_bytes` may turn out to be."""
        return self.error.reserved.bytes_around(self.peak_reserved_bytes)

    @property
    def needed_range(self) -> tuple[int, int]:
        """The least and the most that `needed_bytes` may turn out to be, with the CUDA context.

        The context may be nothing at least where it was not measured, and
        `forecast_error.UNKNOWN_CONTEXT_BYTES` at most.
        """
        low, high = self.reserved_range
        context = self.context_bytes
        return low + context, high + context + self.error.context_above_bytes

    def verdict(self, budget_bytes: int) -> Verdict:
        """Return whether the step runs on a card, or a part of one, of so many bytes.

        Parameters
        ----------
        budget_bytes : int
            For everything that the process takes, its CUDA context included.

        Returns
        -------
        {"fits", "may just fit", "may just not fit", "does not fit"}
            The outer two hold at every value within `error`; of the inner two, which are for what
            lies within, the first says that it fits if the forecast is exact.

        Notes
        -----
        PyTorch returns cached memory before it fails, so a step may run in less than it reserves
        without a limit: the trace is replayed under the limit.
        """
        if self.needed_range[1] <= budget_bytes:
            return "fits"
        limit_bytes = budget_bytes - self.context_bytes
        if self.runs_within(limit_bytes):
            return "may just fit"
        # That the step needs less is as if the limit were larger.
        may_run = self.runs_within(round(limit_bytes / (1 - self.error.reserved.below)))
        return "may just not fit" if may_run else "does not fit"

    def runs_within(self, limit_bytes: int) -> bool:
        """Return whether the step runs if PyTorch may reserve so much and the forecast is exact."""
        if limit_bytes < self.peak_allocated_bytes:
            return False
        if limit_bytes >= self.peak_reserved_bytes:
            return True
        return not replay(self.trace, limit_bytes=limit_bytes, n_samples=2).is_out_of_memory


def predict(
    request: ForecastRequest, machine: Machine, clock: Callable[[], float] = time.perf_counter
) -> Forecast:
    """Return the forecast for a model of the registry.

    Raises
    ------
    ValueError
        If a size is less than 1, or the model cannot do what is asked.
    UnknownModelError
        If no model has that name.
    TraceError
        If the model cannot be run without data.
    """
    entry = find_model(request.model)
    step = request.step
    workload = entry.workload_of(step, request.batch, request.seq)
    return predict_workload(workload, step, machine, clock)


def predict_workload(
    workload: Workload,
    step: StepConfig,
    machine: Machine,
    clock: Callable[[], float] = time.perf_counter,
) -> Forecast:
    """Return the forecast for any model, input and loss.

    Parameters
    ----------
    workload : Workload
        The model and its batch are made under a fake mode and take no memory.
    step : StepConfig
        What a step does.
    machine : Machine
        Whose library workspaces and context to count.
    clock : callable
        Seconds, rising.

    Raises
    ------
    TraceError
        If the model cannot be run without data.
    """
    start_s = clock()
    constants = KernelConstants(
        machine.cublas_workspace_bytes, machine.attention, machine.n_processors
    )
    fake = trace_step(workload, step, constants)
    live = blocks_at_peak(fake)
    allocator = replay(fake.trace)
    reserved = allocator.peak_reserved_bytes
    unsplit = allocator.peak_allocated_bytes - sum(_rounded(event.n_bytes) for event in live)
    context = machine.context_bytes
    return Forecast(
        peak_allocated_bytes=allocator.peak_allocated_bytes,
        peak_reserved_bytes=reserved,
        device_bytes=None if context is None else reserved + context,
        error=forecast_error(
            is_convolving=fake.is_convolving,
            is_measured=machine.is_measured,
            context_bytes=context,
        ),
        by_category=_totals(live, 2, unsplit),
        by_module=_totals(live, 1, unsplit),
        peak_phase=live[-1].tag.partition("|")[0] if live else "forward",
        n_events=len(fake.trace.events),
        seconds=clock() - start_s,
        trace=fake.trace,
    )


def blocks_at_peak(fake: FakeTrace) -> list[AllocationEvent]:
    """Return the allocations that live when the last step has the most, in order."""
    events = fake.trace.events
    live_bytes, most_bytes, peak = 0, -1, 0
    for index, event in enumerate(events):
        live_bytes += _rounded(event.n_bytes) * (1 if event.kind == "alloc" else -1)
        if index >= fake.step_starts[-1] and live_bytes > most_bytes:
            most_bytes, peak = live_bytes, index
    live: dict[int, AllocationEvent] = {}
    for event in events[: peak + 1]:
        if event.kind == "alloc":
            live[event.block] = event
        else:
            del live[event.block]
    return list(live.values())


def _totals(
    live: Iterable[AllocationEvent], part: int, unsplit_bytes: int
) -> tuple[tuple[str, int], ...]:
    """Return the bytes by one part of the tags, the largest first."""
    totals: Counter[str] = Counter({UNSPLIT: unsplit_bytes} if unsplit_bytes else {})
    for event in live:
        totals[event.tag.split("|")[part]] += _rounded(event.n_bytes)
    return tuple(totals.most_common())


def _rounded(n_bytes: int) -> int:
    return -(-n_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
