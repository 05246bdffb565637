"""Measures forecasts of memory against a real GPU, beside MemTracker and a rule of thumb.

    scripts/gpu_predictor_check.py --out predictor.json

Every case runs in a process of its own: the real step twice, the second measured, then the forecast
of the same case. The file is written anew after every case. The constants of the machine (CUDA
context, cuBLAS workspace, kernel of attention, processors) are measured first and printed as they
belong into ``config/machines.yml``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from predictor_cases import CASES, Case
from report_lib import Report, to_json
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gpu_optimizer.errors import GpuOptimizerError
from gpu_optimizer.machine_profile import profile_machine
from gpu_optimizer.machines import DEFAULT_MACHINE, Machine, find_machine
from gpu_optimizer.memory_predictor import (
    Forecast,
    ForecastRequest,
    predict,
    predict_workload,
)
from gpu_optimizer.training_step import AUTOCAST_DTYPES, WEIGHT_DTYPES, StepConfig, StepProgram

COMMAND: Final = "scripts/gpu_predictor_check.py"
_N_WORKERS: Final = 3
_CASE_SECONDS: Final = 100
_MIB: Final = 2**20
_COPIES_OF_STATE: Final = {"sgd": 0, "momentum": 1, "adamw": 2}
_AMOUNTS: Final = (
    "allocated",
    "reserved",
    "forecast_allocated",
    "forecast_reserved",
    "mem_tracker",
    "rule_of_thumb",
    "forecast_seconds",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case: bytes measured and forecast, NaN where that failed."""

    case: str
    allocated: float
    reserved: float
    forecast_allocated: float
    forecast_reserved: float
    mem_tracker: float
    rule_of_thumb: float
    forecast_seconds: float
    by_category: tuple[tuple[str, int], ...]
    note: str

    def error(self, name: str) -> float:
        """Return the relative error of a forecast, in percent, NaN without one."""
        truth = self.reserved if name == "forecast_reserved" else self.allocated
        return 100 * (float(getattr(self, name)) - truth) / truth if truth else math.nan


@dataclass(frozen=True, slots=True)
class Cost:
    """What a forecast takes: its time, that of importing transformers before, and memory."""

    seconds: float
    import_seconds: float
    host_bytes: int


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all cases, or one of them, or the constants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("predictor_accuracy.json"))
    parser.add_argument("--only", default="", help="measure cases whose name has this in it")
    parser.add_argument(
        "--again",
        type=Path,
        metavar="FILE",
        help="forecast anew, without a GPU, what such a file measured on one",
    )
    parser.add_argument("--case", default="", help=argparse.SUPPRESS)
    parser.add_argument("--machine", default="", help=argparse.SUPPRESS)
    parser.add_argument("--forecast", action="store_true", help="time Llama-7B alone, without GPU")
    parser.add_argument("--constants", action="store_true", help="measure the constants alone")
    args = parser.parse_args(argv)
    if args.forecast:
        print(json.dumps(asdict(forecast_cost())))
        return 0
    if args.again is not None:
        forecast_again(args.again, args.out.resolve().parent)
        return 0
    if not torch.cuda.is_available():
        print(f"{COMMAND}: no CUDA device is here; run it on a machine with one", file=sys.stderr)
        return 2
    if args.case:
        machine = Machine(**json.loads(args.machine))
        print(json.dumps(to_json(asdict(measure(_case(args.case), machine)))))
        return 0
    if args.constants:
        print(json.dumps(asdict(profile_machine())))
        return 0
    return measure_all(args.out, args.only)


def measure_all(out: Path, only: str) -> int:
    """Measure in fresh processes, write after each case, and report."""
    start_s = time.monotonic()
    machine = Machine(**json.loads(_child("--constants").splitlines()[-1]))
    print(f"  {machine.name}: {json.dumps({**asdict(machine), 'name': None})}", flush=True)
    cost = Cost(**json.loads(_child("--forecast").splitlines()[-1]))
    outcomes: list[Outcome] = []
    text = json.dumps(asdict(machine))
    with ThreadPoolExecutor(_N_WORKERS) as pool:
        pending = {
            pool.submit(_child, "--case", case.name, "--machine", text): case
            for case in CASES
            if only in case.name
        }
        for future in as_completed(pending):
            outcomes.append(_outcome(pending[future], future.result()))
            seconds = time.monotonic() - start_s
            save(out, machine, outcomes, seconds)
            last = outcomes[-1]
            errors = (last.error("forecast_allocated"), last.error("forecast_reserved"))
            told = f"allocated {errors[0]:+.2f} %  reserved {errors[1]:+.2f} %  {last.note}"
            print(f"{seconds:5.0f} s  {last.case:<44} {told}", flush=True)
    report(outcomes, machine, cost, out.resolve().parent)
    return 0


def forecast_again(file: Path, folder: Path) -> None:
    """Forecast the cases that a file measured with the code as it is now, and report."""
    content = json.loads(file.read_text(encoding="utf-8"))
    machine = Machine(**content["machine"])
    outcomes = []
    for row in content["cases"]:
        measured = _outcome(_case(row["case"]), json.dumps(row))
        if math.isnan(measured.allocated):
            continue
        found = predict_workload(_case(row["case"]).workload(), _case(row["case"]).step, machine)
        outcomes.append(
            replace(
                measured,
                forecast_allocated=float(found.peak_allocated_bytes),
                forecast_reserved=float(found.peak_reserved_bytes),
                forecast_seconds=found.seconds,
                by_category=found.by_category,
            )
        )
        last = outcomes[-1]
        print(
            f"{last.case:<62} {last.error('forecast_allocated'):+7.2f} % "
            f"{last.error('forecast_reserved'):+7.2f} %",
            flush=True,
        )
    cost = Cost(**json.loads(_child("--forecast").splitlines()[-1]))
    report(outcomes, machine, cost, folder)


def _child(*arguments: str) -> str:
    """Return what this script prints in a process of its own; its error text if it fails."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - this script with arguments of this file
            command, capture_output=True, text=True, check=False, timeout=_CASE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"took more than {_CASE_SECONDS} s"
    return done.stdout if done.returncode == 0 else (done.stderr.strip() or "failed")


def _outcome(case: Case, text: str) -> Outcome:
    """Return what a child printed, or a case that failed with its last line."""
    last = text.strip().splitlines()[-1] if text.strip() else "printed nothing"
    try:
        values: Mapping[str, object] = json.loads(last)
    except json.JSONDecodeError:
        values = {"case": case.name, "note": last, "by_category": ()}
    amounts = {name: _amount(values.get(name)) for name in _AMOUNTS}
    pairs = values["by_category"]
    return Outcome(
        case=case.name,
        note=str(values["note"]),
        by_category=tuple((str(key), int(size)) for key, size in pairs)
        if isinstance(pairs, Sequence)
        else (),
        **amounts,
    )


def _amount(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def save(out: Path, machine: Machine, outcomes: Sequence[Outcome], seconds: float) -> None:
    """Write all that is known so far."""
    content = {"machine": asdict(machine), "seconds": seconds, "cases": [*map(_row, outcomes)]}
    out.write_text(json.dumps(to_json(content), indent=1) + "\n", encoding="utf-8")


def _row(outcome: Outcome) -> Mapping[str, object]:
    names = ("forecast_allocated", "forecast_reserved", "mem_tracker", "rule_of_thumb")
    return {**asdict(outcome), "errors_percent": {name: outcome.error(name) for name in names}}


def measure(case: Case, machine: Machine) -> Outcome:
    """Return what a case takes on the GPU and what is forecast for it."""
    allocated, reserved, n_parameter_bytes = measured_peaks(case)
    forecast: Forecast | None = None
    notes = []
    try:
        forecast = predict_workload(case.workload(), case.step, machine)
    except GpuOptimizerError as exc:
        notes.append(str(exc))
    try:
        tracked = float(mem_tracker_peak(case))
    except Exception as exc:  # noqa: BLE001 - a peer's failure is a result, told in the note
        tracked = math.nan
        notes.append(f"MemTracker: {type(exc).__name__}")
    return Outcome(
        case=case.name,
        allocated=allocated,
        reserved=reserved,
        forecast_allocated=math.nan if forecast is None else forecast.peak_allocated_bytes,
        forecast_reserved=math.nan if forecast is None else forecast.peak_reserved_bytes,
        mem_tracker=tracked,
        rule_of_thumb=rule_of_thumb(n_parameter_bytes, case.step),
        forecast_seconds=math.nan if forecast is None else forecast.seconds,
        by_category=() if forecast is None else forecast.by_category,
        note="; ".join(notes),
    )


def measured_peaks(case: Case) -> tuple[int, int, int]:
    """Return allocated and reserved bytes of the second real step, and the parameters' bytes."""
    torch.set_default_dtype(WEIGHT_DTYPES[case.step.precision])
    torch.set_default_device("cuda")
    program, model = _program(case, "cuda")
    program.run(_ignore)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    program.run(_ignore)
    torch.cuda.synchronize()
    peaks = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    n_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    return (*peaks, n_bytes)


def _program(case: Case, device: str) -> tuple[StepProgram, nn.Module]:
    workload = case.workload()
    model, batch = workload.model_fn(), workload.inputs_fn()
    model.train(case.step.mode == "train")
    dtype = AUTOCAST_DTYPES.get(case.step.precision)
    autocast = nullcontext if dtype is None else lambda: torch.autocast(device, dtype=dtype)
    return StepProgram(model, batch, workload.loss_fn, case.step, autocast), model


def _ignore(_: str) -> None:
    """Take no notice of a phase."""


def mem_tracker_peak(case: Case) -> int:
    """Return the peak that PyTorch's MemTracker tells of the second step under a fake mode."""
    from torch.distributed._tools.mem_tracker import MemTracker

    torch.set_default_dtype(WEIGHT_DTYPES[case.step.precision])
    with FakeTensorMode(), torch.device("cuda"):
        program, model = _program(case, "cuda")
        tracker = MemTracker()
        external = [model] if program.optimizer is None else [model, program.optimizer]
        tracker.track_external(*external)
        with tracker:
            program.run(_ignore)
            tracker.reset_mod_stats()
            program.run(_ignore)
        peaks = tracker.get_tracker_snapshot("peak")
    totals = [
        sum(size for kind, size in sizes.items() if str(kind) != "Total")
        for device, sizes in peaks.items()
        if device.type == "cuda"
    ]
    return int(max(totals))


def rule_of_thumb(n_parameter_bytes: int, step: StepConfig) -> float:
    """Return weights, gradients and optimizer state, or weights and a fifth for inference.

    The fifth is what Hugging Face's "Model memory estimator" adds for inference.
    """
    if step.mode == "infer":
        return 1.2 * n_parameter_bytes
    return float(n_parameter_bytes * (2 + _COPIES_OF_STATE[step.optimizer]))


def forecast_cost() -> Cost:
    """Return what a forecast of training Llama-7B takes in this process, on two cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    request = ForecastRequest("llama-7b", 1, 2048, StepConfig("train", "adamw", "bf16"))
    start_s = time.monotonic()
    from transformers import LlamaForCausalLM  # noqa: F401 - its import is timed

    import_s = time.monotonic() - start_s
    forecast = predict(request, find_machine(DEFAULT_MACHINE))
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Cost(forecast.seconds, import_s, peak_kib * 1024)


def report(outcomes: Sequence[Outcome], machine: Machine, cost: Cost, folder: Path) -> None:
    """Write ``predictor_accuracy.md`` and ``.json`` into a folder."""
    page = Report(
        "predictor_accuracy", COMMAND, title="Accuracy of memory forecasts", folder=folder
    )
    bars = (
        ("allocated_error_median", "<= 1", "forecast_allocated", np.median),
        ("allocated_error_max", "<= 5", "forecast_allocated", np.max),
        ("reserved_error_max", "<= 5", "forecast_reserved", np.max),
        ("mem_tracker_error_median", None, "mem_tracker", np.median),
        ("mem_tracker_error_max", None, "mem_tracker", np.max),
        ("rule_of_thumb_error_median", None, "rule_of_thumb", np.median),
    )
    for name, goal, field, statistic in bars:
        errors = np.array([abs(outcome.error(field)) for outcome in outcomes])
        errors = errors[np.isfinite(errors)]
        told = float(statistic(errors)) if errors.size else math.nan
        note = f"of {len(outcomes)} cases" if errors.size else "no case could be measured"
        page.bar(name, goal=goal, measured=told, unit="%", n=int(errors.size), note=note)
    page.bar("llama_7b_forecast", goal="<= 10", measured=cost.seconds, unit="s", n=1,
             note="two cores, after the import of transformers")  # fmt: skip
    page.bar("llama_7b_import", goal=None, measured=cost.import_seconds, unit="s", n=1,
             note="transformers, once for each process")  # fmt: skip
    page.bar("llama_7b_forecast_host_memory", goal="< 4", measured=cost.host_bytes / 1e9,
             unit="GB", n=1, note="peak of the whole process")  # fmt: skip
    page.table(
        "Cases",
        ("case", "allocated MiB", "error %", "reserved MiB", "error %", "MemTracker error %",
         "rule of thumb error %", "forecast s", "note"),
        [
            (o.case, o.allocated / _MIB, o.error("forecast_allocated"), o.reserved / _MIB,
             o.error("forecast_reserved"), o.error("mem_tracker"), o.error("rule_of_thumb"),
             o.forecast_seconds, o.note)
            for o in sorted(outcomes, key=lambda outcome: outcome.case)
        ],
    )  # fmt: skip
    page.text(
        f"The amounts were measured on one {machine.gpu}; a forecast needs none. Forecasts were "
        "looked at, in their errors on these cases, between versions of the rules for libraries."
    )
    page.detail("machine", asdict(machine))
    print(page.write())


def _case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


if __name__ == "__main__":
    sys.exit(main())
