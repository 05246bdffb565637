"""The page that collects the figures of many streams."""

from __future__ import annotations

import json
from pathlib import Path

import multi_stream_report
import pytest
from report_lib import Report


def test_bars_of_a_part_are_taken_with_their_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_stream_report, "REPORTS", tmp_path)
    part = Report("gpu_streams", "python x.py", folder=tmp_path)
    part.bar("gpu_4_streams_ms_p99", goal="<= 25", measured=12.0, unit="ms", n=7200)
    part.bar("without_a_goal", goal=None, measured=1.0, unit="ms")
    part.write()
    page = Report("multi_stream", "y", folder=tmp_path)
    row = multi_stream_report.collect(page, "gpu_streams", "Live")
    page.write()
    (bar,) = json.loads((tmp_path / "multi_stream.json").read_text())["bars"]
    assert (bar["measured"], bar["holds"], bar["n"]) == (12.0, True, 7200)
    assert row[:2] == ["Live", "[gpu_streams](gpu_streams.md)"]


def test_what_limits_jpeg_is_shown_here_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_stream_report, "REPORTS", tmp_path)
    (heading,) = multi_stream_report.TABLES["gpu_streams"]
    part = Report("gpu_streams", "python x.py", folder=tmp_path)
    part.table(heading, ["streams", "limited by"], [[4, "nothing"], [32, "decoding"]], "On a card.")
    part.table("another", ["streams"], [[1]])
    part.write()
    page = Report("multi_stream", "y", folder=tmp_path)
    multi_stream_report.collect(page, "gpu_streams", "Live")
    text = page.write().read_text()
    assert "| 32 | decoding |" in text
    assert "another" not in text


def test_a_part_without_a_report_was_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_stream_report, "REPORTS", tmp_path)
    page = Report("multi_stream", "y", folder=tmp_path)
    multi_stream_report.collect(page, "export", "INT8")
    page.write()
    (bar,) = json.loads((tmp_path / "multi_stream.json").read_text())["bars"]
    assert bar["measured"] is None
    assert bar["holds"] is None


def test_a_gpu_run_is_copied_as_it_is(tmp_path: Path) -> None:
    source, reports = tmp_path / "run", tmp_path / "reports"
    source.mkdir()
    reports.mkdir()
    (source / "gpu_streams.json").write_text("{}")
    (source / "log").write_text("no report")
    multi_stream_report.take(source, reports)
    assert [file.name for file in reports.iterdir()] == ["gpu_streams.json"]
