"""From the history that PyTorch's CUDA allocator keeps to an `AllocationTrace`.

``torch.cuda.memory._record_memory_history()`` makes the allocator record what it does, and
``torch.cuda.memory._snapshot()`` returns the records (``device_traces``) and all memory it holds
(``segments``); the names of their fields stand in the docstring of ``_snapshot``.

A block is free for others at ``free_completed``; ``free_requested`` is used only where a history
was recorded without the former.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gpu_optimizer.errors import TraceError
from gpu_optimizer.event_table import ALLOC, EMPTY_CACHE, FREE, NO_BLOCK
from gpu_optimizer.snapshot_events import EventColumns
from gpu_optimizer.snapshot_fields import Pools, Record, number, records, text
from gpu_optimizer.snapshot_segments import RELEASES, RESERVES, SegmentBook
from gpu_optimizer.types import AllocationTrace

_FREES: Final = ("free_completed", "free_requested")


@dataclass(frozen=True, slots=True)
class SnapshotReading:
    """What a snapshot says of one device.

    Attributes
    ----------
    trace : AllocationTrace
        The history.
    peak_reserved_bytes : int
        The most that was held from the driver, by the recorded segments.
    marks : tuple of int
        For each snapshot taken meanwhile, how many events of the trace were before it.
    out_of_memory : tuple of int
        The same for each allocation that failed; it is not among the events.
    addresses : tuple of int
        Where each block of the trace lies, by its number.
    """

    trace: AllocationTrace
    peak_reserved_bytes: int
    marks: tuple[int, ...]
    out_of_memory: tuple[int, ...]
    addresses: tuple[int, ...] = ()


def read_snapshot(snapshot: object, device_index: int = 0) -> SnapshotReading:
    """Return the history of a device from a snapshot.

    Parameters
    ----------
    snapshot : object
        What ``torch.cuda.memory._snapshot()`` returned, or the same read from JSON.
    device_index : int
        Which device.

    Raises
    ------
    ValueError
        If `device_index` is negative.
    TraceError
        If this is no snapshot, if it has no such device, or if it has no history.

    Notes
    -----
    Blocks from before the history stand at its start in the order of their addresses, found by what
    was freed without having been allocated and by what the segments hold at the end. Their
    segments, and those that were cached and free, are not known exactly: `is_truncated` says so.

    A run of returned segments becomes ``"empty_cache"`` if no free segment was left after it, by
    whatever it was caused: the effect is the same. Otherwise it was garbage collection or the
    return of single large blocks, which a replay finds by itself from the settings; it is counted
    in `dropped`.
    """
    if device_index < 0:
        raise ValueError(f"device_index must not be negative, got {device_index}")
    histories = snapshot.get("device_traces") if isinstance(snapshot, Mapping) else None
    if not isinstance(histories, list | tuple):
        raise TraceError("this is no snapshot of the CUDA allocator: it has no 'device_traces'")
    if device_index >= len(histories):
        raise TraceError(f"the snapshot has {len(histories)} devices, none of index {device_index}")
    history = records({"history": histories[device_index]}, "history")
    if not history:
        raise TraceError(
            f"the snapshot has no history of device {device_index}; call "
            "torch.cuda.memory._record_memory_history() before what is to be recorded"
        )
    segments = [
        segment
        for segment in records(snapshot, "segments")
        if number(segment, "device", 0) == device_index
    ]
    return _History(history, segments).reading(f"cuda:{device_index}")


class _History:
    """One walk through the records of a device."""

    def __init__(self, history: Sequence[Record], segments: Sequence[Record]) -> None:
        self._history = history
        self._segments = segments
        self._pools = Pools(segments, history)
        self._book = SegmentBook(history, segments, self._pools)
        self._events = EventColumns(self._pools)
        self._initial: list[tuple[int, int, int, Record]] = []
        self._live: dict[int, int] = {}
        self._addresses: list[int] = []
        self._marks: list[int] = []
        self._failures: list[int] = []
        self._dropped: Counter[str] = Counter()

    def reading(self, device: str) -> SnapshotReading:
        """Return what the history says."""
        is_completed = any(record.get("action") == _FREES[0] for record in self._history)
        free_action = _FREES[0] if is_completed else _FREES[1]
        for record in self._history:
            action = text(record, "action")
            if action not in RELEASES:
                self._end_release(record)
            if action == "alloc":
                self._allocate(record)
            elif action == free_action:
                self._free(record)
            elif action not in _FREES:
                self._other(record, action)
        self._end_release(self._history[-1])
        self._add_survivors()
        return self._finished(device)

    def _allocate(self, record: Record) -> None:
        address = number(record, "addr")
        if address in self._live:
            self._dropped["free that was not recorded"] += 1
            self._events.add(FREE, self._live.pop(address), 0, record)
        self._live[address] = self._new_block(address)
        self._events.add(ALLOC, self._live[address], number(record, "size"), record)

    def _free(self, record: Record) -> None:
        address, n_bytes = number(record, "addr"), number(record, "size")
        block = self._live.pop(address, None)
        if block is None:
            block = self._new_block(address)
            self._initial.append((address, block, n_bytes, record))
        self._events.add(FREE, block, n_bytes, record)

    def _other(self, record: Record, action: str) -> None:
        if action == "snapshot":
            self._marks.append(len(self._events))
        elif action == "oom":
            self._failures.append(len(self._events))
        elif action in RESERVES or action in RELEASES:
            self._book.move(record, action)
        else:
            self._dropped[f"unknown action {action!r}"] += 1

    def _end_release(self, record: Record) -> None:
        """After a run of returned segments, tell what it was."""
        if not self._book.is_releasing:
            return
        if self._book.end_release(self._live):
            self._events.add(EMPTY_CACHE, NO_BLOCK, 0, record)
        else:
            self._dropped["return of some of the free segments"] += 1

    def _add_survivors(self) -> None:
        """Find the blocks that were there before the history and still are."""
        for segment in self._segments:
            address = number(segment, "address")
            for block in records(segment, "blocks", "segments"):
                start = number(block, "address", address)
                address = start + number(block, "size")
                if block.get("state") != "inactive" and start not in self._live:
                    n_bytes = number(block, "requested_size", number(block, "size"))
                    self._initial.append((start, self._new_block(start), n_bytes, segment))

    def _new_block(self, address: int) -> int:
        self._addresses.append(address)
        return len(self._addresses) - 1

    def _finished(self, device: str) -> SnapshotReading:
        before = EventColumns(self._pools)
        for _, block, n_bytes, record in sorted(self._initial, key=lambda row: row[:2]):
            before.add_untimed(ALLOC, block, n_bytes, record)
        n_initial = len(before)
        try:
            trace = AllocationTrace(
                events=before.followed_by(self._events),
                device=device,
                source="cuda history",
                n_initial=n_initial,
                is_truncated=n_initial > 0 or self._book.initial_bytes > 0,
                dropped=tuple(sorted(self._dropped.items())),
                segments=tuple(self._book.given),
            )
        except (ValueError, OverflowError) as error:
            raise TraceError(f"the snapshot contradicts itself: {error}") from error
        return SnapshotReading(
            trace=trace,
            peak_reserved_bytes=self._book.peak_bytes,
            marks=tuple(mark + n_initial for mark in self._marks),
            out_of_memory=tuple(row + n_initial for row in self._failures),
            addresses=tuple(self._addresses),
        )
