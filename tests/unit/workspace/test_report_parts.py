"""Pages that collect the figures of several reports."""

from __future__ import annotations

import json
from pathlib import Path

import memory_measurement_report
import multi_stream_report
import pytest
from report_lib import Report
from report_parts import Part, add_part, take_reports

LIVE = Part("gpu_streams", "Live", (("gpu_4_streams_ms_p99", "<= 25", "ms"),))


def bars_of(page: Report, folder: Path) -> list[dict[str, object]]:
    page.write()
    bars: list[dict[str, object]] = json.loads((folder / "page.json").read_text())["bars"]
    return bars


def write_part(folder: Path, name: str = "gpu_streams") -> None:
    part = Report(name, "python x.py", folder=folder)
    part.bar("gpu_4_streams_ms_p99", goal="<= 25", measured=12.0, unit="ms", n=7200)
    part.bar("of_another", goal=None, measured=1.0, unit="ms")
    part.write()


def test_bars_of_a_part_are_taken_with_their_commit(tmp_path: Path) -> None:
    write_part(tmp_path)
    page = Report("page", "y", folder=tmp_path)
    row = add_part(page, tmp_path, LIVE)
    (bar,) = bars_of(page, tmp_path)
    assert (bar["measured"], bar["holds"], bar["n"]) == (12.0, True, 7200)
    assert row[:2] == ["Live", "[gpu_streams](gpu_streams.md)"]


def test_comparisons_are_taken_where_they_are_asked_for(tmp_path: Path) -> None:
    write_part(tmp_path)
    page = Report("page", "y", folder=tmp_path)
    add_part(page, tmp_path, LIVE, with_comparisons=True)
    assert [bar["name"] for bar in bars_of(page, tmp_path)][1:] == ["of_another"]


def test_what_limits_jpeg_is_shown_on_the_page_of_many_streams(tmp_path: Path) -> None:
    live = next(one for one in multi_stream_report.PARTS if one.tables)
    (heading,) = live.tables
    part = Report(live.name, "python x.py", folder=tmp_path)
    part.table(heading, ["streams", "limited by"], [[4, "nothing"], [32, "decoding"]], "On a card.")
    part.table("another", ["streams"], [[1]])
    part.write()
    page = Report("page", "y", folder=tmp_path)
    add_part(page, tmp_path, live)
    text = page.write().read_text()
    assert "| 32 | decoding |" in text
    assert "another" not in text


def test_two_parts_may_name_a_figure_alike(tmp_path: Path) -> None:
    write_part(tmp_path)
    write_part(tmp_path, "other")
    page = Report("page", "y", folder=tmp_path)
    add_part(page, tmp_path, LIVE)
    add_part(page, tmp_path, Part("other", "Other", ()))
    assert bars_of(page, tmp_path)[1]["name"] == "other: gpu_4_streams_ms_p99"


def test_a_part_without_a_report_was_not_measured(tmp_path: Path) -> None:
    page = Report("page", "y", folder=tmp_path)
    add_part(page, tmp_path, LIVE)
    (bar,) = bars_of(page, tmp_path)
    assert bar["measured"] is None
    assert bar["holds"] is None


def test_a_gpu_run_is_copied_as_it_is_and_the_last_folder_wins(tmp_path: Path) -> None:
    first, second, reports = (tmp_path / name for name in ("first", "second", "reports"))
    for folder in (first, second, reports):
        folder.mkdir()
    (first / "gpu_streams.json").write_text("{}")
    (second / "gpu_streams.json").write_text("[]")
    (first / "log").write_text("no report")
    take_reports([first, second], reports, ["gpu_streams"])
    assert [file.name for file in reports.iterdir()] == ["gpu_streams.json"]
    assert (reports / "gpu_streams.json").read_text() == "[]"


def test_the_page_of_memory_lists_every_bar_without_a_single_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory_measurement_report, "REPORTS", tmp_path)
    monkeypatch.setattr("report_lib.REPOSITORY", tmp_path)
    assert memory_measurement_report.main([]) == 0
    page = Path(capsys.readouterr().out.strip()).read_text()
    assert page.count("not measured") > 2 * len(memory_measurement_report.PARTS)
    assert "waste_ours" in page


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        memory_measurement_report.main(["--from", str(tmp_path / "none")])


def test_the_parts_of_the_streams_have_names_of_their_own() -> None:
    names = [part.name for part in multi_stream_report.PARTS]
    assert len(set(names)) == len(names)
    assert set(multi_stream_report.GPU) < set(names)
