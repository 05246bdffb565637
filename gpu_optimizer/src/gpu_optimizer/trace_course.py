"""The blocks of a recording over time, as columns: what was alive when, and whose it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

import numpy as np

from gpu_optimizer.block_owners import CATEGORIES, Owners, place_of
from gpu_optimizer.event_table import ALLOC, EMPTY_CACHE, FREE, IntColumn
from gpu_optimizer.memory_profile import Amounts, ProfileTimeline
from gpu_optimizer.types import AllocationTrace

Key = TypeVar("Key", bound=Hashable)
N_SAMPLES: Final = 1200
"""Points of a timeline, about as many as a screen is wide."""


class TraceCourse:
    """Sums over the blocks of a trace.

    Parameters
    ----------
    trace : AllocationTrace
        The tag of each event is where the program was.
    owners : Owners
        Of every block.
    block_bytes : ndarray of int64, shape (B,)
        What the allocator gave for each.

    Attributes
    ----------
    first, peak : int
        The event after which the recording began, and that after which most was alive; -1 where
        there is none.
    """

    def __init__(self, trace: AllocationTrace, owners: Owners, block_bytes: IntColumn) -> None:
        self._trace, self._owners, self._block_bytes = trace, owners, block_bytes
        table = trace.table
        n_events = len(table)
        self._is_block = table.kinds != EMPTY_CACHE
        sizes = np.zeros(n_events, np.int64)
        sizes[self._is_block] = block_bytes[table.blocks[self._is_block]]
        self._deltas: IntColumn = np.where(table.kinds == ALLOC, sizes, -sizes)
        self._live: IntColumn = np.cumsum(self._deltas)
        self.first = trace.n_initial - 1
        start = max(self.first, 0)
        self.peak = start + int(self._live[start:].argmax()) if n_events else -1
        self._births = np.full(block_bytes.size, n_events)
        self._deaths = np.full(block_bytes.size, n_events)
        births, deaths = (np.flatnonzero(table.kinds == kind) for kind in (ALLOC, FREE))
        self._births[table.blocks[births]] = births
        self._deaths[table.blocks[deaths]] = deaths
        self._places = [place_of(tag) for tag in table.tags]

    def live_bytes(self, event: int) -> int:
        """Return what is allocated after an event; 0 before the first."""
        return int(self._live[event]) if event >= 0 else 0

    def phase(self, event: int) -> str:
        """Return where the program was at an event; empty where there is none."""
        return self._places[int(self._trace.table.tag_indices[event])][0] if event >= 0 else ""

    def time_us(self, event: int) -> float:
        """Return when an event was, counted from the first one with a time; NaN if not measured."""
        times = self._trace.table.times_us
        known = times[~np.isnan(times)]
        return float(times[event] - known[0]) if event >= 0 and known.size else float("nan")

    def alive(self, event: int) -> IntColumn:
        """Return the blocks that are alive after an event, the largest first."""
        blocks = np.flatnonzero((self._births <= event) & (self._deaths > event))
        ordered: IntColumn = blocks[np.argsort(-self._block_bytes[blocks], kind="stable")]
        return ordered

    def owner_bytes(self, blocks: IntColumn) -> list[tuple[int, int]]:
        """Return the bytes of some blocks by the index of their owner."""
        n_owners = len(self._owners.owners)
        totals = np.zeros(n_owners, np.int64)
        np.add.at(totals, self._owners.of_block[blocks], self._block_bytes[blocks])
        return [(index, int(totals[index])) for index in np.flatnonzero(totals).tolist()]

    def amounts(self, blocks: IntColumn, field: str) -> Amounts:
        """Return the bytes of some blocks by a field of their owners, the largest first."""
        totals: Counter[str] = Counter()
        for index, size in self.owner_bytes(blocks):
            totals[str(getattr(self._owners.owners[index], field))] += size
        return tuple(totals.most_common())

    def peaks_at(self, keys: Sequence[Key]) -> dict[Key, tuple[int, int]]:
        """Return the most that was alive while the program was somewhere, and its allocations.

        Parameters
        ----------
        keys : sequence
            For each tag of the trace what it counts for.
        """
        table, start = self._trace.table, self.first + 1
        found: dict[Key, tuple[int, int]] = {}
        tags, live = table.tag_indices[start:], self._live[start:]
        highest = np.zeros(len(keys), np.int64)
        np.maximum.at(highest, tags, live)
        is_birth = table.kinds[start:] == ALLOC
        counts = np.bincount(tags[is_birth], minlength=len(keys))
        for index in dict.fromkeys(tags.tolist()):
            peak, count = found.get(keys[index], (0, 0))
            found[keys[index]] = max(peak, int(highest[index])), count + int(counts[index])
        return found

    def peaks_of(self, keys: Sequence[Key], *, is_retained: bool = False) -> dict[Key, int]:
        """Return the most that was alive at once of the blocks of some owners.

        Parameters
        ----------
        keys : sequence
            For each owner what its blocks count for.
        is_retained : bool
            Whether to count only blocks that the phase that made them did not free.
        """
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        number_of_owner = np.array([numbers[key] for key in keys], np.int64)
        is_counted = self._is_block.copy()
        blocks = np.where(is_counted, self._trace.table.blocks, 0)
        if is_retained:
            is_counted[is_counted] = self._outlives()[blocks[is_counted]]
        rows = np.flatnonzero(is_counted)
        groups = number_of_owner[self._owners.of_block[blocks[rows]]]
        order = np.argsort(groups, kind="stable")
        groups, deltas = groups[order], self._deltas[rows][order]
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        sums = np.cumsum(deltas)
        if not starts.size:
            return dict.fromkeys(numbers, 0)
        before = np.repeat(sums[starts] - deltas[starts], np.diff(starts, append=groups.size))
        highest = dict(
            zip(
                groups[starts].tolist(),
                np.maximum.reduceat(sums - before, starts).tolist(),
                strict=True,
            )
        )
        return {key: int(highest.get(number, 0)) for key, number in numbers.items()}

    def timeline(self, reserved_bytes: IntColumn) -> ProfileTimeline:
        """Return the bytes by category at some events: in each stretch the highest."""
        rows = self._samples()
        category_of = {name: index for index, name in enumerate(CATEGORIES)}
        columns = np.array([category_of[one.category] for one in self._owners.owners], np.int64)
        blocks = np.where(self._is_block, self._trace.table.blocks, 0)
        category = columns[self._owners.of_block[blocks]] if columns.size else blocks
        table = np.zeros((rows.size, len(CATEGORIES)), np.int64)
        for index in range(len(CATEGORIES)):
            table[:, index] = np.cumsum(np.where(category == index, self._deltas, 0))[rows]
        times = self._trace.table.times_us
        known = times[~np.isnan(times)]
        since = times - (known[0] if known.size else 0)
        return ProfileTimeline(rows, since[rows], table, reserved_bytes[rows])

    def _samples(self) -> IntColumn:
        n_events = len(self._live)
        start = max(self.first, 0)
        edges = np.unique(np.linspace(start, n_events, N_SAMPLES + 1).astype(np.int64))
        highest = [
            int(low + self._live[low:high].argmax())
            for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        ]
        return np.unique(np.array([*highest, *([n_events - 1] if n_events else [])], np.int64))

    def _outlives(self) -> IntColumn:
        """Return for each block whether the phase that made it did not free it."""
        table = self._trace.table
        numbers: dict[str, int] = {}
        phases = [numbers.setdefault(phase, len(numbers)) for phase, _ in self._places]
        at_event = np.array([*(phases[tag] for tag in table.tag_indices.tolist()), -1], np.int64)
        outlives: IntColumn = at_event[self._births] != at_event[self._deaths]
        return outlives
