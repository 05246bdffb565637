"""VideoFile: times, orientation, colours, pixel shape, and every way a file can be bad."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pose_analyzer.errors import DependencyMissingError, NoVideoError
from pose_analyzer.report.video_writer import VideoWriter
from pose_analyzer.types import ImageArray
from pose_analyzer.video_source import VideoFile

BLUE, GREEN, RED, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
TIME_BASE = Fraction(1, 1000)


def quadrants(width: int, height: int) -> ImageArray:
    """Return a picture of four colours: red and green above blue and white."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    image[height // 2 :, width // 2 :] = WHITE
    return image


def corners(image: ImageArray) -> list[list[int]]:
    """Return which of the pure colours stands in each corner, row by row."""
    y, x = image.shape[0] // 6, image.shape[1] // 6
    picked = image[[y, y, -y, -y], [x, -x, x, -x]]
    return [[int(value) for value in row] for row in np.where(picked > 128, 255, 0)]


def write_clip(
    path: Path,
    images: Sequence[ImageArray],
    *,
    times_ms: Sequence[int] | None = None,
    rotation_deg: float = 0.0,
    mirrored: bool = False,
    aspect: Fraction | None = None,
) -> Path:
    """Write pictures as H.264 with the index in front."""
    height, width = images[0].shape[:2]
    is_even = width % 2 == 0 and height % 2 == 0
    times = range(0, 40 * len(images), 40) if times_ms is None else times_ms
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if is_even else "yuv444p"
        stream.codec_context.time_base = TIME_BASE
        stream.codec_context.options = {"preset": "ultrafast", "bf": "0", "g": "10"}
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation_deg or mirrored:
            stream.set_display_rotation(rotation_deg, hflip=mirrored)
        for time_ms, image in zip(times, images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = time_ms, TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def noise(n: int, width: int = 64, height: int = 48) -> list[ImageArray]:
    """Return pictures that do not compress, so a file has size to cut."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (height, width, 3), dtype=np.uint8) for _ in range(n)]


def test_frames_come_in_order_with_size_and_rate(tmp_path: Path) -> None:
    video = VideoFile(write_clip(tmp_path / "a.mp4", [quadrants(64, 48)] * 5))
    frames = list(video)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 5
    assert (video.width, video.height, video.n_frames_estimate) == (64, 48, 5)
    assert video.fps == pytest.approx(25.0)
    assert video.duration_s == pytest.approx(0.2)
    assert video.warnings == ()


def test_images_own_writable_contiguous_bgr(tmp_path: Path) -> None:
    (frame,) = VideoFile(write_clip(tmp_path / "a.mp4", [quadrants(64, 48)]))
    assert frame.image.dtype == np.uint8
    assert frame.image.flags.c_contiguous
    assert frame.image.flags.writeable
    assert corners(frame.image) == [list(RED), list(GREEN), list(BLUE), list(WHITE)]


def test_a_second_iteration_gives_the_same_frames(tmp_path: Path) -> None:
    video = VideoFile(write_clip(tmp_path / "a.mp4", noise(4)))
    once, again = list(video), list(video)
    assert [f.time_s for f in once] == [f.time_s for f in again]
    assert all((a.image == b.image).all() for a, b in zip(once, again, strict=True))


def test_variable_frame_rate_keeps_the_true_times(tmp_path: Path) -> None:
    times_ms = [0, 16, 50, 250, 283, 1000]
    video = VideoFile(write_clip(tmp_path / "vfr.mp4", noise(6), times_ms=times_ms))
    np.testing.assert_allclose([f.time_s for f in video], np.array(times_ms) / 1000, atol=1e-4)
    assert video.ended_early is None


def test_time_starts_at_zero_when_the_file_starts_later(tmp_path: Path) -> None:
    video = VideoFile(write_clip(tmp_path / "late.mp4", noise(3), times_ms=[5000, 5040, 5080]))
    np.testing.assert_allclose([f.time_s for f in video], [0.0, 0.04, 0.08], atol=1e-6)
    assert video.ended_early is None


def retimed(clip: Path, out: Path, times_us: Sequence[int]) -> Path:
    """Copy a clip with other presentation times, in microseconds."""
    micro = Fraction(1, 1_000_000)
    with av.open(str(clip)) as source, av.open(str(out), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.time_base = micro
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        for time_us, packet in zip(times_us, packets, strict=True):
            packet.stream, packet.time_base = stream, micro
            packet.pts = packet.dts = time_us
            target.mux(packet)
    return out


@pytest.mark.parametrize(
    "times_us",
    [
        [0, 33333, 33335, 66666, 100000],
        # Steps of one tick of the writer's clock and a little that round to the same tick.
        [0, 33350, 33361, 66666, 100000],
        # No rate to go on by: the average one is finer than the writer's clock too.
        [0, 2, 4, 6, 8],
    ],
)
def test_pictures_closer_than_a_video_can_be_written_are_moved_apart(
    times_us: list[int], tmp_path: Path
) -> None:
    video = VideoFile(
        retimed(write_clip(tmp_path / "a.mp4", noise(5)), tmp_path / "b.mp4", times_us)
    )
    times_s = [frame.time_s for frame in video]
    assert times_s[0] == 0.0
    with VideoWriter(tmp_path / "c.mp4", 64, 48, 30.0) as writer:
        for frame in video:
            writer.write(frame.image, frame.time_s)
    np.testing.assert_allclose(
        [f.time_s for f in VideoFile(tmp_path / "c.mp4")], times_s, atol=1e-5
    )


def test_raw_stream_without_times_gets_them_from_the_rate(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", noise(4))
    raw = tmp_path / "a.h264"
    with av.open(str(clip)) as source, av.open(str(raw), "w", format="h264") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    video = VideoFile(raw)
    times = np.array([frame.time_s for frame in video])
    np.testing.assert_allclose(times, np.arange(4) / video.fps, atol=1e-6)


@pytest.mark.parametrize(("counter_clockwise_deg", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotation_of_a_phone_is_applied(
    tmp_path: Path, counter_clockwise_deg: float, turns: int
) -> None:
    stored = quadrants(96, 48)
    path = write_clip(tmp_path / "r.mp4", [stored] * 2, rotation_deg=counter_clockwise_deg)
    video = VideoFile(path)
    upright = np.rot90(stored, turns)
    frames = list(video)
    assert frames[0].image.shape == upright.shape
    assert (video.height, video.width) == upright.shape[:2]
    assert corners(frames[0].image) == corners(upright)


def test_mirrored_selfie_is_turned_back(tmp_path: Path) -> None:
    stored = quadrants(96, 48)
    path = write_clip(tmp_path / "m.mp4", [stored], mirrored=True)
    (frame,) = VideoFile(path)
    assert corners(frame.image) == corners(stored[:, ::-1])


def test_rotation_from_the_track_header_as_phones_write_it(tmp_path: Path) -> None:
    stored = quadrants(96, 48)
    path = write_clip(tmp_path / "p.mp4", [stored])
    data = bytearray(path.read_bytes())
    # Version 0 "tkhd": the matrix stands 40 bytes behind the start of its payload.
    matrix_at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    data[matrix_at : matrix_at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    (frame,) = VideoFile(path)
    assert corners(frame.image) == corners(np.rot90(stored, -1))


def test_wide_pixels_become_square(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "sar.mp4", [quadrants(64, 48)], aspect=Fraction(3, 2))
    video = VideoFile(path)
    (frame,) = video
    assert (video.width, video.height) == (96, 48)
    assert frame.image.shape == (48, 96, 3)
    assert corners(frame.image) == corners(quadrants(96, 48))


@pytest.mark.parametrize(("width", "height"), [(321, 241), (63, 48), (64, 47)])
def test_odd_sizes_come_through(tmp_path: Path, width: int, height: int) -> None:
    (frame,) = VideoFile(write_clip(tmp_path / "odd.mp4", [quadrants(width, height)]))
    assert frame.image.shape == (height, width, 3)
    assert corners(frame.image) == [list(RED), list(GREEN), list(BLUE), list(WHITE)]


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("height", [96, 720])
def test_colours_follow_the_tagged_matrix_and_range(
    tmp_path: Path, height: int, full_range: bool
) -> None:
    bgr = np.array([40, 180, 90], np.uint8)
    path = tmp_path / "c.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, height, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = 1, 2 if full_range else 1
        context.options = {"qp": "1", "preset": "ultrafast"}
        image = np.broadcast_to(bgr, (height, 128, 3)).copy()
        frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(
            format="yuv420p", dst_colorspace=1, dst_color_range=context.color_range
        )
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (decoded,) = VideoFile(path)
    np.testing.assert_allclose(decoded.image[height // 2, 64], bgr, atol=4)


def test_one_frame_file(tmp_path: Path) -> None:
    video = VideoFile(write_clip(tmp_path / "one.mp4", [quadrants(64, 48)]))
    (frame,) = video
    assert (frame.index, frame.time_s, video.ended_early) == (0, 0.0, None)


def test_truncated_file_gives_its_frames_and_says_where_it_ended(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", noise(50))
    expected = list(VideoFile(whole))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    video = VideoFile(cut)
    frames = list(video)
    assert 20 <= len(frames) <= 25
    for frame, original in zip(frames, expected, strict=False):
        np.testing.assert_array_equal(frame.image, original.image)
    assert video.ended_early is not None
    assert f"({len(frames)} frames) of 2.0 s" in video.ended_early
    assert video.warnings == (video.ended_early,)


def test_damage_in_the_middle_is_skipped_and_told(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "hole.mp4", noise(50))
    data = bytearray(path.read_bytes())
    middle = len(data) * 3 // 4
    data[middle : middle + len(data) // 20] = bytes(len(data) // 20)
    path.write_bytes(data)
    video = VideoFile(path)
    frames = list(video)
    assert 40 <= len(frames) < 50
    assert video.n_damaged > 0
    assert video.ended_early is None
    assert "damaged pieces" in video.warnings[0]


def _audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


def _no_frames(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def _cut_before_the_first_frame(path: Path) -> None:
    write_clip(path, noise(50))
    path.write_bytes(path.read_bytes()[:3000])


def _no_index(path: Path) -> None:
    write_clip(path, noise(5))
    data = path.read_bytes()
    index_at = data.index(b"moov") - 4
    # What a recording is before its end: pictures, and no index.
    path.write_bytes(data[:index_at] + data[data.index(b"mdat") - 4 :])


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (str, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("squats are good\n" * 99), "not a video"),
        (lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost/\n"), "not a video"),
        (_audio_only, "only sound"),
        (_no_frames, "no frame|not a video|no video"),
        (_cut_before_the_first_frame, "no frame|not a video"),
        (_no_index, "incomplete"),
    ],
)
def test_bad_file_is_one_sentence_that_names_it(tmp_path: Path, make: object, cause: str) -> None:
    path = tmp_path / "clip.mp4"
    assert callable(make)
    make(path)
    with pytest.raises(NoVideoError, match=cause) as caught:
        VideoFile(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_text_file_is_not_drawn_as_a_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("ten squats\n" * 50)
    with pytest.raises(NoVideoError, match="text file"):
        VideoFile(path)


def test_leaving_the_context_ends_the_iteration(tmp_path: Path) -> None:
    with VideoFile(write_clip(tmp_path / "a.mp4", noise(5))) as video:
        frames = iter(video)
        next(frames)
    assert list(frames) == []


def test_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DependencyMissingError, match=r"pose-analyzer\[video\]"):
        VideoFile(tmp_path / "a.mp4")
