"""Our scheduler against fixed windows, simulated -> reports/scheduler_simulation.{json,md}.

python scripts/scheduler_simulation.py [--seconds S] [--out FOLDER]

Needs numpy and our packages alone; all processors share the loads.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from report_lib import Report
from simulated_serving import (
    PATTERNS,
    WARMUP_S,
    FixedWindow,
    FloatArray,
    Outcome,
    Policy,
    Profile,
    arrival_times,
    ours,
    serve,
)

WINDOWS_MS: Final = (5.0, 10.0, 33.0, 50.0)
OURS: Final = 0.0
"""Key of our scheduler among the windows."""
LOADS: Final = (0.15, 0.5, 0.8, 0.95, 1.4)
"""Shares of what the detector does in full batches."""
SEEDS: Final = (0, 1, 2, 3, 4)
STUDENT_T: Final = 2.776
"""97.5th percentile of Student's t with as many degrees of freedom as seeds but one: a mean of
paired differences within 95 % confidence (Student, The probable error of a mean, 1908)."""
FPS: Final = 30.0
MOST_STREAMS: Final = 48
SAME_DROPS: Final = 0.005
"""A window counts as a rival if it drops at most so much more of the frames than ours."""
PROFILES: Final = (
    Profile("fast GPU", 0.002, 0.0004, 16),
    Profile("middle GPU", 0.006, 0.001, 16),
    Profile("small GPU", 0.012, 0.0025, 8),
    Profile("launch-bound GPU", 0.010, 0.0002, 16),
    Profile("CPU", 0.002, 0.025, 8),
)
TROUBLES: Final = ("dies", "stalls", "sends garbage", "floods")


@dataclass(frozen=True, slots=True)
class Load:
    """One run that all policies serve."""

    profile: Profile
    n_streams: int
    pattern: str
    seed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load under ours and all windows, as many runs of each as there are seeds.

    Ours and a window are compared run by run, because they serve the same arrivals and the same
    slow moments: what the runs have in common is no difference between policies.
    """

    profile: Profile
    n_streams: int
    pattern: str
    ours: Outcome
    windows: Mapping[float, Outcome]
    ours_p95_ms: FloatArray
    windows_p95_ms: Mapping[float, FloatArray]

    @classmethod
    def of(cls, load: Load, runs: Sequence[Mapping[float, Outcome]]) -> Case:
        """Return the runs of one kind of load; ours stands under `OURS`."""
        pooled = {key: Outcome.pooled([run[key] for run in runs]) for key in runs[0]}
        p95_ms = {key: np.array([run[key].percentile_ms(95) for run in runs]) for key in runs[0]}
        return cls(
            load.profile,
            load.n_streams,
            load.pattern,
            pooled.pop(OURS),
            pooled,
            p95_ms.pop(OURS),
            p95_ms,
        )

    @property
    def rival_ms(self) -> float:
        """The window with the best p95 among those that drop no more than ours."""
        allowed = [
            window
            for window, outcome in self.windows.items()
            if outcome.drop_share <= self.ours.drop_share + SAME_DROPS
        ]
        return min(
            allowed or list(self.windows), key=lambda window: self.windows_p95_ms[window].mean()
        )

    @property
    def excess_ms(self) -> float:
        """By how much our p95 is above that of the rival: mean of the runs."""
        return float(np.mean(self.ours_p95_ms - self.windows_p95_ms[self.rival_ms]))

    @property
    def uncertainty_ms(self) -> float:
        """Half the width of the 95 % confidence interval of `excess_ms`."""
        differences_ms = self.ours_p95_ms - self.windows_p95_ms[self.rival_ms]
        return float(STUDENT_T * differences_ms.std(ddof=1) / math.sqrt(differences_ms.size))

    @property
    def any_excess_ms(self) -> float:
        """By how much our p95 is above the best of all windows, whatever they drop."""
        best = min(p95_ms.mean() for p95_ms in self.windows_p95_ms.values())
        return float(self.ours_p95_ms.mean() - best)


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="of each simulated run")
    parser.add_argument("--out", type=Path, help="folder of the report, reports/ by default")
    args = parser.parse_args(argv)
    report = Report(
        "scheduler_simulation",
        command=f"python scripts/scheduler_simulation.py --seconds {args.seconds:g}",
        folder=args.out,
    )
    cases = run_cases(args.seconds)
    add_bars(report, cases, args.seconds)
    add_trouble(report, len(SEEDS) * args.seconds)
    report.text(
        "The mailbox and the scheduler are the real ones; the detector is a cost of `a + b n` for "
        "a batch of n, with 5 % noise and two moments of a thousand that are three times as slow, "
        "the same for every policy. Latency is from arrival to result, of the frames that were "
        f"analysed. The first {WARMUP_S:.0f} s of each load count for nobody. A fixed window "
        "leaves when it is full (a batch, or every stream) or so long after its first frame, and "
        "has the same newest-wins slots. It is a rival in a load if it drops at most "
        f"{100 * SAME_DROPS:.1f} points more of the frames than ours there, because whoever drops "
        "more analyses fresher frames; against the best of all windows, whatever they drop, stands "
        "a bar of its own. Excess is the mean over the seeds of the difference of the p95 of one "
        "run, with the half width of its 95 % confidence interval: both policies serve the same "
        "arrivals. The rival is chosen afterwards, by its p95 in the same runs, in its favour."
    )
    add_frontier(report, cases)
    add_tables(report, cases)
    report.write()
    return 0


def stream_counts(profile: Profile) -> list[int]:
    """Return how many streams make the loads of a profile."""
    counts = {round(load * profile.capacity_fps / FPS) for load in LOADS}
    return sorted({min(max(count, 1), MOST_STREAMS) for count in counts})


def run_cases(seconds: float) -> list[Case]:
    """Serve all loads, on all processors."""
    loads = [
        Load(profile, n_streams, pattern, seed, seconds)
        for profile in PROFILES
        for n_streams in stream_counts(profile)
        for pattern in PATTERNS
        for seed in SEEDS
    ]
    with ProcessPoolExecutor(os.cpu_count()) as executor:
        runs = list(executor.map(run_load, loads))
    n_seeds = len(SEEDS)
    return [
        Case.of(loads[first], runs[first : first + n_seeds])
        for first in range(0, len(loads), n_seeds)
    ]


def run_load(load: Load) -> dict[float, Outcome]:
    """Serve the same arrivals by every policy; ours stands under `OURS`."""
    arrivals = arrival_times(load.pattern, load.n_streams, load.seconds, FPS, load.seed)
    policies: dict[float, Policy] = {
        window_ms: FixedWindow(1e-3 * window_ms, load.n_streams) for window_ms in WINDOWS_MS
    }
    policies[OURS] = ours()
    return {
        key: serve(policy, arrivals, load.profile, load.seed) for key, policy in policies.items()
    }


def add_bars(report: Report, cases: Sequence[Case], seconds: float) -> None:
    """Tell how ours stands against the best window of each load."""
    excess = np.array([case.excess_ms for case in cases])
    worst = cases[int(np.argmax(excess))]
    report.bar(
        "worst_p95_excess_over_the_best_fixed_window",
        goal="<= 1.0",
        measured=excess.max(),
        unit="ms",
        n=len(cases),
        note=f"{worst.profile.name}, {worst.n_streams} streams, {worst.pattern}: "
        f"{worst.excess_ms:.2f} ± {worst.uncertainty_ms:.2f}; among windows "
        f"that drop at most {100 * SAME_DROPS:.1f} points more of the frames; "
        f"{len(SEEDS)} runs of {seconds:.0f} s each",
    )
    report.bar(
        "loads_surely_worse_by_more_than_1_ms",
        goal="<= 0",
        measured=sum(case.excess_ms - case.uncertainty_ms > 1.0 for case in cases),
        unit="loads",
        n=len(cases),
        note="the whole 95 % confidence interval of the paired difference is above 1 ms",
    )
    report.bar(
        "median_p95_excess_over_the_best_fixed_window",
        goal=None,
        measured=np.median(excess),
        unit="ms",
        n=len(cases),
        note="negative: ours is sooner than the best window chosen afterwards for each load",
    )
    for window_ms in WINDOWS_MS:
        gains = [
            case.windows[window_ms].percentile_ms(95) - case.ours.percentile_ms(95)
            for case in cases
        ]
        report.bar(
            f"median_p95_gain_over_a_window_of_{window_ms:.0f}_ms",
            goal=None,
            measured=np.median(gains),
            unit="ms",
            n=len(gains),
            note=f"worst {min(gains):.2f}, best {max(gains):.1f}",
        )
    whatever = np.array([case.any_excess_ms for case in cases])
    worst = cases[int(np.argmax(whatever))]
    report.bar(
        "worst_p95_excess_whatever_the_window_drops",
        goal=None,
        measured=whatever.max(),
        unit="ms",
        n=len(cases),
        note=f"{worst.profile.name}, {worst.n_streams} streams, {worst.pattern}: a window that "
        "lets more frames be replaced analyses fresher ones",
    )
    spread = max(fairness(case) for case in cases if case.pattern in ("regular", "aligned"))
    report.bar(
        "worst_variation_of_analysed_frames_across_equal_streams",
        goal="<= 0.05",
        measured=spread,
        unit="ratio",
        n=sum(case.pattern in ("regular", "aligned") for case in cases),
        note="standard deviation over mean, at every load up to 1.4 of capacity",
    )


def fairness(case: Case) -> float:
    """Return the coefficient of variation of the frames analysed, across streams."""
    counts = np.bincount(case.ours.stream, minlength=case.n_streams)
    return float(counts.std() / counts.mean())


def add_trouble(report: Report, seconds: float) -> None:
    """Tell how the p95 of three streams moves when a fourth misbehaves."""
    rows: list[tuple[str, str, float, float, float]] = []
    for profile in PROFILES[:4]:
        for trouble in TROUBLES:
            arrivals = arrival_times("regular", 4, seconds, FPS)
            before = serve(ours(), arrivals, profile).percentile_ms(95, (1, 2, 3))
            arrivals[0] = troubled(arrivals[0], trouble, seconds)
            after = serve(ours(), arrivals, profile).percentile_ms(95, (1, 2, 3))
            rows.append((profile.name, trouble, before, after, 100.0 * (after / before - 1.0)))
    worst = max((row for row in rows if row[1] != "floods"), key=lambda row: row[4])
    report.bar(
        "worst_p95_rise_of_three_streams_when_the_fourth_misbehaves",
        goal="<= 10",
        measured=worst[4],
        unit="%",
        n=len(PROFILES[:4]) * (len(TROUBLES) - 1),
        note=f"{worst[0]}, the fourth {worst[1]}; a flood is real work and stands in the table",
    )
    report.table(
        "One stream misbehaves",
        ["detector", "the fourth stream", "others' p95 before, ms", "after, ms", "change, %"],
        rows,
        "Four regular streams. Garbage is refused before the mailbox, so nothing arrives; a flood "
        "is ten times as many frames.",
    )


def troubled(times: FloatArray, trouble: str, seconds: float) -> FloatArray:
    """Return what still arrives of a stream."""
    middle_s = 0.5 * seconds
    if trouble == "dies":
        return times[times < middle_s]
    if trouble == "stalls":
        return times[(times < middle_s) | (times > middle_s + 0.2 * seconds)]
    if trouble == "sends garbage":
        return times[np.mod(times, 2.0) > 1.0]
    return np.sort(np.concatenate([times + shift for shift in np.arange(10) / (10.0 * FPS)]))


def add_frontier(report: Report, cases: Sequence[Case]) -> None:
    """Show latency against throughput for each profile, regular streams."""
    for profile in PROFILES:
        rows = []
        for case in cases:
            if case.profile is not profile or case.pattern != "regular":
                continue
            policies = {"ours": case.ours} | {
                f"{window:.0f} ms": outcome for window, outcome in case.windows.items()
            }
            rows += [
                [case.n_streams, name, *figures(outcome)] for name, outcome in policies.items()
            ]
        report.table(
            f"Latency against throughput: {profile.name}",
            ["streams", "policy", *FIGURES],
            rows,
            f"a = {1e3 * profile.batch_s:g} ms, b = {1e3 * profile.frame_s:g} ms, at most "
            f"{profile.max_batch} at once: {profile.capacity_fps:.0f} frames/s. Regular cameras, "
            f"{FPS:.0f} frames/s each.",
        )


FIGURES: Final = (
    "p50, ms",
    "p95, ms",
    "p99, ms",
    "analysed, %",
    "replaced, %",
    "stale, %",
    "mean batch",
    "detector busy, %",
)


def figures(outcome: Outcome) -> list[float]:
    """Return the columns of `FIGURES`."""
    share = 100.0 / max(1, outcome.n_arrived)
    return [
        *(outcome.percentile_ms(percent) for percent in (50.0, 95.0, 99.0)),
        100.0 * (1.0 - outcome.drop_share),
        share * outcome.drops["replaced"],
        share * outcome.drops["stale"],
        float(outcome.batch_sizes.mean()) if outcome.batch_sizes.size else math.nan,
        100.0 * outcome.busy_share,
    ]


def add_tables(report: Report, cases: Sequence[Case]) -> None:
    """Show every load, worst first."""
    rows = [
        [
            case.profile.name,
            case.n_streams,
            case.pattern,
            case.ours.percentile_ms(95),
            *(case.windows[window].percentile_ms(95) for window in WINDOWS_MS),
            100.0 * case.ours.drop_share,
            100.0 * case.windows[case.rival_ms].drop_share,
            case.excess_ms,
            case.uncertainty_ms,
        ]
        for case in sorted(cases, key=lambda case: -case.excess_ms)
    ]
    report.table(
        "All loads, p95 in ms",
        [
            "detector",
            "streams",
            "arrivals",
            "ours",
            *(f"{window:.0f} ms" for window in WINDOWS_MS),
            "ours drops, %",
            "rival drops, %",
            "excess",
            "±",
        ],
        rows,
    )


if __name__ == "__main__":
    raise SystemExit(main())
