"""The command ``gpu-optimizer predict``: what a model will need, without a GPU."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final, get_args

from gpu_optimizer.cli_parts import EXIT_DOES_NOT_FIT, Commands
from gpu_optimizer.fit_advice import Change, changes_to_fit
from gpu_optimizer.machines import DEFAULT_MACHINE, Machine, find_machine
from gpu_optimizer.memory_predictor import Forecast, ForecastRequest, predict
from gpu_optimizer.training_step import Mode, OptimizerName, Precision, StepConfig
from gpu_optimizer.units import format_bytes, parse_bytes

_N_MODULES: Final = 8
_WITHOUT_CONTEXT: Final = (
    ", not counting the CUDA context, which was not measured on this machine: some hundred MiB, as "
    "`gpu-optimizer profile-machine` tells"
)


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("predict", help="forecast peak memory without a GPU")
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
    command.add_argument("--device", default=DEFAULT_MACHINE, metavar="NAME", help="the machine")
    command.add_argument("--budget", default=None, metavar="SIZE", help="8GiB; default: the card")


def run(args: argparse.Namespace) -> int:
    """Print the forecast; return 0, or 1 if the model does not fit into the budget."""
    machine = find_machine(args.device)
    budget_bytes = machine.total_bytes if args.budget is None else parse_bytes(args.budget)
    if budget_bytes <= 0:
        raise ValueError(f"the budget must be more than 0, got {args.budget!r}")
    if budget_bytes > machine.total_bytes:
        raise ValueError(
            f"the budget {args.budget} is more than {machine.name} has, "
            f"{format_bytes(machine.total_bytes)}: give less, or another --device"
        )
    step = StepConfig(
        args.mode,
        args.optimizer,
        args.precision,
        args.accumulate,
        args.new_tokens,
        args.checkpoint,
    )
    request = ForecastRequest(args.model, args.batch, args.seq, step)
    forecast = predict(request, machine)
    print(_table(request, forecast, machine))
    if forecast.needed_bytes <= budget_bytes:
        # Within the band of errors nobody can tell.
        is_sure = forecast.needed_bytes * (1.0 + forecast.error_fraction) <= budget_bytes
        left_out = "" if forecast.device_bytes is not None else _WITHOUT_CONTEXT
        verdict = "fits" if is_sure else "may just fit"
        print(f"\n{verdict} into {format_bytes(budget_bytes)}{left_out}")
        return 0
    over = format_bytes(forecast.needed_bytes - budget_bytes)
    print(f"\ndoes not fit into {format_bytes(budget_bytes)}: {over} too much")
    changes = changes_to_fit(request, budget_bytes, lambda changed: predict(changed, machine))
    print("\n".join(_change_line(change) for change in changes))
    return EXIT_DOES_NOT_FIT


def _table(request: ForecastRequest, forecast: Forecast, machine: Machine) -> str:
    step = request.step
    done = "inference" if step.mode == "infer" else f"training with {step.optimizer}"
    device = forecast.device_bytes
    rows = [
        ("peak allocated", format_bytes(forecast.peak_allocated_bytes)),
        ("peak reserved", format_bytes(forecast.peak_reserved_bytes)),
        ("device memory", "context not measured" if device is None else format_bytes(device)),
        ("error band", f"± {forecast.error_fraction:.0%}"),
        ("peak is in", forecast.peak_phase),
        ("forecast took", f"{forecast.seconds:.1f} s"),
    ]
    source = "measured" if machine.is_measured else "documented, not measured"
    lines = [
        f"{request.model}, {done}, {step.precision}, batch {request.batch}, seq {request.seq}",
        f"constants of {machine.name}: {source}",
        "",
        *(f"{name:<16} {value}" for name, value in rows),
        "",
        "at the peak, by category",
        *_amounts(forecast.by_category),
        "",
        "at the peak, by module",
        *_amounts(forecast.by_module[:_N_MODULES]),
    ]
    rest = sum(size for _, size in forecast.by_module[_N_MODULES:])
    if rest:
        lines.append(f"  {format_bytes(rest):>12}  others")
    return "\n".join(lines)


def _amounts(totals: Sequence[tuple[str, int]]) -> list[str]:
    return [f"  {format_bytes(size):>12}  {name or '(no module)'}" for name, size in totals]


def _change_line(change: Change) -> str:
    verdict = "fits" if change.fits else "does not fit"
    return f"  {change.what:<28} {format_bytes(change.forecast.needed_bytes):>12}  {verdict}"
