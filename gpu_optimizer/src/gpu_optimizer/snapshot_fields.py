"""Fields of a snapshot of the CUDA allocator, checked where they are read."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from gpu_optimizer.errors import TraceError

Record = Mapping[str, object]
DEFAULT_POOL: Final = (0, 0)
_MAX_TIME_US: Final = 2**63
_RETURN: Final = "segment_free"


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
    match value:
        case [int(first), int(second)]:
            return first, second
        case _:
            raise TraceError(f"the snapshot is corrupt: a pool must be two numbers, got {value!r}")


class Pools:
    """Tells whose memory a record is about.

    Parameters
    ----------
    segments : sequence of records
        Those at the end of the history. Where records name no pool, an address in a private one of
        these tells it, once what was at that address before was returned; private memory that was
        returned before the end counts as everybody's.
    history : sequence of records
        All of it; `release` must be called with each of its returned segments as it comes.
    """

    def __init__(self, segments: Sequence[Record], history: Sequence[Record] = ()) -> None:
        private: list[tuple[int, int, tuple[int, int]]] = []
        for segment in segments:
            found = pool_id(segment) or DEFAULT_POOL
            if found != DEFAULT_POOL:
                start = number(segment, "address")
                private.append((start, start + number(segment, "total_size"), found))
        self._private = sorted(private)
        self._starts = [start for start, _, _ in self._private]
        self._n_earlier = Counter(
            self._index(record) for record in history if record.get("action") == _RETURN
        )

    def release(self, record: Record) -> None:
        """Note that a segment was returned, so that its address can become another's."""
        self._n_earlier[self._index(record)] -= 1

    def of(self, record: Record) -> tuple[int, int]:
        """Return the pool of a record of the history or of a segment."""
        named = pool_id(record)
        if named is not None or not self._private:
            return named or DEFAULT_POOL
        index = self._index(record)
        if index is None or self._n_earlier[index] > 0:
            return DEFAULT_POOL
        return self._private[index][2]

    def _index(self, record: Record) -> int | None:
        """Return which private segment of the end has a record's address, None if none has."""
        address = number(record, "addr", 0)
        index = bisect_right(self._starts, address) - 1
        return index if index >= 0 and address < self._private[index][1] else None


def time_us(record: Record) -> float:
    """Return when it happened, NaN where the record does not say."""
    value = record.get("time_us")
    if not isinstance(value, int | float):
        return float("nan")
    if not abs(value) < _MAX_TIME_US:
        raise TraceError(f"the snapshot is corrupt: 'time_us' must be a time, got {value!r:.40}")
    return float(value)
