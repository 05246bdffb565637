"""protocol: round trips, strictness each way, no NaN on the wire."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from pose_analyzer_client.protocol import (
    HEADER_BYTES,
    REPLIES,
    Analysis,
    Codec,
    FrameHeader,
    Keypoint,
    Problem,
    SpokenCue,
    Start,
    Welcome,
)

HEADER = FrameHeader(seq=7, captured_us=2**40, width=4, height=2, codec=Codec.BGR)
ANALYSIS = Analysis(
    seq=7,
    keypoints={"nose": None, "left_hip": Keypoint(x=1.5, y=-2.0, confidence=0.5, predicted=True)},
    angles_deg={"left_knee": 90.0, "right_knee": None},
    phase="away",
    rep_count=1,
    cue=SpokenCue(name="shallow_depth", text="Go a little deeper", priority=2),
)


@pytest.mark.parametrize(
    "reply",
    [
        ANALYSIS,
        Welcome.model_validate({"stream_id": "a", "resume_token": "b", "credits": 4}),
        Problem(code="busy", detail="8 streams are open, the most this server takes"),
    ],
)
def test_replies_survive_the_wire(reply: Welcome | Analysis | Problem) -> None:
    assert REPLIES.validate_json(REPLIES.dump_json(reply)) == reply


def test_what_was_not_measured_is_null() -> None:
    assert b'"right_knee":null' in REPLIES.dump_json(ANALYSIS)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_lacks_cannot_be_sent(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Keypoint(x=value, y=0.0, confidence=1.0)


@pytest.mark.parametrize("score", [-0.1, 100.1])
def test_a_score_is_between_0_and_100(score: float) -> None:
    with pytest.raises(ValidationError):
        Analysis.model_validate({**ANALYSIS.model_dump(), "score": score})


def test_the_server_refuses_a_field_that_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Start.model_validate({"exercise": "squat", "excercise": "squat"})


def test_the_client_passes_over_a_field_of_a_newer_server() -> None:
    newer = {**ANALYSIS.model_dump(), "heart_rate": 120}
    assert REPLIES.validate_python(newer) == ANALYSIS


def test_a_frame_survives_the_wire_and_its_picture_is_not_copied() -> None:
    message = HEADER.pack() + bytes(range(24))
    header, picture = FrameHeader.split(message)
    assert (header, bytes(picture)) == (HEADER, bytes(range(24)))
    assert picture.obj is message


def test_the_header_is_24_bytes() -> None:
    assert len(HEADER.pack()) == HEADER_BYTES == 24


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (b"", "longer than 24 bytes, got 0"),
        (HEADER.pack(), "longer than 24 bytes, got 24"),
        (b"XX" + HEADER.pack()[2:] + b"x", "starts with b'PF'"),
        (b"PF\x02" + HEADER.pack()[3:] + b"x", "protocol 1 is spoken here, got 2"),
        (b"PF\x01\x09" + HEADER.pack()[4:] + b"x", "a codec is one of"),
        (FrameHeader(1, 1, 0, 5).pack() + b"x", "at least one pixel, got 0x5"),
        (HEADER.pack() + bytes(23), "raw picture of 4x2 has 24 bytes, got 23"),
    ],
)
def test_a_message_that_is_no_frame_is_refused(message: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        FrameHeader.split(message)


def test_a_number_that_does_not_fit_the_header_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit the header"):
        FrameHeader(seq=2**32, captured_us=0, width=1, height=1).pack()
