"""One process of `gpu_defrag_check`: the fragmenting loop under one set of remedies, on command.

It reads commands from standard input and answers each with one line of JSON: ``watch N`` trains N
steps and looks at the allocator after each, ``time N`` trains N steps and tells the seconds,
``end`` tells everything and ends.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from fragmenting_workload import Shape, TrainingLoop
from report_lib import to_json

from gpu_optimizer.defragmentation_advice import Remedies, advise
from gpu_optimizer.defragmenter import DefragmentationReport, Defragmenter
from gpu_optimizer.snapshot_reader import read_snapshot
from gpu_optimizer.trace_file import save_trace

SMALL: Final = Shape(n_words=300, width=32, n_heads=2, n_layers=2, divide_by=16)
_NO_LIMIT: Final = 10**9


@dataclass(frozen=True, slots=True)
class Window:
    """What the allocator held between two moments.

    Attributes
    ----------
    reserved_at_start, reserved_peak, active_peak : int
        Bytes.
    n_returned : int
        How often memory was returned to the driver meanwhile.
    """

    reserved_at_start: int
    reserved_peak: int
    active_peak: int
    n_returned: int

    @property
    def is_steady(self) -> bool:
        """Whether as much was held all the time, so that the active peak was at this level."""
        return self.reserved_at_start == self.reserved_peak and not self.n_returned


def waste_at_peak(setup: Window, windows: Sequence[Window]) -> float:
    """Return 1 - active / reserved at the moment when the most was held, 0 to 1.

    Parameters
    ----------
    setup : Window
        Before the first step: what is reserved then counts as held, but a reservation that was
        allocated only to be released does not count as active.
    windows : sequence of Window
        All later ones, without a gap.

    Returns
    -------
    float
        Of several moments at the peak that with the most active memory counts, as in
        `ReplayResult.peak_event`. It is taken from windows in which the peak was held from start to
        end; a window that reaches the peak only in its course counts if there is no other, as its
        active peak may have come earlier. NaN where nothing was held.
    """
    peak = max([setup.reserved_peak, *(window.reserved_peak for window in windows)])
    if not peak:
        return float("nan")
    at_peak = [window for window in windows if window.reserved_peak == peak]
    steady = [window.active_peak for window in at_peak if window.is_steady]
    return 1 - max(steady or [window.active_peak for window in at_peak], default=0) / peak


class Worker:
    """The loop, its remedies, and what was seen.

    Parameters
    ----------
    device : torch.device
        Where it trains.
    shape : Shape
        How large the model is.
    remedies : Remedies or None
        Of a `Defragmenter`; None for none.
    """

    def __init__(self, device: torch.device, shape: Shape, remedies: Remedies | None) -> None:
        self._device = device
        self._n_returned = 0
        self._start = 0
        self._begin()
        self.loop = TrainingLoop(device, shape)
        self.defragmenter = (
            None
            if remedies is None
            else Defragmenter(self.loop.model, self.loop.optimizer, remedies).__enter__()
        )
        self.setup = self._window()
        self.windows: list[Window] = []
        self._steps: Iterator[torch.Tensor] = self.loop.steps(_NO_LIMIT)
        self.losses: list[float] = []

    def watch(self, n_steps: int) -> None:
        """Train, and look at the allocator after each step."""
        for _ in range(n_steps):
            self._train(1)
            self.windows.append(self._window())

    def timed(self, n_steps: int) -> float:
        """Train without looking; return the seconds."""
        self._wait()
        start_s = time.perf_counter()
        self._train(n_steps)
        self._wait()
        seconds = time.perf_counter() - start_s
        self.windows.append(self._window())
        return seconds

    def state(self) -> dict[str, object]:
        """Return what a run is compared by."""
        peak = max(window.reserved_peak for window in (self.setup, *self.windows))
        return {
            "reserved_peak": peak,
            "active_peak": max(window.active_peak for window in self.windows),
            "waste_at_peak": waste_at_peak(self.setup, self.windows),
            "loss": self.losses[-1].hex(),
            "checksum": self.loop.checksum(),
            "retries": self._statistic("num_alloc_retries"),
            "driver_calls": self._statistic("num_device_alloc")
            + self._statistic("num_device_free"),
        }

    def end(self) -> dict[str, object]:
        """Return everything."""
        report = None if self.defragmenter is None else self.defragmenter.report()
        windows = [list(asdict(window).values()) for window in self.windows]
        return {**self.state(), "report": _plain(report), "windows": windows}

    def _train(self, n_steps: int) -> None:
        loss = None
        for _ in range(n_steps):
            loss = next(self._steps)
            if self.defragmenter is not None:
                self.defragmenter.step_boundary()
        if loss is not None:
            self.losses.append(float(loss))

    def _begin(self) -> None:
        self._start = self._statistic("reserved_bytes.all.current")
        self._n_returned = self._statistic("num_device_free")
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def _window(self) -> Window:
        """Return what was held since the last look, and begin anew."""
        window = Window(
            self._start,
            self._statistic("reserved_bytes.all.peak"),
            self._statistic("active_bytes.all.peak"),
            self._statistic("num_device_free") - self._n_returned,
        )
        self._begin()
        return window

    def _statistic(self, name: str) -> int:
        if self._device.type != "cuda":
            return 0
        return int(torch.cuda.memory_stats(self._device).get(name, 0))

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def record(device: torch.device, n_steps: int, out: Path) -> dict[str, object]:
    """Train under the default settings while the allocator keeps its history; advise on it."""
    torch.cuda.memory._record_memory_history(
        enabled="all", context=None, stacks="python", max_entries=2_000_000
    )
    worker = Worker(device, Shape(), None)
    worker.watch(n_steps)
    reading = read_snapshot(torch.cuda.memory._snapshot())
    torch.cuda.memory._record_memory_history(enabled=None)
    save_trace(reading.trace, out / "defrag_workload.npz")
    advice = advise(reading.trace)
    return {
        **worker.state(),
        "n_events": len(reading.trace.events),
        "candidates": [{"name": c.remedies.name, **asdict(c)} for c in advice.candidates],
        "chosen": asdict(advice.chosen.remedies),
        "code": advice.code,
    }


def serve(worker: Worker, answer: Callable[[object], None], commands: Iterator[str]) -> None:
    """Do what is asked for until the end."""
    for command in commands:
        verb, _, number = command.partition(" ")
        if verb == "watch":
            worker.watch(int(number))
            answer(worker.state())
        elif verb == "time":
            answer({"seconds": worker.timed(int(number))})
        else:
            answer(worker.end())
            return


def make_deterministic() -> None:
    """Let equal work give equal bits."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("high")


def _plain(report: DefragmentationReport | None) -> object:
    return None if report is None else asdict(report)


def _answer(value: object) -> None:
    print(json.dumps(to_json(value)), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--remedies", type=json.loads, default=None, help="JSON of a Remedies")
    parser.add_argument("--record", type=int, default=0, metavar="STEPS", help="and advise")
    parser.add_argument("--out", type=Path, default=Path(), help="where the trace goes")
    parser.add_argument("--cpu", action="store_true", help="a small model on the processor")
    arguments = parser.parse_args(argv)
    device = torch.device("cpu" if arguments.cpu else "cuda:0")
    make_deterministic()
    if not arguments.cpu:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    with nullcontext() if arguments.cpu else torch.cuda.device(device):
        if arguments.record:
            _answer(record(device, arguments.record, arguments.out))
            return 0
        remedies = None if arguments.remedies is None else Remedies(**arguments.remedies)
        worker = Worker(device, SMALL if arguments.cpu else Shape(), remedies)
        serve(worker, _answer, (line.strip() for line in sys.stdin))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
