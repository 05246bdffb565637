"""speech: text to WAV without a network, and one sentence where nothing can speak."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from pose_analyzer.errors import SpeechError
from pose_analyzer.speech import SAMPLE_RATE_HZ, Voice, find_voice

needs_engine = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None and shutil.which("espeak-ng") is None,
    reason="needs the extra [speech], or espeak-ng",
)


def replay(program: str) -> Voice:
    """Return a voice that is a few lines of Python; ``wav(rate, samples)`` is known to them."""
    prelude = (
        "import array, io, sys, time, wave\n"
        "def wav(rate, samples, width=2):\n"
        "    file = io.BytesIO()\n"
        "    with wave.open(file, 'wb') as out:\n"
        "        out.setnchannels(1), out.setsampwidth(width), out.setframerate(rate)\n"
        "        out.writeframes(array.array('h', samples).tobytes())\n"
        "    return file.getvalue()\n"
        "out = sys.stdout.buffer\n"
    )
    return Voice("the test's engine", (sys.executable, "-I", "-c", prelude + program))


@needs_engine
def test_a_cue_is_spoken_in_a_few_seconds_of_sound() -> None:
    samples = find_voice().say("Sit deeper, hips below the knees")
    assert 0.8 < len(samples) / SAMPLE_RATE_HZ < 5.0
    assert np.abs(samples).max() > 3000


@needs_engine
def test_a_longer_text_takes_longer_and_the_same_text_is_the_same_sound() -> None:
    voice, other = find_voice(), find_voice()
    assert len(voice.say("Chest up, and keep your back straight")) > 2 * len(voice.say("Up"))
    np.testing.assert_array_equal(voice.say("Chest up"), other.say("Chest up"))


@needs_engine
def test_the_wav_file_holds_what_was_said() -> None:
    voice = find_voice()
    with wave.open(io.BytesIO(voice.wav("Push the knees out"))) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert file.getframerate() == SAMPLE_RATE_HZ
        heard = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
    np.testing.assert_array_equal(heard, voice.say("Push the knees out"))


@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra [speech]"
)
def test_the_engine_speaks_from_a_folder_with_a_long_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import espeakng_loader

    deep = tmp_path / ("d" * 120) / ("e" * 120) / "espeak"
    shutil.copytree(Path(espeakng_loader.__file__).parent, deep)
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(deep / "libespeak-ng.so"))
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep / "espeak-ng-data"))
    assert "espeakng-loader" in find_voice().name


def test_the_programs_of_the_system_speak_where_the_extra_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "espeak-ng"
    voice = replay("out.write(wav(22050, [9, 9]))")
    script = tmp_path / "speak.py"
    script.write_text(voice._command[3])
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("pose_analyzer.speech._bundled", list)
    found = find_voice()
    assert found.name == "espeak-ng of the system"
    assert found.say("hello").tolist() == [9, 9]


def test_where_nothing_speaks_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("pose_analyzer.speech._bundled", list)
    with pytest.raises(SpeechError, match=r"pip install \"pose-analyzer\[speech\]\""):
        find_voice()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("sys.exit('no data')", "no data"),
        ("out.write(b'nothing')", "cannot speak"),
        ("out.write(wav(22050, [0, 0, 0]))", "is silent"),
        ("out.write(wav(22050, [1, 2], width=1))", "16 bits"),
        ("", "cannot speak"),
    ],
)
def test_an_engine_that_fails_is_named_with_its_reason(program: str, reason: str) -> None:
    with pytest.raises(SpeechError, match=reason) as caught:
        replay(program).say("hello")
    assert "the test's engine" in str(caught.value)


def test_an_engine_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pose_analyzer.speech._TIMEOUT_S", 0.2)
    with pytest.raises(SpeechError, match="took longer"):
        replay("time.sleep(60)").say("hello")


def test_another_sample_rate_is_converted() -> None:
    tone = "[int(9000 * (i // 20 % 2)) for i in range(16000)]"
    samples = replay(f"out.write(wav(16000, {tone}))").say("hello")
    assert len(samples) == SAMPLE_RATE_HZ


def test_a_wav_file_from_a_pipe_that_states_no_true_length_is_read_to_its_end() -> None:
    streamed = (
        "data = bytearray(wav(22050, range(1, 9)))\n"
        "data[40:44] = (0x7ffff000).to_bytes(4, 'little')\n"
        "out.write(data)"
    )
    assert replay(streamed).say("hello").tolist() == list(range(1, 9))


def test_nothing_cannot_be_said() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        replay("").say(" ")
