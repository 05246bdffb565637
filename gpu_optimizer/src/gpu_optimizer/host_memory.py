"""How much memory the host has left."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_TABLE: Final = Path("/proc/meminfo")
_AVAILABLE: Final = re.compile(r"^MemAvailable:\s+(\d+) kB$", flags=re.MULTILINE)
_BYTES_IN_KIB: Final = 1024


def available_host_bytes(table: Path = _TABLE) -> int | None:
    """Return what Linux can give without swapping, None where nobody tells.

    References
    ----------
    proc_meminfo(5), MemAvailable.
    """
    try:
        found = _AVAILABLE.search(table.read_text(encoding="ascii"))
    except OSError:
        return None
    return None if found is None else int(found[1]) * _BYTES_IN_KIB
