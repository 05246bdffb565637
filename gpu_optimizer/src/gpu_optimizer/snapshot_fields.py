"""Fields of a snapshot of the CUDA allocator, checked where they are read."""

from __future__ import annotations

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


def pool_id(record: Record, key: str) -> tuple[int, int]:
    """Return the id of a pool of memory, that of the default one where the record has none."""
    value = record.get(key, DEFAULT_POOL)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise TraceError(f"the snapshot is corrupt: {key!r} must be two numbers, got {value!r}")
    return int(value[0]), int(value[1])


def time_us(record: Record) -> float:
    """Return when it happened, NaN where the record does not say."""
    value = record.get("time_us")
    return float(value) if isinstance(value, int | float) else float("nan")
