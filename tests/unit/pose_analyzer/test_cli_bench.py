"""``pose-analyzer bench``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pose_analyzer.cli import main


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "n_processes", "decoder"),
    [([], 0, None), (["--processes", "1"], 1, None), (["--jpeg"], 0, "threads")],
)
def test_a_bench_prints_and_writes_what_it_measured(
    options: list[str],
    n_processes: int,
    decoder: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "bench.json"
    arguments = "bench --streams 1 --fps 5 --seconds 1 --size 480p --detector mediapipe --out"
    assert main([*arguments.split(), str(out), *options]) == 0
    assert "frames/s" in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert report["jpeg_decoder"] == decoder
    (run,) = report["runs"]
    assert run["analysis_processes"] == n_processes
    assert run["streams"] == 1
    assert 1 <= run["n"] <= 7
    assert 0.0 < run["p50_ms"] <= run["p99_ms"]


@pytest.mark.model
@pytest.mark.slow
def test_a_bench_too_short_for_a_frame_writes_nulls(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    arguments = "bench --streams 1 --fps .1 --seconds .01 --size 480p --detector mediapipe --out"
    assert main([*arguments.split(), str(out)]) == 0
    (run,) = json.loads(out.read_text(), parse_constant=pytest.fail)["runs"]
    assert (run["n"], run["p50_ms"], run["dropped_share"]) == (0, None, None)
    assert not run["is_held"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--streams", "0"],
        ["--fps", "-1"],
        ["--size", "8p"],
        ["--processes", "-1"],
        ["--processes", "few"],
        ["--sweep", "--streams", "4"],
    ],
)
def test_a_load_of_nothing_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *wrong])
    assert stopped.value.code == 2


def test_a_missing_clip_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--clip", "nowhere.mp4"]) == 2
    assert "nowhere.mp4" in capsys.readouterr().err
