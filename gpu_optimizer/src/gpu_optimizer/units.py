"""Bytes, for people and from people. Sizes are binary: 1 KiB = 1024 bytes."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgtp]?)(?:i?b)?", flags=re.IGNORECASE)


def format_bytes(n_bytes: int) -> str:
    """Return a number of bytes with the largest unit that keeps it at 1 or more.

    Parameters
    ----------
    n_bytes : int
        Any sign; a difference may be negative.

    Examples
    --------
    >>> format_bytes(1536), format_bytes(-(2**30)), format_bytes(7)
    ('1.50 KiB', '-1.00 GiB', '7 B')
    """
    size = abs(n_bytes)
    exponent = min(max(size.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    sign = "-" if n_bytes < 0 else ""
    if exponent == 0:
        return f"{sign}{size} B"
    return f"{sign}{size / 1024**exponent:.2f} {_UNITS[exponent]}"


def parse_bytes(text: str) -> int:
    """Return the number of bytes that ``"8 GiB"``, ``"512M"`` or ``"1024"`` stand for.

    Parameters
    ----------
    text : str
        A number that is not negative and an optional unit in any case. ``GB``, ``G`` and ``GiB``
        are the same: whoever says "an 8 GB card" means 8 GiB.

    Returns
    -------
    int
        Rounded down to whole bytes.

    Raises
    ------
    ValueError
        If the text is not a size.

    Examples
    --------
    >>> parse_bytes("1.5 KiB")
    1536
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"a size is a number and a unit, such as '8 GiB' or '512M', got {text!r}")
    exponent = " kmgtp".index(match[2].lower() or " ")
    return int(float(match[1]) * 1024**exponent)
