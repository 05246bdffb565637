"""What an allocator holds now, from the segments that ``torch.cuda.memory_snapshot`` lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gpu_optimizer.snapshot_fields import Record, number, records
from gpu_optimizer.types import Fragmentation

_FREE: Final = "inactive"


@dataclass(frozen=True, slots=True)
class HeldMemory:
    """Memory held from the driver at one moment.

    Attributes
    ----------
    reserved_bytes, active_bytes, requested_bytes : int
        Held; of it in blocks that are in use, or whose last use has not ended on the device; and
        what was asked for in these blocks.
    n_segments : int
        Pieces of memory from the driver.
    fragmentation : Fragmentation
        The four numbers. Waste is NaN where nothing is held, as on a machine without CUDA.
    """

    reserved_bytes: int
    active_bytes: int
    requested_bytes: int
    n_segments: int
    fragmentation: Fragmentation


def held_memory(segments: Sequence[Record]) -> HeldMemory:
    """Return what some segments hold.

    Parameters
    ----------
    segments : sequence of mappings
        As of ``torch.cuda.memory_snapshot``; those of one device.

    Raises
    ------
    TraceError
        If they are no segments of such a snapshot.
    """
    reserved = active = requested = unreleasable = largest = 0
    for segment in segments:
        blocks = records(segment, "blocks", "segments")
        is_split = len(blocks) > 1 and not segment.get("is_expandable", False)
        for block in blocks:
            size = number(block, "size")
            reserved += size
            if block.get("state") != _FREE:
                active += size
                requested += number(block, "requested_size", size)
                continue
            largest = max(largest, size)
            unreleasable += size if is_split else 0
    n_free = reserved - active
    return HeldMemory(
        reserved_bytes=reserved,
        active_bytes=active,
        requested_bytes=requested,
        n_segments=len(segments),
        fragmentation=Fragmentation(
            waste=n_free / reserved if reserved else math.nan,
            external=1 - largest / n_free if n_free else math.nan,
            unreleasable_bytes=unreleasable,
            internal_bytes=max(active - requested, 0),
        ),
    )
