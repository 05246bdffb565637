"""units: bytes to text and back."""

from __future__ import annotations

import pytest

from gpu_optimizer.units import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (8 * 2**30, "8.00 GiB"),
        (-(2**20), "-1.00 MiB"),
        (2**70, "1048576.00 PiB"),
    ],
)
def test_bytes_are_written_with_the_largest_unit(n_bytes: int, text: str) -> None:
    assert format_bytes(n_bytes) == text


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("1024", 1024),
        ("8 GiB", 8 * 2**30),
        ("8GB", 8 * 2**30),
        ("8g", 8 * 2**30),
        (" 1.5 kib ", 1536),
        ("0.3 B", 0),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("n_bytes", [0, 1, 1023, 1024, 3 * 2**20, 80 * 2**30])
def test_what_was_written_is_read_back(n_bytes: int) -> None:
    assert parse_bytes(format_bytes(n_bytes)) == n_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1 GiB", "8 GiX", "1,5 GB", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a size is a number and a unit"):
        parse_bytes(text)
