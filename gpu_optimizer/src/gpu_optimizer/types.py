"""The values of the memory model: what was asked of an allocator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AllocationEvent:
    """One request to the allocator.

    Attributes
    ----------
    kind : {"alloc", "free"}
        What was asked.
    block : int
        Number of the allocation, unique in its trace; a free names the allocation that it ends.
    n_bytes : int
        As requested, before any rounding.
    stream, pool : int
        Only memory of the same stream and pool can be used again.
    tag : str
        What it is and whose, ``"phase|module|category"``; empty if not known.
    time_us : float
        NaN if not measured, and for what was there before the trace began.
    """

    kind: Literal["alloc", "free"]
    block: int
    n_bytes: int
    stream: int = 0
    pool: int = 0
    tag: str = ""
    time_us: float = math.nan


@dataclass(frozen=True, slots=True)
class AllocationTrace:
    """Everything that a program asked of an allocator, in order.

    Attributes
    ----------
    events : tuple of AllocationEvent
        The requests.
    device : str
        ``"cuda:0"``, or what a trace without a GPU stands for.
    source : str
        Where it comes from: ``"cuda history"``, ``"fake"``.
    n_initial : int
        How many events at the start are allocations from before the trace began.
    """

    events: tuple[AllocationEvent, ...]
    device: str
    source: str
    n_initial: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.n_initial <= len(self.events):
            raise ValueError(
                f"n_initial must be 0 to {len(self.events)}, the events, got {self.n_initial}"
            )
