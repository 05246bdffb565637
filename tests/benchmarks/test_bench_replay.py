"""Guards the cost of replaying a trace: a million events in well under a minute on one core."""

from __future__ import annotations

import time

import numpy as np
import pytest

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.allocator_replay import replay
from gpu_optimizer.event_table import ALLOC, FREE, EventTable
from gpu_optimizer.types import AllocationTrace

N_EVENTS = 200_000
SECONDS_PER_MILLION = 30.0


def steps(n_events: int) -> AllocationTrace:
    """Return training steps: 2000 blocks of mixed sizes, freed in the opposite order."""
    rng = np.random.default_rng(5)
    per_step = 2000
    n_steps = n_events // (2 * per_step)
    numbers = np.arange(n_steps * per_step).reshape(n_steps, 1, per_step)
    blocks = np.concatenate([numbers, numbers[..., ::-1]], axis=1).ravel()
    kinds = np.tile(np.repeat([ALLOC, FREE], per_step), n_steps).astype(np.int8)
    sizes = (2.0 ** rng.uniform(8, 26, blocks.size)).astype(np.int64)
    zeros = np.zeros(blocks.size, np.int64)
    times = np.full(blocks.size, np.nan)
    table = EventTable(kinds, blocks, sizes, zeros, zeros.copy(), zeros.copy(), times)
    return AllocationTrace(table, "cuda:0", "synthetic")


@pytest.mark.parametrize("settings", ["", "expandable_segments:True", "max_split_size_mb:32"])
def test_a_million_events_replay_in_well_under_a_minute(settings: str) -> None:
    trace = steps(N_EVENTS)
    start = time.perf_counter()
    result = replay(trace, AllocatorConfig.parse(settings))
    seconds = time.perf_counter() - start

    assert result.peak_reserved_bytes > result.peak_allocated_bytes
    assert seconds * 1e6 / N_EVENTS < SECONDS_PER_MILLION
