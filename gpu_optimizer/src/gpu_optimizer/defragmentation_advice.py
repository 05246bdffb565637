"""Which settings and remedies waste the least on a recorded or forecast trace, found by replay.

Each candidate is what a program can do about fragmentation: a text for ``PYTORCH_ALLOC_CONF``, one
large segment reserved at the start, a pool of its own for what lives long, ``empty_cache`` where a
phase ends, or several of these. The settings are described in PyTorch's documentation, "CUDA
semantics", section "Optimizing memory usage with PYTORCH_ALLOC_CONF". ``expandable_segments`` and
``max_split_size_mb`` are never combined: memory that expandable segments hold is then not reused
(pytorch issues 123548 and 193400).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Final

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.allocator_replay import replay
from gpu_optimizer.trace_edits import (
    TraceParts,
    trace_parts,
    with_emptied_cache,
    with_own_pool,
    with_reservation,
)
from gpu_optimizer.types import AllocationTrace

MAX_DRIVER_CALLS: Final = 2
"""A candidate may call the driver this many times as often as the default; chosen by us, as each
call stops the device or takes part of a millisecond."""
EQUAL_SHARE: Final = 0.001
"""Reserved peaks that differ by less than this count as equal; chosen by us."""
EXPANDABLE: Final = "expandable_segments:True"

_SETTINGS: Final = (
    EXPANDABLE,
    *(f"max_split_size_mb:{size}" for size in (32, 128, 512)),
    *(f"roundup_power2_divisions:{number}" for number in (4, 8)),
    f"{EXPANDABLE},roundup_power2_divisions:8",
)
_LIMITED_SETTINGS: Final = tuple(f"garbage_collection_threshold:{share}" for share in (0.6, 0.8))


@dataclass(frozen=True, slots=True)
class Remedies:
    """What is done about fragmentation.

    Attributes
    ----------
    settings : str
        Of ``PYTORCH_ALLOC_CONF``; empty for the defaults.
    reserve_bytes : int
        What is held from the start, of which the part that is missing then is taken in one piece
        and kept cached; 0 for nothing. With a pool of its own for what lives long this is for all
        else, and without for everything.
    has_own_pool : bool
        Whether parameters, buffers and optimizer state move to a pool of their own.
    empties_cache : bool
        Whether the cache is emptied where a phase ends.
    """

    settings: str = ""
    reserve_bytes: int = 0
    has_own_pool: bool = False
    empties_cache: bool = False

    def __post_init__(self) -> None:
        config = AllocatorConfig.parse(self.settings)
        if config.expandable_segments and config.max_split_size_mb is not None:
            raise ValueError(
                "expandable_segments and max_split_size_mb must not be combined, as reserved "
                f"memory then grows without need; got {self.settings!r}"
            )
        if self.reserve_bytes < 0:
            raise ValueError(f"reserve_bytes must not be negative, got {self.reserve_bytes}")
        if self.reserve_bytes and self.empties_cache:
            raise ValueError("reserve_bytes is of no use with empties_cache, which returns it")

    @property
    def n_remedies(self) -> int:
        """How many things are done."""
        settings = self.settings.count(":") if self.settings else 0
        return settings + (self.reserve_bytes > 0) + self.has_own_pool + self.empties_cache

    @property
    def name(self) -> str:
        """What is done, in words."""
        parts = (
            self.settings,
            "own pool" if self.has_own_pool else "",
            "reserve" if self.reserve_bytes else "",
            "empty cache" if self.empties_cache else "",
        )
        return " + ".join(part for part in parts if part) or "default"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the allocator makes of the trace under some remedies.

    Attributes
    ----------
    remedies : Remedies
        What is done.
    peak_reserved_bytes : int
        The most that is held, over the whole trace.
    waste : float
        1 - active / reserved when the most is held, 0 to 1; a reservation does not count as active.
    n_driver_calls : int
        As in `ReplayResult`.
    n_retries : int
        How often all cached memory was returned for an allocation, which stops the device.
    is_out_of_memory : bool
        Whether the program ends for want of memory.
    """

    remedies: Remedies
    peak_reserved_bytes: int
    waste: float
    n_driver_calls: int
    n_retries: int
    is_out_of_memory: bool


@dataclass(frozen=True, slots=True)
class DefragmentationAdvice:
    """What to do about the fragmentation of a program.

    Attributes
    ----------
    candidates : tuple of Candidate
        All that were replayed; the first is the default.
    chosen : Candidate
        The least reserved peak of those that do not call the driver much more often than the
        default, and of equal ones the one with the fewest remedies.
    """

    candidates: tuple[Candidate, ...]
    chosen: Candidate

    @property
    def default(self) -> Candidate:
        """The default settings without a remedy."""
        return self.candidates[0]

    @property
    def settings(self) -> str:
        """The value of ``PYTORCH_ALLOC_CONF``, empty where the defaults are best."""
        return self.chosen.remedies.settings

    @property
    def code(self) -> str:
        """What to write into the program, empty where the settings are all."""
        remedies = replace(self.chosen.remedies, settings="")
        if remedies == Remedies():
            return ""
        changed = ", ".join(
            f"{field.name}={getattr(remedies, field.name)}"
            for field in fields(remedies)
            if getattr(remedies, field.name) != field.default
        )
        return (
            "from gpu_optimizer.defragmenter import Defragmenter, Remedies\n\n"
            f"with Defragmenter(model, optimizer, Remedies({changed})) as defragmenter:\n"
            "    for batch in batches:\n"
            "        train_step(batch)\n"
            "        defragmenter.step_boundary()"
        )


def advise(trace: AllocationTrace, limit_bytes: int | None = None) -> DefragmentationAdvice:
    """Return what to do about the fragmentation of a program, found by replaying its trace.

    Parameters
    ----------
    trace : AllocationTrace
        From the first allocation on, and of several steps: what differs between them makes the
        fragments.
    limit_bytes : int or None
        The most that may be reserved. Garbage collection is tried only with a limit, as it acts on
        a share of it.

    Raises
    ------
    ValueError
        If the trace has no allocation or the limit is negative.
    """
    parts = trace_parts(trace)
    if not (parts.long_lived_bytes or parts.short_lived_bytes):
        raise ValueError("the trace has no allocation, so there is nothing to advise on")
    candidates = tuple(
        replay_candidate(trace, parts, remedies, limit_bytes)
        for remedies in dict.fromkeys(_all_remedies(parts, limit_bytes is not None))
    )
    return DefragmentationAdvice(candidates, _choice(candidates))


def replay_candidate(
    trace: AllocationTrace,
    parts: TraceParts,
    remedies: Remedies,
    limit_bytes: int | None = None,
) -> Candidate:
    """Return what the allocator makes of a trace under some remedies."""
    edited = trace
    if remedies.empties_cache:
        edited = with_emptied_cache(edited, parts.phase_ends)
    if remedies.has_own_pool:
        # The rows of what was inserted belong to no memory, so the mask is made anew.
        edited = with_own_pool(edited, trace_parts(edited).long_lived)
    first_event = 0
    if remedies.reserve_bytes:
        edited = with_reservation(edited, remedies.reserve_bytes)
        first_event = 2
    result = replay(
        edited,
        AllocatorConfig.parse(remedies.settings),
        limit_bytes=limit_bytes,
        n_samples=2,
        first_event=first_event,
    )
    return Candidate(
        remedies=remedies,
        peak_reserved_bytes=result.peak_reserved_bytes,
        waste=result.fragmentation.waste,
        n_driver_calls=result.n_driver_calls,
        n_retries=result.n_retries,
        is_out_of_memory=result.is_out_of_memory,
    )


def _all_remedies(parts: TraceParts, is_limited: bool) -> Iterator[Remedies]:
    """Yield what is tried, the default first."""
    yield Remedies()
    for settings in (*_SETTINGS, *(_LIMITED_SETTINGS if is_limited else ())):
        yield Remedies(settings)
    peak_bytes = parts.short_lived_bytes + parts.long_lived_bytes
    for settings in ("", EXPANDABLE):
        yield Remedies(settings, has_own_pool=True)
        yield Remedies(settings, empties_cache=True)
        yield Remedies(settings, has_own_pool=True, empties_cache=True)
        yield Remedies(settings, reserve_bytes=peak_bytes)
        yield Remedies(settings, reserve_bytes=parts.short_lived_bytes, has_own_pool=True)


def _choice(candidates: tuple[Candidate, ...]) -> Candidate:
    default = candidates[0]
    most_calls = MAX_DRIVER_CALLS * default.n_driver_calls
    possible = [
        one
        for one in candidates
        if not one.is_out_of_memory
        and one.n_driver_calls <= most_calls
        and one.n_retries <= default.n_retries
    ]
    if not possible:
        running = [one for one in candidates if not one.is_out_of_memory]
        possible = running or list(candidates)
    least = min(one.peak_reserved_bytes for one in possible)
    equal = [one for one in possible if one.peak_reserved_bytes <= least * (1 + EQUAL_SHARE)]
    return min(equal, key=lambda one: (one.remedies.n_remedies, one.peak_reserved_bytes))
