"""Tells what fits on this GPU: models by batch up to the limit, also of emulated smaller cards.

    scripts/run gpu-profiler
    scripts/run gpu-profiler --models resnet50,vit_b_16 --budgets 8,12 --mode infer

Writes ``reports/system_constraints/<gpu>.md`` and ``.json`` anew after each search, and measures
the GPU into ``config/machines.yml``. Without a GPU it says so, and writes what is forecast for the
first three cards of that file instead.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import torch
from report_lib import REPOSITORY, Report

from gpu_optimizer.batch_finder import BatchFinder
from gpu_optimizer.batch_result import BatchSearchResult
from gpu_optimizer.errors import GpuOptimizerError, OutOfMemoryError
from gpu_optimizer.machine_file import write_machine
from gpu_optimizer.machine_profile import profile_machine
from gpu_optimizer.machines import Machine, load_machines
from gpu_optimizer.memory_predictor import Forecast, ForecastRequest, predict
from gpu_optimizer.model_step import ModelStep
from gpu_optimizer.training_step import Mode, OptimizerName, Precision, StepConfig
from gpu_optimizer.units import format_bytes

COMMAND: Final = "scripts/run gpu-profiler"
MACHINES: Final = REPOSITORY / "config" / "machines.yml"
FOLDER: Final = REPOSITORY / "reports" / "system_constraints"
_GIB: Final = 2**30
_MAX_FORECAST_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """What to look at.

    Attributes
    ----------
    models : tuple of str
        Names of the registry.
    budgets_gib : tuple of int
        Of emulated cards.
    step : StepConfig
        What a step does.
    seq : int
        Tokens of each sequence.
    """

    models: tuple[str, ...]
    budgets_gib: tuple[int, ...]
    step: StepConfig
    seq: int

    def requests(self) -> Iterator[tuple[str, int]]:
        """Yield each model under each budget."""
        for model in self.models:
            for budget in self.budgets_gib:
                yield model, budget


Search = BatchSearchResult | str
"""What a search found, or why it found nothing."""


def measure(plan: Plan, machine: Machine, folder: Path) -> Path:
    """Search for every model and budget, and write the report after each."""
    found: dict[tuple[str, int], Search] = {}
    path = folder
    for model, budget in plan.requests():
        try:
            finder = BatchFinder(ModelStep(model, plan.seq, plan.step), f"{budget}GiB")
            found[model, budget] = finder.find()
        except (OutOfMemoryError, ValueError) as exc:
            found[model, budget] = str(exc)
        path = write_measured(plan, machine, found, folder)
        print(f"{model} {budget} GiB: {_told(found[model, budget])}", flush=True)
    return path


def _told(search: Search) -> str:
    if isinstance(search, str):
        return search
    return f"n_max {search.n_max}, n_safe {search.n_safe}, {search.seconds:.0f} s"


def write_measured(
    plan: Plan, machine: Machine, found: dict[tuple[str, int], Search], folder: Path
) -> Path:
    """Write what was measured on a GPU."""
    page = _report(machine.gpu, folder, f"What fits on {machine.gpu}")
    page.text(f"{_step_text(plan)} Measured on this card, of {format_bytes(machine.total_bytes)}. "
              "Smaller cards are emulated by a limit on PyTorch's allocator, which with the CUDA "
              "context makes the budget.")  # fmt: skip
    searches = [_search_row(*key, search) for key, search in found.items()]
    page.table("Largest batches", _SEARCH_COLUMNS, searches)
    trials = [row for key, search in found.items() for row in _trial_rows(*key, search)]
    page.table("Trials", _TRIAL_COLUMNS, trials)
    page.table("Machine", ("what", "measured"),
               [("context MiB", (machine.context_bytes or 0) / 2**20),
                ("cuBLAS workspace MiB", machine.cublas_workspace_bytes / 2**20),
                *machine.rates.items()])  # fmt: skip
    return page.write()


_SEARCH_COLUMNS: Final = (
    "model", "budget GiB", "n max", "n safe", "n throughput", "limits", "context MiB", "s", "why",
)  # fmt: skip
_TRIAL_COLUMNS: Final = (
    "model", "budget GiB", "batch", "ran", "fresh process", "allocated MiB", "reserved MiB",
    "step ms", "items/s",
)  # fmt: skip


def _search_row(model: str, budget: int, search: Search) -> list[object]:
    if isinstance(search, str):
        return [model, budget, *[None] * (len(_SEARCH_COLUMNS) - 3), search]
    return [
        model, budget, search.n_max, search.n_safe, search.n_throughput, search.limiting_term,
        search.context_bytes / 2**20, search.seconds, search.why,
    ]  # fmt: skip


def _trial_rows(model: str, budget: int, search: Search) -> Iterator[list[object]]:
    trials = () if isinstance(search, str) else search.trials
    for trial in sorted(trials, key=lambda trial: (trial.batch, trial.is_fresh)):
        yield [
            model, budget, trial.batch, "yes" if trial.ran else "out of memory",
            "yes" if trial.is_fresh else "", trial.peak_allocated_bytes / 2**20,
            trial.peak_reserved_bytes / 2**20, 1e3 * trial.latency_s,
            trial.batch / trial.latency_s,
        ]  # fmt: skip


def forecast(plan: Plan, machines: Sequence[Machine], folder: Path) -> Path:
    """Write what is forecast for the machines, without a GPU."""
    page = _report("forecast", folder, "What is forecast to fit")
    page.text(f"**Forecast, not measured: no GPU was here.** {_step_text(plan)} Reserved memory by "
              "a replay of PyTorch's allocator, with the CUDA context where it was measured; "
              "machines are those of config/machines.yml.")  # fmt: skip
    rows = []
    for model in plan.models:
        try:
            rows += [_forecast_row(plan, model, batch, machines) for batch in _batches()]
        except (GpuOptimizerError, ValueError) as exc:
            rows.append([model, None, None, None, *[str(exc) for _ in machines]])
        print(f"{model}: forecast", flush=True)
    columns = ("model", "batch", "allocated GiB", "reserved GiB", *(m.name for m in machines))
    page.table("Forecast", columns, rows, "A card's column says whether the batch fits.")
    return page.write()


def _batches() -> Iterator[int]:
    batch = 1
    while batch <= _MAX_FORECAST_BATCH:
        yield batch
        batch *= 4


def _forecast_row(plan: Plan, model: str, batch: int, machines: Sequence[Machine]) -> list[object]:
    request = ForecastRequest(model, batch, plan.seq, plan.step)
    known = predict(request, machines[0])
    return [
        model, batch, known.peak_allocated_bytes / _GIB, known.peak_reserved_bytes / _GIB,
        *("fits" if _needed(known, machine) <= machine.total_bytes else "no"
          for machine in machines),
    ]  # fmt: skip


def _needed(known: Forecast, machine: Machine) -> int:
    return known.peak_reserved_bytes + (machine.context_bytes or 0)


def _report(gpu: str, folder: Path, title: str) -> Report:
    name = re.sub(r"[^a-z0-9]+", "_", gpu.lower()).strip("_")
    return Report(name, COMMAND, title=title, folder=folder)


def _step_text(plan: Plan) -> str:
    step = plan.step
    done = "inference" if step.mode == "infer" else f"training with {step.optimizer}"
    return f"{done.capitalize()}, {step.precision}, {plan.seq} tokens where there are any."


def main(argv: Sequence[str] | None = None) -> int:
    """Measure or forecast, and say which."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet50,vit_b_16,torchvision:efficientnet_b0")
    parser.add_argument("--budgets", default="8,12,16", help="GiB, default: %(default)s")
    parser.add_argument("--mode", choices=get_args(Mode), default="train")
    parser.add_argument("--optimizer", choices=get_args(OptimizerName), default="adamw")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--out", type=Path, default=FOLDER, help="a folder")
    parser.add_argument("--machines", type=Path, default=MACHINES, help="the file of machines")
    args = parser.parse_args(argv)
    step = StepConfig(args.mode, args.optimizer, args.precision)
    budgets = tuple(int(text) for text in args.budgets.split(","))
    plan = Plan(tuple(args.models.split(",")), budgets, step, args.seq)
    if not torch.cuda.is_available():
        print("no GPU is here: what follows is forecast, not measured", flush=True)
        print(forecast(plan, list(load_machines(args.machines).values())[:3], args.out))
        return 0
    machine = profiled(args.machines)
    print(measure(plan, machine, args.out))
    return 0


def profiled(path: Path) -> Machine:
    """Return this GPU, measured in a process of its own, and write it into a file of machines."""
    context = torch.multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:  # its CUDA context goes with it
        machine: Machine = pool.apply(profile_machine)
    write_machine(path, machine)
    return machine


if __name__ == "__main__":
    sys.exit(main())
