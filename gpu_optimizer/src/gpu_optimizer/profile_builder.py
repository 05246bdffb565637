"""From a recording to a `MemoryProfile`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from gpu_optimizer.block_owners import BEFORE, PARAMETERS, STATE, Owners, find_owners, place_of
from gpu_optimizer.event_table import EventTable, IntColumn
from gpu_optimizer.memory_profile import (
    Amounts,
    LayerMemory,
    LiveBlock,
    MemoryProfile,
    Moment,
    PhaseMemory,
    PostMortem,
)
from gpu_optimizer.memory_walk import MemoryMap
from gpu_optimizer.recording import Failure, Recording, StorageNames
from gpu_optimizer.trace_course import TraceCourse
from gpu_optimizer.types import AllocationTrace

_MAX_MOMENTS: Final = 48
_MIN_MOMENTS: Final = 8
_BLOCKS_OF_ALL_MOMENTS: Final = 60_000
"""Chosen by us: with some 20 bytes for each an HTML page stays at about a megabyte."""
_N_TO_GO: Final = 8


def build_profile(recording: Recording, names: StorageNames, error: str = "") -> MemoryProfile:
    """Return what a recording tells.

    Parameters
    ----------
    recording : Recording
        From a GPU or from a CPU; it may be empty.
    names : StorageNames
        Whose storages are known.
    error : str
        Name of the exception that ended the program.
    """
    trace = recording.trace
    owners = find_owners(recording, names)
    walk = recording.walk(())
    course = TraceCourse(trace, owners, walk.block_bytes)
    failure = recording.failure
    maps = recording.walk(_moments(trace, course, failure)).maps
    moments = tuple(_moment(one, course) for one in maps)
    peak_blocks = course.alive(course.peak)
    return MemoryProfile(
        trace=_owned(trace, owners),
        block_bytes=walk.block_bytes,
        attribution=recording.attribution,
        peak_bytes=course.live_bytes(course.peak),
        peak_reserved_bytes=int(walk.reserved_bytes[max(course.first, 0) :].max(initial=0)),
        peak_event=course.peak,
        peak_phase=course.phase(course.peak),
        start_bytes=course.live_bytes(course.first),
        end_bytes=course.live_bytes(len(trace.events) - 1),
        by_category=course.amounts(peak_blocks, "category"),
        phases=_phases(trace, course, owners),
        layers=_layers(trace, course, owners),
        at_peak=_live_blocks(recording, owners, walk.block_bytes, peak_blocks),
        timeline=course.timeline(walk.reserved_bytes),
        owners=owners.owners,
        owner_of_block=owners.of_block,
        moments=moments,
        out_of_memory=None if failure is None else _post_mortem(failure, course, owners, maps),
        error=error,
        n_lost=recording.n_lost,
    )


def _moments(trace: AllocationTrace, course: TraceCourse, failure: Failure | None) -> list[int]:
    """Return the events at which to look at all blocks: the peak, and others evenly."""
    last = len(trace.events) - 1
    if last < 0:
        return []
    n_blocks = max(course.alive(course.peak).size, 1)
    n_moments = min(max(_BLOCKS_OF_ALL_MOMENTS // n_blocks, _MIN_MOMENTS), _MAX_MOMENTS)
    evenly = np.linspace(max(course.first, 0), last, n_moments).astype(np.int64).tolist()
    failed = [failure.event - 1] if failure is not None and failure.event else []
    return sorted({*evenly, course.peak, *failed})


def _moment(memory: MemoryMap, course: TraceCourse) -> Moment:
    owner_bytes = course.owner_bytes(course.alive(memory.event))
    return Moment(memory.event, course.time_us(memory.event), tuple(owner_bytes), memory)


def _phases(trace: AllocationTrace, course: TraceCourse, owners: Owners) -> tuple[PhaseMemory, ...]:
    at_work = course.peaks_at([place_of(tag)[0] for tag in trace.table.tags])
    retained = course.peaks_of([owner.phase for owner in owners.owners], is_retained=True)
    return tuple(
        PhaseMemory(phase, peak, retained.get(phase, 0), count)
        for phase, (peak, count) in at_work.items()
    )


def _layers(trace: AllocationTrace, course: TraceCourse, owners: Owners) -> tuple[LayerMemory, ...]:
    at_work = course.peaks_at([place_of(tag) for tag in trace.table.tags])
    pairs = [(owner.phase, owner.module) for owner in owners.owners]
    retained = course.peaks_of(pairs, is_retained=True)
    own = course.peaks_of([owner.module for owner in owners.owners])
    at_peak: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for index, size in course.owner_bytes(course.alive(course.peak)):
        at_peak[owners.owners[index].module][owners.owners[index].category] += size
    phases: defaultdict[str, list[PhaseMemory]] = defaultdict(list)
    for (phase, module), (peak, count) in at_work.items():
        kept = retained.get((phase, module), 0)
        phases[module].append(PhaseMemory(phase, peak, kept, count))
    rows = [
        LayerMemory(
            module=module,
            at_peak_bytes=sum(at_peak[module].values()),
            own_peak_bytes=own.get(module, 0),
            by_category=tuple(at_peak[module].most_common()),
            phases=tuple(phases[module]),
        )
        for module in dict.fromkeys([*own, *phases])
    ]
    return tuple(sorted(rows, key=lambda row: -row.at_peak_bytes))


def _live_blocks(
    recording: Recording, owners: Owners, block_bytes: IntColumn, blocks: IntColumn
) -> tuple[LiveBlock, ...]:
    table = recording.trace.table
    requested = np.zeros(block_bytes.size, np.int64)
    is_birth = table.kinds == 0
    requested[table.blocks[is_birth]] = table.n_bytes[is_birth]
    return tuple(
        LiveBlock(
            block=block,
            address=recording.addresses[block],
            size_bytes=int(block_bytes[block]),
            requested_bytes=int(requested[block]),
            owner=owners.owners[int(owners.of_block[block])],
        )
        for block in blocks.tolist()
    )


def _post_mortem(
    failure: Failure, course: TraceCourse, owners: Owners, maps: Sequence[MemoryMap]
) -> PostMortem:
    event = failure.event - 1
    blocks = course.alive(event)
    segments = next((one.segments for one in maps if one.event == event), ())
    free = [b.size_bytes for view in segments for b in view.blocks if b.block < 0]
    asked, left = failure.asked_bytes, failure.device_free_bytes
    missing = None if asked is None or left is None else max(asked - left, 0)
    return PostMortem(
        asked_bytes=asked,
        device_free_bytes=left,
        allocated_bytes=course.live_bytes(event),
        reserved_bytes=sum(view.size_bytes for view in segments),
        largest_free_bytes=max(free, default=0),
        missing_bytes=missing,
        by_category=course.amounts(blocks, "category"),
        by_module=course.amounts(blocks, "module"),
        would_have_to_go=_to_go(course.owner_bytes(blocks), owners, missing),
    )


def _to_go(owner_bytes: Sequence[tuple[int, int]], owners: Owners, missing: int | None) -> Amounts:
    """Return the largest owners of what a step can do without, until they are enough.

    Where the device had room all the same, as below a limit of the process, nobody knows what is
    enough: the largest are told.
    """
    totals: Counter[str] = Counter()
    for index, size in owner_bytes:
        owner = owners.owners[index]
        if owner.category not in {PARAMETERS, STATE} and owner.phase != BEFORE:
            totals[f"{owner.module}: {owner.category}"] += size
    chosen: list[tuple[str, int]] = []
    for name, size in totals.most_common(_N_TO_GO):
        if missing and sum(n for _, n in chosen) >= missing:
            break
        chosen.append((name, size))
    return tuple(chosen)


def _owned(trace: AllocationTrace, owners: Owners) -> AllocationTrace:
    """Return the trace with the tag of each block's owner."""
    table = trace.table
    tags = ("", *(owner.tag() for owner in owners.owners))
    is_block = table.blocks >= 0
    indices = np.zeros(len(table), np.int64)
    indices[is_block] = owners.of_block[table.blocks[is_block]] + 1
    columns = (table.kinds, table.blocks, table.n_bytes, table.streams, table.pools)
    return AllocationTrace(
        EventTable(*columns, indices, table.times_us, tags),
        trace.device,
        trace.source,
        trace.n_initial,
        trace.is_truncated,
        trace.dropped,
        trace.segments,
    )
