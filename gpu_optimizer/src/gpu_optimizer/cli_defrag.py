"""The command ``gpu-optimizer defrag``: what helps against fragmentation, found by replay."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import get_args

from gpu_optimizer.cli_parts import EXIT_DOES_NOT_FIT, Commands
from gpu_optimizer.defragmentation_advice import Candidate, DefragmentationAdvice, advise
from gpu_optimizer.fake_trace import trace_step
from gpu_optimizer.models import find_model
from gpu_optimizer.trace_file import load_snapshot, load_trace
from gpu_optimizer.training_step import Mode, OptimizerName, Precision, StepConfig
from gpu_optimizer.types import AllocationTrace
from gpu_optimizer.units import format_bytes, parse_bytes

_TRACES = (".npz", ".jsonl")
_SNAPSHOTS = (".json", ".pickle")
_N_STEPS = 4


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("defrag", help="choose allocator settings by replaying a trace")
    command.set_defaults(run=run)
    command.add_argument(
        "trace",
        metavar="TRACE",
        help="a trace (.npz, .jsonl), a snapshot of PyTorch's allocator (.json, .pickle) with its "
        "history, or the name of a model, whose training is then forecast",
    )
    command.add_argument("--limit", default=None, metavar="SIZE", help="the most to reserve: 8GiB")
    command.add_argument("--mode", choices=get_args(Mode), default="train")
    command.add_argument("--batch", type=int, default=1, metavar="N", help="of a model")
    command.add_argument("--seq", type=int, default=512, metavar="N", help="tokens, of a model")
    command.add_argument("--optimizer", choices=get_args(OptimizerName), default="adamw")
    command.add_argument("--precision", choices=get_args(Precision), default="fp32")


def run(args: argparse.Namespace) -> int:
    """Print what each remedy would do, and what to set; return 0, or 1 if nothing fits."""
    limit_bytes = None if args.limit is None else parse_bytes(args.limit)
    if limit_bytes is not None and limit_bytes <= 0:
        raise ValueError(f"the limit must be more than 0, got {args.limit!r}")
    trace = _trace(args)
    advice = advise(trace, limit_bytes)
    print(_page(trace, advice))
    return EXIT_DOES_NOT_FIT if advice.chosen.is_out_of_memory else 0


def _trace(args: argparse.Namespace) -> AllocationTrace:
    """Return the trace of a file, or the forecast of a model."""
    path = Path(args.trace)
    if path.suffix in _TRACES:
        return load_trace(path)
    if path.suffix in _SNAPSHOTS:
        return load_snapshot(path).trace
    if path.exists():
        allowed = ", ".join((*_TRACES, *_SNAPSHOTS))
        raise ValueError(f"a trace ends in one of {allowed}, got {path.name!r}")
    step = StepConfig(args.mode, args.optimizer, args.precision)
    workload = find_model(args.trace).workload_of(step, args.batch, args.seq)
    return trace_step(workload, step, n_steps=_N_STEPS).trace


def _page(trace: AllocationTrace, advice: DefragmentationAdvice) -> str:
    width = max(len(one.remedies.name) for one in advice.candidates)
    lines = [
        f"{len(trace.events)} events of {trace.device} ({trace.source})",
        *(
            ["the history is cut off at its start, so less is reserved than was"]
            * trace.is_truncated
        ),
        "",
        f"  {'remedies':<{width}} {'reserved':>12} {'waste':>8} {'driver calls':>13}",
        *(_line(one, width, one is advice.chosen) for one in advice.candidates),
        "",
    ]
    if advice.chosen.is_out_of_memory:
        return "\n".join(
            [*lines, "nothing fits into the limit: raise it, or make the step smaller"]
        )
    if advice.chosen is advice.default:
        return "\n".join([*lines, "nothing does better than the default settings"])
    if advice.settings:
        lines += ["set before the program starts", f"  PYTORCH_ALLOC_CONF={advice.settings}"]
    if advice.code:
        lines += ["write", *(f"  {line}".rstrip() for line in advice.code.splitlines())]
    return "\n".join(lines)


def _line(one: Candidate, width: int, is_chosen: bool) -> str:
    mark = "*" if is_chosen else " "
    waste = "" if math.isnan(one.waste) else f"{one.waste:.1%}"
    end = "  out of memory" if one.is_out_of_memory else ""
    return (
        f"{mark} {one.remedies.name:<{width}} {format_bytes(one.peak_reserved_bytes):>12} "
        f"{waste:>8} {one.n_driver_calls:>13}{end}"
    )
