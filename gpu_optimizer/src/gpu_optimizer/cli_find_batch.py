"""The command ``gpu-optimizer find-batch``: the largest batch that runs on this GPU."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from typing import get_args

from gpu_optimizer.batch_finder import BatchFinder
from gpu_optimizer.batch_result import BatchSearchResult, SearchConfig
from gpu_optimizer.batch_trial import StepFn, TrialOutcome
from gpu_optimizer.cli_parts import EXIT_DOES_NOT_FIT, EXIT_INTERRUPTED, Commands
from gpu_optimizer.device import CudaDoor
from gpu_optimizer.errors import OutOfMemoryError
from gpu_optimizer.model_step import ModelStep
from gpu_optimizer.models import find_model
from gpu_optimizer.training_step import Mode, OptimizerName, Precision, StepConfig
from gpu_optimizer.units import format_bytes


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("find-batch", help="find the largest batch that runs here")
    command.set_defaults(run=run)
    command.add_argument("model", nargs="?", default="", help="resnet50, vit_b_16, timm:NAME, ...")
    command.add_argument("--step", default="", metavar="MODULE:FUNCTION", help="instead of a model")
    command.add_argument("--mode", choices=get_args(Mode), default="train")
    command.add_argument("--seq", type=int, default=512, metavar="N", help="tokens, default: 512")
    command.add_argument("--optimizer", choices=get_args(OptimizerName), default="adamw")
    command.add_argument("--precision", choices=get_args(Precision), default="fp32")
    command.add_argument("--accumulate", type=int, default=1, metavar="N", help="backward passes")
    command.add_argument("--checkpoint", action="store_true", help="recompute blocks in backward")
    command.add_argument("--budget", default=None, metavar="SIZE", help="8GiB; default: the card")
    command.add_argument("--gpu", type=int, default=0, metavar="N", help="which, from 0")
    command.add_argument("--max-batch", type=int, default=SearchConfig().max_batch, metavar="N")
    command.add_argument("--margin", type=float, default=SearchConfig().margin, metavar="SHARE")
    command.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Search and print; return 0, 1 if no batch fits, or 130 if it was interrupted."""
    config = SearchConfig(max_batch=args.max_batch, margin=args.margin)
    finder = BatchFinder(_step(args), args.budget, config, door=CudaDoor(args.gpu), on_trial=_tell)
    try:
        result = finder.find()
    except OutOfMemoryError as exc:
        print(f"gpu-optimizer: {exc}", file=sys.stderr)
        return EXIT_DOES_NOT_FIT
    except KeyboardInterrupt:
        print("gpu-optimizer: stopped; all trials were ended", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(_json(result) if args.json else _table(result))
    return 0


def _step(args: argparse.Namespace) -> StepFn | str:
    if bool(args.model) == bool(args.step):
        raise ValueError("name a model or a step: find-batch MODEL, or --step module:function")
    if args.step:
        return str(args.step)
    step = StepConfig(
        args.mode,
        args.optimizer,
        args.precision,
        args.accumulate,
        is_checkpointed=args.checkpoint,
    )
    # An unknown name, and what the model cannot do, are told before a process starts.
    find_model(args.model).workload_of(step, 1, args.seq)
    return ModelStep(args.model, args.seq, step)


def _tell(trial: TrialOutcome) -> None:
    verdict = "runs" if trial.ran else "out of memory"
    where = "fresh process" if trial.is_fresh else "same process"
    peak = format_bytes(trial.peak_allocated_bytes)
    told = f"  batch {trial.batch:>6}  {verdict:<13} {peak:>11}  {trial.seconds:5.1f} s  {where}"
    print(told, file=sys.stderr)


def _table(result: BatchSearchResult) -> str:
    proof = "each in a fresh process" if result.is_proven else "not proven"
    forecast = "none" if result.n_forecast is None else str(result.n_forecast)
    rows = [
        ("largest batch", f"{result.n_max} ({proof})"),
        ("safe batch", str(result.n_safe)),
        ("best throughput", f"{result.n_throughput} (beyond it latency grows as the batch)"),
        ("forecast", forecast),
        ("budget", format_bytes(result.budget_bytes)),
        ("CUDA context", format_bytes(result.context_bytes)),
        ("for PyTorch", format_bytes(result.limit_bytes)),
        ("card in use", format_bytes(result.device_bytes)),
        ("limited by", result.limiting_term),
        ("took", f"{result.seconds:.1f} s, {len(result.trials)} trials"),
    ]
    return "\n".join([*(f"{name:<16} {value}" for name, value in rows), "", result.why])


def _json(result: BatchSearchResult) -> str:
    return json.dumps(_finite(asdict(result)), indent=1)


def _finite(value: object) -> object:
    """Return the same with None for NaN, which JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
