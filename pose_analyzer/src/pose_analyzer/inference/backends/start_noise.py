"""Keeping stderr clean while a C++ library starts."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Final

_STDERR: Final = 2
_NOISE: Final = re.compile(
    rb"INFO: (Created|Initialized) TensorFlow Lite|WARNING: All log messages before absl"
    rb"|[IW]\d{4} \d\d:\d\d:\d\d|[IW]0000 00:00:\d+"
)
"""Lines that TensorFlow Lite and absl print at a start, whatever their log level is set to."""
_redirect_lock = threading.Lock()


@contextlib.contextmanager
def start_noise_dropped() -> Iterator[None]:
    """Hold stderr back while a graph starts, then let everything through but known noise."""
    with _redirect_lock, tempfile.TemporaryFile() as held:
        try:
            sys.stderr.flush()
            original = os.dup(_STDERR)
        except (OSError, AttributeError):
            yield  # There is no stderr to keep clean.
            return
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(original, _STDERR)
            os.close(original)
            held.seek(0)
            kept = b"".join(line for line in held if _NOISE.match(line) is None)
            if kept:
                os.write(_STDERR, kept)
