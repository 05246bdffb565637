"""cli: one sentence and exit code 2 for what the user can mend; the commands end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pose_analyzer.cli import main


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must fail and return its one sentence."""
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pose-analyzer: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "folder"])
def test_a_clip_that_is_none_is_named_in_one_sentence(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "clip.mp4"
    if kind == "folder":
        clip.mkdir()
    elif kind != "missing":
        clip.write_text("not a video" if kind == "text" else "")
    out = tmp_path / "out"
    sentence = fails(capsys, "analyze", str(clip), "--exercise", "squat", "--out", str(out))
    assert "clip.mp4" in sentence
    assert not out.exists()
    assert len(list(tmp_path.iterdir())) == (kind != "missing")


def test_a_terminal_is_shown_a_progress_bar_that_an_error_leaves_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    clip = str(tmp_path / "no.mp4")
    assert main(["analyze", clip, "--exercise", "squat", "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "analyse" in err
    assert err.rsplit("\r", 1)[-1].startswith("pose-analyzer: ")


def test_an_unknown_exercise_lists_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("analyze", "clip.mp4", "--exercise", "skwat", "--out", str(tmp_path / "out"))
    sentence = fails(capsys, *argv)
    assert "skwat" in sentence
    assert "squat" in sentence


def test_missing_weights_say_which_file_and_where_to_put_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tmp_path / "clip.mp4"
    main(["synth", "squat", "--reps", "1", "--size", "320x180", "--fps", "10", "--out", str(clip)])
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("POSE_WEIGHTS_DIR", raising=False)
    out = tmp_path / "out"
    sentence = fails(
        capsys, "analyze", str(clip), "--exercise", "squat", "--out", str(out), "--detector", "yolo"
    )
    assert "yolo11n-pose.pt" in sentence
    assert not out.exists()


@pytest.mark.parametrize("fault", ["knee_valgos:0.5", "knee_valgus:7", "knee_valgus:x"])
def test_a_wrong_fault_is_explained(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clip.mp4"
    sentence = fails(capsys, "synth", "squat", "--fault", fault, "--out", str(out))
    assert "knee_valg" in sentence
    assert not out.exists()


def test_speech_without_a_video_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    argv = ("analyze", "a.mp4", "--exercise", "squat", "--out", out, "--no-video", "--speak")
    assert "--no-video" in fails(capsys, *argv)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "argv",
    [
        ("analyze", "a.mp4", "--exercise", "squat", "--out", "o", "--stature", "9"),
        ("synth", "squat", "--size", "big", "--out", "o"),
        ("analyze",),
        ("fly",),
    ],
)
def test_wrong_arguments_end_with_code_2(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "usage: pose-analyzer" in capsys.readouterr().err


def test_the_exercises_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exercises"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"squat", "push_up", "deadlift"} <= {line.split()[0] for line in lines}
    told = [line.strip() for line in lines]
    assert "phases: standing, descent, bottom, ascent" in told
    assert "from the side: depth, trunk, shins and back" in told


def test_the_doctor_tells_every_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    for word in ("video", "mediapipe", "yolo", "onnx", "speech", "GPU"):
        assert word in told


@pytest.mark.model
@pytest.mark.slow
def test_the_demo_counts_every_repetition_and_writes_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--reps", "2", "--size", "960x540", "--quiet"]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == (
        "counted 2 of 2 repetitions; the rendered athlete lets the knees go too far forward in all "
        "of them, which was named in 2"
    )
    names = {path.name for path in out.iterdir()}
    assert {"squat.mp4", "annotated.mp4", "report.html", "frames.csv", "reps.json", "pose.trc"} <= (
        names
    )
    assert any("truth" in name for name in names)
    assert json.loads((out / "reps.json").read_text())


@pytest.mark.model
def test_a_truncated_clip_is_analysed_up_to_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "clip.mp4"
    main(["synth", "squat", "--reps", "1", "--size", "640x360", "--out", str(clip)])
    whole = tmp_path / "whole.mp4"
    shutil.copy(clip, whole)
    clip.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    out = tmp_path / "out"
    argv = ["analyze", str(clip), "--exercise", "squat", "--out", str(out), "--quiet"]
    assert main([*argv, "--no-video"]) == 0
    assert "note: " in capsys.readouterr().out
    assert (out / "report.html").is_file()
