"""Measures on a GPU what tracing costs, and whether the trace is right.

Usage: ``PYTHONPATH=gpu_optimizer/src python scripts/gpu_tracer_check.py --out FOLDER``, on a
machine with a CUDA device, torchvision and transformers, in about 90 s. ``FOLDER`` gets
``memory_tracer_check.json`` and its page, written anew after every part, an HTML page of a small
model, and the baseline profiles.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import baseline_profiles
import numpy as np
import torch
from predictor_cases import Case
from report_lib import Report

from gpu_optimizer.memory_tracer import MemoryTracer
from gpu_optimizer.traced_step import prepared
from gpu_optimizer.training_step import StepConfig, StepProgram

NAME: Final = "memory_tracer_check"
COMMAND: Final = "python scripts/gpu_tracer_check.py --out FOLDER"
_MIB: Final = 2**20
_SPEED_SECONDS: Final = 9.0
_MIN_PAIRS: Final = 8
_MAX_PAIRS: Final = 60
SPEED: Final = (
    ("resnet50_bs256_fp32", Case("resnet50", 256, StepConfig("train", "momentum", "fp32"))),
    ("resnet50_bs256_amp", Case("resnet50", 256, StepConfig("train", "momentum", "amp-bf16"))),
    ("llama_7b_4_blocks", Case("llama-7b-4-blocks", 2, StepConfig("train", "adamw", "bf16"), 2048)),
)
EXACT: Final = (
    Case("resnet50", 48, StepConfig("train", "adamw", "amp")),
    Case("resnet50", 37, StepConfig("infer", precision="fp32")),
    Case("vit_b_16", 19, StepConfig("train", "adamw", "fp32")),
    Case("unet", 8, StepConfig("train", "momentum", "fp32", n_accumulate=2)),
    Case("llama-7b-4-blocks", 1, StepConfig("train", "sgd", "bf16", is_checkpointed=True), 1000),
    Case("llama-7b-4-blocks", 3, StepConfig("infer", precision="bf16", n_new_tokens=4), 700),
)


@dataclass(slots=True)
class Findings:
    """What was measured so far."""

    overheads: dict[str, tuple[float, int]] = field(default_factory=dict)
    speed_rows: list[list[object]] = field(default_factory=list)
    peak_errors: list[float] = field(default_factory=list)
    reserved_errors: list[float] = field(default_factory=list)
    layer_errors: list[int] = field(default_factory=list)
    exact_rows: list[list[object]] = field(default_factory=list)
    out_of_memory: list[list[object]] = field(default_factory=list)
    leaked_bytes: list[int] = field(default_factory=list)
    failures: list[list[object]] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is written")
    parser.add_argument("--only", default="", help="run parts whose name has this in it")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("no CUDA device is here; run this on a machine with a GPU", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    start_s = time.perf_counter()
    findings = Findings()
    parts: list[tuple[str, Callable[[], None]]] = []
    for case in EXACT:
        parts.append((f"exact {case.name}", lambda case=case: check(case, findings)))  # type: ignore[misc]
    parts.append(("out of memory", lambda: run_out_of_memory(findings)))
    parts.append(("page", lambda: save_page(args.out)))
    for name, case in SPEED:
        parts.append((f"speed {name}", lambda n=name, c=case: race(n, c, findings)))  # type: ignore[misc]
    parts.append(("baselines", lambda: baseline_profiles.write_report(args.out)))
    for name, part in parts:
        if args.only not in name:
            continue
        try:
            part()
            told = "done"
        except Exception:  # noqa: BLE001 - the other parts go on, the report tells
            told = traceback.format_exc(limit=4)
            findings.failures.append([name, told[-1500:]])
        gc.collect()
        torch.cuda.empty_cache()
        write_report(args.out, findings)
        print(f"{time.perf_counter() - start_s:5.0f} s  {name}: {told}", flush=True)
    return 0


def check(case: Case, findings: Findings) -> None:
    """Compare a trace with what PyTorch counts itself."""
    before = _held()
    with prepared(case.workload(), case.step, "cuda") as program:
        program.run(_ignore)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        with MemoryTracer(program.model, program.optimizer) as trace:
            program.run(_ignore)
            torch.cuda.synchronize()
            allocated = torch.cuda.max_memory_allocated()
            reserved = torch.cuda.max_memory_reserved()
    profile = trace.profile
    layers = sum(row.at_peak_bytes for row in profile.layers) - profile.peak_bytes
    at_peak = sum(block.size_bytes for block in profile.at_peak) - profile.peak_bytes
    error = 100 * abs(profile.peak_bytes - allocated) / allocated
    findings.peak_errors.append(error)
    findings.reserved_errors.append(100 * abs(profile.peak_reserved_bytes - reserved) / reserved)
    findings.layer_errors.append(max(abs(layers), abs(at_peak)))
    outside = {row.module: row.at_peak_bytes for row in profile.layers}
    findings.exact_rows.append(
        [
            case.name,
            allocated / _MIB,
            (profile.peak_bytes - allocated) / _MIB,
            reserved / _MIB,
            (profile.peak_reserved_bytes - reserved) / _MIB,
            100 * outside.get("(outside modules)", 0) / profile.peak_bytes,
            profile.peak_phase,
            len(profile.trace.events),
            profile.attribution,
            str(dict(profile.trace.dropped) or "none"),
        ]
    )
    # The trace and its profile are still here: they must hold no memory of the card.
    del program
    left = _held() - before
    findings.leaked_bytes.append(left)
    findings.exact_rows[-1].append(left / _MIB)


def race(name: str, case: Case, findings: Findings) -> None:
    """Time steps with and without a tracer, one after the other."""
    with prepared(case.workload(), case.step, "cuda") as program:
        for _ in range(3):
            _timed(program)
        with MemoryTracer(program.model, program.optimizer) as trace:
            program.run(_ignore)
        n_events = len(trace.profile.trace.events)
        plain: list[float] = []
        traced: list[float] = []
        whole: list[float] = []
        start_s = time.perf_counter()
        while len(plain) < _MAX_PAIRS and (
            len(plain) < _MIN_PAIRS or time.perf_counter() - start_s < _SPEED_SECONDS
        ):
            plain.append(_timed(program))
            entered_s = time.perf_counter()
            with MemoryTracer(program.model, program.optimizer):
                traced.append(_timed(program))
            whole.append(time.perf_counter() - entered_s - traced[-1])
    off, on = float(np.median(plain)), float(np.median(traced))
    ratios = np.array(traced) / np.array(plain)
    findings.overheads[name] = 100 * (on / off - 1), len(plain)
    findings.speed_rows.append(
        [
            name,
            len(plain),
            1000 * off,
            1000 * on,
            100 * (on / off - 1),
            100 * (float(np.median(ratios)) - 1),
            100 * (float(np.percentile(plain, 75)) / float(np.percentile(plain, 25)) - 1),
            n_events,
            1000 * float(np.median(whole)),
        ]
    )


def run_out_of_memory(findings: Findings) -> None:
    """Trace a step that does not fit, and see what is told and what is left."""
    total = torch.cuda.get_device_properties(0).total_memory
    before = _held()
    case = Case("resnet50", 256, StepConfig("train", "adamw", "fp32"))
    torch.cuda.set_per_process_memory_fraction(4 * 2**30 / total)
    told = "no error"
    tracer: MemoryTracer | None = None
    try:
        with prepared(case.workload(), case.step, "cuda") as program:
            tracer = MemoryTracer(program.model, program.optimizer)
            with tracer:
                program.run(_ignore)
    except torch.OutOfMemoryError as exc:
        told = str(exc).splitlines()[0][:120]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    program = None  # type: ignore[assignment]
    left = _held() - before
    found = None if tracer is None else tracer.profile.out_of_memory
    findings.leaked_bytes.append(left)
    findings.out_of_memory.append(
        [
            told,
            "nothing" if found is None else found.sentence(),
            "" if found is None else str(found.would_have_to_go[:3]),
            left / _MIB,
        ]
    )


def save_page(out: Path) -> None:
    """Leave the pages of a small model."""
    case = Case("resnet50", 16, StepConfig("train", "adamw", "fp32"))
    with prepared(case.workload(), case.step, "cuda") as program:
        program.run(_ignore)
        with MemoryTracer(program.model, program.optimizer) as trace:
            program.run(_ignore)
    trace.to_html(out / "resnet50_trace.html")
    trace.to_json(out / "resnet50_trace.json")
    trace.to_sqlite(out / "resnet50_trace.sqlite")


def write_report(out: Path, findings: Findings) -> None:
    """Write what is known so far."""
    report = Report(NAME, COMMAND, title="What tracing costs and how exact it is", folder=out)
    for name, _ in SPEED:
        percent, n = findings.overheads.get(name, (None, 0))
        report.bar(
            f"tracer_overhead_{name}",
            goal="< 1",
            measured=percent,
            unit="%",
            n=n,
            note="medians of steps with and without, taking turns" if n else "not reached",
        )
    for name, goal, unit, values in (
        ("peak_error_max", "<= 0.1", "%", findings.peak_errors),
        ("peak_reserved_error_max", None, "%", findings.reserved_errors),
        ("layers_off_total_max", "<= 0", "B", findings.layer_errors),
        ("memory_left_by_tracer_max", "<= 0", "B", findings.leaked_bytes),
    ):
        worst = max(values, default=None)
        note = "the worst of all cases" if values else "not reached"
        report.bar(name, goal=goal, measured=worst, unit=unit, n=len(values), note=note)
    report.table(
        "Time of a step",
        ("step", "pairs", "without ms", "with ms", "more %", "median of pairs %",
         "quartiles without apart %", "events", "entering and leaving ms"),
        findings.speed_rows,
        "Entering and leaving happens once for each trace, whatever its length.",
    )  # fmt: skip
    report.table(
        "Peak against torch.cuda.max_memory_allocated",
        ("case", "allocated MiB", "error MiB", "reserved MiB", "error MiB", "outside modules %",
         "phase", "events", "attribution", "dropped", "left after all MiB"),
        findings.exact_rows,
    )  # fmt: skip
    report.table(
        "Out of memory at 4 GiB", ("PyTorch", "post-mortem", "largest to go", "left MiB"),
        findings.out_of_memory,
    )  # fmt: skip
    report.table("Failed", ("part", "why"), findings.failures)
    report.write()


def _held() -> int:
    """Return what tensors hold of the card, without what libraries keep for themselves."""
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    return int(torch.cuda.memory_allocated())


def _timed(program: StepProgram) -> float:
    torch.cuda.synchronize()
    start_s = time.perf_counter()
    program.run(_ignore)
    torch.cuda.synchronize()
    return time.perf_counter() - start_s


def _ignore(_: str) -> None:
    """Take no notice of a phase."""


if __name__ == "__main__":
    sys.exit(main())
