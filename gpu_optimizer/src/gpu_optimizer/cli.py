"""The command ``gpu-optimizer``: where the memory of a PyTorch model goes, and what it needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gpu_optimizer import (
    __version__,
    cli_defrag,
    cli_doctor,
    cli_find_batch,
    cli_predict,
    cli_profile_machine,
    cli_trace,
)
from gpu_optimizer.cli_parts import EXIT_BAD_INPUT
from gpu_optimizer.errors import GpuOptimizerError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0, or 1 if the model does not fit into the budget, or 2 for anything the user can mend.
    """
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (GpuOptimizerError, ValueError) as exc:
        print(f"gpu-optimizer: {exc}", file=sys.stderr)
        return EXIT_BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu-optimizer", description="Where a PyTorch model's GPU memory goes."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (
        cli_predict,
        cli_trace,
        cli_find_batch,
        cli_defrag,
        cli_profile_machine,
        cli_doctor,
    ):
        command.add_command(commands)
    return parser
