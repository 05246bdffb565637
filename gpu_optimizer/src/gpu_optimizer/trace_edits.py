"""What a program would ask of the allocator with a remedy: a trace in, a changed trace out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from gpu_optimizer.event_table import (
    ALLOC,
    EMPTY_CACHE,
    FREE,
    NO_BLOCK,
    EventTable,
    IntColumn,
)
from gpu_optimizer.types import AllocationTrace

LONG_LIFE: Final = 0.5
"""Share of a trace's events that what counts as long-lived must outlive; chosen by us."""
HIGH_SHARE: Final = 0.3
LOW_SHARE: Final = 0.05
"""Of the peak of short-lived memory: a phase rises above the one and ends below the other; chosen
by us."""

_STATE: Final = frozenset({"parameter", "buffer", "optimizer state"})

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TraceParts:
    """What of a trace is long-lived, and where its phases end.

    Attributes
    ----------
    long_lived : ndarray of bool, shape (N,)
        Whether an event is about long-lived memory: of a parameter, a buffer or optimizer state
        where the trace has such tags, and otherwise an allocation that outlives `LONG_LIFE`.
    phase_ends : tuple of int
        Events after which almost all short-lived memory is free again, rising.
    long_lived_bytes, short_lived_bytes : int
        The most that each holds at once, as requested.
    """

    long_lived: Mask
    phase_ends: tuple[int, ...]
    long_lived_bytes: int
    short_lived_bytes: int


def trace_parts(trace: AllocationTrace) -> TraceParts:
    """Return what of a trace is long-lived, and where its phases end."""
    table = trace.table
    is_long = _long_lived(table)
    changes = _changes(table)
    long_bytes = np.cumsum(np.where(is_long, changes, 0))
    short_bytes = np.cumsum(np.where(is_long, 0, changes))
    return TraceParts(
        long_lived=is_long,
        phase_ends=_ends(short_bytes),
        long_lived_bytes=int(long_bytes.max(initial=0)),
        short_lived_bytes=int(short_bytes.max(initial=0)),
    )


def with_own_pool(trace: AllocationTrace, is_long: Mask) -> AllocationTrace:
    """Return the trace with some of its memory in a pool of its own, from its allocation on."""
    table = trace.table
    pools = np.where(is_long & (table.pools == 0), _new_pool(table), table.pools)
    return replace(trace, events=replace(table, pools=pools), segments=())


def with_reservation(trace: AllocationTrace, n_bytes: int) -> AllocationTrace:
    """Return the trace with one allocation before all others that is freed at once.

    Its two events come first; they are no need of the program.
    """
    if n_bytes < 1:
        raise ValueError(f"n_bytes must be at least 1, got {n_bytes}")
    table = trace.table
    block = int(table.blocks.max(initial=0)) + 1
    kinds, blocks = np.array([ALLOC, FREE]), np.array([block, block])
    head = _inserted(table, np.array([0, 0]), kinds, blocks, np.array([n_bytes, n_bytes]))
    # What was there before the trace is then no longer at its start.
    return replace(trace, events=head, n_initial=0, segments=())


def with_emptied_cache(trace: AllocationTrace, after: tuple[int, ...]) -> AllocationTrace:
    """Return the trace with ``empty_cache`` after some of its events."""
    rows = np.array(after, np.int64) + 1
    n = rows.size
    kinds, blocks = np.full(n, EMPTY_CACHE), np.full(n, NO_BLOCK)
    table = _inserted(trace.table, rows, kinds, blocks, np.zeros(n, np.int64))
    n_before = int(np.count_nonzero(rows < trace.n_initial))
    return replace(trace, events=table, n_initial=0 if n_before else trace.n_initial, segments=())


def _new_pool(table: EventTable) -> int:
    return int(table.pools.max(initial=0)) + 1


def _inserted(
    table: EventTable, rows: IntColumn, kinds: IntColumn, blocks: IntColumn, n_bytes: IntColumn
) -> EventTable:
    """Return the table with events of the default stream and pool before the given rows."""
    zeros = np.zeros(rows.size, np.int64)
    return EventTable(
        kinds=np.insert(table.kinds, rows, kinds.astype(np.int8)),
        blocks=np.insert(table.blocks, rows, blocks),
        n_bytes=np.insert(table.n_bytes, rows, n_bytes),
        streams=np.insert(table.streams, rows, zeros),
        pools=np.insert(table.pools, rows, zeros),
        tag_indices=np.insert(table.tag_indices, rows, zeros),
        times_us=np.insert(table.times_us, rows, np.full(rows.size, np.nan)),
        tags=table.tags,
    )


def _sizes_and_ends(table: EventTable) -> tuple[IntColumn, IntColumn, IntColumn]:
    """Return the rows of the allocations, and of each its bytes and the row of its free.

    What is never freed ends behind the last event.
    """
    born = np.flatnonzero(table.kinds == ALLOC)
    freed = np.flatnonzero(table.kinds == FREE)
    ends = np.full(born.size, len(table), np.int64)
    order = np.argsort(table.blocks[born], kind="stable")
    place = np.searchsorted(table.blocks[born][order], table.blocks[freed])
    ends[order[place]] = freed
    return born, table.n_bytes[born], ends


def _changes(table: EventTable) -> IntColumn:
    """Return by how much each event changes what is requested."""
    born, sizes, ends = _sizes_and_ends(table)
    changes = np.zeros(len(table) + 1, np.int64)
    changes[born] += sizes
    np.subtract.at(changes, ends, sizes)
    return changes[:-1]


def _long_lived(table: EventTable) -> Mask:
    born, _, ends = _sizes_and_ends(table)
    is_state = np.array([tag.rpartition("|")[2] in _STATE for tag in table.tags])
    chosen = is_state[table.tag_indices[born]]
    if not chosen.any():
        chosen = ends - born > LONG_LIFE * len(table)
    mask = np.zeros(len(table) + 1, np.bool_)
    mask[born[chosen]] = True
    mask[ends[chosen]] = True
    return mask[:-1]


def _ends(short_bytes: IntColumn) -> tuple[int, ...]:
    """Return where short-lived memory has fallen after it was high."""
    peak = short_bytes.max(initial=0)
    if not peak:
        return ()
    level = np.where(short_bytes > HIGH_SHARE * peak, 1, 0)
    level[short_bytes <= LOW_SHARE * peak] = -1
    rows = np.flatnonzero(level)
    falls = (level[rows[1:]] == -1) & (level[rows[:-1]] == 1)
    return tuple(rows[1:][falls].tolist())
