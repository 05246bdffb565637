"""The events of a snapshot while it is read."""

from __future__ import annotations

import math

import numpy as np

from gpu_optimizer.event_table import EventTable
from gpu_optimizer.snapshot_fields import DEFAULT_POOL, Pools, Record, number, text, time_us

Row = tuple[int, int, int, int, tuple[int, int], str, float]
"""Kind, block, bytes, stream, pool, tag, time."""


class EventColumns:
    """A growing list of events, with streams and pools as PyTorch names them."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, kind: int, block: int, n_bytes: int, record: Record) -> None:
        """Add an event of a record of the history."""
        pool = self._pools.of(record)
        tag = text(record, "user_metadata")
        stream = number(record, "stream", 0)
        self._rows.append((kind, block, n_bytes, stream, pool, tag, time_us(record)))

    def add_untimed(self, kind: int, block: int, n_bytes: int, record: Record) -> None:
        """Add an event of which only the owner of its memory is known."""
        pool = self._pools.of(record)
        stream = number(record, "stream", 0)
        self._rows.append((kind, block, n_bytes, stream, pool, "", math.nan))

    def followed_by(self, later: EventColumns) -> EventTable:
        """Return the table of these events and the later ones, with streams and pools numbered.

        The default stream and the default pool are 0, the others are numbered as they appear.

        Raises
        ------
        ValueError
            If the events make no history.
        """
        rows = self._rows + later._rows
        streams: dict[int, int] = {0: 0}
        pools: dict[tuple[int, int], int] = {DEFAULT_POOL: 0}
        tags: dict[str, int] = {"": 0}
        return EventTable(
            kinds=np.array([row[0] for row in rows], np.int8),
            blocks=np.array([row[1] for row in rows], np.int64),
            n_bytes=np.array([row[2] for row in rows], np.int64),
            streams=np.array([streams.setdefault(row[3], len(streams)) for row in rows], np.int64),
            pools=np.array([pools.setdefault(row[4], len(pools)) for row in rows], np.int64),
            tag_indices=np.array([tags.setdefault(row[5], len(tags)) for row in rows], np.int64),
            times_us=np.array([row[6] for row in rows], np.float64),
            tags=tuple(tags),
        )
