"""Records what real steps ask of a GPU's allocator, operator by operator.

    python scripts/gpu_record_steps.py --out FOLDER [--only NAME]

Each case of `predictor_cases.LEARNED` runs two steps in a process of its own, from a clean
allocator. ``FOLDER/steps.tgz`` holds for each the allocator's history (``.npz``: action, address,
bytes and stream of each entry) and a ``.json`` with the operators, which of the allocations are
whose, where each phase began, and the peaks. Forecasts are learned from these and judged on others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import numpy as np
import torch
from predictor_cases import LEARNED, Case
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_optimizer.training_step import AUTOCAST_DTYPES, WEIGHT_DTYPES, StepProgram

_N_WORKERS: Final = 4
_CASE_SECONDS: Final = 60
_MAX_ENTRIES: Final = 1_000_000
ACTIONS: Final = ("alloc", "free_requested", "free_completed", "segment_alloc", "segment_free")
"""The codes of actions are their places here; others are as many as this tuple is long."""


def main(argv: Sequence[str] | None = None) -> int:
    """Record all cases, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("no CUDA device is here; run it on a machine with one", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    if args.case is not None:
        record(LEARNED[args.case], args.out / f"step{args.case:02d}")
        return 0
    return record_all(args.out, args.only)


def record_all(out: Path, only: str) -> int:
    """Record in fresh processes, and pack what they wrote after each."""
    start_s = time.monotonic()
    with ThreadPoolExecutor(_N_WORKERS) as pool:
        pending = {
            pool.submit(_child, index, out): case
            for index, case in enumerate(LEARNED)
            if only in case.name
        }
        for future in as_completed(pending):
            print(f"{time.monotonic() - start_s:5.0f} s  {pending[future].name:<44} "
                  f"{future.result()}", flush=True)  # fmt: skip
    with tarfile.open(out / "steps.tgz", "w:gz") as archive:
        for file in sorted(out.glob("step*.*")):
            if file.suffix in {".npz", ".json"}:
                archive.add(file, file.name)
                file.unlink()
    return 0


def _child(index: int, out: Path) -> str:
    """Record a case in a process of its own; return "done" or why not."""
    command = [
        sys.executable, str(Path(__file__).resolve()), "--out", str(out), "--case", str(index)
    ]  # fmt: skip
    try:
        done = subprocess.run(  # noqa: S603 - this script with arguments of this file
            command, capture_output=True, text=True, check=False, timeout=_CASE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"took more than {_CASE_SECONDS} s"
    if done.returncode == 0:
        return done.stdout.strip().splitlines()[-1]
    return (done.stderr.strip().splitlines() or ["failed"])[-1]


class OperatorLog(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes for each operator how many allocations there were before and after it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[tuple[int, int, str, str]] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        before = n_allocations()
        output = func(*args, **(kwargs or {}))
        after = n_allocations()
        if after > before:
            self.rows.append((before, after, str(func), _described(args)))
        return output


def n_allocations() -> int:
    """Return how many blocks PyTorch's allocator has given so far."""
    stats = torch._C._cuda_memoryStats(torch.cuda.current_device())
    return int(stats["allocation"]["all"]["allocated"])


def _described(args: Sequence[object]) -> str:
    """Return the arguments of an operator with tensors as dtype, shape and memory format."""
    told = []
    for item in pytree.tree_leaves(list(args)):
        if isinstance(item, torch.Tensor):
            layout = "" if item.is_contiguous() else "n"
            if item.dim() == 4 and item.is_contiguous(memory_format=torch.channels_last):
                layout += "c"
            kind = str(item.dtype).removeprefix("torch.")
            told.append(f"{kind}{list(item.shape)}{layout}")
        else:
            told.append(str(item))
    return " ".join(told)[:400]


def record(case: Case, stem: Path) -> None:
    """Run two steps of a case and write what the allocator and the operators did."""
    torch.set_default_dtype(WEIGHT_DTYPES[case.step.precision])
    torch.set_default_device("cuda")
    torch.zeros(1)
    torch.cuda.synchronize()
    offset = n_allocations()
    torch.cuda.memory._record_memory_history(enabled="all", context=None, max_entries=_MAX_ENTRIES)
    workload = case.workload()
    model, batch = workload.model_fn(), workload.inputs_fn()
    model.train(case.step.mode == "train")
    dtype = AUTOCAST_DTYPES.get(case.step.precision)
    autocast = nullcontext if dtype is None else lambda: torch.autocast("cuda", dtype=dtype)
    program = StepProgram(model, batch, workload.loss_fn, case.step, autocast)
    phases: list[tuple[int, str]] = []
    peaks = []
    log = OperatorLog()
    with log:
        for _ in range(2):
            phases.append((n_allocations() - offset, "step"))
            torch.cuda.reset_peak_memory_stats()
            program.run(lambda name: phases.append((n_allocations() - offset, name)))
            torch.cuda.synchronize()
            peaks.append((torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()))
    entries = torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]
    _save(stem, entries)
    content = {
        "case": case.name,
        "phases": phases,
        "peaks": peaks,
        "operators": [(start - offset, end - offset, *rest) for start, end, *rest in log.rows],
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(),
        "n_parameters": sum(1 for _ in model.parameters()),
    }
    stem.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
    print(
        f"{len(entries)} entries, allocated {peaks[-1][0] >> 20}, reserved {peaks[-1][1] >> 20} MiB"
    )


def _save(stem: Path, entries: Sequence[Mapping[str, object]]) -> None:
    """Write the history as columns."""
    codes = {action: code for code, action in enumerate(ACTIONS)}
    columns = {
        "action": np.array([codes.get(str(one["action"]), len(ACTIONS)) for one in entries], "u1"),
        "address": np.array([int(str(one.get("addr", 0))) for one in entries], "i8"),
        "n_bytes": np.array([int(str(one.get("size", 0))) for one in entries], "i8"),
        "stream": np.array([int(str(one.get("stream", 0))) for one in entries], "i8"),
    }
    np.savez_compressed(stem.with_suffix(".npz"), **columns)


if __name__ == "__main__":
    sys.exit(main())
