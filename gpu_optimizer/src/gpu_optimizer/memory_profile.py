"""Where the memory of a traced program went: the values that `MemoryTracer` gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpu_optimizer.block_owners import CATEGORIES, Owner
from gpu_optimizer.event_table import FloatColumn, IntColumn
from gpu_optimizer.memory_walk import MemoryMap
from gpu_optimizer.types import AllocationTrace
from gpu_optimizer.units import format_bytes

Amounts = tuple[tuple[str, int], ...]
"""Bytes by name, the largest first."""


@dataclass(frozen=True, slots=True)
class PhaseMemory:
    """One phase of the program.

    Attributes
    ----------
    name : str
        One of `module_tags.PHASES`.
    peak_bytes : int
        The most that was allocated while the program was in it, whoever allocated it.
    retained_bytes : int
        The most that was alive at once of what it allocated and did not free itself.
    n_allocations : int
        How often it allocated.
    """

    name: str
    peak_bytes: int
    retained_bytes: int
    n_allocations: int


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """One module, without its parts, which have rows of their own.

    Attributes
    ----------
    module : str
        Its full name; `block_owners.OUTSIDE` for what belongs to none.
    at_peak_bytes : int
        What it owned when the program had allocated the most. All layers add up to that peak.
    own_peak_bytes : int
        The most that it owned at once.
    by_category : tuple of (str, int)
        Of `at_peak_bytes`.
    phases : tuple of PhaseMemory
        What happened while it was at work in each phase.
    """

    module: str
    at_peak_bytes: int
    own_peak_bytes: int
    by_category: Amounts
    phases: tuple[PhaseMemory, ...]


@dataclass(frozen=True, slots=True)
class LiveBlock:
    """An allocation that was alive at the peak."""

    block: int
    address: int
    size_bytes: int
    requested_bytes: int
    owner: Owner


@dataclass(frozen=True, slots=True, eq=False)
class ProfileTimeline:
    """Allocated and reserved memory over time, sampled so that every high point is kept.

    Attributes
    ----------
    events : ndarray of int64, shape (S,)
        Index of the event, rising.
    times_us : ndarray of float64, shape (S,)
        Since the first event; NaN where not measured.
    category_bytes : ndarray of int64, shape (S, C)
        By category, in the order of `block_owners.CATEGORIES`.
    reserved_bytes : ndarray of int64, shape (S,)
        Held from the driver.
    """

    events: IntColumn
    times_us: FloatColumn
    category_bytes: IntColumn
    reserved_bytes: IntColumn

    def __post_init__(self) -> None:
        shape = (self.events.size, len(CATEGORIES))
        if self.category_bytes.shape != shape:
            raise ValueError(
                f"category_bytes must have the shape {shape}, got {self.category_bytes.shape}"
            )
        for column in (self.events, self.times_us, self.category_bytes, self.reserved_bytes):
            if len(column) != shape[0]:
                raise ValueError(f"a timeline of {shape[0]} events has a column of {len(column)}")
            column.setflags(write=False)
        if np.any(np.diff(self.events) <= 0):
            raise ValueError("the events of a timeline must rise")


@dataclass(frozen=True, slots=True)
class PostMortem:
    """What can be said of an allocation that failed.

    Attributes
    ----------
    asked_bytes, device_free_bytes : int or None
        What was asked for and what the driver still had; None where nobody said so.
    allocated_bytes, reserved_bytes, largest_free_bytes : int
        Held at that moment by the program and by PyTorch, and the largest free block of the latter.
    missing_bytes : int or None
        By how much the driver's free memory was too small for the request.
    by_category, by_module : tuple of (str, int)
        Whose the allocated memory was.
    would_have_to_go : tuple of (str, int)
        The largest owners of what is neither parameter nor optimizer state, as ``"module:
        category"``, until they make up what was missing; of all the largest where that is unknown.
    """

    asked_bytes: int | None
    device_free_bytes: int | None
    allocated_bytes: int
    reserved_bytes: int
    largest_free_bytes: int
    missing_bytes: int | None
    by_category: Amounts
    by_module: Amounts
    would_have_to_go: Amounts

    def sentence(self) -> str:
        """Return it for a person."""
        asked = "memory" if self.asked_bytes is None else format_bytes(self.asked_bytes)
        held = format_bytes(self.allocated_bytes)
        cached = format_bytes(self.reserved_bytes - self.allocated_bytes)
        text = (
            f"{asked} was asked for when {held} was in use and {cached} more was cached, the "
            f"largest free block being {format_bytes(self.largest_free_bytes)}"
        )
        if self.device_free_bytes is not None:
            text += f"; the device had {format_bytes(self.device_free_bytes)} left"
        if self.missing_bytes:
            text += f", {format_bytes(self.missing_bytes)} too little"
        return text


@dataclass(frozen=True, slots=True)
class Moment:
    """The memory at one moment.

    Attributes
    ----------
    event : int
        Index into the events of the trace.
    time_us : float
        Since the first event; NaN where not measured.
    owner_bytes : tuple of (int, int)
        Index into `MemoryProfile.owners` and allocated bytes, for those that own any.
    memory : MemoryMap
        Segments and blocks.
    """

    event: int
    time_us: float
    owner_bytes: tuple[tuple[int, int], ...]
    memory: MemoryMap


@dataclass(frozen=True, slots=True, eq=False)
class MemoryProfile:
    """All that a trace tells.

    Attributes
    ----------
    trace : AllocationTrace
        Every event; the tag of a block is its owner's.
    block_bytes : ndarray of int64, shape (B,)
        What the allocator gave for each block, by its number.
    attribution : str
        As in `Recording`.
    peak_bytes, peak_reserved_bytes : int
        The most that was allocated and reserved, as ``max_memory_allocated`` counts it. Of a trace
        without a GPU: what PyTorch's CUDA allocator would have made of it.
    peak_event : int
        At which the most was allocated, the first such; -1 in an empty trace.
    peak_phase : str
        Where the program was then.
    start_bytes, end_bytes : int
        Allocated at the beginning and at the end.
    by_category : tuple of (str, int)
        At the peak.
    phases, layers : tuple
        In the order in which they began; layers by `LayerMemory.at_peak_bytes`, the largest first.
    at_peak : tuple of LiveBlock
        The largest first.
    timeline : ProfileTimeline
        Over time.
    owners : tuple of Owner
        The different ones.
    owner_of_block : ndarray of int64, shape (B,)
        Index into `owners`.
    moments : tuple of Moment
        A bounded number, the peak among them; fragmentation over time is theirs.
    out_of_memory : PostMortem or None
        If the program ran out of memory.
    error : str
        Name of the exception that ended the program, empty if none did.
    n_lost : int
        Events that the bounded history had to forget; their memory counts as there from the start.
    """

    trace: AllocationTrace
    block_bytes: IntColumn
    attribution: str
    peak_bytes: int
    peak_reserved_bytes: int
    peak_event: int
    peak_phase: str
    start_bytes: int
    end_bytes: int
    by_category: Amounts
    phases: tuple[PhaseMemory, ...]
    layers: tuple[LayerMemory, ...]
    at_peak: tuple[LiveBlock, ...]
    timeline: ProfileTimeline
    owners: tuple[Owner, ...]
    owner_of_block: IntColumn
    moments: tuple[Moment, ...]
    out_of_memory: PostMortem | None = None
    error: str = ""
    n_lost: int = 0

    def __post_init__(self) -> None:
        total = sum(layer.at_peak_bytes for layer in self.layers)
        if total != self.peak_bytes:
            raise ValueError(f"the layers must add up to {self.peak_bytes} bytes, got {total}")
