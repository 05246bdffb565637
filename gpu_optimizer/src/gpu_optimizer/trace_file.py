"""Traces in files: ``.npz`` for a million events, ``.jsonl`` for people.

Nothing is ever unpickled blindly: arrays are read without pickle, and a snapshot's pickle only as
far as it is made of dictionaries, lists, texts and numbers.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import IO, Final

import numpy as np

from gpu_optimizer.errors import TraceError
from gpu_optimizer.event_table import AllocationEvent, EventTable
from gpu_optimizer.snapshot_reader import SnapshotReading, read_snapshot
from gpu_optimizer.types import AllocationTrace
from gpu_optimizer.units import format_bytes

FORMAT: Final = "gpu-optimizer allocation trace"
VERSION: Final = 1
MAX_FILE_BYTES: Final = 4 * 2**30
"""Unpacked; chosen by us, some 80 million events."""

_COLUMNS: Final = ("kinds", "blocks", "n_bytes", "streams", "pools", "tag_indices", "times_us")

_EVENT_KEYS: Final = ("kind", "block", "n_bytes", "stream", "pool", "tag", "time_us")
_DAMAGE: Final = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
    RecursionError,
)
"""What reading a damaged file raises."""


def save_trace(trace: AllocationTrace, path: str | PathLike[str]) -> None:
    """Write a trace, in the format that the ending of the file names.

    Raises
    ------
    ValueError
        If the ending is neither ``.npz`` nor ``.jsonl``.
    """
    path = Path(path)
    head = {
        "format": FORMAT,
        "version": VERSION,
        "device": trace.device,
        "source": trace.source,
        "n_initial": trace.n_initial,
        "is_truncated": trace.is_truncated,
        "dropped": trace.dropped,
        "segments": trace.segments,
    }
    if path.suffix == ".npz":
        columns = {name: getattr(trace.table, name) for name in _COLUMNS}
        text = json.dumps({**head, "tags": trace.table.tags})
        np.savez_compressed(path, head=_as_bytes(text), **columns)
    elif path.suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as file:
            file.write(json.dumps({**head, "columns": _EVENT_KEYS}) + "\n")
            for event in trace.events:
                file.write(json.dumps(_event_row(event)) + "\n")
    else:
        raise ValueError(f"a trace is written as .npz or .jsonl, got {path.name!r}")


def load_trace(path: str | PathLike[str]) -> AllocationTrace:
    """Read a trace that `save_trace` wrote.

    Raises
    ------
    ValueError
        If the ending is neither ``.npz`` nor ``.jsonl``.
    TraceError
        If the file cannot be read, is something else, of another version, or damaged.
    """
    path = Path(path)
    if path.suffix not in {".npz", ".jsonl"}:
        raise ValueError(f"a trace is read from .npz or .jsonl, got {path.name!r}")
    try:
        return _load_arrays(path) if path.suffix == ".npz" else _load_lines(path)
    except OSError as error:
        raise TraceError(f"{path.name} cannot be read: {error.strerror or error}") from error
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        # zipfile says RuntimeError of what is encrypted, or packed as it does not know.
        raise TraceError(f"{path.name} is damaged or no allocation trace: {error}") from error


def load_snapshot(path: str | PathLike[str], device_index: int = 0) -> SnapshotReading:
    """Read a snapshot of the CUDA allocator from JSON or from the pickle that PyTorch writes.

    Parameters
    ----------
    path : Path
        ``.json``, or ``.pickle`` as of ``torch.cuda.memory._dump_snapshot``; a pickle that asks for
        any class or function is refused.
    device_index : int
        Which device.

    Raises
    ------
    ValueError
        If the ending is neither, or the index is negative.
    TraceError
        If the file cannot be read or is no snapshot.
    """
    path = Path(path)
    if path.suffix not in {".json", ".pickle"}:
        raise ValueError(f"a snapshot is read from .json or .pickle, got {path.name!r}")
    try:
        _check_size(path.name, path.stat().st_size)
        with path.open("rb") as file:
            content = json.load(file) if path.suffix == ".json" else _PlainUnpickler(file).load()
    except OSError as error:
        raise TraceError(f"{path.name} cannot be read: {error.strerror or error}") from error
    except _DAMAGE as error:
        raise TraceError(f"{path.name} is damaged or no snapshot: {error}") from error
    return read_snapshot(content, device_index)


class _PlainUnpickler(pickle.Unpickler):
    """Reads only what needs no class, so that nothing in a file can run."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)

    def find_class(self, module_name: str, global_name: str, /) -> object:
        """Refuse every class and function."""
        raise pickle.UnpicklingError(
            f"it asks for {module_name}.{global_name}, and only plain values are read"
        )


def _load_arrays(path: Path) -> AllocationTrace:
    with zipfile.ZipFile(path) as archive:
        _check_size(path.name, sum(entry.file_size for entry in archive.infolist()))
    with np.load(path, allow_pickle=False) as arrays:
        head = _head(path.name, bytes(arrays["head"]).decode("utf-8"))
        columns = {name: arrays[name] for name in _COLUMNS}
    tags = tuple(str(tag) for tag in _rows(head, "tags"))
    return _trace(head, EventTable(**columns, tags=tags))


def _load_lines(path: Path) -> AllocationTrace:
    _check_size(path.name, path.stat().st_size)
    with path.open(encoding="utf-8") as file:
        head = _head(path.name, file.readline())
        events = [_row_event(json.loads(line)) for line in file]
    return _trace(head, EventTable.of(events))


def _head(name: str, text: str) -> Mapping[str, object]:
    """Return the head of a trace file; TraceError where it is another's."""
    head = json.loads(text)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise TraceError(f"{name} is no allocation trace of gpu_optimizer")
    if head.get("version") != VERSION:
        raise TraceError(
            f"{name} is a trace of format version {head.get('version')}; this release reads "
            f"version {VERSION}, record it again or install the release that wrote it"
        )
    return head


def _trace(head: Mapping[str, object], table: EventTable) -> AllocationTrace:
    n_initial = head["n_initial"]
    if not isinstance(n_initial, int):
        raise TypeError(f"n_initial is {n_initial!r}")
    dropped = [_pair(pair) for pair in _rows(head, "dropped")]
    return AllocationTrace(
        events=table,
        device=str(head["device"]),
        source=str(head["source"]),
        n_initial=n_initial,
        is_truncated=head["is_truncated"] is True,
        dropped=tuple(dropped),
        segments=tuple(_two_numbers(pair) for pair in _rows(head, "segments")),
    )


def _rows(head: Mapping[str, object], key: str) -> list[object]:
    value = head[key]
    if not isinstance(value, list):
        raise TypeError(f"{key} is {value!r}")
    return value


def _pair(pair: object) -> tuple[str, int]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise TypeError(f"{pair!r} is no cause with its count")
    return str(pair[0]), int(pair[1])


def _two_numbers(pair: object) -> tuple[int, int]:
    match pair:
        case [int(first), int(second)]:
            return first, second
        case _:
            raise TypeError(f"{pair!r} is no address with its bytes")


def _check_size(name: str, n_bytes: int) -> None:
    if n_bytes > MAX_FILE_BYTES:
        raise TraceError(
            f"{name} holds {format_bytes(n_bytes)}, more than the "
            f"{format_bytes(MAX_FILE_BYTES)} that are read; record fewer steps"
        )


def _as_bytes(text: str) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(text.encode("utf-8"), np.uint8)


def _event_row(event: AllocationEvent) -> list[object]:
    time_us = None if math.isnan(event.time_us) else event.time_us
    row = [getattr(event, key) for key in _EVENT_KEYS[:-1]]
    return [*row, time_us]


def _row_event(row: object) -> AllocationEvent:
    match row:
        case [
            "alloc" | "free" | "empty_cache" as kind,
            int(block),
            int(n_bytes),
            int(stream),
            int(pool),
            str(tag),
            int() | float() | None as time_us,
        ]:
            time = math.nan if time_us is None else float(time_us)
            return AllocationEvent(kind, block, n_bytes, stream, pool, tag, time)
        case _:
            raise ValueError(f"{row!r} is no event")
