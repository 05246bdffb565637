"""Says a cue aloud: text to WAV, offline, by eSpeak NG in a process of its own.

The library and the data of eSpeak NG come with the extra ``[speech]`` (package `espeakng-loader`);
without it, an ``espeak-ng`` or ``espeak`` program of the system speaks. Nothing is fetched. Why
this engine, and why as a process: docs/decisions/0008-speech-in-a-process-of-its-own.md.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from pose_analyzer.errors import SpeechError

SAMPLE_RATE_HZ: Final = 22_050
"""Of all samples here; the rate of eSpeak NG's own voices."""
INSTALL_HINT: Final = (
    'install one with: pip install "pose-analyzer[speech]", or install espeak-ng on your system'
)
_LANGUAGE: Final = "en-us"
_TIMEOUT_S: Final = 30.0
_TRIAL: Final = "go"
_LOUDEST: Final = 32_767

Int16Array = npt.NDArray[np.int16]


class Voice:
    """An engine that was found to speak.

    Parameters
    ----------
    name : str
        For a person: which engine it is.
    command : sequence of str
        A program that reads UTF-8 text from stdin and writes a WAV file of 16 bits to stdout.
    """

    def __init__(self, name: str, command: tuple[str, ...]) -> None:
        self.name = name
        self._command = command
        self._said: dict[str, Int16Array] = {}

    def say(self, text: str) -> Int16Array:
        """Return the spoken text.

        Parameters
        ----------
        text : str
            A short sentence. What was said before is not computed again.

        Returns
        -------
        int16 array, shape (N,)
            Mono samples at `SAMPLE_RATE_HZ`. Not to be changed.

        Raises
        ------
        ValueError
            If there is nothing to say.
        SpeechError
            If the engine fails, is silent or takes longer than 30 s.
        """
        if not text.strip():
            raise ValueError(f"a text to speak must not be empty, got {text!r}")
        if text not in self._said:
            self._said[text] = self._samples(text)
        return self._said[text]

    def wav(self, text: str) -> bytes:
        """Return the spoken text as a WAV file: 16 bits, mono, `SAMPLE_RATE_HZ`."""
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(2)
            writer.setframerate(SAMPLE_RATE_HZ)
            writer.writeframes(self.say(text).tobytes())
        return file.getvalue()

    def _samples(self, text: str) -> Int16Array:
        try:
            done = subprocess.run(  # noqa: S603 - the command was found by `find_voice`
                self._command,
                input=text.encode(),
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=True,
            )
            samples, rate_hz = _read_wav(done.stdout)
        except (OSError, subprocess.SubprocessError, wave.Error, EOFError) as exc:
            raise SpeechError(f"{self.name} cannot speak: {_reason(exc)}") from exc
        if not samples.any():
            raise SpeechError(f"{self.name} is silent; {INSTALL_HINT}")
        if rate_hz != SAMPLE_RATE_HZ:
            resampled = resample_poly(samples.astype(np.float64), SAMPLE_RATE_HZ, rate_hz)
            samples = np.clip(np.rint(resampled), -_LOUDEST, _LOUDEST).astype(np.int16)
        return samples


def find_voice() -> Voice:
    """Return the first engine that speaks: the extra's, else the system's.

    Raises
    ------
    SpeechError
        If none does; the message says what to install.
    """
    reasons = []
    for name, command in (*_bundled(), *_installed()):
        voice = Voice(name, command)
        try:
            voice.say(_TRIAL)
        except SpeechError as exc:
            reasons.append(str(exc))
        else:
            return voice
    found = "; ".join(reasons) or "no speech engine is installed"
    raise SpeechError(f"{found}; {INSTALL_HINT}")


def _bundled() -> list[tuple[str, tuple[str, ...]]]:
    """Return the engine within `espeakng-loader`, if that is installed."""
    if importlib.util.find_spec("espeakng_loader") is None:
        return []
    import espeakng_loader

    # Isolated, so that the child sees neither our paths nor our packages: it needs none.
    python = (sys.executable, "-I", "-S", str(Path(__file__).with_name("espeak_process.py")))
    paths = (espeakng_loader.get_library_path(), espeakng_loader.get_data_path())
    return [("eSpeak NG of espeakng-loader", (*python, *paths, _LANGUAGE))]


def _installed() -> list[tuple[str, tuple[str, ...]]]:
    """Return the programs of the system."""
    found = [(name, shutil.which(name)) for name in ("espeak-ng", "espeak")]
    return [
        (f"{name} of the system", (path, "--stdin", "--stdout", "-v", _LANGUAGE))
        for name, path in found
        if path is not None
    ]


def _read_wav(data: bytes) -> tuple[Int16Array, int]:
    """Return the first channel of a 16-bit WAV file and its rate in hertz.

    A file that was written to a pipe states a length that is too large; what is there counts.
    """
    with wave.open(io.BytesIO(data), "rb") as reader:
        if reader.getsampwidth() != 2:
            raise wave.Error(f"16 bits a sample are needed, got {8 * reader.getsampwidth()}")
        n_channels = reader.getnchannels()
        raw = reader.readframes(reader.getnframes())
        samples = np.frombuffer(raw[: len(raw) // 2 * 2], dtype="<i2").astype(np.int16)
        return samples[::n_channels], reader.getframerate()


def _reason(exc: Exception) -> str:
    """Return what went wrong, in few words."""
    if isinstance(exc, subprocess.TimeoutExpired):
        return f"it took longer than {_TIMEOUT_S:.0f} s"
    if isinstance(exc, subprocess.CalledProcessError):
        last = exc.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return f"it ended with code {exc.returncode}{': ' + last[0] if last else ''}"
    return str(exc) or "it gave no sound"
