"""Measures the batch finder on a real GPU, beside Lightning's and accelerate's.

    scripts/gpu_batch_finder_check.py --out FOLDER
    scripts/gpu_batch_finder_check.py --out FOLDER --only resnet50 --parts search,verify

Every job runs in a process of its own. First the searches under 8 GiB, one after the other with the
card to themselves; then what they found is verified and the peers search, several at once; then the
same for 12 and 16 GiB, several searches at once. The report is written anew after each part.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from batch_finder_cases import BUDGETS_GIB, STEPS
from batch_finder_jobs import Job, do
from report_lib import Report, to_json
from report_page import NOT_MEASURED

COMMAND: Final = "scripts/gpu_batch_finder_check.py"
PARTS: Final = ("search", "verify", "peers")
_JOB_SECONDS: Final = 120
_N_WORKERS: Final = 12
# Beside the budget each process may take so much more of the card while it starts.
_CONTEXT_GIB: Final = 1
_MAX_SHARE: Final = 0.85

_TOLD: Final = ("n_max", "n", "ran", "seconds", "failed")

Found = Mapping[str, object]
Process = subprocess.Popen[str]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is to be measured.

    Attributes
    ----------
    cases : tuple of str
        Names of `STEPS`.
    parts : tuple of str
        Of `PARTS`.
    n_lanes : int
        Searches at once for all budgets but the first.
    deadline_s : float
        Nothing begins so many seconds after the start.
    """

    cases: tuple[str, ...]
    parts: tuple[str, ...]
    n_lanes: int
    deadline_s: float


class Card:
    """Lets jobs run beside each other while their budgets fit on the card."""

    def __init__(self, total_gib: float, deadline_s: float) -> None:
        self._start_s = time.monotonic()
        self._deadline_s = deadline_s
        self._free_gib = total_gib * _MAX_SHARE
        self._changed = threading.Condition()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start_s

    def run(self, jobs: Sequence[Job], n_at_once: int) -> dict[Job, Found]:
        """Return what came of each job.

        Their processes start ahead, one more than work at once, so that imports take no time.
        """
        n_first = min(n_at_once + 1, len(jobs))
        waiting = deque(start() for _ in range(n_first))
        to_start = deque([None] * (len(jobs) - n_first))

        def one(job: Job) -> Found:
            process = waiting.popleft()
            try:
                return self._one(job, process)
            finally:
                process.kill()
                if to_start:
                    to_start.pop()
                    waiting.append(start())

        with ThreadPoolExecutor(n_at_once) as pool:
            return dict(zip(jobs, pool.map(one, jobs), strict=True))

    def _one(self, job: Job, process: Process) -> Found:
        needed = job.budget_gib + _CONTEXT_GIB
        with self._changed:
            self._changed.wait_for(lambda: self._free_gib >= needed)
            self._free_gib -= needed
        try:
            if self.seconds > self._deadline_s:
                return {"failed": "the time was over"}
            found = child(job, process)
        finally:
            with self._changed:
                self._free_gib += needed
                self._changed.notify_all()
        told = {key: found[key] for key in _TOLD if key in found}
        print(f"{self.seconds:5.0f} s  {job.name:<36} {json.dumps(to_json(told))}", flush=True)
        return found


def start() -> Process:
    """Start a process that imports what it needs and waits for a job, without touching the card."""
    command = [sys.executable, str(Path(__file__).resolve()), "--wait"]
    pipe = subprocess.PIPE
    return subprocess.Popen(  # noqa: S603 - this script
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def child(job: Job, process: Process) -> Found:
    """Return what a process that waits makes of a job, or why it failed."""
    try:
        output, errors = process.communicate(json.dumps(asdict(job)), timeout=_JOB_SECONDS)
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {_JOB_SECONDS} s"}
    lines = output.strip().splitlines()
    if process.returncode or not lines:
        said = errors.strip().splitlines() or ["failed without a word"]
        return {"failed": said[-1]}
    found: Found = json.loads(lines[-1])
    return found


def measure(settings: Settings, card: Card, folder: Path) -> dict[Job, Found]:
    """Do everything, and write the report after each part."""
    found: dict[Job, Found] = {}
    contexts: dict[str, int] = {}
    for budgets in (BUDGETS_GIB[:1], BUDGETS_GIB[1:]):
        n_lanes = 1 if len(budgets) == 1 else settings.n_lanes
        jobs = [
            Job("search", case, gib, context_bytes=contexts.get(case))
            for gib in budgets
            for case in settings.cases
        ]
        found |= card.run(jobs, n_lanes)
        report(found, folder)
        searched = [(job, found[job]) for job in jobs if "n_max" in found[job]]
        contexts |= {job.case: _count(result["context_bytes"]) for job, result in searched}
        found |= card.run(_after(searched, settings.parts), _N_WORKERS)
        report(found, folder)
    return found


def _after(searched: Sequence[tuple[Job, Found]], parts: Sequence[str]) -> list[Job]:
    """Return the jobs that follow from searches, the verifications first."""
    verify: list[Job] = []
    peers: list[Job] = []
    for job, result in searched:
        n, limit = _count(result["n_max"]), _count(result["limit_bytes"])
        verify += [Job("verify", job.case, job.budget_gib, batch, limit) for batch in (n, n + 1)]
        peers += [Job("lightning", job.case, job.budget_gib, 0, limit)]
        peers += [Job("accelerate", job.case, job.budget_gib, 0, limit)]
    return (verify if "verify" in parts else []) + (peers if "peers" in parts else [])


def report(found: Mapping[Job, Found], folder: Path) -> None:
    """Write ``batch_finder.md`` and ``.json`` into a folder."""
    page = Report("batch_finder", COMMAND, title="The largest batch", folder=folder)
    searches = [job for job in found if job.kind == "search"]
    verdicts = [is_exact(job, found) for job in searches]
    known = [verdict for verdict in verdicts if verdict is not None]
    n_wanted = len(STEPS) * len(BUDGETS_GIB)
    note = f"of {len(known)} that were verified: n ran and n + 1 did not, in processes of their own"
    page.bar("exact_maximum", goal=f"== {n_wanted}", measured=sum(known) if known else None,
             unit="searches", n=len(known), note=note)  # fmt: skip
    seconds = [_number(found[job].get("seconds")) for job in searches]
    seconds = [value for value in seconds if math.isfinite(value)]
    longest = max(seconds, default=math.nan)
    page.bar("search_seconds_max", goal="< 60", measured=longest, unit="s", n=len(seconds),
             note="8 GiB alone on the card, the others several at once")  # fmt: skip
    over = [used - 1024 * job.budget_gib for job in searches
            if (used := _used_mib(job, found[job])) is not None]  # fmt: skip
    page.bar("card_over_budget_max", goal=None, measured=max(over, default=math.nan), unit="MiB",
             n=len(over), note="what the process of the largest batch had of the card, less the "
             "budget; of searches alone on the card")  # fmt: skip
    for peer in ("lightning", "accelerate"):
        shares = [share for job in searches if (share := _share(job, peer, found)) is not None]
        page.bar(f"{peer}_share_of_maximum_min", goal=None, measured=min(shares, default=math.nan),
                 unit="%", n=len(shares), note="what it found, of the largest batch; not measured "
                 "where it is not installed or failed")  # fmt: skip
    page.text(
        "Whole training steps: two, an evaluation at the same batch, one more. A budget holds the "
        "CUDA context too; an 8 GiB card is emulated here by a limit on PyTorch's allocator. The "
        "peers run in one process each, under the same limit, several at once on the card, so "
        "that their seconds are upper bounds. Lightning's trials have no evaluation."
    )
    page.table("Searches", _COLUMNS, [_row(job, found) for job in searches])
    page.detail("jobs", [{**asdict(job), "found": found[job]} for job in found])
    print(page.write(), flush=True)


_COLUMNS: Final = (
    "case", "budget GiB", "n max", "verified", "n safe", "n throughput", "forecast", "s",
    "trials", "context MiB", "card in use MiB", "limits", "Lightning n", "with its margin",
    "Lightning s", "accelerate n", "accelerate s", "note",
)  # fmt: skip


def _row(job: Job, found: Mapping[Job, Found]) -> list[object]:
    result = found[job]
    lightning = _of("lightning", job, found)
    accelerate = _of("accelerate", job, found)
    trials = result.get("trials")
    exact = {True: "exact", False: "NOT exact", None: NOT_MEASURED}[is_exact(job, found)]
    said = [f"{name}: {what['failed']}" for name, what in (("search", result),
            ("Lightning", lightning), ("accelerate", accelerate)) if "failed" in what]  # fmt: skip
    context = _number(result.get("context_bytes")) / 2**20
    return [
        job.case, job.budget_gib, result.get("n_max"), exact, result.get("n_safe"),
        result.get("n_throughput"), result.get("n_forecast"), result.get("seconds"),
        len(trials) if isinstance(trials, Sequence) else None,
        context if math.isfinite(context) else None, _used_mib(job, result),
        result.get("limiting_term"),
        lightning.get("n", NOT_MEASURED), lightning.get("n_default", NOT_MEASURED),
        lightning.get("seconds"), accelerate.get("n", NOT_MEASURED), accelerate.get("seconds"),
        "; ".join(said),
    ]  # fmt: skip


def _used_mib(job: Job, result: Found) -> float | None:
    """Return what the process of the largest batch had of the card; None beside others."""
    used = _number(result.get("device_bytes")) / 2**20
    return used if job.context_bytes is None and math.isfinite(used) else None


def is_exact(search: Job, found: Mapping[Job, Found]) -> bool | None:
    """Return whether a search was right by both verifications; None without both of them."""
    n_max = found[search].get("n_max")
    ran = {
        job.batch: result.get("ran")
        for job, result in found.items()
        if (job.kind, job.case, job.budget_gib) == ("verify", search.case, search.budget_gib)
    }
    if not isinstance(n_max, int) or ran.get(n_max) is None or ran.get(n_max + 1) is None:
        return None
    return ran[n_max] is True and ran[n_max + 1] is False


def _of(kind: str, search: Job, found: Mapping[Job, Found]) -> Found:
    wanted = (kind, search.case, search.budget_gib)
    same = (found[job] for job in found if (job.kind, job.case, job.budget_gib) == wanted)
    return next(same, {})


def _share(search: Job, peer: str, found: Mapping[Job, Found]) -> float | None:
    theirs, ours = _of(peer, search, found).get("n"), found[search].get("n_max")
    if not isinstance(theirs, int) or not isinstance(ours, int):
        return None
    return 100 * theirs / ours


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _count(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a count is a whole number, got {value!r}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Measure everything, or do one job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("batch_finder"), help="a folder")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--parts", default=",".join(PARTS), help="default: %(default)s")
    parser.add_argument("--lanes", type=int, default=3, help="searches at once, after 8 GiB")
    parser.add_argument("--seconds", type=float, default=330.0, help="nothing begins later")
    parser.add_argument("--wait", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print(f"{COMMAND}: no CUDA device is here; run it on a machine with one", file=sys.stderr)
        return 2
    if args.wait:
        print(json.dumps(to_json(do(Job(**json.loads(sys.stdin.read()))))))
        return 0
    cases = tuple(case for case in STEPS if args.only in case)
    settings = Settings(cases, tuple(args.parts.split(",")), args.lanes, args.seconds)
    measure(settings, Card(total_gib(), settings.deadline_s), args.out)
    return 0


def total_gib() -> float:
    """Return the memory of the first card, asked without making a context on it."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return float(done.stdout.split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
