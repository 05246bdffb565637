"""The history of PyTorch's CUDA allocator while a block of a program runs, with tags.

Private functions of ``torch.cuda.memory`` are looked for before they are used. No stack is
recorded: a record costs about a microsecond, and a tag is one call. Nothing is read before the end.
"""

from __future__ import annotations

import inspect
import os
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np
import torch

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.errors import TraceError
from gpu_optimizer.event_table import EMPTY_CACHE, EventTable
from gpu_optimizer.memory_walk import Walker, replay_walk
from gpu_optimizer.placed_memory import PlacementError
from gpu_optimizer.placed_walk import PlacedWalk
from gpu_optimizer.recording import Attribution, Failure, Recording
from gpu_optimizer.snapshot_fields import Record, records
from gpu_optimizer.snapshot_reader import SnapshotReading, read_snapshot
from gpu_optimizer.types import AllocationTrace

_SETTINGS: Final = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
_UNPLACED: Final = "allocation whose place is not known"


class CudaHistory:
    """Records what one CUDA device's allocator does.

    Parameters
    ----------
    device_index : int
        Which device.
    max_entries : int
        The most records that are kept; older ones are overwritten.
    """

    def __init__(self, device_index: int, max_entries: int) -> None:
        self._device_index = device_index
        self._max_entries = max_entries
        self._before: Sequence[Record] = ()
        self._counts = (0, 0)
        self._marks: list[tuple[int, str]] = []
        setter: Callable[[str], object] | None = getattr(torch._C, "_cuda_setMemoryMetadata", None)
        self.attribution: Attribution = "memory_stats" if setter is None else "metadata"
        self.put: Callable[[str], object] = self._mark if setter is None else setter

    def start(self) -> None:
        """Begin to record.

        Raises
        ------
        TraceError
            If this build of PyTorch keeps no history.
        """
        record = getattr(torch.cuda.memory, "_record_memory_history", None)
        if record is None:
            raise TraceError(
                f"PyTorch {torch.__version__} keeps no history of its CUDA allocator: "
                "trace with device='cpu', or use PyTorch 2.11 or newer"
            )
        torch.cuda.synchronize(self._device_index)
        everything = _segments()
        self._before = [one for one in everything if one.get("device") == self._device_index]
        self._counts = _event_counts(self._device_index)
        known = inspect.signature(torch.cuda.memory._record_memory_history_impl).parameters
        options: dict[str, object] = {"context": None, "stacks": "python"}
        for name, value in (("clear_history", True), ("skip_actions", ["free_requested"])):
            if name in known:
                options[name] = value
        record("all", max_entries=self._max_entries, **options)

    def stop(self) -> Recording:
        """Read what was recorded and end it; nothing of it stays in PyTorch."""
        torch.cuda.synchronize(self._device_index)
        counts = _event_counts(self._device_index)
        snapshot: object = torch.cuda.memory._snapshot()
        torch.cuda.memory._record_memory_history(None)
        n_events = sum(counts) - sum(self._counts) if self._is_full(snapshot) else None
        return read_recording(
            snapshot, self._device_index, self._before, n_events, self._marks_or_none()
        )

    def cancel(self) -> None:
        """End the recording without reading it."""
        torch.cuda.memory._record_memory_history(None)

    def _is_full(self, snapshot: object) -> bool:
        histories = snapshot.get("device_traces", ()) if isinstance(snapshot, Mapping) else ()
        is_there = self._device_index < len(histories)
        return is_there and len(histories[self._device_index]) >= self._max_entries

    def _marks_or_none(self) -> Sequence[tuple[int, str]] | None:
        if self.attribution == "metadata":
            return None
        return [(n - sum(self._counts), tag) for n, tag in self._marks]

    def _mark(self, tag: str) -> None:
        """Note how many allocations and frees there were before a change of tag."""
        self._marks.append((sum(_event_counts(self._device_index)), tag))


def read_recording(
    snapshot: object,
    device_index: int,
    before: Sequence[Record],
    n_events: int | None = None,
    marks: Sequence[tuple[int, str]] | None = None,
) -> Recording:
    """Return the recording of a device from what PyTorch tells.

    Parameters
    ----------
    snapshot : object
        What ``torch.cuda.memory._snapshot()`` returned.
    device_index : int
        Which device.
    before : sequence of records
        The device's segments when the history began.
    n_events : int, optional
        Where the history overflowed: how many allocations and frees there were, by the allocator's
        counters.
    marks : sequence of (int, str), optional
        Where records have no tags: each change of tag and how many events were before it.

    Raises
    ------
    TraceError
        If the snapshot is damaged.
    """
    histories = snapshot.get("device_traces", ()) if isinstance(snapshot, Mapping) else ()
    history = histories[device_index] if device_index < len(histories) else ()
    if not history:
        trace = AllocationTrace((), f"cuda:{device_index}", "cuda history")
        return Recording(trace, (), partial(replay_walk, trace), _attribution(marks))
    reading = read_snapshot(snapshot, device_index)
    n_recorded = int((reading.trace.table.kinds[reading.trace.n_initial :] != EMPTY_CACHE).sum())
    n_lost = 0 if n_events is None else max(n_events - n_recorded, 0)
    trace = reading.trace if marks is None else _tagged(reading.trace, marks, n_lost)
    config = settings_from(os.environ)
    walk: Walker
    try:
        walk = PlacedWalk(trace, reading.addresses, before, history, config)
    except PlacementError:
        trace = _with_dropped(trace, _UNPLACED)
        walk = partial(replay_walk, trace, config=config)
    return Recording(
        trace, reading.addresses, walk, _attribution(marks), n_lost, _failure(reading, history)
    )


def settings_from(environment: Mapping[str, str]) -> AllocatorConfig:
    """Return the allocator's settings that an environment asks for; the defaults without any.

    Settings that this package does not know are PyTorch's business; then the defaults are taken.
    """
    value = next((environment[name] for name in _SETTINGS if environment.get(name)), "")
    try:
        return AllocatorConfig.parse(value) if value else AllocatorConfig()
    except ValueError:
        return AllocatorConfig()


def _tagged(
    trace: AllocationTrace, marks: Sequence[tuple[int, str]], n_lost: int
) -> AllocationTrace:
    """Return a trace whose events have the tag of the last mark before them."""
    table = trace.table
    names = ("", *dict.fromkeys(tag for _, tag in marks if tag))
    index_of = {tag: index for index, tag in enumerate(names)}
    starts = [count for count, _ in marks]
    indices = np.zeros(len(table), np.int64)
    n_before = n_lost
    for row in range(trace.n_initial, len(table)):
        place = bisect_right(starts, n_before) - 1
        indices[row] = index_of[marks[place][1]] if place >= 0 else 0
        n_before += int(table.kinds[row] != EMPTY_CACHE)
    columns = (table.kinds, table.blocks, table.n_bytes, table.streams, table.pools)
    return _replaced(trace, EventTable(*columns, indices, table.times_us, names), trace.dropped)


def _with_dropped(trace: AllocationTrace, cause: str) -> AllocationTrace:
    n_events = len(trace.events) - trace.n_initial
    return _replaced(trace, trace.table, (*trace.dropped, (cause, n_events)))


def _replaced(
    trace: AllocationTrace, table: EventTable, dropped: tuple[tuple[str, int], ...]
) -> AllocationTrace:
    return AllocationTrace(
        table,
        trace.device,
        trace.source,
        trace.n_initial,
        trace.is_truncated,
        dropped,
        trace.segments,
    )


def _attribution(marks: object) -> Attribution:
    return "metadata" if marks is None else "memory_stats"


def _failure(reading: SnapshotReading, history: Sequence[Record]) -> Failure | None:
    """Return the last allocation that failed."""
    if not reading.out_of_memory:
        return None
    record = next(one for one in reversed(history) if one.get("action") == "oom")
    asked, free = record.get("size"), record.get("device_free")
    return Failure(
        reading.out_of_memory[-1],
        asked if isinstance(asked, int) else None,
        free if isinstance(free, int) else None,
    )


def _segments() -> Sequence[Record]:
    """Return the segments of all devices, without the history where that can be told."""
    parameters = inspect.signature(torch.cuda.memory_snapshot).parameters
    options = {"include_traces": False} if "include_traces" in parameters else {}
    found = torch.cuda.memory_snapshot(**options)  # type: ignore[no-untyped-call]
    return records({"segments": found}, "segments")


def _event_counts(device_index: int) -> tuple[int, int]:
    """Return how many blocks the allocator ever gave and took back."""
    stats = torch._C._cuda_memoryStats(device_index)
    counts = stats["allocation"]["all"]
    return int(counts["allocated"]), int(counts["freed"])
