"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pose_analyzer.errors import VideoWriteError


class AtomicText:
    """A UTF-8 text file under construction; it gets its name when it is complete.

    Parameters
    ----------
    path : str or Path
        Where the file shall stand. An older file of that name is replaced by `publish`.

    Raises
    ------
    VideoWriteError
        If the file cannot be made or written (also from the methods); nothing is left then.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._part = self.path.with_name(self.path.name + ".part")
        with self._told():
            self._file = self._part.open("w", encoding="utf-8", newline="\n")

    def write(self, text: str) -> None:
        """Append text."""
        with self._told():
            self._file.write(text)

    def publish(self) -> None:
        """Complete the file and give it its name. Safe to call twice, and after `discard`."""
        if self._file.closed:
            return
        with self._told():
            self._file.close()
            self._part.replace(self.path)

    def discard(self) -> None:
        """Leave nothing half-written. Safe to call twice; a published file stays."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the system says into one sentence, leaving nothing behind."""
        try:
            yield
        except OSError as exc:
            if hasattr(self, "_file"):
                self.discard()
            raise VideoWriteError(f"{self.path} cannot be written: {exc.strerror}") from exc
