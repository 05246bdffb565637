"""Waste, speed and results of a loop that fragments memory: default, expandable segments, and ours.

Usage, on a machine with a CUDA device, torch and numpy, in less than 100 seconds:
``PYTHONPATH=gpu_optimizer/src python scripts/gpu_defrag_check.py --out FOLDER``

First the loop is recorded under the default settings and the advice is taken from a replay of its
trace. Then every variant trains in a process of its own, all at once, as memory alone is looked at;
afterwards those that are timed take turns, one at a time. ``FOLDER`` gets ``gpu_defrag_check.json``
with its page, and the trace ``defrag_workload.npz``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from report_lib import Report

from gpu_optimizer.defragmentation_advice import EXPANDABLE

NAME: Final = "gpu_defrag_check"
WORKER: Final = Path(__file__).with_name("defrag_worker.py")
N_RECORDED: Final = 26
N_WATCHED: Final = 72
N_TIMED: Final = 12
MAX_ROUNDS: Final = 16
MAX_SECONDS: Final = 85.0
"""After which no further round is timed."""
TIMED: Final = ("default", "expandable", "ours")
MIB: Final = 2**20

Values = Mapping[str, object]
Remedies = dict[str, object]


@dataclass(frozen=True, slots=True)
class Variant:
    """What a process does about fragmentation.

    Attributes
    ----------
    name : str
        Of the row.
    settings : str
        ``PYTORCH_ALLOC_CONF`` of the process.
    remedies : dict or None
        Of its `Defragmenter`; None where it has none.
    """

    name: str
    settings: str = ""
    remedies: Remedies | None = None


def variants(chosen: Remedies, reserve_bytes: int) -> tuple[Variant, ...]:
    """Return all that is compared: ours as advised, and what a running process can still do.

    Parameters
    ----------
    chosen : dict
        The remedies of the advice.
    reserve_bytes : int
        The forecast of the peak without the long-lived state.
    """
    settings = str(chosen["settings"])
    in_process = {**chosen, "settings": ""}
    has_more = any(in_process.values())
    reserve: Remedies = {"has_own_pool": True, "reserve_bytes": reserve_bytes}
    return (
        Variant("default"),
        Variant("expandable", EXPANDABLE),
        Variant("ours", settings, in_process if has_more else None),
        Variant("ours, process already runs", "", dict(chosen)),
        Variant("own pool, default settings", "", {"has_own_pool": True}),
        Variant("own pool and reserve, default settings", "", reserve),
    )


class Process:
    """A worker that was started."""

    def __init__(self, variant: Variant, is_cpu: bool) -> None:
        command = [sys.executable, str(WORKER)]
        if variant.remedies is not None:
            command += ["--remedies", json.dumps(variant.remedies)]
        if is_cpu:
            command.append("--cpu")
        self.name = variant.name
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as it runs
        self._process = subprocess.Popen(  # noqa: S603 - our own file
            command,
            env=environment(variant.settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.error = ""

    def ask(self, command: str) -> None:
        """Send a command."""
        if not self.error and self._process.stdin is not None:
            try:
                self._process.stdin.write(command + "\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                self._fail()

    def answer(self) -> Values:
        """Return the next answer, empty if the process has failed."""
        if self.error or self._process.stdout is None:
            return {}
        line = self._process.stdout.readline()
        if not line:
            self._fail()
            return {}
        values: Values = json.loads(line)
        return values

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._errors.close()

    def _fail(self) -> None:
        self._process.wait()
        self._errors.seek(0)
        self.error = self._errors.read().strip()[-1500:] or "it ended without an answer"


def environment(settings: str) -> dict[str, str]:
    """Return the environment of a process with these allocator settings."""
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    kept = {key: value for key, value in os.environ.items() if key not in names}
    kept["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return {**kept, **(dict.fromkeys(names, settings) if settings else {})}


def recorded(out: Path, n_steps: int) -> Values:
    """Return the advice and the figures of the recorded run; empty with ``error`` if it failed."""
    command = [sys.executable, str(WORKER), "--record", str(n_steps), "--out", str(out)]
    done = subprocess.run(  # noqa: S603 - our own file
        command, env=environment(""), capture_output=True, text=True, timeout=90, check=False
    )
    if done.returncode:
        return {"error": done.stderr.strip()[-1500:]}
    values: Values = json.loads(done.stdout.splitlines()[-1])
    return values


def run_all(out: Path, is_cpu: bool) -> None:
    """Record, watch, time, and write the report after each part."""
    start_s = time.perf_counter()
    results = Results(out)
    if not is_cpu:
        results.recording = recorded(out, N_RECORDED)
        _say(f"recorded {results.recording.get('error', '')}", start_s)
    chosen = results.chosen()
    processes = [Process(variant, is_cpu) for variant in variants(chosen, results.reserve_bytes())]
    try:
        for process in processes:
            process.ask(f"watch {N_WATCHED}")
        for process in processes:
            results.watched[process.name] = process.answer()
        _say("watched", start_s)
        results.failures = [(one.name, one.error) for one in processes if one.error]
        results.write()
        timed = [one for one in processes if one.name in TIMED]
        for index in range(MAX_ROUNDS):
            if time.perf_counter() - start_s > MAX_SECONDS:
                break
            _time_round(timed[index % len(timed) :] + timed[: index % len(timed)], results)
        _say(f"timed {len(results.seconds.get('default', []))} rounds", start_s)
        for process in processes:
            process.ask("end")
            results.ended[process.name] = process.answer()
        results.failures = [(one.name, one.error) for one in processes if one.error]
        results.write()
    finally:
        for process in processes:
            process.close()
    _say("done", start_s)


def _time_round(processes: Sequence[Process], results: Results) -> None:
    for process in processes:
        process.ask(f"time {N_TIMED}")
        seconds = process.answer().get("seconds", math.nan)
        results.seconds.setdefault(process.name, []).append(float(str(seconds)))


def _say(what: str, start_s: float) -> None:
    print(f"{what} ({time.perf_counter() - start_s:.0f} s)", flush=True)


class Results:
    """What is known so far."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.recording: Values = {}
        self.watched: dict[str, Values] = {}
        self.ended: dict[str, Values] = {}
        self.seconds: dict[str, list[float]] = {}
        self.failures: list[tuple[str, str]] = []

    def chosen(self) -> Remedies:
        """Return what was advised, or what is best as a rule where nothing was recorded."""
        found = self.recording.get("chosen")
        if isinstance(found, dict):
            return found
        return {
            "settings": EXPANDABLE,
            "reserve_bytes": 0,
            "has_own_pool": True,
            "empties_cache": False,
        }

    def reserve_bytes(self) -> int:
        """Return the largest reservation beside a pool of its own that was replayed."""
        rows = self.recording.get("candidates")
        found = [0]
        for row in rows if isinstance(rows, list) else ():
            if row["remedies"]["has_own_pool"]:
                found.append(int(row["remedies"]["reserve_bytes"]))
        return max(found)

    def write(self) -> None:
        """Write the report."""
        report = Report(NAME, "python scripts/gpu_defrag_check.py --out FOLDER", folder=self._out)
        self._add_bars(report)
        self._add_tables(report)
        report.detail("recording", self.recording)
        report.detail("watched", self.watched)
        report.detail("ended", self.ended)
        report.detail("seconds", self.seconds)
        report.write()

    def _add_bars(self, report: Report) -> None:
        expandable, ours = self._final("expandable"), self._final("ours")
        waste = {name: 100 * _number(self._final(name), "waste_at_peak") for name in TIMED}
        whole = "at the peak of reserved memory over the whole run"
        turns = "median over rounds of the same work, in turn"
        more = _number(ours, "reserved_peak") - _number(expandable, "reserved_peak")
        for name, goal, measured, unit, note in (
            ("waste_default", ">= 25", waste["default"], "%", whole),
            ("waste_ours", "<= 5", waste["ours"], "%", f"{whole}; {self._ours_name()}"),
            (
                "waste_ours_above_expandable",
                "<= 0",
                waste["ours"] - waste["expandable"],
                "pp",
                whole,
            ),
            ("reserved_ours_above_expandable", "<= 0", more / MIB, "MiB", "peaks of the whole run"),
            ("steps_per_second_change_ours", ">= -2", self._speed_change("ours"), "%", turns),
            ("steps_per_second_change_expandable", None, self._speed_change(TIMED[1]), "%", turns),
            (
                "results_that_differ",
                "== 0",
                self._n_different(),
                "runs",
                "from those of the default",
            ),
        ):
            n = len(self.seconds.get("default", [])) if note == turns else None
            report.bar(name, goal=goal, measured=measured, unit=unit, n=n, note=note)

    def _add_tables(self, report: Report) -> None:
        report.table(
            "Variants",
            ("variant", "reserved, MiB", "active, MiB", "waste, %", "retries", "driver calls"),
            [self._row(name) for name in self.watched],
            "Peaks over the whole run from the first allocation on. Waste is 1 - active / reserved "
            "when the most is reserved; a reservation does not count as active.",
        )
        report.table(
            "Speed",
            ("variant", "steps/s, median", "rounds", "change to default, %"),
            [
                [
                    name,
                    N_TIMED / statistics.median(values),
                    len(values),
                    self._speed_change(name),
                ]
                for name, values in self.seconds.items()
            ],
            f"Rounds of {N_TIMED} steps, one process at a time, in turn; the change is the median "
            "over the rounds, which are the same work for each.",
        )
        rows = self.recording.get("candidates")
        report.table(
            "Advice",
            ("remedies", "reserved, MiB", "waste, %", "driver calls"),
            [
                [
                    row["name"],
                    row["peak_reserved_bytes"] / MIB,
                    100 * row["waste"],
                    row["n_driver_calls"],
                ]
                for row in (rows if isinstance(rows, list) else ())
            ],
            f"A replay of {N_RECORDED} recorded steps under each. Chosen: {self._ours_name()}.",
        )
        report.table("Compactions", _COMPACTION_COLUMNS, self._compactions())
        report.table("Failed", ("what", "why"), [list(failure) for failure in self._failed()])

    def _failed(self) -> list[tuple[str, str]]:
        error = self.recording.get("error")
        return [*([("recording", str(error))] if error else []), *self.failures]

    def _ours_name(self) -> str:
        chosen = self.chosen()
        names = [str(chosen["settings"]), *(key for key in list(chosen)[1:] if chosen[key])]
        return " + ".join(name for name in names if name) or "nothing"

    def _final(self, name: str) -> Values:
        """Return the figures of the whole run, or of its watched part where it did not end."""
        return self.ended.get(name) or self.watched.get(name) or {}

    def _row(self, name: str) -> list[object]:
        values = self._final(name)
        return [
            name,
            _number(values, "reserved_peak") / MIB,
            _number(values, "active_peak") / MIB,
            100 * _number(values, "waste_at_peak"),
            _number(values, "retries"),
            _number(values, "driver_calls"),
        ]

    def _speed_change(self, name: str) -> float:
        """Return by how many per cent it makes more steps in a second than the default."""
        rounds = zip(self.seconds.get("default", []), self.seconds.get(name, []), strict=False)
        changes = [100 * (default / seconds - 1) for default, seconds in rounds]
        return statistics.median(changes) if changes else math.nan

    def _n_different(self) -> float:
        """Return how many runs ended with other bits than the default, of those that ended."""
        n_different = 0
        for results in (self.watched, self.ended):
            done = {
                name: (values["loss"], values["checksum"])
                for name, values in results.items()
                if values and (results is self.watched or name in TIMED)
            }
            if "default" not in done:
                return math.nan
            n_different += sum(value != done["default"] for value in done.values())
        return n_different

    def _compactions(self) -> list[list[object]]:
        rows: list[list[object]] = []
        for name, values in self.ended.items():
            report = values.get("report")
            for one in report["compactions"] if isinstance(report, dict) else ():
                before, after, move = one["before"], one["after"], one["move"]
                rows.append(
                    [
                        name,
                        one["step"],
                        move["n_storages"],
                        move["n_bytes"] / MIB,
                        sum(stayed["n_storages"] for stayed in move["stayed"]),
                        "; ".join(stayed["reason"] for stayed in move["stayed"]),
                        before["requested_bytes"] / MIB,
                        after["requested_bytes"] / MIB,
                        before["reserved_bytes"] / MIB,
                        after["reserved_bytes"] / MIB,
                    ]
                )
        return rows


_COMPACTION_COLUMNS: Final = (
    *("variant", "after step", "moved", "moved, MiB", "stayed", "why"),
    *("live before, MiB", "live after, MiB", "reserved before, MiB", "reserved after, MiB"),
)


def _number(values: Values, key: str) -> float:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is written")
    parser.add_argument("--cpu", action="store_true", help="a small model, to try the script")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    run_all(arguments.out, arguments.cpu)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
