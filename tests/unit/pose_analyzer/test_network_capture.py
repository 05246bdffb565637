"""Network streams: real ones of this machine, what they may name, and what is told of them."""

from __future__ import annotations

import functools
import http.server
import io
import socketserver
import struct
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, strategies as st

from pose_analyzer.errors import NoVideoError, VideoError
from pose_analyzer.live_source import RtspSource
from pose_analyzer.network_capture import without_credentials
from pose_analyzer.report.video_writer import VideoWriter
from pose_analyzer.types import Frame

IMAGE = np.full((48, 64, 3), 128, np.uint8)


@given(st.from_regex(r"[a-z0-9:@/?]{1,12}", fullmatch=True))
def test_no_credentials_survive(secret: str) -> None:
    shown = without_credentials(f"cannot open rtsp://{secret}@host/live?token=secret now")
    assert shown == "cannot open rtsp://host/live?... now"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a clip of five frames, a sound, and a playlist that names its path."""
    folder = tmp_path_factory.mktemp("served")
    clip = folder / "clip.mp4"
    with VideoWriter(clip, 64, 48, 25.0) as writer:
        for n in range(5):
            writer.write(IMAGE, n / 25.0)
    with av.open(str(folder / "sound.wav"), "w") as target:
        stream = target.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        target.mux(stream.encode(sound))
    (folder / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip.as_uri()}\n#EXT-X-ENDLIST\n"
    )
    return folder


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    """Return the address at which this machine serves the folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Camera(socketserver.StreamRequestHandler):
    """A camera that speaks RTSP (RFC 2326) and sends MPEG-TS in RTP on the same connection."""

    def handle(self) -> None:
        while line := self.rfile.readline().decode():
            headers = {}
            while header := self.rfile.readline().decode().strip():
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            method = line.split()[0]
            self.answer(method, headers.get("cseq", "0"))
            if method == "PLAY":
                self.send_pictures()
                return

    def answer(self, method: str, number: str) -> None:
        extra = {
            "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n",
            "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
        }.get(method, "")
        body = "v=0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\n" if method == "DESCRIBE" else ""
        if body:
            extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1\r\n{extra}\r\n"
        self.wfile.write((head + body).encode())

    def send_pictures(self) -> None:
        stream = transport_stream(30)
        step = 7 * 188
        for number, start in enumerate(range(0, len(stream), step)):
            packet = struct.pack(">BBHII", 0x80, 33, number, 3600 * number, 1)
            packet += stream[start : start + step]
            self.wfile.write(struct.pack(">BBH", 0x24, 0, len(packet)) + packet)


def transport_stream(n_frames: int) -> bytes:
    """Return so many pictures as MPEG-TS."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as target:
        stream = target.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(n_frames):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(IMAGE, format="bgr24")))
        target.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.fixture
def camera() -> Iterator[str]:
    """Return the address of a camera."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Camera) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"RTSP://user:secret@127.0.0.1:{server.server_address[1]}/live"
        server.shutdown()
        thread.join()


def test_a_camera_is_read_by_rtsp(camera: str) -> None:
    source = RtspSource(camera)
    assert (source.width, source.height, source.fps) == (64, 48, 25.0)
    assert "secret" not in source.name
    frames: deque[Frame] = deque()
    with pytest.raises(VideoError, match="no more pictures"):
        frames.extend(source)
    assert len(frames) >= 25
    assert abs(int(frames[0].image.mean()) - 128) < 8
    assert frames[0].time_s == 0.0


def test_a_stream_is_read_by_http(served: str) -> None:
    source = RtspSource(f"{served}/clip.mp4")
    assert (source.width, source.height, source.fps) == (64, 48, 25.0)
    frames: deque[Frame] = deque()
    with pytest.raises(VideoError, match="no more pictures"):
        frames.extend(source)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert abs(int(frames[0].image.mean()) - 128) < 4
    assert 0.0 < source.decode_s < 1.0


def test_a_playlist_cannot_name_a_file_of_this_machine(served: str) -> None:
    with pytest.raises(VideoError, match="cannot be opened"):
        RtspSource(f"{served}/list.m3u8")


def test_a_stream_of_sound_is_no_video_and_shows_no_secret(served: str) -> None:
    address = served.replace("://", "://user:secret@") + "/sound.wav?token=secret"
    with pytest.raises(NoVideoError, match="sends no video; check") as caught:
        RtspSource(address)
    assert "secret" not in str(caught.value)


def test_an_address_without_anybody_can_be_tried_again(served: str) -> None:
    with pytest.raises(VideoError, match="cannot be opened") as caught:
        RtspSource(f"{served}/nothing.mp4")
    assert not isinstance(caught.value, NoVideoError)
