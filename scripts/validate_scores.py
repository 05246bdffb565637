"""Whether scores fall with severity and hold over bodies, and first cues name the fault.

python scripts/validate_scores.py [--seeds N] [--folder DIR] -> DIR/validate_scores.{json,md}
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from form_sets import (
    NEAR_M,
    SEED,
    TEMPOS,
    VIEWS,
    Set,
    all_faults,
    faulty,
    judge,
    mean,
    mediapipe_detections,
    run,
    usual_set,
    views_of,
)
from report_lib import Report
from scipy.stats import spearmanr
from shares import Share

from pose_analyzer.skeleton import MIRROR
from pose_analyzer.synthetic import (
    EXERCISES,
    Athlete,
    Camera,
    Fault,
    MotionSpec,
    Tempo,
    synthesize,
)
from pose_analyzer.types import PoseDetections

SEVERITIES: Final = tuple(round(0.1 * step, 1) for step in range(11))
MODERATE: Final = 0.55
"""The severity at which cues are asked for."""
STATURES_M: Final = tuple(round(1.5 + 0.1 * step, 1) for step in range(6))
TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

CUE_REPS: Final = 8
SETS_A_SEVERITY: Final = 5
"""One set for each severity stands for this many seeds of the cues."""
FAR_M: Final = 5.0
"""From here the raised hands of a person of 2 m are in the picture."""
BODY_FAULT: Final = {"jumping_jack": "asymmetry"}
"""The faulty motion that is done at all statures; ``shallow_depth`` where none is given."""

detections: Final = mediapipe_detections
"""The source of all detections below."""


def add_to(report: Report, n_seeds: int) -> None:
    """Measure the bars of scores and cues and add them to a report."""
    report.text(
        "Scores and cues of the synthetic athlete through the errors of MediaPipe as measured on "
        "rendered clips, see [detector_noise](detector_noise.md). What each fault does at "
        "severity 1 stands in `pose_analyzer/synthetic/faults.py`. A fault is judged from each of "
        "the views side and front that its exercise file says can show it. The limits in "
        "`config/exercises` were set with this athlete in view: these figures say that the judges "
        "work, not how they do on other people."
    )
    severities(report, max(n_seeds // SETS_A_SEVERITY, 1))
    bodies(report)
    twice(report)
    cues(report, n_seeds)
    good_sets(report, n_seeds)


def severities(report: Report, n_seeds: int) -> None:
    """Rank the mean score of each fault's repetitions by severity."""
    rows: list[list[object]] = []
    found: list[float] = []
    seeds = range(SEED, SEED + n_seeds)
    tasks = [
        (*one, severity, seed) for one in _visible() for severity in SEVERITIES for seed in seeds
    ]
    totals = dict(zip(tasks, over_cores(_totals, tasks), strict=True))
    for exercise, fault, view in _visible():
        means = [
            mean([t for seed in seeds for t in totals[exercise, fault, view, s, seed]])
            for s in SEVERITIES
        ]
        rho = -_rank_correlation(means)
        found.append(rho)
        rows.append([exercise, fault, view, rho, *means])
    report.bar(
        "score_falls_with_severity_rank_correlation",
        goal=">= 0.95",
        measured=min(found) if not np.isnan(found).any() else 0.0,
        unit="-Spearman",
        n=len(found),
        note="the worst of all faults, exercises and views; 0 if a severity was never scored",
    )
    report.table(
        "Mean score by severity of the fault",
        ["exercise", "fault", "view", "-Spearman", *(f"{s:g}" for s in SEVERITIES)],
        rows,
        f"Mean of the repetitions that have the fault in {n_seeds} sets, partial repetitions "
        "included, as a half repetition is one. The unevenness of a set's tempo costs each "
        "repetition from the third on. Severity 0 of `half_rep` is a full repetition. Not "
        "measured: no repetition with the fault was found or scored.",
    )


def _visible() -> list[tuple[str, str, str]]:
    """Return each fault of each exercise with each view that shows it."""
    return [
        (exercise, fault, view)
        for exercise, fault in all_faults()
        for view in views_of(exercise, fault)
    ]


def over_cores(call: Callable[[TaskT], ResultT], tasks: Sequence[TaskT]) -> list[ResultT]:
    """Return what the call makes of each task, in their order, on all cores."""
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(call, tasks, chunksize=4))


def _totals(task: tuple[str, str, str, float, int]) -> list[float]:
    """Return the totals of the repetitions with a fault, of all where it has no severity."""
    exercise, fault, view, severity, seed = task
    found = run(faulty(exercise, fault, severity, seed), VIEWS[view], source=detections)
    return found.totals if severity == 0.0 else found.totals_with(fault)


def _rank_correlation(means: Sequence[float]) -> float:
    """Return Spearman's correlation with the severities; NaN if one was not scored."""
    if np.isnan(means).any():
        return math.nan
    return float(spearmanr(SEVERITIES, means).statistic)


def bodies(report: Report) -> None:
    """Compare the scores of the same motion by bodies of all sizes, and of its mirror image."""
    rows: list[list[object]] = []
    spreads: list[float] = []
    for exercise in EXERCISES:
        bad = BODY_FAULT.get(exercise, "shallow_depth")
        view = views_of(exercise, bad)[0]
        for motion, label in (
            (usual_set(exercise, 4, 0), "good"),
            (usual_set(exercise, 4, 0, Fault(bad, MODERATE)), bad),
        ):
            means = [
                mean(_body(motion, VIEWS[view], size_m, mirrored=mirrored).totals)
                for mirrored in (False, True)
                for size_m in STATURES_M
            ]
            spreads.append(max(means) - min(means))
            rows.append([exercise, view, label, *means, spreads[-1]])
    report.bar(
        "score_spread_over_bodies",
        goal="< 3",
        measured=max(spreads),
        unit="points",
        n=len(spreads),
        note="largest difference of the mean score of one motion, 1.50 to 2.00 m and mirrored",
    )
    report.table(
        "The same motion by different bodies",
        [
            *("exercise", "view", "motion"),
            *(f"{size_m:.2f} m" for size_m in STATURES_M),
            *(f"{size_m:.2f} m mirrored" for size_m in STATURES_M),
            "spread",
        ],
        rows,
        "Same camera, from 5 m. The measured errors are in statures: they grow with the person.",
    )


def _body(motion: MotionSpec, yaw_deg: float, stature_m: float, *, mirrored: bool) -> Set:
    camera = Camera(yaw_deg=yaw_deg, distance_m=FAR_M)
    truth = synthesize(Athlete(stature_m=stature_m), motion, camera)
    found = detections(truth, np.random.default_rng(motion.seed))
    if mirrored:
        found = [_mirror(one, truth.camera.size[0]) for one in found]
    return judge(truth, found)


def _mirror(found: PoseDetections, width: int) -> PoseDetections:
    """Return what a detector would find in the mirrored picture."""
    keypoints = found.keypoints[:, MIRROR].copy()
    keypoints[..., 0] = width - 1.0 - keypoints[..., 0]
    boxes = found.boxes.copy()
    boxes[:, [0, 2]] = width - 1.0 - found.boxes[:, [2, 0]]
    return replace(found, keypoints=keypoints, confidence=found.confidence[:, MIRROR], boxes=boxes)


def twice(report: Report) -> None:
    """Score the same detections again, by a fresh pipeline."""
    differences: list[float] = []
    for exercise in EXERCISES:
        motion = usual_set(exercise, 3, 1)
        first, second = (run(motion, VIEWS["side"], source=detections) for _ in range(2))
        for one, other in zip(first.reps, second.reps, strict=True):
            if not math.isnan(one.score.total):
                differences.append(abs(one.score.total - other.score.total))
    report.bar(
        "score_difference_of_a_repetition_scored_twice",
        goal="== 0",
        measured=max(differences),
        unit="points",
        n=len(differences),
    )


def cues(report: Report, n_seeds: int) -> None:
    """Ask which fault the first cue of a set names."""
    rows: list[list[object]] = []
    shares: list[Share] = []
    near: list[Share] = []
    seeds = range(SEED, SEED + n_seeds)
    tasks = [(*one, seed, m) for one in _visible() for seed in seeds for m in (FAR_M, NEAR_M)]
    named = dict(zip(tasks, over_cores(_first_correction, tasks), strict=True))
    for one in _visible():
        fault = one[1]
        firsts = [named[*one, seed, FAR_M] for seed in seeds]
        share = Share.of(sum(name == fault for name in firsts), n_seeds)
        shares.append(share)
        near.append(Share.of(sum(named[*one, s, NEAR_M] == fault for s in seeds), n_seeds))
        others = sorted({name or "none" for name in firsts if name != fault})
        rows.append([*one, share.value, *share.interval, ", ".join(others), near[-1].value])
    for suffix, found, distance_m in (("", shares, FAR_M), ("_from_4_m", near, NEAR_M)):
        _cue_bars(report, suffix, found, distance_m)
    report.table(
        f"First cue of sets with one fault of severity {MODERATE:g}",
        ["exercise", "fault", "view", "named", "from", "to", "other first cues", "named from 4 m"],
        rows,
        f"Sets of {CUE_REPS} repetitions by people of 1.50 to 2.00 m, from {FAR_M:g} m, where "
        "raised hands are in the picture (from 4 m those of tall people are not, and what is cut "
        "off is not judged); every set has the fault in all repetitions, except `half_rep` and "
        "`pause`, which two of them have. From, to: 95 % interval of Wilson.",
    )


def _cue_bars(report: Report, suffix: str, shares: Sequence[Share], distance_m: float) -> None:
    overall = Share.of(sum(one.hits for one in shares), sum(one.n for one in shares))
    low, high = overall.interval
    report.bar(
        f"first_cue_names_the_fault{suffix}",
        goal=">= 0.95",
        measured=overall.value,
        unit="share of sets",
        n=overall.n,
        note=f"from {distance_m:g} m; 95 % interval {low:.3f} to {high:.3f}",
    )
    report.bar(
        f"first_cue_names_the_fault_worst_fault{suffix}",
        goal=">= 0.95",
        measured=min(one.value for one in shares),
        unit="share of sets",
        n=shares[0].n,
        note=f"the worst of {len(shares)} faults, exercises and views, {shares[0].n} sets each",
    )


def _first_correction(task: tuple[str, str, str, int, float]) -> str:
    exercise, fault, view, seed, distance_m = task
    motion = _moderate(exercise, fault, seed)
    return run(motion, VIEWS[view], _athlete(seed), detections, distance_m).first_correction


def _moderate(exercise: str, fault: str, seed: int) -> MotionSpec:
    return faulty(exercise, fault, MODERATE, seed, CUE_REPS)


def _athlete(seed: int) -> Athlete:
    return Athlete(stature_m=STATURES_M[seed % len(STATURES_M)])


def good_sets(report: Report, n_seeds: int) -> None:
    """Count corrections and faults of good sets over bodies, tempos, views and variation."""
    rows: list[list[object]] = []
    counts: list[tuple[int, int]] = []
    for exercise in EXERCISES:
        for view, yaw_deg in {**VIEWS, "oblique": 50.0}.items():
            tasks = [(exercise, yaw_deg, seed) for seed in range(SEED, SEED + n_seeds)]
            sets = over_cores(_good_set, tasks)
            reps = [one for found in sets for one in found.reps]
            corrections = [[name for name in found.cues if name != "praise"] for found in sets]
            spoken = [name for names in corrections for name in names]
            faults = [fault.name for one in reps for fault in one.faults]
            totals = [total for found in sets for total in found.totals]
            mine = [
                (len(names), len(found.reps))
                for names, found in zip(corrections, sets, strict=True)
            ]
            share = Share.of_sets(mine)
            rows.append(
                [
                    *(exercise, view, len(reps), mean(totals)),
                    *(min(totals) if totals else None, len(faults)),
                    *(len(spoken), *share.interval, ", ".join(sorted(set(spoken)))),
                ]
            )
            counts += mine
    overall = Share.of_sets(counts)
    low, high = overall.interval
    report.bar(
        "corrective_cues_per_good_repetition",
        goal="< 0.01",
        measured=overall.value,
        unit="cues a repetition",
        n=overall.n,
        note=f"95 % interval {low:.4f} to {high:.4f}, over sets: repetitions of one are alike",
    )
    report.table(
        "Good sets",
        [
            *("exercise", "view", "reps", "mean score", "lowest", "faults"),
            *("cues", "from", "to", "which"),
        ],
        rows,
        f"Statures of 1.50 to 2.00 m, from {FAR_M:g} m, tempos from 0.8 to 1.5 times the usual "
        "one, repetitions that vary by 6 %. From, to: 95 % interval of Wilson of cues a "
        "repetition, over sets.",
    )


def _good_set(task: tuple[str, float, int]) -> Set:
    exercise, yaw_deg, seed = task
    return run(_good(exercise, seed), yaw_deg, _athlete(seed), detections, FAR_M)


def _good(exercise: str, seed: int) -> MotionSpec:
    usual = usual_set(exercise, CUE_REPS, seed, variation=0.06)
    pace = (0.8, 1.0, 1.2, 1.5)[seed % 4]
    tempo = TEMPOS.get(exercise, Tempo())
    paced = replace(
        tempo,
        away_s=pace * tempo.away_s,
        turn_s=pace * tempo.turn_s,
        back_s=pace * tempo.back_s,
        rest_s=pace * tempo.rest_s,
    )
    return replace(usual, tempo=paced)


PARTS: Final[dict[str, Callable[[Report, int], None]]] = {
    "severities": severities,
    "bodies": lambda report, _: bodies(report),
    "twice": lambda report, _: twice(report),
    "cues": cues,
    "good": good_sets,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write a report of its own; the whole validation calls `add_to`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="sets for each fault and view")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    args = parser.parse_args(argv)
    command = "python scripts/validate_scores.py"
    report = Report("validate_scores", command=command, folder=args.folder)
    if args.only:
        PARTS[args.only](report, args.seeds)
    else:
        add_to(report, args.seeds)
    print(report.write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
