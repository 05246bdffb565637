"""What the host says of its memory is read, or nothing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_optimizer.host_memory import available_host_bytes


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("MemTotal:  9 kB\nMemAvailable:   2048 kB\n", 2**21), ("MemTotal:  9 kB\n", None)],
)
def test_the_line_of_what_is_available_counts(
    text: str, n_bytes: int | None, tmp_path: Path
) -> None:
    (tmp_path / "meminfo").write_text(text, encoding="ascii")
    assert available_host_bytes(tmp_path / "meminfo") == n_bytes


def test_another_system_says_nothing(tmp_path: Path) -> None:
    assert available_host_bytes(tmp_path / "missing") is None
