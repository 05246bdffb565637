"""The tables of `scheduler_simulation`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from report_lib import Report
from scheduler_cases import FPS, SAME_DROPS, WINDOWS_MS, Case
from simulated_serving import Outcome, Profile


def add_frontier(report: Report, cases: Sequence[Case], profiles: Sequence[Profile]) -> None:
    """Show latency against throughput for each profile, regular streams."""
    for profile in profiles:
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


def add_left_out(report: Report, cases: Sequence[Case]) -> None:
    """Name every window that is no rival, the soonest against ours first."""
    rows = [
        [
            case.profile.name,
            case.n_streams,
            case.pattern,
            f"{window_ms:.0f} ms",
            100.0 * case.windows[window_ms].drop_share,
            100.0 * case.ours.drop_share,
            float(np.mean(case.ours_p95_ms - case.windows_p95_ms[window_ms])),
        ]
        for case in cases
        for window_ms in case.left_out
    ]
    report.table(
        "Windows left out as rivals",
        [
            "detector",
            "streams",
            "arrivals",
            "window",
            "drops, %",
            "ours drops, %",
            "ours later, ms",
        ],
        sorted(rows, key=lambda row: -float(str(row[-1]))),
        f"They drop over {100 * SAME_DROPS:.1f} points more of the frames than ours under the same "
        "load. Ours later: how far our p95 is above theirs; negative where ours is sooner as well.",
    )
