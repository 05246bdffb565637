"""VideoWriter: playable H.264, true times, even sizes, nothing half-written."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from pose_analyzer.errors import DependencyMissingError, VideoWriteError
from pose_analyzer.exercises import load_exercise
from pose_analyzer.report.video_writer import AnnotatedVideo, VideoWriter
from pose_analyzer.skeleton import N_JOINTS, N_KEYPOINTS
from pose_analyzer.types import (
    ClipSummary,
    Frame,
    FrameAnalysis,
    ImageArray,
    JointAngles,
    Motion,
    TrackedPose,
)
from pose_analyzer.video_source import VideoFile


def picture(width: int = 64, height: int = 48, level: int = 90) -> ImageArray:
    image = np.full((height, width, 3), level, np.uint8)
    image[:, : width // 2, 2] = 200
    return image


def nobody(frame: Frame) -> FrameAnalysis:
    pose = TrackedPose(
        np.empty(0, np.intp),
        np.empty((0, N_KEYPOINTS, 2)),
        np.empty((0, N_KEYPOINTS)),
        np.empty((0, 4)),
        np.empty((0, N_KEYPOINTS), np.bool_),
        np.empty((0, N_KEYPOINTS, 2)),
        None,
    )
    unseen = np.full(N_JOINTS, np.nan)
    motion = Motion(np.nan, np.nan, "unknown", unseen)
    angles = JointAngles(unseen, unseen, np.nan)
    return FrameAnalysis(frame.index, frame.time_s, pose, angles, motion, 0, (), float("nan"), None)


def summary() -> ClipSummary:
    return ClipSummary(
        "a.mp4", "squat", "replay", 64, 48, 1, 0.1, 0, 0, np.zeros(N_KEYPOINTS), np.nan, np.nan,
        0, (), (), (),
    )  # fmt: skip


def test_times_survive_even_when_the_rate_varies(tmp_path: Path) -> None:
    times_s = [0.0, 0.016, 0.05, 0.25, 1.0 / 3.0, 1.0]
    with VideoWriter(tmp_path / "a.mp4", 64, 48, 30.0) as writer:
        for time_s in times_s:
            writer.write(picture(), time_s)
    frames = list(VideoFile(tmp_path / "a.mp4"))
    np.testing.assert_allclose([frame.time_s for frame in frames], times_s, atol=1e-5)


def test_constant_rate_is_written_as_such(tmp_path: Path) -> None:
    fps = 30000 / 1001
    with VideoWriter(tmp_path / "a.mp4", 64, 48, fps) as writer:
        for index in range(30):
            writer.write(picture(), index / fps)
    video = VideoFile(tmp_path / "a.mp4")
    assert video.fps == pytest.approx(fps, rel=1e-3)
    assert video.duration_s == pytest.approx(30 / fps, abs=0.002)


def test_the_file_is_what_browsers_play(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 64, 48, 30.0) as writer:
        writer.write(picture(), 0.0)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_colours_come_back(tmp_path: Path) -> None:
    image = np.empty((720, 128, 3), np.uint8)
    image[:] = (40, 180, 90)
    with VideoWriter(tmp_path / "a.mp4", 128, 720, 30.0) as writer:
        writer.write(image, 0.0)
    (frame,) = VideoFile(tmp_path / "a.mp4")
    np.testing.assert_allclose(frame.image[300, 60], image[300, 60], atol=6)


@pytest.mark.parametrize(("width", "height"), [(63, 47), (64, 47), (63, 48), (1, 1)])
def test_odd_sizes_are_padded_by_one_pixel(tmp_path: Path, width: int, height: int) -> None:
    with VideoWriter(tmp_path / "a.mp4", width, height, 30.0) as writer:
        writer.write(picture(width, height), 0.0)
    (frame,) = VideoFile(tmp_path / "a.mp4")
    assert frame.image.shape == (height + height % 2, width + width % 2, 3)
    np.testing.assert_allclose(frame.image[:, -1], frame.image[:, -1 - width % 2], atol=12)


def test_nothing_bears_the_name_before_the_file_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, 64, 48, 30.0)
    writer.write(picture(), 0.0)
    assert not path.exists()
    writer.close()
    writer.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_an_error_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"older")
    with contextlib.suppress(RuntimeError), VideoWriter(path, 64, 48, 30.0) as writer:
        writer.write(picture(), 0.0)
        raise RuntimeError
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"older"


def test_a_video_without_a_picture_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(VideoWriteError, match="no picture"),
        VideoWriter(tmp_path / "a.mp4", 64, 48, 30.0),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VideoWriteError, match=r"a\.mp4 cannot be written: No such file"):
        VideoWriter(tmp_path / "missing" / "a.mp4", 64, 48, 30.0)


def test_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 64, 48, 30.0)

    class FullDisk:
        def mux(self, packets: object) -> None:  # noqa: ARG002 - as the container's
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    container = writer._container
    monkeypatch.setattr(writer, "_container", FullDisk())
    with pytest.raises(VideoWriteError, match="No space left on device"):
        writer.write(picture(), 0.0)
    container.close()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("time_s", [0.0, -1.0, 1e-7])
def test_time_must_increase(tmp_path: Path, time_s: float) -> None:
    with VideoWriter(tmp_path / "a.mp4", 64, 48, 30.0) as writer:
        writer.write(picture(), 0.0)
        with pytest.raises(ValueError, match="increase"):
            writer.write(picture(), time_s)


def test_wrong_shape_and_late_writes_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 64, 48, 30.0) as writer:
        with pytest.raises(ValueError, match=r"shape \(48, 64, 3\)"):
            writer.write(picture(32, 48), 0.0)
        writer.write(picture(), 0.0)
    with pytest.raises(ValueError, match="closed"):
        writer.write(picture(), 1.0)


@pytest.mark.parametrize(("width", "fps"), [(0, 30.0), (64, 0.0), (64, float("nan"))])
def test_senseless_arguments_are_refused(tmp_path: Path, width: int, fps: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        VideoWriter(tmp_path / "a.mp4", width, 48, fps)


def test_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DependencyMissingError, match=r"pose-analyzer\[video\]"):
        VideoWriter(tmp_path / "a.mp4", 64, 48, 30.0)
    assert list(tmp_path.iterdir()) == []


def test_annotated_video_shows_the_panel_and_leaves_the_picture_alone(tmp_path: Path) -> None:
    frame = Frame(np.full((480, 640, 3), 200, np.uint8), 0.0, 0)
    sink = AnnotatedVideo(tmp_path / "a.mp4", load_exercise("squat"), 640, 480, 30.0)
    sink.write(frame, nobody(frame))
    sink.close(summary())
    assert (frame.image == 200).all()
    (drawn,) = VideoFile(tmp_path / "a.mp4")
    assert drawn.image[20:100, 20:160].mean() < 120
    assert drawn.image[300:, 300:].mean() > 190


def test_annotated_video_refuses_another_size(tmp_path: Path) -> None:
    sink = AnnotatedVideo(tmp_path / "a.mp4", load_exercise("squat"), 640, 480, 30.0)
    small = Frame(picture(), 0.0, 0)
    with pytest.raises(ValueError, match="shape"):
        sink.write(small, nobody(small))
    sink.abort()
    assert list(tmp_path.iterdir()) == []
