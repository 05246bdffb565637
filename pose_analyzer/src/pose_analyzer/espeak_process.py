"""Speaks for `speech` in a process of its own: ``python espeak_process.py LIBRARY DATA VOICE``.

Reads UTF-8 text from stdin and writes a WAV file, 16 bits mono, to stdout. It needs nothing but the
standard library and the shared library of eSpeak NG, whose C interface it calls as described in
its header ``speak_lib.h``.
"""

from __future__ import annotations

import ctypes
import io
import os
import sys
import wave
from pathlib import Path
from typing import Final

_SYNCHRONOUS: Final = 2
_DO_NOT_EXIT: Final = 0x8000
_BY_CHARACTER: Final = 1
_UTF8: Final = 1
_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def main(library: str, data: str, voice: str) -> int:
    """Speak what stands in stdin; return 0, or 1 if the library refuses."""
    text = sys.stdin.buffer.read()
    # The library keeps paths in 160 bytes, fewer than many a virtual environment needs.
    os.chdir(Path(data).parent)
    engine = ctypes.CDLL(library)
    rate_hz = engine.espeak_Initialize(_SYNCHRONOUS, 0, b".", _DO_NOT_EXIT)
    if rate_hz <= 0 or engine.espeak_SetVoiceByName(voice.encode()) != 0:
        return 1
    samples = bytearray()

    def take(address: int | None, n_samples: int, _: int | None) -> int:
        if address and n_samples > 0:
            samples.extend(ctypes.string_at(address, 2 * n_samples))
        return 0

    # The library keeps only an address: the name keeps the function alive.
    callback = _CALLBACK(take)
    engine.espeak_SetSynthCallback(callback)
    size = ctypes.c_size_t(len(text) + 1)
    if engine.espeak_Synth(text, size, 0, _BY_CHARACTER, 0, _UTF8, None, None) != 0:
        return 1
    sys.stdout.buffer.write(_wav(bytes(samples), rate_hz))
    return 0


def _wav(samples: bytes, rate_hz: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(samples)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
