"""Files that appear when they are complete, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the path of a new file, which takes the place of `path` at the end.

    Raises
    ------
    OSError
        If it cannot be written; the message names `path`, and nothing is left behind.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} cannot be written: it is a folder")
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.unlink(missing_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as exc:
        raise OSError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    finally:
        temporary.unlink(missing_ok=True)
