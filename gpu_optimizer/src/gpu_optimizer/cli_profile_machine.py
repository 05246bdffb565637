"""The command ``gpu-optimizer profile-machine``: measures this GPU for forecasts."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from gpu_optimizer.cli_parts import Commands
from gpu_optimizer.machine_file import machine_line, write_machine
from gpu_optimizer.machine_profile import profile_machine
from gpu_optimizer.machines import Machine, load_machines, machines_path
from gpu_optimizer.units import format_bytes

_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("profile-machine", help="measure this GPU for forecasts")
    command.set_defaults(run=run)
    command.add_argument("--gpu", type=int, default=0, metavar="N", help="which, from 0")
    command.add_argument("--name", default="", help="what to call it; default: after the GPU")
    command.add_argument(
        "--out", type=Path, default=None, help="a file of machines; default: the package's"
    )
    command.add_argument("--dry-run", action="store_true", help="print it and write nothing")


def run(args: argparse.Namespace) -> int:
    """Measure, print, and write the entry; return 0."""
    path = machines_path() if args.out is None else args.out
    if args.name and not _NAME.fullmatch(args.name):
        raise ValueError(
            f"a machine is named in small letters, digits and hyphens, got {args.name!r}"
        )
    if not args.dry_run:
        load_machines(path)  # what cannot be written to is told before anything is measured
    machine = profile_machine(args.gpu)
    machine = replace(machine, name=args.name or machine.name)
    print(_table(machine))
    if args.dry_run:
        print(f"\n{machine_line(machine)}")
        return 0
    write_machine(path, machine)
    print(f"\nwritten to {path} as {machine.name}")
    return 0


def _table(machine: Machine) -> str:
    context = machine.context_bytes
    rows = [
        ("GPU", machine.gpu),
        ("memory", format_bytes(machine.total_bytes)),
        ("CUDA context", "not measured" if context is None else format_bytes(context)),
        ("cuBLAS workspace", format_bytes(machine.cublas_workspace_bytes)),
        ("attention in half precision", machine.attention),
        ("multiprocessors", str(machine.n_processors)),
        *((name, f"{rate:.4g}") for name, rate in machine.rates.items()),
    ]
    return "\n".join(f"{name:<22} {value}" for name, value in rows)
