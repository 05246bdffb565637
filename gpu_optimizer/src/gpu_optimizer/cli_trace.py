"""The command ``gpu-optimizer trace``: where the memory of a real step goes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import torch

from gpu_optimizer.cli_parts import EXIT_DOES_NOT_FIT, Commands
from gpu_optimizer.report import profile_text
from gpu_optimizer.traced_step import trace_model
from gpu_optimizer.training_step import Mode, OptimizerName, Precision, StepConfig


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("trace", help="run a step and tell where its memory goes")
    command.set_defaults(run=run)
    command.add_argument("model", help="resnet50, vit_b_16, llama-7b, ..., timm:NAME")
    command.add_argument("--mode", choices=get_args(Mode), default="train")
    command.add_argument("--batch", type=int, default=1, metavar="N", help="default: 1")
    command.add_argument("--seq", type=int, default=512, metavar="N", help="tokens, default: 512")
    command.add_argument("--optimizer", choices=get_args(OptimizerName), default="adamw")
    command.add_argument("--precision", choices=get_args(Precision), default="fp32")
    command.add_argument("--accumulate", type=int, default=1, metavar="N", help="backward passes")
    command.add_argument("--new-tokens", type=int, default=0, metavar="N", help="to generate")
    command.add_argument("--checkpoint", action="store_true", help="recompute blocks in backward")
    command.add_argument("--warmup", type=int, default=1, metavar="N", help="steps before it")
    command.add_argument("--layers", type=int, default=20, metavar="N", help="rows, default: 20")
    command.add_argument("--device", default=None, help="cuda:0 or cpu; default: a GPU if any")
    for kind in ("html", "json", "sqlite"):
        command.add_argument(f"--{kind}", type=Path, default=None, metavar="FILE", help="to write")


def run(args: argparse.Namespace) -> int:
    """Trace the step, print the table and write the files; return 0, or 1 if memory ran out."""
    if args.layers < 1:
        raise ValueError(f"--layers must be at least 1, got {args.layers}")
    paths = [path for path in (args.html, args.json, args.sqlite) if path is not None]
    for path in paths:
        if not path.parent.is_dir():
            raise ValueError(f"{path} cannot be written: there is no folder {path.parent}")
        if path.is_dir():
            raise ValueError(f"{path} cannot be written: it is a folder")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError("--html, --json and --sqlite must name different files")
    step = StepConfig(
        args.mode,
        args.optimizer,
        args.precision,
        args.accumulate,
        args.new_tokens,
        args.checkpoint,
    )
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    trace = trace_model(args.model, args.batch, args.seq, step, device, args.warmup)
    print(profile_text(trace.profile, args.layers))
    done = "inference" if step.mode == "infer" else f"training with {step.optimizer}"
    if args.html is not None:
        trace.to_html(args.html, f"{args.model}, {done}, {step.precision}, batch {args.batch}")
    if args.json is not None:
        trace.to_json(args.json)
    if args.sqlite is not None:
        trace.to_sqlite(args.sqlite)
    return 0 if trace.profile.out_of_memory is None else EXIT_DOES_NOT_FIT
