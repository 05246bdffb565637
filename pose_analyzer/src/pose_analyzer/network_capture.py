"""Pictures of a network stream, by PyAV: protocols and times limited for each stream alone.

OpenCV takes the allowed protocols, if at all, from the environment of the whole process.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from pose_analyzer.errors import NoVideoError
from pose_analyzer.video_source import ImageMaker, load_av, picture_geometry, stated_fps

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

_OPEN_TIMEOUT_S: Final = 5.0
_READ_TIMEOUT_S: Final = 5.0
"""What a network stream may take to answer, and to send its next picture (chosen by us)."""
_NETWORK_PROTOCOLS: Final = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto"
"""A playlist behind an address must not make us read a file of this machine."""
_MOST_WITHOUT_PICTURE: Final = 600
"""Packets without a whole picture after which a stream has none: 20 s at 30 frames a second, twice
the usual distance of whole pictures (chosen by us)."""
_CREDENTIALS: Final = re.compile(r"(?<=://)\S*@")
"""Up to the last @, because people write passwords with a slash."""
_QUERY: Final = re.compile(r"(://[^\s?]*)\?\S*")


def without_credentials(text: str) -> str:
    """Return a text in which no address shows its password, nor its query."""
    return _QUERY.sub(r"\1?...", _CREDENTIALS.sub("", text))


class NetworkCapture:
    """A network stream, opened, with the methods of ``cv2.VideoCapture`` that are needed.

    Parameters
    ----------
    address : str
        Of any protocol of network video.

    Raises
    ------
    NoVideoError
        If it sends only sound.
    DependencyMissingError
        If PyAV is not installed.
    """

    def __init__(self, address: str) -> None:
        self.decode_s = math.nan
        """Seconds that decoding the last picture took; NaN before it."""
        self._spent_s = 0.0
        self._av = load_av()
        scheme, rest = address.split("://", 1)
        try:
            self._container: InputContainer | None = self._av.open(
                f"{scheme.lower()}://{rest}",
                options={"protocol_whitelist": _NETWORK_PROTOCOLS, "rtsp_flags": "prefer_tcp"},
                timeout=(_OPEN_TIMEOUT_S, _READ_TIMEOUT_S),
            )
        except (self._av.FFmpegError, OSError):
            self._container = None
            return
        if not self._container.streams.video:
            self._container.close()
            raise NoVideoError(f"{without_credentials(address)} sends no video; check the address")
        stream = self._container.streams.video[0]
        # Threads that each take a whole picture would hold back as many pictures.
        stream.thread_type = self._av.codec.context.ThreadType.SLICE
        self._packets = self._container.demux(stream)
        self._waiting: deque[VideoFrame] = deque()
        if not self._decode():
            self.release()
            return
        geometry = picture_geometry(self._waiting[0], stream)
        self._to_image = ImageMaker(self._av, geometry)
        self._size_and_rate = {3: geometry.width, 4: geometry.height, 5: stated_fps(stream)}

    def isOpened(self) -> bool:  # noqa: N802
        """Return whether it gave a picture."""
        return self._container is not None

    def read(self) -> tuple[bool, object]:
        """Return whether there was another picture, and it: upright, BGR."""
        if self._container is None or not (self._waiting or self._decode()):
            return False, None
        started_s = time.perf_counter()
        image = self._to_image(self._waiting.popleft())
        self.decode_s = self._spent_s + time.perf_counter() - started_s
        self._spent_s = 0.0
        return True, image

    def get(self, propId: int, /) -> float:  # noqa: N803
        """Return width (3), height (4) or rate (5), by the numbers of OpenCV."""
        return self._size_and_rate[propId]

    def release(self) -> None:
        """Hang up. Safe to call twice."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _decode(self) -> bool:
        """Return whether there is another whole picture; damaged ones are left out."""
        for _ in range(_MOST_WITHOUT_PICTURE):
            try:
                packet = next(self._packets, None)
            except (self._av.FFmpegError, OSError):
                return False
            if packet is None:
                return False
            started_s = time.perf_counter()
            try:
                pictures = packet.decode()
            except self._av.FFmpegError:
                continue
            finally:
                self._spent_s += time.perf_counter() - started_s
            self._waiting.extend(picture for picture in pictures if not picture.is_corrupt)
            if self._waiting:
                return True
        return False
