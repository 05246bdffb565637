"""What whole numbers settings may be."""

from __future__ import annotations

import numpy as np


def require_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raise `ValueError` for what is no whole number within limits, these included."""
    if isinstance(value, int | np.integer):
        number = int(value)
        if least <= number and (most is None or number <= most):
            return
    allowed = f"of at least {least}" if most is None else f"in [{least}, {most}]"
    raise ValueError(f"{name} must be a whole number {allowed}, got {value}")
