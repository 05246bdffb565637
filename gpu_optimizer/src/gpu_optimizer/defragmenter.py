"""Keeping a training loop's memory in one piece: measure, apply what was advised, prove the gain.

The caching allocator never moves a live block, so what is allocated in one step and lives on, such
as the optimizer's state, lies among blocks of other sizes and splits the free memory. A
`Defragmenter` moves it at a step boundary, when little else is alive, into a pool of its own.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import torch
from torch import nn

from gpu_optimizer.allocator_door import AllocatorDoor, apply_settings, door_to
from gpu_optimizer.defragmentation_advice import DefragmentationAdvice, Remedies, advise
from gpu_optimizer.live_memory import HeldMemory, held_memory
from gpu_optimizer.snapshot_fields import DEFAULT_POOL, pool_id
from gpu_optimizer.storage_mover import GRAPH, Move, long_lived_tensors, move_storages
from gpu_optimizer.types import AllocationTrace

_SHARED: Final = (None, DEFAULT_POOL)
_OWN_POOL: Final = Remedies(has_own_pool=True)


@dataclass(frozen=True, slots=True)
class Compaction:
    """A move of the long-lived state, and the memory before and after it.

    Attributes
    ----------
    step : int
        Step boundaries before it.
    move : Move
        What was moved and what stayed, with the reasons.
    before, after : HeldMemory
        At the same live set: nothing is allocated or freed between them but by the move. Free
        memory was returned to the driver before both.
    """

    step: int
    move: Move
    before: HeldMemory
    after: HeldMemory


@dataclass(frozen=True, slots=True)
class DefragmentationReport:
    """What a `Defragmenter` did.

    Attributes
    ----------
    remedies : Remedies
        What it was asked to do.
    n_steps : int
        Step boundaries that it was told of.
    before, now : HeldMemory
        When it began, and now.
    compactions : tuple of Compaction
        Each move, in order.
    reservation_bytes : int
        Taken for the reservation when it was last made; 0 if nothing was missing then, or if there
        was no room for what was.
    """

    remedies: Remedies
    n_steps: int
    before: HeldMemory
    now: HeldMemory
    compactions: tuple[Compaction, ...]
    reservation_bytes: int


class Defragmenter:
    """Applies remedies against fragmentation to a model in training.

    Parameters
    ----------
    model : nn.Module
        All of it on one device.
    optimizer : Optimizer, optional
        Whose state is kept together with the model.
    remedies : Remedies
        What to do, as in `DefragmentationAdvice.chosen`; by default a pool of its own for what
        lives long. Settings act on memory that is taken from here on: set ``PYTORCH_ALLOC_CONF``
        before the program starts where you can.
    keeps_gradients : bool
        Whether gradients live on between steps (``zero_grad(set_to_none=False)``), so that they
        belong to the long-lived state.
    door : AllocatorDoor, optional
        The allocator; by default that of the model's device.

    Raises
    ------
    ValueError
        If the model has no tensor, or is on several devices.
    DeviceError
        If its device is not here.

    Notes
    -----
    Call `step_boundary` after ``optimizer.step()`` and ``zero_grad()``, from the thread that
    trains, while no other thread or stream uses the model. Then only what is meant to live is
    alive. Tensors keep their identity, hooks, aliases and values; see `storage_mover`. An address
    that was taken with ``data_ptr()`` or ``__cuda_array_interface__`` and kept is not known to
    PyTorch and becomes invalid. While a CUDA graph holds memory nothing is moved.

    Examples
    --------
    >>> model = nn.Linear(4, 4)
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> with Defragmenter(model, optimizer) as defragmenter:
    ...     for _ in range(2):
    ...         model(torch.ones(1, 4)).sum().backward()
    ...         optimizer.step()
    ...         optimizer.zero_grad()
    ...         defragmenter.step_boundary()
    >>> defragmenter.report().n_steps
    2
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        remedies: Remedies = _OWN_POOL,
        *,
        keeps_gradients: bool = False,
        door: AllocatorDoor | None = None,
    ) -> None:
        devices = {tensor.device for tensor in long_lived_tensors(model, None)}
        if len(devices) != 1:
            found = ", ".join(sorted(str(device) for device in devices)) or "none"
            raise ValueError(f"the model must have tensors on exactly one device, got {found}")
        self._model = model
        self._optimizer = optimizer
        self._remedies = remedies
        self._door = door_to(devices.pop()) if door is None else door
        self._keeps_gradients = keeps_gradients
        self._n_known = self._n_entries()
        self._n_steps = 0
        self._reservation_bytes = 0
        self._compactions: list[Compaction] = []
        self._before = self.measure()

    def __enter__(self) -> Self:
        """Apply what acts from the start: settings, the reservation, the move of existing state."""
        if self._remedies.settings and self._door.device.type == "cuda":
            apply_settings(self._remedies.settings)
        if self._remedies.reserve_bytes:
            self._door.empty_cache()
            self._reserve_missing()
        # A new optimizer gets its state in the first step: all moves after it, at once.
        if self._remedies.has_own_pool and (self._optimizer is None or self._n_known):
            self.compact()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End: the reservation is returned, the state stays where it is."""
        if self._remedies.reserve_bytes:
            self._door.empty_cache()

    def step_boundary(self) -> None:
        """Say that a step is over, and move what of the long-lived state is new.

        That is the optimizer's state after the first step, and nothing in most steps, which then
        cost a look at the number of its entries.
        """
        self._n_steps += 1
        if self._remedies.has_own_pool and self._n_entries() != self._n_known:
            self.compact()
        self.phase_change()

    def phase_change(self) -> None:
        """Say that the work changes, to evaluation for example, and empty the cache if asked to."""
        if self._remedies.empties_cache:
            self._door.empty_cache()

    def compact(self) -> Compaction:
        """Move the long-lived state into a new pool, and return what came of it.

        Raises
        ------
        TraceError
            If the allocator describes its memory in a form that is not known.

        Notes
        -----
        It needs free memory for a copy of what it moves; where that is missing, what does not fit
        stays and is counted. A reservation is made anew afterwards where there is room.
        """
        self._n_known = self._n_entries()
        door = self._door
        tensors = long_lived_tensors(
            self._model, self._optimizer, with_gradients=self._keeps_gradients
        )
        door.synchronize()
        door.empty_cache()
        before = self.measure()
        refusal = GRAPH if door.has_foreign_pool() else ""
        with nullcontext() if refusal else door.new_pool():
            move = move_storages(tensors, door.device, door.reserve, refusal)
        door.synchronize()
        door.empty_cache()
        compaction = Compaction(self._n_steps, move, before, self.measure())
        self._compactions.append(compaction)
        self._reserve_missing()
        return compaction

    def _reserve_missing(self) -> None:
        """Reserve what the memory that is held already lacks, if there is room for it.

        What lives counts as held, except with a pool of its own: it is none of the reservation
        then, and what is free in that pool serves no other allocation.
        """
        if not self._remedies.reserve_bytes:
            return
        segments = self._door.segments()
        if self._remedies.has_own_pool:
            held = held_memory([one for one in segments if pool_id(one) in _SHARED])
            there_bytes = held.reserved_bytes - held.active_bytes
        else:
            there_bytes = held_memory(segments).reserved_bytes
        missing_bytes = self._remedies.reserve_bytes - there_bytes
        self._reservation_bytes = 0
        if missing_bytes > 0:
            with suppress(torch.OutOfMemoryError):
                self._door.reserve(missing_bytes)
                self._reservation_bytes = missing_bytes

    def measure(self) -> HeldMemory:
        """Return what the allocator holds now, without its history: a look of less than a ms.

        Without CUDA it holds nothing, and ratios are NaN.
        """
        return held_memory(self._door.segments())

    def advise(
        self, trace: AllocationTrace, limit_bytes: int | None = None
    ) -> DefragmentationAdvice:
        """Return what to do about a trace of this program, as `defragmentation_advice.advise`."""
        return advise(trace, limit_bytes)

    def report(self) -> DefragmentationReport:
        """Return what was done so far, and the memory before and now."""
        return DefragmentationReport(
            self._remedies,
            self._n_steps,
            self._before,
            self.measure(),
            tuple(self._compactions),
            self._reservation_bytes,
        )

    def _n_entries(self) -> int:
        """Return how many values the optimizer keeps."""
        if self._optimizer is None:
            return 0
        return sum(len(state) for state in self._optimizer.state.values())
