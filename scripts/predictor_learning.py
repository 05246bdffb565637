"""Compares forecasts with recorded steps, operator by operator; needs no GPU.

    python scripts/predictor_learning.py FOLDER [--only NAME] [--convolutions]

``FOLDER`` holds what `gpu_record_steps` wrote and was unpacked. For each case the peaks of the
second step are compared, and with ``--convolutions`` how often its convolutions took workspaces of
each size and how often the forecast's step does: one line for each size where these differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from gpu_record_steps import ACTIONS
from predictor_cases import LEARNED

from gpu_optimizer.allocator_replay import replay
from gpu_optimizer.fake_trace import FakeTrace, KernelConstants, trace_step
from gpu_optimizer.machines import find_machine

_ALLOC: Final = ACTIONS.index("alloc")
_FREED: Final = ACTIONS.index("free_completed")
_BLOCK_BYTES: Final = 512
_SMALL_BYTES: Final = 2**20
_MACHINE: Final = "h200"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded case.

    Attributes
    ----------
    peaks : (int, int)
        Allocated and reserved bytes of the second step.
    temporaries : tuple of (str, int)
        Name and bytes of each allocation of the second step that its operator gave back.
    described : dict of str to str
        By ``name bytes``, the operator that last asked for them.
    """

    case: str
    peaks: tuple[int, int]
    temporaries: tuple[tuple[str, int], ...]
    described: dict[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Compare all recorded cases of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--convolutions", action="store_true", help="list what differs")
    args = parser.parse_args(argv)
    machine = find_machine(_MACHINE)
    constants = KernelConstants(
        machine.cublas_workspace_bytes, machine.attention, machine.n_processors
    )
    errors: list[tuple[float, float]] = []
    for index, case in enumerate(LEARNED):
        stem = args.folder / f"step{index:02d}"
        if args.only not in case.name or not stem.with_suffix(".json").exists():
            continue
        recording = read(stem)
        if recording.case != case.name:
            print(f"{stem.name} holds {recording.case!r}, not {case.name!r}", file=sys.stderr)
            return 2
        fake = trace_step(case.workload(), case.step, constants)
        errors.append(peak_errors(fake, recording))
        told = "allocated {:+6.2f} %  reserved {:+6.2f} %".format(*errors[-1])
        print(f"{case.name:<60} {told}", flush=True)
        if args.convolutions:
            print(*differences(fake, recording), sep="\n")
    if errors:
        worst = np.abs(errors).max(axis=0)
        median = np.median(np.abs(errors), axis=0)
        print(f"allocated: median {median[0]:.2f} %, worst {worst[0]:.2f} %")
        print(f"reserved: median {median[1]:.2f} %, worst {worst[1]:.2f} %")
    return 0


def read(stem: Path) -> Recording:
    """Return a case that `gpu_record_steps` recorded."""
    content = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    with np.load(stem.with_suffix(".npz")) as columns:
        actions, addresses = columns["action"].tolist(), columns["address"].tolist()
        sizes = columns["n_bytes"].tolist()
    given: list[int] = []
    freed: dict[int, int] = {}
    live: dict[int, int] = {}
    for row, (action, address) in enumerate(zip(actions, addresses, strict=True)):
        if action == _ALLOC:
            live[address] = len(given)
            given.append(row)
        elif action == _FREED and address in live:
            freed[live.pop(address)] = row
    second = [start for start, name in content["phases"] if name == "step"][1]
    temporaries: list[tuple[str, int]] = []
    described: dict[str, str] = {}
    for start, end, name, operands in content["operators"]:
        if start < second:
            continue
        after = given[end] if end < len(given) else len(actions)
        for number in range(start, end):
            if freed.get(number, after) < after:
                temporaries.append((name, sizes[given[number]]))
                described[f"{name} {rounded(sizes[given[number]])}"] = operands
    allocated, reserved = content["peaks"][1]
    return Recording(content["case"], (allocated, reserved), tuple(temporaries), described)


def peak_errors(fake: FakeTrace, recording: Recording) -> tuple[float, float]:
    """Return the errors of allocated and reserved bytes, in percent."""
    forecast = replay(fake.trace)
    peaks = forecast.peak_allocated_bytes, forecast.peak_reserved_bytes
    allocated, reserved = (
        100 * (told / true - 1) for told, true in zip(peaks, recording.peaks, strict=True)
    )
    return allocated, reserved


def differences(fake: FakeTrace, recording: Recording) -> Iterable[str]:
    """Yield the workspaces from 1 MiB that only one of both has, with how many times."""
    forecast = Counter(
        rounded(event.n_bytes)
        for event in fake.trace.events[fake.step_starts[-1] :]
        if event.kind == "alloc" and event.tag.endswith("|workspace")
    )
    real = Counter(rounded(size) for name, size in recording.temporaries if "convolution" in name)
    for size in sorted({*forecast, *real}):
        if size >= _SMALL_BYTES and real[size] != forecast[size]:
            names = [key for key in recording.described if key.endswith(f" {size}")]
            what = "; ".join(f"{key} {recording.described[key][:120]}" for key in names)
            yield f"  {size:>11} B: recorded {real[size]}, forecast {forecast[size]}  {what}"


def rounded(n_bytes: int) -> int:
    """Return the size of the block that holds so many bytes."""
    return -(-n_bytes // _BLOCK_BYTES) * _BLOCK_BYTES


if __name__ == "__main__":
    sys.exit(main())
