"""The tables: every number where its column says, empty where nothing was measured."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from pose_analyzer.errors import VideoWriteError
from pose_analyzer.report.tables import FramesCsv, RepsJson, TrcFile, frame_columns
from pose_analyzer.report.trc import ASSUMED_STATURE_M, marker_name
from pose_analyzer.skeleton import JOINT_NAMES, KEYPOINT_INDEX, KEYPOINT_NAMES
from pose_analyzer.types import ClipSummary, Frame, FrameAnalysis


class Sink(Protocol):
    """What takes the frames of a clip."""

    def write(self, frame: Frame, analysis: FrameAnalysis) -> None: ...
    def close(self, summary: ClipSummary) -> None: ...
    def abort(self) -> None: ...


class Clip(Protocol):
    """The clip of the fixture."""

    @property
    def analyses(self) -> tuple[FrameAnalysis, ...]: ...
    @property
    def summary(self) -> ClipSummary: ...
    def play(self, *sinks: Sink) -> None: ...


PlayClip = Callable[..., Clip]
MAKERS: dict[str, Callable[[Path], Sink]] = {
    "frames.csv": FramesCsv,
    "reps.json": RepsJson,
    "pose.trc": lambda path: TrcFile(path, fps=30.0),
}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_has_a_row_a_frame_and_every_value_in_its_column(
    play_clip: PlayClip, tmp_path: Path
) -> None:
    clip = play_clip(1)
    clip.play(FramesCsv(tmp_path / "a.csv"))
    rows = read_csv(tmp_path / "a.csv")
    assert tuple(rows[0]) == frame_columns()
    assert [int(row["frame"]) for row in rows] == list(range(61))
    analysis, row = clip.analyses[40], rows[40]
    hip = analysis.pose.keypoints[0, KEYPOINT_INDEX["left_hip"]]
    assert float(row["time_s"]) == pytest.approx(analysis.time_s, abs=1e-4)
    assert (row["athlete_id"], row["phase"], row["rep_count"]) == ("7", "turn", "0")
    assert float(row["left_hip_y_px"]) == pytest.approx(hip[1], abs=0.01)
    assert float(row["left_hip_confidence"]) == 0.9
    assert (row["nose_predicted"], row["left_hip_predicted"]) == ("1", "0")
    for index, name in enumerate(JOINT_NAMES):
        if name != "right_ankle":
            measured = float(row[f"{name}_deg"])
            assert measured == pytest.approx(analysis.angles.deg[index], abs=0.01)
    assert float(row["signal"]) == pytest.approx(analysis.motion.signal, abs=1e-5)
    assert rows[60]["score"] == "82.5"


def test_what_was_not_measured_is_empty(play_clip: PlayClip, tmp_path: Path) -> None:
    play_clip(1, unseen_s=0.5).play(FramesCsv(tmp_path / "a.csv"))
    rows = read_csv(tmp_path / "a.csv")
    known = {name for name, value in rows[0].items() if value}
    assert known == {"frame", "time_s", "phase", "rep_count"}
    seen = rows[20]
    assert seen["right_big_toe_x_px"] == seen["right_ankle_deg"] == seen["score"] == ""
    assert float(seen["right_big_toe_confidence"]) == 0.0
    assert "nan" not in (tmp_path / "a.csv").read_text()


def refuse(constant: str) -> float:
    """Fail on what strict JSON has no word for."""
    raise AssertionError(constant)


def read_json(path: Path) -> dict[str, object]:
    content = json.loads(path.read_text(), parse_constant=refuse)
    assert isinstance(content, dict)
    return content


def test_the_json_tells_everything_of_a_repetition(play_clip: PlayClip, tmp_path: Path) -> None:
    play_clip(3).play(RepsJson(tmp_path / "a.json"))
    content = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert (content["rep_count"], content["exercise"], content["n_frames"]) == (2, "squat", 181)
    assert content["mean_score"] == 71.0
    assert content["keypoint_seen"]["nose"] == 0.0
    assert [rep["number"] for rep in content["reps"]] == [1, 2, 0]
    rep = content["reps"][1]
    assert (rep["start_s"], rep["duration_s"], rep["away_s"]) == (2.0, 2.0, 1.0)
    assert rep["score"]["parts"][0]["evidence"] == "deepest knee angle 92 deg, goal 88"
    assert rep["score"]["parts"][1]["score"] is None
    assert rep["faults"][0]["name"] == "shallow_depth"
    assert rep["anomaly"]["abstained"] == "fewer than 5 repetitions"
    assert rep["anomaly"]["joints"] == {}
    assert (rep["min_deg"]["left_knee"], rep["min_deg"]["right_knee"]) == (92.4, None)
    assert len(rep["curves"]["deg"]["left_knee"]) == len(rep["curves"]["time_s"]) == 5
    assert content["cues"][0]["text"] == "Sit deeper"


def test_a_clip_without_anybody_is_strict_json_too(play_clip: PlayClip, tmp_path: Path) -> None:
    play_clip(0, unseen_s=9.0).play(RepsJson(tmp_path / "a.json"))
    content = read_json(tmp_path / "a.json")
    assert (content["rep_count"], content["mean_score"], content["reps"]) == (0, None, [])


class Trc:
    """A .trc file read by the rules of the format."""

    def __init__(self, path: Path) -> None:
        lines = path.read_text().split("\n")
        assert lines.pop() == ""
        self.first = lines[0].split("\t")
        self.header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
        labels = lines[3].split("\t")
        assert labels[:2] == ["Frame#", "Time"]
        self.markers = labels[2::3]
        assert labels[3::3] == labels[4::3] == [""] * len(self.markers)
        axes = [f"{axis}{i + 1}" for i in range(len(self.markers)) for axis in "XYZ"]
        assert lines[4].split("\t") == ["", "", *axes]
        assert lines[5] == ""
        cells = [line.split("\t") for line in lines[6:]]
        assert {len(row) for row in cells} == {2 + 3 * len(self.markers)}
        values = np.array([[float(cell or "nan") for cell in row] for row in cells])
        self.frames, self.times_s = values[:, 0], values[:, 1]
        self.points_m = values[:, 2:].reshape(len(values), -1, 3)

    def marker(self, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return self.points_m[:, self.markers.index(name)]


def test_the_trc_header_counts_what_the_file_holds(play_clip: PlayClip, tmp_path: Path) -> None:
    play_clip(1).play(TrcFile(tmp_path / "pose.trc", fps=30.0))
    trc = Trc(tmp_path / "pose.trc")
    assert trc.first == ["PathFileType", "4", "(X/Y/Z)", "pose.trc"]
    assert (trc.header["NumFrames"], trc.header["OrigNumFrames"]) == ("61", "61")
    assert (trc.header["NumMarkers"], trc.header["Units"]) == ("21", "m")
    assert float(trc.header["DataRate"]) == 30.0
    assert trc.markers == [marker_name(name) for name in KEYPOINT_NAMES]
    np.testing.assert_array_equal(trc.frames, np.arange(1, 62))
    np.testing.assert_allclose(trc.times_s, np.arange(61) / 30.0, atol=1e-5)


@pytest.mark.parametrize(("stature_m", "expected_m"), [(None, ASSUMED_STATURE_M), (1.9, 1.9)])
def test_markers_are_metres_from_the_ground_up(
    play_clip: PlayClip, tmp_path: Path, stature_m: float | None, expected_m: float
) -> None:
    play_clip(1).play(TrcFile(tmp_path / "a.trc", fps=30.0, stature_m=stature_m))
    trc = Trc(tmp_path / "a.trc")
    assert trc.marker("LHeel")[0, 1] == pytest.approx(0.0, abs=1e-4)
    # The figure's shoulders stand at .818 of its stature, and sink with the squat.
    assert trc.marker("LShoulder")[0, 1] == pytest.approx(0.818 * expected_m, rel=0.05)
    assert trc.marker("LShoulder")[30, 1] < trc.marker("LShoulder")[0, 1]
    assert trc.marker("RHip")[0, 0] == pytest.approx(-trc.marker("LHip")[0, 0], abs=1e-4)
    assert np.all(trc.marker("LHip")[:, 2] == 0.0)


def test_unseen_markers_are_empty_not_zero(play_clip: PlayClip, tmp_path: Path) -> None:
    play_clip(1, unseen_s=0.5).play(TrcFile(tmp_path / "a.trc", fps=30.0))
    trc = Trc(tmp_path / "a.trc")
    assert np.isnan(trc.points_m[:15]).all()
    assert np.isnan(trc.marker("RBigToe")).all()
    assert np.isfinite(trc.marker("LBigToe")[15:]).all()


def test_a_trc_of_nobody_is_still_a_trc(play_clip: PlayClip, tmp_path: Path) -> None:
    play_clip(1, unseen_s=9.0).play(TrcFile(tmp_path / "a.trc", fps=30.0))
    assert np.isnan(Trc(tmp_path / "a.trc").points_m).all()


@pytest.mark.parametrize(
    ("keypoint", "marker"),
    [("nose", "Nose"), ("left_big_toe", "LBigToe"), ("right_ankle", "RAnkle")],
)
def test_markers_have_the_names_that_opensim_sets_use(keypoint: str, marker: str) -> None:
    assert marker_name(keypoint) == marker


def test_a_frame_rate_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fps must be above 0"):
        TrcFile(tmp_path / "a.trc", fps=0.0)


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_stands_under_the_name_before_the_end(
    play_clip: PlayClip, tmp_path: Path, name: str
) -> None:
    clip = play_clip(1)
    sink = MAKERS[name](tmp_path / name)
    sink.write(Frame(np.zeros((1, 1, 3), np.uint8), 0.0, 0), clip.analyses[0])
    assert not (tmp_path / name).exists()
    sink.close(clip.summary)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", MAKERS)
def test_giving_up_leaves_nothing_and_keeps_an_older_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("older")
    sink = MAKERS[name](tmp_path / name)
    sink.abort()
    sink.abort()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "older"


@pytest.mark.parametrize("name", MAKERS)
def test_a_closed_file_survives_a_late_abort(
    play_clip: PlayClip, tmp_path: Path, name: str
) -> None:
    sink = MAKERS[name](tmp_path / name)
    play_clip(1).play(sink)
    sink.abort()
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_that_is_not_there_is_said_in_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(VideoWriteError, match=f"{name} cannot be written: No such file"):
        MAKERS[name](tmp_path / "none" / name)


@pytest.mark.parametrize("name", MAKERS)
def test_a_full_disk_is_said_in_one_sentence(
    play_clip: PlayClip, tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.part").symlink_to("/dev/full")
    with pytest.raises(VideoWriteError, match=f"{name} cannot be written: No space left"):
        play_clip(1).play(MAKERS[name](tmp_path / name))
    assert list(tmp_path.iterdir()) == []
