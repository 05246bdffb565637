"""The command ``gpu-optimizer predict``: what a model will need, without a GPU."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

from gpu_optimizer.cli_parts import EXIT_DOES_NOT_FIT, Commands
from gpu_optimizer.fit_advice import Change, changes_to_fit
from gpu_optimizer.forecast_error import MEASURED_GPU
from gpu_optimizer.machines import DEFAULT_MACHINE, Machine, find_machine, load_machines
from gpu_optimizer.memory_predictor import Forecast, ForecastRequest, Verdict, predict
from gpu_optimizer.models import find_model
from gpu_optimizer.training_step import Mode, OptimizerName, Precision, StepConfig
from gpu_optimizer.units import format_bytes, parse_bytes

_N_MODULES: Final = 8


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
    command.add_argument(
        "--machines",
        type=Path,
        default=None,
        metavar="FILE",
        help="as written by `profile-machine --out`; default: the package's own",
    )
    command.add_argument("--budget", default=None, metavar="SIZE", help="8GiB; default: the card")


def run(args: argparse.Namespace) -> int:
    """Print the forecast; return 0, or 1 if the model does not fit into the budget."""
    machines = load_machines(args.machines)
    machine = find_machine(args.device, args.machines)
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
    forecasts: dict[ForecastRequest, Forecast] = {}

    def known(asked: ForecastRequest) -> Forecast:
        if asked not in forecasts:
            forecasts[asked] = predict(asked, machine)
        return forecasts[asked]

    forecast = known(request)
    print(_table(request, forecast, machine))
    verdict = forecast.verdict(budget_bytes)
    print(f"\n{verdict} into {format_bytes(budget_bytes)}{_why(forecast, budget_bytes, verdict)}")
    if verdict in ("fits", "may just fit"):
        return 0
    print(
        _advice(
            changes_to_fit(request, budget_bytes, known), _larger_card(request, machine, machines)
        )
    )
    return EXIT_DOES_NOT_FIT


def _why(forecast: Forecast, budget_bytes: int, verdict: Verdict) -> str:
    """Return what there is to say about a verdict."""
    if verdict == "fits":
        return ""
    over_bytes = forecast.needed_bytes - budget_bytes
    if over_bytes > 0 and verdict == "may just fit":
        return f": if PyTorch returns {format_bytes(over_bytes)} that it would rather keep cached"
    if over_bytes > 0:
        return f": {format_bytes(over_bytes)} too much"
    return f": it may need up to {format_bytes(forecast.needed_range[1])}"


def _advice(changes: Sequence[Change], card: str) -> str:
    """Return what would fit, and what would not be enough."""
    lines = []
    for title, helps in (("what would fit", True), ("what alone is not enough", False)):
        chosen = [_change_line(change) for change in changes if change.helps is helps]
        chosen += [f"  {card}"] if helps and card else []
        lines += [title, *chosen] if chosen else []
    if not (card or any(change.helps for change in changes)):
        lines.append("nothing that could be changed here makes it fit")
    return "\n".join(lines)


def _larger_card(
    request: ForecastRequest, machine: Machine, machines: Mapping[str, Machine]
) -> str:
    """Return the smallest larger card that is known and that the request fits on, as an option."""
    others = sorted(machines.values(), key=lambda other: other.total_bytes)
    for other in others:
        if other.total_bytes > machine.total_bytes:
            forecast = predict(request, other)
            if forecast.verdict(other.total_bytes) == "fits":
                name = f"--device {other.name}"
                return f"{name:<26} {format_bytes(forecast.needed_bytes):>12}  fits"
    return ""


def _table(request: ForecastRequest, forecast: Forecast, machine: Machine) -> str:
    step = request.step
    done = "inference" if step.mode == "infer" else f"training with {step.optimizer}"
    rows = [
        ("peak allocated", forecast.peak_allocated_bytes, forecast.allocated_range),
        ("peak reserved", forecast.peak_reserved_bytes, forecast.reserved_range),
        ("device memory", forecast.device_bytes, forecast.needed_range),
    ]
    seq = f", seq {request.seq}" if find_model(request.model).kind == "text" else ""
    source = "measured" if machine.is_measured else "documented, not measured"
    lines = [
        f"{request.model}, {done}, {step.precision}, batch {request.batch}{seq}",
        f"constants of {machine.name}: {source}",
        _about_errors(machine),
        "",
        *(_amount(*row) for row in rows),
        f"{'peak is in':<16} {forecast.peak_phase}",
        f"{'forecast took':<16} {forecast.seconds:.1f} s",
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


def _about_errors(machine: Machine) -> str:
    """Return where the ranges come from."""
    if not machine.is_measured:
        return f"ranges: errors measured on {MEASURED_GPU}, doubled, as this card was not measured"
    other = "" if machine.gpu == MEASURED_GPU else ", another card"
    return f"ranges: errors measured on {MEASURED_GPU}{other}"


def _amount(name: str, n_bytes: int | None, ends: tuple[int, int]) -> str:
    """Return a figure with its range."""
    told = "context not measured" if n_bytes is None else format_bytes(n_bytes)
    return f"{name:<16} {told:<12} ({format_bytes(ends[0])} to {format_bytes(ends[1])})"


def _amounts(totals: Sequence[tuple[str, int]]) -> list[str]:
    return [f"  {format_bytes(size):>12}  {name or '(no module)'}" for name, size in totals]


def _change_line(change: Change) -> str:
    needed = format_bytes(change.forecast.needed_bytes)
    return f"  {change.what:<26} {needed:>12}  {change.verdict}"
