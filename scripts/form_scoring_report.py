"""Scores, faults and cues against the known faults of a synthetic athlete.

python scripts/form_scoring_report.py [--sets N] -> reports/form_scoring.{json,md}
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

import numpy as np
from form_sets import (
    CUT_SHORT,
    NOISE_PX,
    OFFSET_PX,
    REPS,
    VIEWS,
    Set,
    faulty,
    mean,
    run,
    usual_set,
    views_of,
)
from report_lib import Report, Timing, measure

from pose_analyzer.biomechanics import JointAngleCalculator
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.form_scorer import FormScorer
from pose_analyzer.set_comparison import SetComparison
from pose_analyzer.synthetic import (
    EXERCISES,
    FAULTS_OF,
    Athlete,
    Camera,
    Fault,
    MotionSpec,
    synthesize,
)
from pose_analyzer.types import RepAnalysis, RepMotion

SEVERITIES: Final = (0.3, 0.6, 1.0)
OF_THE_SET: Final = "uneven_tempo"
TIMING: Final = frozenset({"rushed_tempo", "uneven_tempo", "half_rep", "pause"})
STATURES_M: Final = (1.50, 1.75, 2.00)
SEQUENCE_FRAMES: Final = 60


def named(found: Set, fault: str) -> list[bool]:
    """Return for each true repetition with the fault whether it was named.

    A fault of the set counts once: whether the coach spoke of it.
    """
    if fault == OF_THE_SET:
        return [fault in found.cues]
    return [
        any(_shows(one, fault) for one in found.during(rep))
        for rep in found.truth
        if fault in rep.faults
    ]


def _shows(one: RepAnalysis, fault: str) -> bool:
    if one.rep.is_partial:
        return fault in CUT_SHORT
    return fault in {found.name for found in one.faults}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", type=int, default=1, help="sets for each fault and view")
    n_sets = parser.parse_args(argv).sets
    # One core, as the speed report: the times below are for one stream beside others.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report = Report("form_scoring", command="scripts/run form-scoring-report")
    report.text(
        f"Sets of {REPS} repetitions of the synthetic athlete, projected at 1080p with "
        f"{NOISE_PX:g} px of lasting noise on every keypoint and a constant offset of "
        f"{OFFSET_PX:g} px, through the whole pipeline after the detector. "
        "What each fault does at severity 1 stands in `pose_analyzer/synthetic/faults.py`. The "
        "limits in `config/exercises` were set on this same athlete: these figures say that the "
        "judges work, not how they do on other people."
    )
    good_sets(report, n_sets)
    faulty_sets(report, n_sets)
    statures(report)
    anomalies(report, n_sets)
    times(report)
    report.write()
    return 0


def good_sets(report: Report, n_sets: int) -> None:
    """Score good repetitions and count false alarms."""
    rows: list[list[object]] = []
    totals: list[float] = []
    n_reps = n_faults = n_cues = 0
    for exercise in EXERCISES:
        for view, yaw_deg in {**VIEWS, "oblique": 50.0}.items():
            sets = [
                run(usual_set(exercise, REPS, seed, variation=0.06), yaw_deg)
                for seed in range(n_sets)
            ]
            reps = [one for found in sets for one in found.reps if not one.rep.is_partial]
            mine = [total for found in sets for total in found.totals]
            faults = [fault.name for one in reps for fault in one.faults]
            cues = [name for found in sets for name in found.cues]
            confidence = float(np.mean([one.score.confidence for one in reps]))
            rows.append([exercise, view, len(reps), mean(mine), confidence, len(faults), len(cues)])
            totals += mine
            n_reps += len(reps)
            n_faults += len(faults)
            n_cues += len(cues)
    report.bar(
        "good_reps_mean_score", goal=">= 90", measured=np.mean(totals), unit="", n=len(totals)
    )
    report.bar("good_reps_lowest_score", goal=">= 75", measured=min(totals), unit="", n=len(totals))
    report.bar(
        "false_faults_per_100_good_reps",
        goal="<= 2",
        measured=100.0 * n_faults / n_reps,
        unit="",
        n=n_reps,
    )
    report.bar(
        "false_cues_per_100_good_reps",
        goal="<= 1",
        measured=100.0 * n_cues / n_reps,
        unit="",
        n=n_reps,
    )
    report.table(
        "Good repetitions",
        ["exercise", "view", "reps", "mean score", "confidence", "false faults", "false cues"],
        rows,
        "The confidence of a score is low where the view hides most of its parts.",
    )


def faulty_sets(report: Report, n_sets: int) -> None:
    """Score faulty repetitions and count how often the fault is named, by view and severity."""
    rows: list[list[object]] = []
    by_severity: dict[tuple[bool, float], list[bool]] = {
        (timing, severity): [] for timing in (False, True) for severity in SEVERITIES
    }
    for exercise in EXERCISES:
        for fault in FAULTS_OF[exercise]:
            for severity in SEVERITIES:
                row: list[object] = [exercise, fault, severity]
                for view, yaw_deg in VIEWS.items():
                    sets = [
                        run(faulty(exercise, fault, severity, seed), yaw_deg)
                        for seed in range(n_sets)
                    ]
                    hits = [hit for found in sets for hit in named(found, fault)]
                    totals = [total for found in sets for total in found.totals]
                    row += [mean(totals), mean(hits)]
                    if view in views_of(exercise, fault):
                        by_severity[fault in TIMING, severity] += hits
                rows.append(row)
    for severity, goal in ((0.3, None), (0.6, ">= 0.8"), (1.0, ">= 0.95")):
        for timing, kind in ((False, "posture"), (True, "timing")):
            hits = by_severity[timing, severity]
            report.bar(
                f"{kind}_fault_named_share_severity_{severity:g}",
                goal=None if timing else goal,
                measured=np.mean(hits),
                unit="",
                n=len(hits),
                note="half repetitions below the smallest counted travel are ignored, and a stop "
                "can end a repetition: both are the counter's choice"
                if timing
                else "from the views that the exercise file says show it",
            )
    report.table(
        "Faults by severity and view",
        ["exercise", "fault", "severity", "side: score", "named", "front: score", "named"],
        rows,
        "*Named*: the share of repetitions in which the fault was reported; for `uneven_tempo` the "
        "share of sets in which the coach spoke of it. A repetition reported as partial names "
        "`half_rep` and `shallow_depth`. No score: no full repetition could be scored from there. "
        "Half repetitions and pauses are two of the six.",
    )


def statures(report: Report) -> None:
    """Compare the totals of short and tall people who do the same."""
    rows: list[list[object]] = []
    spreads: list[float] = []
    for exercise in EXERCISES:
        means = [
            mean(
                run(
                    usual_set(exercise, REPS, 0, Fault("shallow_depth", 0.5)),
                    VIEWS["front" if exercise == "jumping_jack" else "side"],
                    Athlete(stature_m=stature_m),
                ).totals
            )
            for stature_m in STATURES_M
        ]
        spreads.append(max(means) - min(means))
        rows.append([exercise, *means, spreads[-1]])
    report.bar(
        "score_spread_over_statures",
        goal="<= 3",
        measured=max(spreads),
        unit="points",
        n=len(spreads),
        note="largest difference of the mean score of one exercise, 1.50 to 2.00 m",
    )
    report.table(
        "The same motion at three statures, with shallow_depth 0.5",
        ["exercise", *(f"{stature_m:.2f} m" for stature_m in STATURES_M), "spread"],
        rows,
        "Same camera, so a short person is also measured from fewer pixels.",
    )


def anomalies(report: Report, n_sets: int) -> None:
    """Judge repetitions against their set: good ones, and one that is different."""
    rows: list[list[object]] = []
    alarms: list[bool] = []
    for exercise in EXERCISES:
        yaw_deg = VIEWS["front" if exercise == "jumping_jack" else "side"]
        for fault in ("", "half_rep", "pause", "shallow_depth"):
            found: list[bool] = []
            others: list[bool] = []
            for seed in range(n_sets):
                faults = (Fault(fault, 0.8, (8,)),) if fault else ()
                judged = run(usual_set(exercise, 9, seed, *faults), yaw_deg)
                odd = judged.during(judged.truth[7]) if fault else []
                found.append(any(one.anomaly.is_anomaly for one in odd))
                places = {one.rep.start_index for one in odd}
                others += [
                    one.anomaly.is_anomaly
                    for one in judged.reps
                    if one.rep.start_index not in places
                ]
            rows.append([exercise, fault or "none", mean(found) if fault else None, mean(others)])
            alarms += others
    report.bar(
        "false_anomalies_per_100_reps",
        goal="<= 2",
        measured=100.0 * float(np.mean(alarms)),
        unit="",
        n=len(alarms),
    )
    report.table(
        "One different repetition (the eighth of nine, severity 0.8) against its set",
        ["exercise", "fault", "found", "share of the others called anomalies"],
        rows,
        "Dynamic time warping forgives differences of tempo, so a pause is found less surely "
        "than a change of path.",
    )


def times(report: Report) -> None:
    """Time a pose, a sequence and a repetition of a set."""
    motion = sequence()
    scorer = FormScorer(load_exercise("squat"))
    detector, rng = SetComparison(), np.random.default_rng(0)
    noisy = iter([motion.deg + rng.normal(0.0, 2.0, motion.deg.shape) for _ in range(400)])
    for name, goal, timing in (
        ("pose", "<= 100", measure(lambda: scorer.score_pose(motion.deg[30], 0.5), 3000, 200)),
        ("60_frames", "<= 2000", measure(lambda: scorer.score(motion), 1000, 50)),
        ("60_frames_faults", None, measure(lambda: scorer.faults(motion), 1000, 50)),
        ("rep_in_set", "<= 5000", measure(lambda: detector.judge(next(noisy)), 300, 50)),
    ):
        _add_time(report, name, goal, timing)


def _add_time(report: Report, name: str, goal: str | None, timing: Timing) -> None:
    report.bar(
        f"{name}_us_p50",
        goal=goal,
        measured=timing.median_us,
        unit="us",
        n=timing.n,
        p95=timing.p95_us,
        p99=timing.p99_us,
    )


def sequence() -> RepMotion:
    """Return one exact squat from the side, resampled to 60 frames."""
    truth = synthesize(Athlete(), MotionSpec("squat", reps=1), Camera(yaw_deg=80.0))
    rep = truth.reps[0]
    first, last = np.searchsorted(truth.time_s, [rep.start_s, rep.end_s])
    rows = np.linspace(first, last - 1, SEQUENCE_FRAMES).astype(np.intp)
    keypoints = truth.keypoints[rows]
    deg = JointAngleCalculator().angles(keypoints)
    return RepMotion(
        time_s=np.linspace(rep.start_s, rep.end_s, SEQUENCE_FRAMES),
        keypoints=keypoints,
        confidence=np.where(truth.visible[rows], 0.9, 0.5),
        deg=deg,
        sigma_deg=np.full_like(deg, 4.0),
        signal=truth.travel[rows],
        turn_idx=int(np.argmax(truth.travel[rows])),
        yaw_deg=80.0,
        stature_px=750.0,
    )


if __name__ == "__main__":
    sys.exit(main())
