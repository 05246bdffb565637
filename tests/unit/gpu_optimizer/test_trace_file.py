"""trace_file: traces and snapshots in files, and files that are something else."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from allocation_events import TraceWriter, traces
from hypothesis import given, settings
from recorded_history import recorded

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.errors import TraceError
from gpu_optimizer.trace_file import load_snapshot, load_trace, save_trace
from gpu_optimizer.types import AllocationEvent, AllocationTrace

_TRACE = AllocationTrace(
    events=(
        AllocationEvent("alloc", 0, 100),
        AllocationEvent("alloc", 3, 7, stream=1, pool=2, tag="forward|ä|b", time_us=0.125),
        AllocationEvent("free", 3, 7),
        AllocationEvent("empty_cache", -1, 0),
    ),
    device="cuda:1",
    source="cuda history",
    n_initial=1,
    is_truncated=True,
    dropped=(("unknown action 'x'", 2),),
    segments=((2**47, 2 * 2**20), (0, 20 * 2**20)),
)


@pytest.mark.parametrize("ending", [".npz", ".jsonl"])
def test_a_trace_comes_back_as_it_was(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"trace{ending}"
    save_trace(_TRACE, path)

    assert load_trace(path) == _TRACE
    save_trace(_TRACE, str(path))
    assert load_trace(str(path)) == _TRACE


@settings(max_examples=20, deadline=None)
@given(traces())
def test_both_formats_hold_the_same(
    tmp_path_factory: pytest.TempPathFactory, trace: AllocationTrace
) -> None:
    folder = tmp_path_factory.mktemp("traces")
    for name in ("a.npz", "a.jsonl"):
        save_trace(trace, folder / name)

    assert load_trace(folder / "a.npz") == load_trace(folder / "a.jsonl") == trace


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("ending", [".npz", ".jsonl"])
def test_a_file_cut_short_is_damaged(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"trace{ending}"
    save_trace(_TRACE, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(TraceError, match=f"trace{ending} is damaged"):
        load_trace(path)


@pytest.mark.parametrize("ending", [".npz", ".jsonl"])
@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"[1, 2]\n", b"\xff\xfe"])
def test_a_foreign_file_is_told(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"foreign{ending}"
    path.write_bytes(content)

    with pytest.raises(TraceError, match=f"foreign{ending} is"):
        load_trace(path)


@pytest.mark.parametrize("flag", [0x01, 0x20, 0x40])
def test_an_archive_of_a_kind_that_is_not_read_is_told(tmp_path: Path, flag: int) -> None:
    path = tmp_path / "a.npz"
    save_trace(_TRACE, path)
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= flag
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"a\.npz is damaged"):
        load_trace(path)


def test_another_version_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    save_trace(_TRACE, path)
    path.write_text(path.read_text(encoding="utf-8").replace('"version": 1', '"version": 9'))

    with pytest.raises(TraceError, match="format version 9; this release reads version 1"):
        load_trace(path)


def test_an_array_that_needs_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, head=np.array([{"format": 1}], object))

    with pytest.raises(TraceError, match=r"a\.npz is damaged or no allocation trace"):
        load_trace(path)


@pytest.mark.parametrize(
    "line",
    [
        '["alloc", 9, 5]',
        '["eat", 9, 5, 0, 0, "", null]',
        '["alloc", 9, "5", 0, 0, "", null]',
        '["free", 77, 5, 0, 0, "", null]',
        '{"kind": "alloc"}',
    ],
)
def test_a_line_that_is_no_event_is_told(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    save_trace(_TRACE, path)
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")

    with pytest.raises(TraceError, match=r"a\.jsonl is damaged or no allocation trace"):
        load_trace(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"a\.npz cannot be read: No such file"):
        load_trace(tmp_path / "a.npz")
    with pytest.raises(TraceError, match=r"a\.json cannot be read: No such file"):
        load_snapshot(tmp_path / "a.json")


def test_only_known_endings_are_taken(tmp_path: Path) -> None:
    for call in (load_trace, load_snapshot, lambda path: save_trace(_TRACE, path)):
        with pytest.raises(ValueError, match=r"got 'a.txt'"):
            call(tmp_path / "a.txt")


def test_a_snapshot_is_read_from_json_and_from_a_plain_pickle(tmp_path: Path) -> None:
    trace = TraceWriter().alloc("a", 5).free("a").trace
    snapshot = recorded(trace, AllocatorConfig())
    (tmp_path / "a.json").write_text(json.dumps(snapshot))
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(snapshot, protocol=4))

    read = [load_snapshot(tmp_path / name).trace for name in ("a.json", "a.pickle")]

    assert read[0] == read[1]
    assert [event.kind for event in read[0].events] == ["alloc", "free"]


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(_Trap.file),)  # type: ignore[attr-defined]


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path) -> None:
    _Trap.file = tmp_path / "touched"  # type: ignore[attr-defined]
    (tmp_path / "a.pickle").write_bytes(pickle.dumps({"segments": [_Trap()]}))

    with pytest.raises(TraceError, match=r"it asks for .* and only plain values are read"):
        load_snapshot(tmp_path / "a.pickle")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("ending", [".json", ".pickle"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04\x95", b"{", b"\x80\x04K\x01."])
def test_a_damaged_snapshot_is_told(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)

    with pytest.raises(TraceError, match="no snapshot"):
        load_snapshot(path)
