"""The wire contract of the pose service: the one definition that both sides import.

A text message of the WebSocket is the JSON of one of the models below; a binary message is one
camera frame, a `FrameHeader` and then the picture. Numbers on the wire are finite: what was not
measured is ``null``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

PROTOCOL_VERSION: Final = 1

Score = Annotated[float, Field(ge=0.0, le=100.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Codec(IntEnum):
    """How the picture of a frame is packed."""

    JPEG = 0
    BGR = 1
    RGB = 2


class _FromClient(BaseModel):
    """What a client says: a field that the server does not know is a mistake, and refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _FromServer(BaseModel):
    """What a server says: a newer one may add fields, which an older client passes over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Start(_FromClient):
    """The first message of a stream.

    ``resume_token`` continues a stream whose connection was lost, with its repetitions.
    """

    type: Literal["start"] = "start"
    protocol: Literal[1] = 1
    exercise: Annotated[str, Field(min_length=1, max_length=64)]
    resume_token: Annotated[str, Field(max_length=128)] | None = None


class Welcome(_FromServer):
    """The stream is open. ``credits`` frames may be in flight at once."""

    type: Literal["welcome"] = "welcome"
    stream_id: str
    resume_token: str
    credits: Annotated[int, Field(ge=1)]


class Keypoint(_FromServer):
    """One point of the body, in pixels of the frame that was sent."""

    x: float
    y: float
    confidence: Share
    predicted: bool = False


class SpokenCue(_FromServer):
    """What to tell the athlete; ``priority`` 1 is the most urgent."""

    name: str
    text: str
    priority: Annotated[int, Field(ge=1)]


class Analysis(_FromServer):
    """What the server knows after frame ``seq``."""

    type: Literal["analysis"] = "analysis"
    seq: int
    keypoints: dict[str, Keypoint | None]
    angles_deg: dict[str, float | None]
    phase: str
    rep_count: Annotated[int, Field(ge=0)]
    score: Score | None = None
    cue: SpokenCue | None = None


class Problem(_FromServer):
    """Why a frame or a stream was refused: ``code`` for programs, ``detail`` for people."""

    type: Literal["problem"] = "problem"
    code: Literal["bad_frame", "bad_message", "busy", "unknown_exercise", "unsupported_protocol"]
    detail: str
    seq: int | None = None


Reply = Annotated[Welcome | Analysis | Problem, Field(discriminator="type")]
REPLIES: Final[TypeAdapter[Welcome | Analysis | Problem]] = TypeAdapter(Reply)
"""Reads and writes any message of the server."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The fixed beginning of a binary message, 24 bytes, big-endian.

    Attributes
    ----------
    seq : int
        Number of the frame in its stream; the answer carries the same. 32 bits.
    captured_us : int
        The client's clock at capture in microseconds. The server only compares such times with
        each other. 64 bits.
    width, height : int
        Of the picture in pixels, at least 1. 16 bits each.
    codec : Codec
        How the picture is packed.
    """

    seq: int
    captured_us: int
    width: int
    height: int
    codec: Codec = Codec.JPEG

    def pack(self) -> bytes:
        """Return the header as bytes.

        Raises
        ------
        ValueError
            If a number does not fit its field.
        """
        try:
            packed = _HEADER.pack(
                _MAGIC,
                PROTOCOL_VERSION,
                self.codec,
                self.seq,
                self.captured_us,
                self.width,
                self.height,
            )
        except struct.error as exc:
            raise ValueError(f"a field of {self} does not fit the header: {exc}") from exc
        return packed

    @classmethod
    def split(cls, message: bytes | memoryview) -> tuple[FrameHeader, memoryview]:
        """Return the header of a binary message and the bytes of its picture, not copied.

        Raises
        ------
        ValueError
            If the message is too short, is of another protocol, or an uncompressed picture does
            not have the bytes that its size asks for.
        """
        view = memoryview(message)
        if len(view) <= HEADER_BYTES:
            raise ValueError(f"a frame is longer than {HEADER_BYTES} bytes, got {len(view)}")
        magic, version, codec, seq, captured_us, width, height = _HEADER.unpack_from(view)
        if magic != _MAGIC:
            raise ValueError(f"a frame starts with {_MAGIC!r}, got {magic!r}")
        if version != PROTOCOL_VERSION:
            raise ValueError(f"protocol {PROTOCOL_VERSION} is spoken here, got {version}")
        if codec not in tuple(Codec):
            raise ValueError(f"a codec is one of {[int(one) for one in Codec]}, got {codec}")
        if not (width and height):
            raise ValueError(f"a picture has at least one pixel, got {width}x{height}")
        picture = view[HEADER_BYTES:]
        if codec != Codec.JPEG and len(picture) != width * height * 3:
            raise ValueError(
                f"a raw picture of {width}x{height} has {width * height * 3} bytes, "
                f"got {len(picture)}"
            )
        return cls(seq, captured_us, width, height, Codec(codec)), picture


_MAGIC: Final = b"PF"
# magic, version, codec, 4 bytes of seq, 8 of time, 2 + 2 of size, 4 in reserve
_HEADER: Final = struct.Struct(">2sBBIQHH4x")
HEADER_BYTES: Final = _HEADER.size
