"""VideoWriter: playable H.264, true times, even sizes, nothing half-written."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from pose_analyzer.errors import DependencyMissingError, SpeechError, VideoWriteError
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.report.speech_track import Int16Array
from pose_analyzer.report.video_writer import AnnotatedVideo, VideoWriter
from pose_analyzer.skeleton import N_JOINTS, N_KEYPOINTS
from pose_analyzer.speech import SAMPLE_RATE_HZ, Voice
from pose_analyzer.types import (
    ClipSummary,
    Cue,
    FloatArray,
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


class Beeper(Voice):
    """Says everything as half a second of a 440 Hz tone; breaks at the word "broken"."""

    def __init__(self) -> None:
        super().__init__("the beeper", ())

    def say(self, text: str) -> Int16Array:
        if text == "broken":
            raise SpeechError("the beeper is broken")
        phase = 2.0 * np.pi * 440.0 * np.arange(SAMPLE_RATE_HZ // 2) / SAMPLE_RATE_HZ
        return np.asarray(12_000.0 * np.sin(phase), dtype=np.int16)


def spoken(path: Path, cues: dict[int, str], n_frames: int = 60) -> tuple[str, ...]:
    """Write a clip of 20 frames a second with cues at frames; return why some were not spoken."""
    sink = AnnotatedVideo(path, load_exercise("squat"), 640, 480, 20.0)
    sink.speak_with(Beeper())
    for index in range(n_frames):
        frame = Frame(picture(640, 480), index / 20.0, index)
        cue = Cue(frame.time_s, "shallow_depth", cues[index], 1) if index in cues else None
        sink.write(frame, dataclasses.replace(nobody(frame), cue=cue))
    sink.close(summary())
    return sink.unspoken


def heard(path: Path) -> tuple[FloatArray, FloatArray]:
    """Return time and loudness (0 to 1) of each hundredth of a second of a file's sound."""
    times, levels = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            samples = frame.to_ndarray()[0].astype(np.float64)
            start_s = frame.pts * float(frame.time_base)
            for first in range(0, len(samples), 220):
                times.append(start_s + first / frame.sample_rate)
                levels.append(float(np.abs(samples[first : first + 220]).max()))
    return np.array(times), np.array(levels)


def test_a_cue_is_heard_at_its_time_and_silence_elsewhere(tmp_path: Path) -> None:
    assert spoken(tmp_path / "a.mp4", {20: "deeper"}) == ()
    time_s, level = heard(tmp_path / "a.mp4")
    loud = time_s[level > 0.1]
    assert (loud[0], loud[-1]) == pytest.approx((1.0, 1.5), abs=0.03)
    assert level[(time_s < 0.95) | (time_s > 1.55)].max() < 0.01
    assert level[(time_s > 1.05) & (time_s < 1.45)].min() > 0.1


def test_sound_and_picture_start_together(tmp_path: Path) -> None:
    spoken(tmp_path / "a.mp4", {0: "deeper"})
    with av.open(str(tmp_path / "a.mp4")) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.start_time, sound.start_time) == (0, 0)
        assert sound.codec_context.name == "aac"
        assert sound.duration is not None
        assert sound.time_base is not None
        assert float(sound.duration * sound.time_base) == pytest.approx(2.95, abs=0.06)
    assert len(list(VideoFile(tmp_path / "a.mp4"))) == 60
    time_s, level = heard(tmp_path / "a.mp4")
    assert time_s[level > 0.1][0] == pytest.approx(0.0, abs=0.03)


def test_a_cue_at_the_last_frame_is_heard_to_its_end(tmp_path: Path) -> None:
    spoken(tmp_path / "a.mp4", {59: "deeper"})
    time_s, level = heard(tmp_path / "a.mp4")
    assert time_s[level > 0.1][-1] == pytest.approx(2.95 + 0.5, abs=0.03)


def test_a_cue_that_cannot_be_spoken_stays_text_and_is_told(tmp_path: Path) -> None:
    told = spoken(tmp_path / "a.mp4", {10: "broken", 20: "deeper"})
    assert told == ("the cue at 0.5 s was not spoken: the beeper is broken",)
    time_s, level = heard(tmp_path / "a.mp4")
    assert time_s[level > 0.1][0] == pytest.approx(1.0, abs=0.03)


def test_cues_that_overlap_are_heard_one_after_the_other_and_a_late_one_is_told(
    tmp_path: Path,
) -> None:
    told = spoken(tmp_path / "a.mp4", {20: "a", 22: "b", 24: "c", 26: "d"})
    assert [sentence.partition(":")[0] for sentence in told] == ["the cue at 1.3 s was not spoken"]
    time_s, level = heard(tmp_path / "a.mp4")
    silent = level < 0.01
    starts = time_s[1:][silent[:-1] & ~silent[1:]]
    np.testing.assert_allclose(starts, [1.0, 1.65, 2.3], atol=0.03)


def test_a_clip_without_a_cue_has_a_silent_sound(tmp_path: Path) -> None:
    spoken(tmp_path / "a.mp4", {})
    assert heard(tmp_path / "a.mp4")[1].max() < 0.001


def test_sound_is_refused_after_the_first_picture_and_without_a_place(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 64, 48, 30.0) as writer:
        with pytest.raises(ValueError, match="no sound"):
            writer.write_sound(np.zeros(3, np.int16))
        writer.write(picture(), 0.0)
        with pytest.raises(ValueError, match="before the first picture"):
            writer.add_sound(22_050)
