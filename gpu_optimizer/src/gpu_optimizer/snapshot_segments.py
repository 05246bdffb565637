"""The segments of a snapshot while its history is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from gpu_optimizer.snapshot_fields import DEFAULT_POOL, Pools, Record, number, text

RESERVES: Final = frozenset({"segment_alloc", "segment_map"})
RELEASES: Final = frozenset({"segment_free", "segment_unmap"})


class SegmentBook:
    """Follows what is held from the driver.

    Parameters
    ----------
    history : sequence of records
        All of it.
    segments : sequence of records
        Those at its end.
    pools : Pools
        Whose memory is whose.

    Attributes
    ----------
    initial_bytes, peak_bytes : int
        Held when the history began, and the most so far.
    is_releasing : bool
        Whether the last records returned segments.
    given : list of (int, int)
        Address and bytes of each whole segment that the driver gave, in order.
    """

    def __init__(self, history: Sequence[Record], segments: Sequence[Record], pools: Pools) -> None:
        self._pools = pools
        change = 0
        born: set[int] = set()
        older: dict[int, int] = {}
        for record in history:
            action = text(record, "action")
            if action in RESERVES:
                change += number(record, "size")
                born.add(number(record, "addr"))
            elif action in RELEASES:
                change -= number(record, "size")
                if action == "segment_free" and number(record, "addr") not in born:
                    older[number(record, "addr")] = number(record, "size")
        at_end = sum(number(segment, "total_size") for segment in segments)
        self.initial_bytes = max(at_end - change, 0)
        self.peak_bytes = self.initial_bytes
        self.is_releasing = False
        self.given: list[tuple[int, int]] = []
        self._bytes = self.initial_bytes
        self._segments = older
        """Those of the default pool that are returned whole, by address."""
        for segment in segments:
            is_fixed = not segment.get("is_expandable", False)
            if (
                is_fixed
                and number(segment, "address") not in born
                and pools.of(segment) == DEFAULT_POOL
            ):
                self._segments[number(segment, "address")] = number(segment, "total_size")

    def move(self, record: Record, action: str) -> None:
        """Take a segment in or out."""
        n_bytes = number(record, "size")
        address = number(record, "addr")
        if action in RELEASES:
            self._bytes -= n_bytes
            self._segments.pop(address, None)
            if action == "segment_free":
                self._pools.release(record)
            self.is_releasing = True
            return
        self._bytes += n_bytes
        self.peak_bytes = max(self.peak_bytes, self._bytes)
        if action == "segment_alloc":
            self.given.append((address, n_bytes))
            if self._pools.of(record) == DEFAULT_POOL:
                self._segments[address] = n_bytes

    def end_release(self, live: Iterable[int]) -> bool:
        """Return whether no free segment was left after a run of returned ones.

        Parameters
        ----------
        live : iterable of int
            Addresses of the blocks in use.
        """
        self.is_releasing = False
        used = np.sort(np.fromiter(live, np.int64))
        starts = np.array(list(self._segments), np.int64)
        ends = starts + np.array(list(self._segments.values()), np.int64)
        return bool(np.all(np.searchsorted(used, starts) < np.searchsorted(used, ends)))
