"""Fields of a snapshot of the CUDA allocator, checked where they are read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

from gpu_optimizer.errors import TraceError

Record = Mapping[str, object]
DEFAULT_POOL: Final = (0, 0)


def records(owner: object, key: str, what: str = "snapshot") -> Sequence[Record]:
    """Return the list of dictionaries under a key; TraceError where it is none."""
    found = owner.get(key) if isinstance(owner, Mapping) else None
    if not isinstance(found, list | tuple) or not all(isinstance(one, Mapping) for one in found):
        raise TraceError(
            f"this is no snapshot of the CUDA allocator: {key!r} of its {what} is no list"
        )
    return found


def number(record: Record, key: str, default: int | None = None) -> int:
    """Return a whole number that is not negative; TraceError where it is none."""
    value = record.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TraceError(
            f"the snapshot is corrupt: {key!r} must be a whole number of 0 or more, got {value!r}"
        )
    return value


def text(record: Record, key: str) -> str:
    """Return a text; TraceError where it is none."""
    value = record.get(key, "")
    if not isinstance(value, str):
        raise TraceError(f"the snapshot is corrupt: {key!r} must be a text, got {value!r}")
    return value


def pool_id(record: Record) -> tuple[int, int] | None:
    """Return the id of a pool of memory, None where the record has none."""
    value = record.get("pool_id", record.get("segment_pool_id"))
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise TraceError(f"the snapshot is corrupt: a pool must be two numbers, got {value!r}")
    return int(value[0]), int(value[1])


class Pools:
    """Tells whose memory a record is about.

    Parameters
    ----------
    segments : sequence of records
        Those at the end of the history. Where records name no pool, an address in a private one of
        these tells it; private memory that was returned before then counts as everybody's.
    """

    def __init__(self, segments: Sequence[Record]) -> None:
        private: list[tuple[int, int, tuple[int, int]]] = []
        for segment in segments:
            found = pool_id(segment) or DEFAULT_POOL
            if found != DEFAULT_POOL:
                start = number(segment, "address")
                private.append((start, start + number(segment, "total_size"), found))
        self._private = sorted(private)
        self._starts = [start for start, _, _ in self._private]

    def of(self, record: Record) -> tuple[int, int]:
        """Return the pool of a record of the history or of a segment."""
        named = pool_id(record)
        if named is not None or not self._private:
            return named or DEFAULT_POOL
        address = number(record, "addr", 0)
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return DEFAULT_POOL
        _, end, found = self._private[index]
        return found if address < end else DEFAULT_POOL


def time_us(record: Record) -> float:
    """Return when it happened, NaN where the record does not say."""
    value = record.get("time_us")
    return float(value) if isinstance(value, int | float) else float("nan")
