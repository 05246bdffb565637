"""What PyTorch says of its allocator beside what a replay says, at the same moments.

Needs no GPU: `gpu_allocator_check` measures, and the kept measurements are compared again in tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gpu_optimizer.allocator_config import MIB, AllocatorConfig
from gpu_optimizer.allocator_replay import replay, replay_at
from gpu_optimizer.types import AllocationTrace

Segment = Mapping[str, object]
Probe = dict[str, float]
INACTIVE: Final = "inactive"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a replay is from the measurement.

    Attributes
    ----------
    peak_reserved_mib, peak_active_mib : float
        Replay - measured.
    reserved_mib, waste_points, external_points, unreleasable_points, internal_points : float
        The largest differences over all probes, without sign. Points are percentage points; those
        of the bytes are of the reserved memory of that moment.
    n_segments : int
        The largest difference at a probe.
    n_probes, n_missed : int
        Moments that were compared, and those that the replay did not reach, being out of memory.
    """

    peak_reserved_mib: float
    peak_active_mib: float
    reserved_mib: float
    waste_points: float
    external_points: float
    unreleasable_points: float
    internal_points: float
    n_segments: int
    n_probes: int
    n_missed: int

    @property
    def fragmentation_points(self) -> float:
        """The worst of the four numbers."""
        return max(
            self.waste_points,
            self.external_points,
            self.unreleasable_points,
            self.internal_points,
        )


def measured_state(segments: Sequence[Segment]) -> Probe:
    """Return the memory that a snapshot's segments hold, and its fragmentation.

    Parameters
    ----------
    segments : sequence of mappings
        As of ``torch.cuda.memory_snapshot()``.

    Returns
    -------
    dict of str to float
        ``reserved``, ``active``, ``requested``, ``unreleasable`` in bytes, ``n_segments``,
        ``waste`` and ``external`` from 0 to 1, NaN where nothing is reserved or free.
    """
    reserved = active = requested = unreleasable = largest = 0
    for segment in segments:
        blocks = _records(segment["blocks"])
        is_split = len(blocks) > 1 and not segment.get("is_expandable", False)
        for block in blocks:
            size = _number(block["size"])
            reserved += size
            if block["state"] != INACTIVE:
                active += size
                requested += _number(block["requested_size"])
                continue
            largest = max(largest, size)
            unreleasable += size * is_split
    free = reserved - active
    return {
        "reserved": reserved,
        "active": active,
        "requested": requested,
        "unreleasable": unreleasable,
        "n_segments": len(segments),
        "waste": free / reserved if reserved else math.nan,
        "external": 1 - largest / free if free else math.nan,
    }


def compare(trace: AllocationTrace, measured: Mapping[str, object]) -> Comparison:
    """Return how far a replay of a trace is from what was measured while it was recorded.

    Parameters
    ----------
    trace : AllocationTrace
        The recording.
    measured : mapping
        ``config`` as text, ``limit`` in bytes or None, ``peak_reserved`` and ``peak_active`` in
        bytes, and ``probes``, each a `measured_state` with ``n_events``, the events of the trace
        before it.
    """
    config = AllocatorConfig.parse(str(measured["config"]))
    limit_bytes = None if measured["limit"] is None else _number(measured["limit"])
    result = replay(trace, config, limit_bytes=limit_bytes)
    probes = {
        int(_number(probe["n_events"])) - 1: probe
        for probe in _records(measured["probes"])
        if _number(probe["n_events"]) > 0
    }
    points = replay_at(trace, sorted(probes), config, limit_bytes=limit_bytes)
    worst = dict.fromkeys(("reserved", "waste", "external", "unreleasable", "internal"), 0.0)
    for row, event in enumerate(points.events.tolist()):
        probe = {name: _float(value) for name, value in probes[event].items()}
        share = 100 / max(probe["reserved"], 1)
        internal = points.allocated_bytes[row] - points.requested_bytes[row]
        differences = {
            "reserved": (points.reserved_bytes[row] - probe["reserved"]) / MIB,
            "waste": 100 * _difference(points.waste[row], probe["waste"]),
            "external": 100 * _difference(points.external[row], probe["external"]),
            "unreleasable": share * (points.unreleasable_bytes[row] - probe["unreleasable"]),
            "internal": share * (internal - probe["active"] + probe["requested"]),
        }
        for name, difference in differences.items():
            worst[name] = max(worst[name], abs(float(difference)))
    return Comparison(
        peak_reserved_mib=(result.peak_reserved_bytes - _number(measured["peak_reserved"])) / MIB,
        peak_active_mib=(result.peak_allocated_bytes - _number(measured["peak_active"])) / MIB,
        reserved_mib=worst["reserved"],
        waste_points=worst["waste"],
        external_points=worst["external"],
        unreleasable_points=worst["unreleasable"],
        internal_points=worst["internal"],
        n_segments=max(
            (
                abs(int(n) - int(_float(probes[event]["n_segments"])))
                for event, n in zip(points.events.tolist(), points.n_segments, strict=True)
            ),
            default=0,
        ),
        n_probes=len(points),
        n_missed=len(probes) - len(points),
    )


def _difference(one: float, other: float) -> float:
    """Return the difference, 0 where both are NaN and 1 where one is."""
    if math.isnan(one) or math.isnan(other):
        return float(math.isnan(one) != math.isnan(other))
    return one - other


def _records(value: object) -> Sequence[Mapping[str, object]]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"a list of records is needed, got {value!r}")
    return value


def _number(value: object) -> int:
    return int(_float(value))


def _float(value: object) -> float:
    """Return a number; null of a JSON file is NaN."""
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        raise TypeError(f"a number is needed, got {value!r}")
    return float(value)
