"""Record real traces on a GPU, replay them, and compare with what PyTorch measured.

Usage, on a machine with a CUDA device, torch and numpy, in less than three minutes:
``PYTHONPATH=gpu_optimizer/src python scripts/gpu_allocator_check.py --out FOLDER``

Each workload runs in a process of its own under its allocator settings. ``FOLDER`` gets
``allocator_replay_check.json`` and its page, written anew after every workload, and ``traces/``
with a trace (``.npz``) and the measurement (``.json``) for each, and two snapshots
(``.snapshot.json``). Those of at most 300 kB are meant to be kept under ``tests/fixtures/traces``,
where the unit tests compare them again.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

import torch
from allocator_comparison import Comparison, Probe, compare, measured_state
from gpu_workloads import WORKLOADS
from report_lib import Report, to_json

from gpu_optimizer.allocator_config import MIB
from gpu_optimizer.snapshot_reader import read_snapshot
from gpu_optimizer.trace_file import load_trace, save_trace

NAME: Final = "allocator_replay_check"
MAX_SECONDS: Final = 150.0
"""After which no further case is started."""
DIFFERENCES: Final = tuple(field.name for field in fields(Comparison))


Measured = dict[str, object]


@dataclass(frozen=True, slots=True)
class Case:
    """A workload under settings of the allocator.

    Attributes
    ----------
    name : str
        Of the files.
    workload : str
        One of `WORKLOADS`.
    config : str
        A value of ``PYTORCH_CUDA_ALLOC_CONF``.
    limit_of : str
        A case whose peak, times `limit_share`, is the limit; empty for no limit.
    keeps_snapshot : bool
        Whether the snapshot is written too, as JSON without stack frames.
    """

    name: str
    workload: str
    config: str = ""
    limit_of: str = ""
    limit_share: float = 0.9
    keeps_snapshot: bool = False


CASES: Final = (
    Case("cnn_default", "convolutional_training"),
    Case("cnn_expandable", "convolutional_training", "expandable_segments:True"),
    Case("cnn_roundup", "convolutional_training", "roundup_power2_divisions:4"),
    Case("sequences_default", "alternating_sequences"),
    Case("sequences_expandable", "alternating_sequences", "expandable_segments:True"),
    Case("sequences_max_split", "alternating_sequences", "max_split_size_mb:24"),
    Case(
        "sequences_roundup_list",
        "alternating_sequences",
        "roundup_power2_divisions:[1:1,2:2,16:4,>:8]",
    ),
    Case("evaluation_default", "evaluation_between_training"),
    Case("evaluation_expandable", "evaluation_between_training", "expandable_segments:True"),
    Case("streams_default", "two_streams", keeps_snapshot=True),
    Case("graph_default", "captured_graph", keeps_snapshot=True),
    Case("sequences_limited", "alternating_sequences", "", "sequences_default"),
    Case(
        "sequences_collected",
        "alternating_sequences",
        "garbage_collection_threshold:0.6",
        "sequences_default",
        1.0,
    ),
    Case(
        "sequences_max_split_limited",
        "alternating_sequences",
        "max_split_size_mb:24",
        "sequences_max_split",
    ),
    Case(
        "evaluation_expandable_limited",
        "evaluation_between_training",
        "expandable_segments:True",
        "evaluation_expandable",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all cases, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is written")
    parser.add_argument("--case", choices=[case.name for case in CASES], help="run only this one")
    parser.add_argument("--limit", type=int, default=None, help="bytes, with --case")
    parser.add_argument(
        "--again",
        type=Path,
        metavar="FOLDER",
        help="replay the traces recorded there; needs no GPU",
    )
    arguments = parser.parse_args(argv)
    if arguments.again is not None:
        replay_again(arguments.again, arguments.out)
        return 0
    if not torch.cuda.is_available():
        print("no CUDA device is here; run this on a machine with a GPU", file=sys.stderr)
        return 2
    traces = arguments.out / "traces"
    traces.mkdir(parents=True, exist_ok=True)
    if arguments.case:
        case = next(case for case in CASES if case.name == arguments.case)
        record(case, traces, arguments.limit)
        return 0
    run_all(arguments.out)
    return 0


def run_all(out: Path) -> None:
    """Run each case in a process of its own and write the report after each."""
    start = time.perf_counter()
    done: dict[str, tuple[Measured, Comparison]] = {}
    failures: list[tuple[str, str]] = []
    for case in CASES:
        if time.perf_counter() - start > MAX_SECONDS:
            failures.append((case.name, "not started: out of time"))
            continue
        limit = None
        if case.limit_of:
            if case.limit_of not in done:
                failures.append((case.name, f"not started: {case.limit_of} failed"))
                continue
            peak = done[case.limit_of][0]["peak_reserved"]
            limit = int(float(str(peak)) * case.limit_share)
        message = _run(case, out, limit)
        if message:
            failures.append((case.name, message))
        else:
            path = out / "traces" / case.name
            measured = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            done[case.name] = measured, compare(load_trace(path.with_suffix(".npz")), measured)
        write_report(out, list(done.values()), failures)
        print(f"{case.name}: {message or 'done'} ({time.perf_counter() - start:.0f} s)", flush=True)


def replay_again(recorded: Path, out: Path) -> None:
    """Read and replay what was recorded on a GPU with the code as it is now, and report."""
    done: list[tuple[Measured, Comparison]] = []
    failures: list[tuple[str, str]] = []
    for case in CASES:
        path = recorded / "traces" / case.name
        if not path.with_suffix(".json").is_file():
            failures.append((case.name, "not recorded"))
            continue
        measured = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        snapshot = path.with_suffix(".snapshot.json")
        if snapshot.is_file():
            # The records themselves: reading them is judged too.
            trace = read_snapshot(json.loads(snapshot.read_text(encoding="utf-8"))).trace
        else:
            trace = load_trace(path.with_suffix(".npz"))
        done.append((measured, compare(trace, measured)))
    out.mkdir(parents=True, exist_ok=True)
    write_report(out, done, failures)


def _run(case: Case, out: Path, limit: int | None) -> str:
    """Run a case in a new process; return what went wrong, empty if nothing did."""
    command = [sys.executable, __file__, "--out", str(out), "--case", case.name]
    if limit is not None:
        command += ["--limit", str(limit)]
    settings = {"PYTORCH_CUDA_ALLOC_CONF": case.config, "PYTORCH_ALLOC_CONF": case.config}
    kept = {key: value for key, value in os.environ.items() if key not in settings}
    environment = {**kept, **{key: value for key, value in settings.items() if value}}
    try:
        done = subprocess.run(  # noqa: S603 - our own file
            command, env=environment, capture_output=True, text=True, timeout=90, check=False
        )
    except subprocess.TimeoutExpired:
        return "took longer than 90 s"
    return "" if done.returncode == 0 else done.stderr.strip()[-2000:]


def record(case: Case, folder: Path, limit: int | None) -> None:
    """Run a case here and write its trace and its measurement."""
    device = torch.device("cuda:0")
    torch.cuda.init()  # type: ignore[no-untyped-call]
    limit = _set_limit(device, limit)
    torch.cuda.memory._record_memory_history(
        enabled="all", context=None, stacks="python", max_entries=1_000_000
    )
    probes: list[Probe] = []
    scale = 16 if case.workload in {"convolutional_training", "two_streams"} else 8
    error = ""
    try:
        WORKLOADS[case.workload](device, lambda: probes.append(_probe()), scale)
    except torch.OutOfMemoryError as exception:
        error = str(exception).splitlines()[0]
    stats = torch.cuda.memory_stats(device)
    snapshot = torch.cuda.memory._snapshot()
    torch.cuda.memory._record_memory_history(enabled=None)
    reading = read_snapshot(snapshot)
    for probe, n_events in zip(probes, reading.marks, strict=False):
        probe["n_events"] = n_events
    measured: Measured = {
        "case": case.name,
        "workload": case.workload,
        "config": case.config,
        "limit": limit,
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(device),
        "peak_reserved": stats["reserved_bytes.all.peak"],
        "peak_active": stats["active_bytes.all.peak"],
        "peak_requested": stats["requested_bytes.all.peak"],
        "n_retries": stats["num_alloc_retries"],
        "out_of_memory": error,
        "recorded_peak_reserved": reading.peak_reserved_bytes,
        "n_events": len(reading.trace.events),
        "n_snapshots": len(reading.marks),
        "is_truncated": reading.trace.is_truncated,
        "dropped": reading.trace.dropped,
        "record_keys": sorted({key for record in snapshot["device_traces"][0] for key in record}),
        "probes": [probe for probe in probes if "n_events" in probe],
    }
    path = folder / f"{case.name}.npz"
    save_trace(reading.trace, path)
    measured["trace_bytes"] = path.stat().st_size
    if case.keeps_snapshot:
        kept = {key: _without_frames(snapshot[key]) for key in ("segments", "device_traces")}
        path.with_suffix(".snapshot.json").write_text(json.dumps(kept) + "\n", encoding="utf-8")
    text = json.dumps(to_json(measured), indent=1, allow_nan=False)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def _without_frames(value: object) -> object:
    """Return a part of a snapshot without stack frames."""
    if isinstance(value, dict):
        return {key: _without_frames(one) for key, one in value.items() if key != "frames"}
    if isinstance(value, list | tuple):
        return [_without_frames(one) for one in value]
    return value


def _set_limit(device: torch.device, limit: int | None) -> int | None:
    """Set the share of memory that is nearest to a limit; return the limit that PyTorch makes."""
    if limit is None:
        return None
    total = torch.cuda.get_device_properties(device).total_memory
    fraction = limit / total
    torch.cuda.set_per_process_memory_fraction(fraction, device)
    return int(fraction * total)


def _probe() -> Probe:
    """Return what the allocator holds now."""
    parameters = inspect.signature(torch.cuda.memory_snapshot).parameters
    options = {"include_traces": False} if "include_traces" in parameters else {}
    segments = torch.cuda.memory_snapshot(**options)  # type: ignore[no-untyped-call]
    return measured_state(segments)


def write_report(
    out: Path,
    results: Sequence[tuple[Measured, Comparison]],
    failures: Sequence[tuple[str, str]],
) -> None:
    """Write what is known so far."""
    report = Report(NAME, "python scripts/gpu_allocator_check.py --out FOLDER", folder=out)
    compared = [comparison for _, comparison in results]
    for name, goal, unit, values in (
        ("peak_reserved_error_max", "<= 2", "MiB", [abs(c.peak_reserved_mib) for c in compared]),
        ("fragmentation_error_max", "<= 1", "pp", [c.fragmentation_points for c in compared]),
        ("waste_error_max", "<= 1", "pp", [c.waste_points for c in compared]),
        ("external_error_max", "<= 1", "pp", [c.external_points for c in compared]),
        ("segments_error_max", "<= 0", "segments", [c.n_segments for c in compared]),
        ("moments_missed", "<= 0", "probes", [c.n_missed for c in compared]),
    ):
        report.bar(
            name,
            goal=goal,
            measured=max(values, default=None),
            unit=unit,
            n=len(values),
            note="the worst of all recorded cases" if values else "no case ran",
        )
    report.table(
        "Cases",
        ("case", "events", "trace, bytes", "reserved, MiB", *DIFFERENCES),
        [_row(measured, comparison) for measured, comparison in results],
        "Differences are replay - measured; those over the probes are the largest without sign.",
    )
    gpus = sorted({f"{one['gpu']}, PyTorch {one['torch']}" for one, _ in results})
    report.text(f"Recorded on: {'; '.join(gpus) or 'nothing'}. The replay needs no GPU.")
    report.table("Not run", ("case", "why"), [list(failure) for failure in failures])
    report.detail("measured", {str(one["case"]): one for one, _ in results})
    report.write()


def _row(measured: Measured, comparison: Comparison) -> list[object]:
    reserved = float(str(measured["peak_reserved"])) / MIB
    values = asdict(comparison).values()
    return [measured["case"], measured["n_events"], measured["trace_bytes"], reserved, *values]


if __name__ == "__main__":
    raise SystemExit(main())
