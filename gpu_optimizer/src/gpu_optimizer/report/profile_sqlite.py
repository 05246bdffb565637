"""A memory profile as a SQLite database, to be asked with SQL."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from gpu_optimizer.block_owners import CATEGORIES
from gpu_optimizer.memory_profile import MemoryProfile
from gpu_optimizer.report.profile_json import head, strict
from gpu_optimizer.report.whole_file import whole_file

_TABLES: Final = """
CREATE TABLE profile (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE events (event INTEGER PRIMARY KEY, kind TEXT, block INTEGER, size_bytes INTEGER,
  requested_bytes INTEGER, stream INTEGER, pool INTEGER, phase TEXT, module TEXT, category TEXT,
  time_us REAL);
CREATE TABLE blocks_at_peak (block INTEGER PRIMARY KEY, address INTEGER, size_bytes INTEGER,
  requested_bytes INTEGER, phase TEXT, module TEXT, category TEXT);
CREATE TABLE layers (module TEXT PRIMARY KEY, at_peak_bytes INTEGER, own_peak_bytes INTEGER);
CREATE TABLE layer_categories (module TEXT, category TEXT, at_peak_bytes INTEGER);
CREATE TABLE layer_phases (module TEXT, phase TEXT, peak_bytes INTEGER, retained_bytes INTEGER,
  n_allocations INTEGER);
CREATE TABLE phases (phase TEXT PRIMARY KEY, peak_bytes INTEGER, retained_bytes INTEGER,
  n_allocations INTEGER);
CREATE TABLE timeline (event INTEGER, time_us REAL, category TEXT, allocated_bytes INTEGER,
  reserved_bytes INTEGER);
CREATE TABLE fragmentation (event INTEGER PRIMARY KEY, time_us REAL, waste REAL, external REAL,
  unreleasable_bytes INTEGER, internal_bytes INTEGER);
"""
_KINDS: Final = ("alloc", "free", "empty_cache")


def write_sqlite(profile: MemoryProfile, path: Path) -> None:
    """Write a profile into a new database; an older file of that name is replaced.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with whole_file(path) as temporary:
        try:
            with closing(sqlite3.connect(temporary)) as connection:
                connection.executescript(_TABLES)
                for table, rows in _contents(profile):
                    _insert(connection, table, rows)
                connection.commit()
        except sqlite3.OperationalError as exc:
            raise OSError(str(exc)) from exc


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[object, ...]]) -> None:
    all_rows = list(rows)
    if all_rows:
        marks = ", ".join("?" * len(all_rows[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", all_rows)  # noqa: S608 - our own names


def _contents(
    profile: MemoryProfile,
) -> Iterable[tuple[str, Iterable[tuple[object, ...]]]]:
    yield "profile", ((name, json.dumps(strict(value))) for name, value in head(profile).items())
    yield "events", _events(profile)
    yield (
        "blocks_at_peak",
        (
            (b.block, _signed(b.address), b.size_bytes, b.requested_bytes, *_owner(b.owner.tag()))
            for b in profile.at_peak
        ),
    )
    layers = profile.layers
    yield "layers", ((row.module, row.at_peak_bytes, row.own_peak_bytes) for row in layers)
    yield (
        "layer_categories",
        ((row.module, name, size) for row in layers for name, size in row.by_category),
    )
    yield (
        "layer_phases",
        (
            (row.module, p.name, p.peak_bytes, p.retained_bytes, p.n_allocations)
            for row in layers
            for p in row.phases
        ),
    )
    yield (
        "phases",
        ((p.name, p.peak_bytes, p.retained_bytes, p.n_allocations) for p in profile.phases),
    )
    yield "timeline", _timeline(profile)
    yield (
        "fragmentation",
        (
            (m.event, _real(m.time_us), _real(f.waste), _real(f.external), f.unreleasable_bytes,
             f.internal_bytes)
            for m in profile.moments
            for f in (m.memory.fragmentation,)
        ),
    )  # fmt: skip


def _events(profile: MemoryProfile) -> Iterable[tuple[object, ...]]:
    table = profile.trace.table
    owners = [_owner(tag) for tag in table.tags]
    sizes = profile.block_bytes.tolist()
    columns = zip(
        table.kinds.tolist(),
        table.blocks.tolist(),
        table.n_bytes.tolist(),
        table.streams.tolist(),
        table.pools.tolist(),
        table.tag_indices.tolist(),
        table.times_us.tolist(),
        strict=True,
    )
    for row, (kind, block, n_bytes, stream, pool, tag, time_us) in enumerate(columns):
        size = sizes[block] if block >= 0 else 0
        place = (stream, pool, *owners[tag])
        yield (row, _KINDS[kind], block, size, n_bytes, *place, _real(time_us))


def _timeline(profile: MemoryProfile) -> Iterable[tuple[object, ...]]:
    timeline = profile.timeline
    for row, event in enumerate(timeline.events.tolist()):
        time_us, reserved = float(timeline.times_us[row]), int(timeline.reserved_bytes[row])
        for index, category in enumerate(CATEGORIES):
            size = int(timeline.category_bytes[row, index])
            yield event, _real(time_us), category, size, reserved


def _owner(tag: str) -> tuple[str, str, str]:
    phase, module, category = tag.split("|") if tag else ("", "", "")
    return phase, module, category


def _real(value: float) -> float | None:
    return None if math.isnan(value) else value


def _signed(address: int) -> int:
    """Return an address as SQLite's integers hold it."""
    return address - 2**64 if address >= 2**63 else address
