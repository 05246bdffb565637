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
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from defrag_report import N_RECORDED, N_TIMED, TIMED, Remedies, Results, Values

from gpu_optimizer.defragmentation_advice import EXPANDABLE

WORKER: Final = Path(__file__).with_name("defrag_worker.py")
N_WATCHED: Final = 72
MAX_ROUNDS: Final = 24
MAX_SECONDS: Final = 85.0
"""After which no further round is timed."""
MAX_ALL_SECONDS: Final = 150.0
"""After which processes that still run are ended."""


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

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """End the process and forget it."""
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
    # Whoever waits for an answer that does not come gets none after it.
    guard = threading.Timer(MAX_ALL_SECONDS, _kill_all, [processes])
    guard.start()
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
        guard.cancel()
        for process in processes:
            process.close()
    _say("done", start_s)


def _time_round(processes: Sequence[Process], results: Results) -> None:
    for process in processes:
        process.ask(f"time {N_TIMED}")
        seconds = process.answer().get("seconds", math.nan)
        results.seconds.setdefault(process.name, []).append(float(str(seconds)))


def _kill_all(processes: Sequence[Process]) -> None:
    for process in processes:
        process.kill()


def _say(what: str, start_s: float) -> None:
    print(f"{what} ({time.perf_counter() - start_s:.0f} s)", flush=True)


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
