"""A memory profile as JSON: all but the single events, which SQLite holds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

import numpy as np

from gpu_optimizer.block_owners import CATEGORIES
from gpu_optimizer.memory_profile import LiveBlock, MemoryProfile, Moment

FORMAT: Final = "gpu-optimizer memory profile"
VERSION: Final = 1
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def profile_json(profile: MemoryProfile) -> str:
    """Return a profile as JSON text; what was not measured is null."""
    return json.dumps(strict(_content(profile)), indent=1, allow_nan=False) + "\n"


def head(profile: MemoryProfile) -> dict[str, object]:
    """Return the single figures of a profile."""
    trace = profile.trace
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": trace.source,
        "device": trace.device,
        "attribution": profile.attribution,
        "n_events": len(trace.events),
        "n_lost": profile.n_lost,
        "dropped": dict(trace.dropped),
        "error": profile.error,
        "peak_bytes": profile.peak_bytes,
        "peak_reserved_bytes": profile.peak_reserved_bytes,
        "peak_event": profile.peak_event,
        "peak_phase": profile.peak_phase,
        "start_bytes": profile.start_bytes,
        "end_bytes": profile.end_bytes,
    }


def strict(value: object) -> Json:
    """Return a value of lists, mappings and numbers as JSON has it: NaN becomes None."""
    if isinstance(value, np.ndarray):
        return strict(value.tolist())
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [strict(item) for item in value]
    raise TypeError(f"a profile holds numbers, texts, lists and mappings, got {type(value)}")


def _content(profile: MemoryProfile) -> dict[str, object]:
    timeline, failure = profile.timeline, profile.out_of_memory
    return {
        **head(profile),
        "by_category": dict(profile.by_category),
        "phases": [asdict(phase) for phase in profile.phases],
        "layers": [
            {**asdict(layer), "by_category": dict(layer.by_category)} for layer in profile.layers
        ],
        "at_peak": [_block(block) for block in profile.at_peak],
        "timeline": {
            "categories": CATEGORIES,
            "events": timeline.events,
            "times_us": timeline.times_us,
            "category_bytes": timeline.category_bytes,
            "reserved_bytes": timeline.reserved_bytes,
        },
        "fragmentation": [_fragmentation(moment) for moment in profile.moments],
        "out_of_memory": None
        if failure is None
        else {**asdict(failure), "sentence": failure.sentence()},
    }


def _block(block: LiveBlock) -> dict[str, object]:
    content = asdict(block)
    owner = content.pop("owner")
    return {**content, **owner}


def _fragmentation(moment: Moment) -> dict[str, object]:
    numbers = asdict(moment.memory.fragmentation)
    return {"event": moment.event, "time_us": moment.time_us, **numbers}
