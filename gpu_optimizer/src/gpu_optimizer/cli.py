"""The command ``gpu-optimizer``: where the memory of a PyTorch model goes, and what it needs."""

from __future__ import annotations

import argparse
import os
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
from gpu_optimizer.cli_parts import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from gpu_optimizer.errors import GpuOptimizerError
from gpu_optimizer.out_of_memory import is_out_of_host_memory


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0, or 1 if the model does not fit into the budget, 2 for anything the user can mend, or
    130 if the user stopped it.
    """
    args = _parser().parse_args(argv)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python must not complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (GpuOptimizerError, ValueError, OSError) as exc:
        print(f"gpu-optimizer: {exc}", file=sys.stderr)
    except (MemoryError, OverflowError, RuntimeError) as exc:
        # PyTorch has no type for a size that does not fit into 64 bits.
        if isinstance(exc, OverflowError) or "overflow" in str(exc).lower():
            why = "a size is beyond 8 EiB; give a smaller one"
        elif is_out_of_host_memory(exc):
            why = "this machine has too little memory for that; give smaller sizes"
        else:
            raise
        print(f"gpu-optimizer: {why}", file=sys.stderr)
    except KeyboardInterrupt:
        print("gpu-optimizer: stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    else:
        return code
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
