"""Layer by layer, the memory of ResNet50, ViT-Base and Llama-7B inference.

    scripts/run baseline-profiles

With a CUDA device each step is traced on it; without one it is forecast on fake tensors, and the
cells say so. Writes ``reports/baseline_memory_profiles.json`` and its page.
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from report_lib import Report

from gpu_optimizer.machines import DEFAULT_MACHINE, find_machine
from gpu_optimizer.memory_predictor import ForecastRequest, predict
from gpu_optimizer.traced_step import trace_model
from gpu_optimizer.training_step import StepConfig

NAME: Final = "baseline_memory_profiles"
COMMAND: Final = "scripts/run baseline-profiles"
_MIB: Final = 2**20
_N_LAYERS: Final = 12
_NUMBERED: Final = re.compile(r"(^|_)[0-9]+$")
CASES: Final = (
    ForecastRequest("resnet50", 32, step=StepConfig("infer", precision="fp32")),
    ForecastRequest("resnet50", 32, step=StepConfig("train", "adamw", "fp32")),
    ForecastRequest("vit_b_16", 32, step=StepConfig("infer", precision="fp32")),
    ForecastRequest("vit_b_16", 32, step=StepConfig("train", "adamw", "fp32")),
    ForecastRequest("llama-7b", 1, 2048, StepConfig("infer", precision="bf16")),
)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The memory of a step, in bytes."""

    source: str
    allocated: int
    reserved: int
    by_category: tuple[tuple[str, int], ...]
    layers: tuple[tuple[str, int], ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=None, help="folder, default: reports/")
    write_report(parser.parse_args(argv).out)
    return 0


def write_report(folder: Path | None) -> None:
    """Trace or forecast all cases; one that fails is told in the report."""
    report = Report(NAME, COMMAND, title="Baseline memory profiles", folder=folder)
    report.text(
        "What each layer owns at the peak of a step in its steady state, weights random. A "
        "training step holds gradients and optimizer state too. All layers are in the JSON file."
    )
    for request in CASES:
        title = _title(request)
        try:
            baseline = measured(request) if torch.cuda.is_available() else forecast(request)
        except Exception as exc:  # noqa: BLE001 - the other cases go on, the report tells
            report.table(title, ("failed",), [(f"{type(exc).__name__}: {exc}",)])
            report.write()
            continue
        _add(report, title, baseline)
        report.write()
        print(f"{title}: {baseline.allocated / _MIB:.1f} MiB, {baseline.source}", flush=True)


def measured(request: ForecastRequest) -> Baseline:
    """Return what the tracer tells of a real step on the GPU."""
    gc.collect()
    torch.cuda.empty_cache()
    profile = trace_model(request.model, request.batch, request.seq, request.step, "cuda").profile
    return Baseline(
        source=f"traced on {torch.cuda.get_device_name()}",
        allocated=profile.peak_bytes,
        reserved=profile.peak_reserved_bytes,
        by_category=profile.by_category,
        layers=tuple((row.module, row.at_peak_bytes) for row in profile.layers),
    )


def forecast(request: ForecastRequest) -> Baseline:
    """Return what is forecast of a step without a GPU."""
    machine = find_machine(DEFAULT_MACHINE)
    told = predict(request, machine)
    return Baseline(
        source=f"forecast for {machine.name} on fake tensors, not measured",
        allocated=told.peak_allocated_bytes,
        reserved=told.peak_reserved_bytes,
        by_category=told.by_category,
        layers=tuple((name or "(outside modules)", size) for name, size in told.by_module),
    )


def _add(report: Report, title: str, baseline: Baseline) -> None:
    report.detail(f"{title}, all layers", {name: size for name, size in baseline.layers if size})
    blocks = _grouped(baseline.layers)
    shown = blocks[:_N_LAYERS]
    rest = sum(size for _, size in blocks[_N_LAYERS:])
    rows = [(name, size / _MIB, 100 * size / baseline.allocated) for name, size in shown]
    if rest:
        rows.append(
            (f"{len(blocks) - _N_LAYERS} others", rest / _MIB, 100 * rest / baseline.allocated)
        )
    categories = ", ".join(f"{name} {size / _MIB:.1f} MiB" for name, size in baseline.by_category)
    report.table(
        title,
        ("layer", "MiB at the peak", "%"),
        rows,
        f"Peak allocated {baseline.allocated / _MIB:.1f} MiB, reserved "
        f"{baseline.reserved / _MIB:.1f} MiB; {baseline.source}. Of it {categories}.",
    )


def _grouped(layers: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the bytes of blocks: names are cut behind the first number, or the second part."""
    totals: Counter[str] = Counter()
    for name, size in layers:
        parts = name.split(".")
        numbered = (index for index, part in enumerate(parts) if _NUMBERED.search(part))
        totals[".".join(parts[: next(numbered, 1) + 1])] += size
    return totals.most_common()


def _title(request: ForecastRequest) -> str:
    step = request.step
    done = "inference" if step.mode == "infer" else f"training with {step.optimizer}"
    size = f"batch {request.batch}"
    if "llama" in request.model:
        size += f", {request.seq} tokens"
    return f"{request.model}, {done}, {step.precision}, {size}"


if __name__ == "__main__":
    sys.exit(main())
