from __future__ import annotations

import json
from pathlib import Path

import pytest
from allocation_events import MIB, TraceWriter

from gpu_optimizer.cli import main
from gpu_optimizer.trace_file import save_trace


def write_trace(path: Path, n_rounds: int = 4, n_steps: int = 8) -> Path:
    writer = TraceWriter().alloc("weights", 40 * MIB)
    for _ in range(n_rounds):
        for step in range(n_steps):
            writer.alloc(f"{step}", (40 + 20 * step) * MIB).free(f"{step}")
    save_trace(writer.trace, path)
    return path


def test_a_trace_is_answered_with_a_table_and_the_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["defrag", str(write_trace(tmp_path / "trace.npz"))]) == 0
    told = capsys.readouterr().out
    assert "  PYTORCH_ALLOC_CONF=expandable_segments:True" in told
    assert any(line.startswith("  default ") for line in told.splitlines())
    assert any(line.startswith("* expandable_segments:True") for line in told.splitlines())
    assert "empty cache" in told


def test_what_wastes_nothing_needs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["defrag", str(write_trace(tmp_path / "trace.jsonl", 3, 1))]) == 0
    assert "nothing does better than the default" in capsys.readouterr().out


def test_a_limit_is_replayed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_trace(tmp_path / "trace.npz")
    assert main(["defrag", str(path), "--limit", "100MiB"]) == 1
    told = capsys.readouterr().out
    assert "out of memory" in told
    assert "garbage_collection_threshold" in told


def test_a_model_is_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["defrag", "torchvision:squeezenet1_1", "--batch", "2"]) == 0
    assert "events of cuda:0 (fake)" in capsys.readouterr().out


def test_bad_input_exits_with_2_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, foreign, other = (tmp_path / name for name in ("a.npz", "b.json", "c.txt"))
    damaged.write_bytes(b"PK\x03\x04 no archive")
    foreign.write_text(json.dumps({"weights": [1, 2]}), encoding="utf-8")
    other.write_text("hello", encoding="utf-8")
    lines = tmp_path / "d.jsonl"
    lines.write_text(json.dumps({"format": "other"}), encoding="utf-8")
    whole = write_trace(tmp_path / "e.npz")
    for arguments, reason in (
        ([str(damaged)], "a.npz is damaged or no allocation trace"),
        ([str(foreign)], "this is no snapshot of the CUDA allocator"),
        ([str(other)], "a trace ends in one of .npz, .jsonl, .json, .pickle, got 'c.txt'"),
        ([str(lines)], "d.jsonl is no allocation trace of gpu_optimizer"),
        ([str(tmp_path / "none.npz")], "none.npz cannot be read: No such file"),
        (["no-such-model"], "no model is called 'no-such-model'"),
        ([str(whole), "--limit", "0"], "the limit must be more than 0"),
    ):
        assert main(["defrag", *arguments]) == 2
        told = capsys.readouterr().err
        assert reason in told
        assert len(told.splitlines()) == 1


def test_a_limit_below_all_remedies_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_trace(tmp_path / "trace.npz")
    assert main(["defrag", str(path), "--limit", "1MiB"]) == 1
    assert "nothing fits into the limit" in capsys.readouterr().out
