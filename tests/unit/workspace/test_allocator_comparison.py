"""allocator_comparison: a replay beside what PyTorch measured, recorded on a GPU or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from allocation_events import MIB, TraceWriter, traces
from allocator_comparison import compare, measured_state
from hypothesis import given, settings
from recorded_history import recorded

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.allocator_replay import replay
from gpu_optimizer.trace_file import load_snapshot, load_trace
from gpu_optimizer.types import AllocationTrace

TRACES = Path(__file__).parents[2] / "fixtures" / "traces"
RECORDED = sorted(TRACES.glob("*.npz"))
SNAPSHOTS = sorted(TRACES.glob("*.snapshot.json"))


def _measured(trace: AllocationTrace) -> dict[str, object]:
    """Return what a GPU that keeps the rules would have measured."""
    result = replay(trace)
    segments = recorded(trace, AllocatorConfig())["segments"]
    assert isinstance(segments, list)
    return {
        "config": "",
        "limit": None,
        "peak_reserved": result.peak_reserved_bytes,
        "peak_active": result.peak_allocated_bytes,
        "probes": [{**measured_state(segments), "n_events": len(trace.events)}],
    }


@settings(max_examples=30, deadline=None)
@given(traces())
def test_no_difference_is_found_where_there_is_none(trace: AllocationTrace) -> None:
    found = compare(trace, _measured(trace))

    assert found.peak_reserved_mib == found.peak_active_mib == found.n_segments == 0
    assert found.fragmentation_points == pytest.approx(0, abs=1e-9)
    assert (found.n_probes, found.n_missed) == (1, 0)


def test_each_difference_is_found() -> None:
    trace = TraceWriter().alloc("a", 5 * MIB).alloc("b", 5 * MIB).free("a").trace
    measured = _measured(trace)
    probe = {
        "reserved": 40 * MIB,
        "active": 10 * MIB,
        "requested": 9 * MIB,
        "unreleasable": 11 * MIB,
        "n_segments": 3,
        "waste": 0.70,
        "external": None,
        "n_events": 3,
    }
    measured |= {"peak_reserved": 18 * MIB, "peak_active": 11 * MIB, "probes": [probe]}
    found = compare(trace, measured)

    # The replay holds 20 MiB in 1 segment, 5 in use; free are 5 and 10 MiB, none of them releasable
    assert (found.peak_reserved_mib, found.peak_active_mib, found.n_segments) == (2, -1, 2)
    assert found.reserved_mib == 20
    assert found.waste_points == pytest.approx(5)
    assert found.external_points == 100
    assert found.unreleasable_points == pytest.approx(100 * 4 / 40)
    assert found.internal_points == pytest.approx(100 * 1 / 40)


def test_a_snapshot_is_counted_by_hand() -> None:
    used = {"size": 1024, "requested_size": 1000, "state": "active_pending_free"}
    free = {"size": 3072, "requested_size": 0, "state": "inactive"}
    segments = [{"blocks": [used, free]}, {"blocks": [free]}]
    expandable = {"blocks": [free, used], "is_expandable": True}

    state = measured_state([*segments, expandable])

    assert (state["reserved"], state["active"], state["requested"]) == (11_264, 2048, 2000)
    assert (state["unreleasable"], state["n_segments"]) == (3072, 3)
    assert state["external"] == pytest.approx(2 / 3)


def test_recorded_traces_of_graphs_streams_limits_and_settings_are_here() -> None:
    names = {path.stem for path in RECORDED}

    assert {"graph_default", "streams_default", "cnn_expandable", "sequences_max_split"} <= names
    assert len(SNAPSHOTS) == 1


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_traces_recorded_on_a_gpu_replay_to_what_was_measured(path: Path) -> None:
    measured = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))

    found = compare(load_trace(path), measured)

    assert abs(found.peak_reserved_mib) <= 2
    assert found.fragmentation_points <= 1
    assert found.n_missed == 0


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_snapshots_of_a_gpu_read_as_the_traces_beside_them(path: Path) -> None:
    trace = load_trace(path.with_name(path.name.replace(".snapshot.json", ".npz")))

    assert load_snapshot(path).trace == trace


def test_what_a_replay_does_not_reach_is_counted() -> None:
    trace = TraceWriter().alloc("a", 5 * MIB).alloc("b", 30 * MIB).trace

    assert compare(trace, {**_measured(trace), "limit": 40 * MIB}).n_missed == 1
