"""What the commands of ``gpu-optimizer`` share."""

from __future__ import annotations

import argparse
from typing import Final, Protocol

EXIT_DOES_NOT_FIT: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130
"""As a shell tells of a program that Ctrl-C ended."""


class Commands(Protocol):
    """Where a command adds its parser: what `ArgumentParser.add_subparsers` returns."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:  # noqa: A002
        """Return the parser of a new command."""
        ...
