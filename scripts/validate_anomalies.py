"""Good and faulty repetitions of new synthetic athletes, for validate_form.py.

Each repetition is judged twice: by `ReferenceJudge`, which knows no fault, only the shipped
references, and by the named faults of `FormScorer` and the counter, which calls a repetition cut
short partial. Athletes, tempos, views and noise are drawn as those of the references, with other
seeds.
"""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from form_sets import SEED, Set, mediapipe_detections, views_of
from make_references import performed
from report_lib import Report, measure
from shares import Share
from validate_scores import MODERATE

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.form_anomaly_detector import FormAnomalyDetector
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.reference_judge import ReferenceJudge
from pose_analyzer.reference_library import shipped_judge
from pose_analyzer.synthetic import EXERCISES, FAULTS_OF, Fault, Truth
from pose_analyzer.types import RepAnalysis

GOOD_SETS: Final = 45
REPS_A_GOOD_SET: Final = 2
FAULTY_SETS: Final = 10
REPS_A_FAULTY_SET: Final = 4
FAULTY_REP: Final = 3
"""Who rushes one is told by the two before it."""
VIEW_YAWS: Final = {"side": (70.0, 90.0), "front": (0.0, 8.0)}
OF_THE_SET: Final = "uneven_tempo"
"""Shows over several repetitions and is judged by its cue, see `validate_scores`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was said of one true repetition; ``of_set`` tells its set from all others."""

    exercise: str
    of_set: str
    fault: str
    view: str
    is_found: bool
    is_anomaly: bool
    is_named: bool
    is_judged: bool


class _Judged(NamedTuple):
    """A set as it was judged, and what it is called."""

    exercise: str
    name: str
    set: Set


HOW_TOLD: Final[dict[str, Callable[[Verdict], bool]]] = {
    "named": lambda one: one.is_named,
    "named_or_anomaly": lambda one: one.is_named or one.is_anomaly,
}
"""The second spends 1 % of the good repetitions on unknown faults, on purpose."""


def add_to(report: Report, n_seeds: int) -> None:
    """Measure the bars of anomalies on synthetic athletes and add them to a report."""
    tasks = [(exercise, seed) for exercise in EXERCISES for seed in range(n_seeds)]
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        verdicts = [one for found in pool.map(_judged_batch, tasks) for one in found]
    report.text(
        f"Synthetic anomalies: in each of {n_seeds} seeds {GOOD_SETS * REPS_A_GOOD_SET} good "
        f"repetitions of each exercise over statures of 1.50 to 2.00 m, tempos, yaws of 0 to 90 "
        f"degrees and cameras, and {FAULTY_SETS} faulty ones (severity {MODERATE:g}, every fault "
        "of the exercise in turn, in the third of four repetitions, from a view that its exercise "
        "file says can show it; good repetitions take at least 0.9 s each way, and lunges are "
        "seen from the left, as their noise was measured), through "
        "the measured errors of MediaPipe. *Anomaly*: unlike the shipped references, whose "
        "threshold is calibrated to 1 %. *Named*: a fault is named, or the repetition is partial. "
        "With the anomalies the false alarms are at least those that they are calibrated to. "
        "Uneven tempo shows over a set and is judged by its cue."
    )
    _bars(report, verdicts)
    _tables(report, verdicts)
    report.figure("Share of faulty repetitions found", _plot(verdicts))
    _time(report)


def _judged_batch(task: tuple[str, int]) -> list[Verdict]:
    """Return the verdicts of one exercise and seed."""
    exercise, seed = task
    rng = np.random.default_rng([SEED, seed, *exercise.encode()])
    verdicts = []
    for number in range(GOOD_SETS):
        truth = performed(exercise, rng, REPS_A_GOOD_SET)
        found = _judged(truth, rng, f"{exercise} {seed} good {number}")
        verdicts += [_verdict(found, rep_idx, "", "any") for rep_idx in range(len(truth.reps))]
    faults = [
        (fault, view)
        for fault in FAULTS_OF[exercise]
        if fault != OF_THE_SET
        for view in views_of(exercise, fault)
    ]
    for number in range(FAULTY_SETS):
        fault, view = faults[(seed * FAULTY_SETS + number) % len(faults)]
        made = (Fault(fault, MODERATE, (FAULTY_REP,)),)
        truth = performed(exercise, rng, REPS_A_FAULTY_SET, made, yaws_deg(exercise, fault, view))
        found = _judged(truth, rng, f"{exercise} {seed} faulty {number}")
        verdicts.append(_verdict(found, FAULTY_REP - 1, fault, view))
    return verdicts


def yaws_deg(exercise: str, fault: str, view: str) -> tuple[float, float]:
    """Return the yaws of a view from which the exercise file says that the fault shows."""
    entries = [one for one in load_exercise(exercise).faults if one.name == fault]
    low, high = VIEW_YAWS[view]
    least = min(one.min_yaw_deg for one in entries if one.max_yaw_deg >= low)
    most = max(one.max_yaw_deg for one in entries if one.min_yaw_deg <= high)
    return max(low, least), min(high, most)


def _judged(truth: Truth, rng: np.random.Generator, name: str) -> _Judged:
    pipeline = StreamPipeline(load_exercise(truth.exercise))
    reps: list[RepAnalysis] = []
    for index, detections in enumerate(mediapipe_detections(truth, rng)):
        reps += pipeline.update(detections, index, float(truth.time_s[index])).finished
    return _Judged(truth.exercise, name, Set((*reps, *pipeline.finish()), (), truth.reps))


@cache
def _judge(exercise: str) -> ReferenceJudge:
    judge = shipped_judge(exercise)
    if judge is None:
        raise RuntimeError(f"no references of {exercise}; run scripts/run make-references")
    return judge


def _verdict(found: _Judged, rep_idx: int, fault: str, view: str) -> Verdict:
    during = found.set.during(found.set.truth[rep_idx])
    full = [one for one in during if not one.rep.is_partial]
    anomalies = [_judge(found.exercise).judge(one.motion) for one in full]
    return Verdict(
        found.exercise,
        found.name,
        fault,
        view,
        is_found=bool(during),
        is_anomaly=any(one.is_anomaly for one in anomalies),
        is_named=any(one.rep.is_partial or one.faults for one in during),
        is_judged=any(not one.abstained for one in anomalies),
    )


def _bars(report: Report, verdicts: Sequence[Verdict]) -> None:
    for exercise in (*EXERCISES, "all"):
        mine = [one for one in verdicts if exercise in (one.exercise, "all")]
        bad, good = ([one for one in mine if bool(one.fault) is is_bad] for is_bad in (True, False))
        for how, is_told in HOW_TOLD.items():
            for name, goal, reps in (("found", ">= 0.95", bad), ("false_alarms", "< 0.01", good)):
                share = _share(reps, is_told)
                low, high = share.interval
                report.bar(
                    f"synthetic_{name}_{how}_{exercise}",
                    goal=goal,
                    measured=share.value,
                    unit="share of repetitions",
                    n=share.n,
                    note=f"95 % interval {low:.4f} to {high:.4f}, over sets",
                )
    good = [one for one in verdicts if not one.fault]
    alarms = _share([one for one in good if one.is_judged], lambda one: one.is_anomaly)
    low, high = alarms.interval
    report.bar(
        "synthetic_anomaly_false_alarms",
        goal="<= 0.01",
        measured=alarms.value,
        unit="share of repetitions",
        n=alarms.n,
        note="by the references alone, which are calibrated to 1 % for each view; 95 % interval "
        f"{low:.4f} to {high:.4f}, over sets",
    )


def _share(verdicts: Sequence[Verdict], is_told: Callable[[Verdict], bool]) -> Share:
    """Return the share that is told; repetitions of one set share athlete, view and errors."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in verdicts:
        counts[one.of_set][0] += is_told(one)
        counts[one.of_set][1] += 1
    return Share.of_sets((hits, n) for hits, n in counts.values())


def _tables(report: Report, verdicts: Sequence[Verdict]) -> None:
    groups: dict[tuple[str, str, str], list[Verdict]] = defaultdict(list)
    for one in verdicts:
        groups[one.exercise, one.fault, one.view].append(one)
    rows: list[list[object]] = []
    for (exercise, fault, view), mine in sorted(groups.items()):
        either = _share(mine, HOW_TOLD["named_or_anomaly"])
        rows.append(
            [
                exercise,
                fault or "none",
                view,
                len(mine),
                sum(one.is_found for one in mine),
                sum(one.is_anomaly for one in mine),
                sum(one.is_named for one in mine),
                either.hits,
                *either.interval,
            ]
        )
    report.table(
        "Good and faulty repetitions by fault and view",
        ["exercise", "fault", "view", "n", "seen", "anomaly", "named", "either", "from", "to"],
        rows,
        "Confusion: the rows of fault *none* count false alarms. Seen: the counter found a "
        "repetition there. From, to: 95 % interval of Wilson of the share in *either*, "
        "over sets.",
    )


def _plot(verdicts: Sequence[Verdict]) -> bytes:
    """Return a picture of how much of each fault is found, as PNG."""
    faults = sorted({one.fault for one in verdicts if one.fault})
    values = np.full((len(EXERCISES), len(faults)), np.nan)
    for row, exercise in enumerate(EXERCISES):
        for column, fault in enumerate(faults):
            mine = [one for one in verdicts if (one.exercise, one.fault) == (exercise, fault)]
            if mine:
                values[row, column] = np.mean([one.is_anomaly or one.is_named for one in mine])
    figure, axes = plt.subplots(figsize=(10, 4.5), layout="constrained")
    picture = axes.imshow(values, vmin=0.0, vmax=1.0, cmap="RdYlGn", aspect="auto")
    axes.set_xticks(range(len(faults)), [one.replace("_", " ") for one in faults], rotation=30)
    axes.set_yticks(range(len(EXERCISES)), [one.replace("_", " ") for one in EXERCISES])
    for row, column in zip(*np.nonzero(~np.isnan(values)), strict=True):
        axes.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center")
    figure.colorbar(picture, label=f"share found at severity {MODERATE:g}")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    plt.close(figure)
    return stream.getvalue()


def _time(report: Report) -> None:
    """Time the decision on a repetition of 17 channels against 50 references."""
    rng = np.random.default_rng(0)
    reps = [
        np.cumsum(rng.normal(size=(90, 17)), axis=0) + 10.0 * rng.normal(size=17)
        for _ in range(150)
    ]
    names = tuple(f"channel {index}" for index in range(17))
    detector = FormAnomalyDetector(names).fit(reps[:50], reps[50:])
    timing = measure(lambda: detector.judge(reps[60]), 300, 20)
    report.bar(
        "anomaly_decision_ms_p50_50_references",
        goal="<= 5",
        measured=timing.median_us / 1e3,
        unit="ms",
        n=timing.n,
        p95=timing.p95_us / 1e3,
        p99=timing.p99_us / 1e3,
    )
