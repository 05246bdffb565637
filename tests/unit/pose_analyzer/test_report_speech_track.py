"""SpeechTrack: every cue at its time, none over another, in pieces as in one."""

from __future__ import annotations

import numpy as np
import pytest

from pose_analyzer.report.speech_track import LATEST_S, Int16Array, SpeechTrack

RATE_HZ = 1000


def word(seconds: float, level: int = 1) -> Int16Array:
    return np.full(round(seconds * RATE_HZ), level, dtype=np.int16)


def test_a_cue_sounds_at_its_time_and_silence_is_elsewhere() -> None:
    track = SpeechTrack(RATE_HZ)
    assert track.add(1.0, word(0.5))
    sound = track.take(2.0)
    assert len(sound) == 2 * RATE_HZ
    assert np.flatnonzero(sound).tolist() == list(range(1000, 1500))


@pytest.mark.parametrize("step_s", [0.033, 0.25, 0.7])
def test_in_pieces_it_is_the_same_as_in_one(step_s: float) -> None:
    track, whole = SpeechTrack(RATE_HZ), SpeechTrack(RATE_HZ)
    cues = {0.4: word(0.6, 1), 1.2: word(0.3, 2)}
    for time_s, speech in cues.items():
        whole.add(time_s, speech)
    pieces, now_s = [], 0.0
    while now_s < 3.0:
        pieces.append(track.take(now_s))
        for time_s, speech in cues.items():
            if now_s <= time_s < now_s + step_s:
                track.add(time_s, speech)
        now_s += step_s
    pieces += [track.take(3.0), track.take_rest()]
    np.testing.assert_array_equal(np.concatenate(pieces), whole.take(3.0))


def test_a_cue_waits_until_the_one_before_is_over() -> None:
    track = SpeechTrack(RATE_HZ)
    assert track.add(0.0, word(1.0, 1))
    assert track.add(0.5, word(1.0, 2))
    sound = track.take(4.0)
    assert np.flatnonzero(sound == 1).tolist() == list(range(1000))
    assert np.flatnonzero(sound == 2).tolist() == list(range(1150, 2150))


def test_a_cue_that_would_come_too_late_is_left_out() -> None:
    track = SpeechTrack(RATE_HZ)
    track.add(0.0, word(LATEST_S + 0.5, 1))
    assert not track.add(0.1, word(1.0, 2))
    assert track.add(1.0, word(1.0, 3))
    assert set(track.take(9.0).tolist()) == {0, 1, 3}


def test_what_is_being_said_at_the_end_is_said_to_its_end() -> None:
    track = SpeechTrack(RATE_HZ)
    track.add(0.9, word(0.5))
    track.take(1.0)
    assert track.take_rest().tolist() == [1] * 400
    assert len(track.take_rest()) == 0


def test_what_was_taken_is_forgotten() -> None:
    track = SpeechTrack(RATE_HZ)
    for second in range(100):
        track.add(float(second), word(0.5))
        track.take(second + 1.0)
        assert len(track._waiting) <= 1
