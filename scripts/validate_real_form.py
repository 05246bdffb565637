"""Anomalies on recorded people: labelled push-ups and UI-PRMD squats, for validate_form.py.

No label chooses a threshold, a class or a setting: everything is split by source, by person or by
repetition, and the labels only rank the scores at the end: the detectors set no threshold. The
clips and data sets are no part of this repository; see ``POSE_EVAL_DATA`` in the README.
"""

from __future__ import annotations

import contextlib
import csv
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from real_clips import Clip, DetectionCache
from report_lib import Report
from scipy.stats import spearmanr
from shares import auc_interval
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.form_anomaly_detector import FormAnomalyDetector
from pose_analyzer.form_channels import CHANNELS, FLOORS, form_channels
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_detector import MediaPipePoseDetector, PoseDetector, YOLOPosev11Detector
from pose_analyzer.reference_library import shipped_judge
from pose_analyzer.time_warping import phase_normalised, warped_distances
from pose_analyzer.types import BoolArray, FloatArray, IntArray, RepAnalysis, RepMotion

N_BOOTSTRAPS: Final = 2000
_FEWEST_GROUPS: Final = 5
"""Fewer, drawn anew, give too few different samples to tell an interval (chosen by us)."""
_PERCENTILES: Final = (5, 25, 50, 75, 95)
_N_NEIGHBOURS: Final = 5
_PHASES: Final = 40
WEIGHTS: Final = "weights/yolo11n-pose.onnx"


@dataclass(frozen=True, slots=True)
class Labelled:
    """One repetition with its label, where it is from, and its score from 0 to 100 or NaN."""

    clip: str
    source: str
    is_wrong: bool
    motion: RepMotion
    score: float


def add_to(report: Report, data: Path, cache: Path | None) -> None:
    """Measure the bars on recorded people and add them to a report."""
    ui_prmd(report, data / "datasets" / "ui_prmd_deep_squat")
    push_ups(report, data, cache)


def ui_prmd(report: Report, folder: Path) -> None:
    """Rank the squats of five people, each against the correct ones of the other four."""
    good, bad = (
        np.loadtxt(folder / f"Autoencoder_Output_{kind}.csv", delimiter=",").reshape(-1, 240, 4)
        for kind in ("Correct", "Incorrect")
    )
    quality = np.concatenate(
        [np.loadtxt(folder / f"Labels_{kind}.csv") for kind in ("Correct", "Incorrect")]
    )
    person = np.repeat(np.arange(5), 10)
    scores = np.empty((2, len(person)))
    plain = np.empty((2, len(person)))
    for one in range(5):
        references = list(good[person != one])
        detector = FormAnomalyDetector(tuple("abcd")).fit(references, false_positive_rate=None)
        template = np.mean(references, axis=0)
        for row, reps in enumerate((good, bad)):
            mine = person == one
            scores[row, mine] = [detector.judge(rep).score for rep in reps[mine]]
            plain[row, mine] = [np.sqrt(np.square(rep - template).mean()) for rep in reps[mine]]
    is_wrong = np.repeat([False, True], len(person))
    whose = np.tile(person, 2)
    report.bar(
        "ui_prmd_auc",
        goal=">= 0.90",
        measured=roc_auc_score(is_wrong, scores.ravel()),
        unit="",
        n=len(is_wrong),
        note=f"leaving one person out; "
        f"{_interval_note(is_wrong, scores.ravel(), whose, 'people')}; distance "
        f"to the mean template: {roc_auc_score(is_wrong, plain.ravel()):.3f}",
    )
    report.bar(
        "ui_prmd_rank_correlation_with_quality",
        goal=">= 0.85",
        measured=-spearmanr(scores.ravel(), quality)[0],
        unit="-Spearman",
        n=len(is_wrong),
        note=f"distance to the mean template: {-spearmanr(plain.ravel(), quality)[0]:.3f}",
    )
    rows = [
        _ranked("FormAnomalyDetector", is_wrong, scores.ravel()),
        _ranked("distance to the mean template", is_wrong, plain.ravel()),
    ]
    report.table(
        "UI-PRMD deep squats, leaving one person out",
        _RANKED_COLUMNS,
        rows,
        "Ten correct and ten incorrect repetitions of each of five people, as four dimensions of "
        "an autoencoder. " + _SENSITIVITY,
    )


def push_ups(report: Report, data: Path, cache: Path | None) -> None:
    """Rank labelled push-ups of one source by others, and by the person's own."""
    with (data / "push_up_labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name, make in (
        ("mediapipe", MediaPipePoseDetector),
        ("yolo", lambda: YOLOPosev11Detector(data / WEIGHTS)),
    ):
        reps = _repetitions(data, rows, DetectionCache(cache), name, make)
        score_labels(report, name, reps)
        _shipped(report, name, reps)
        _between_sources(report, name, reps)
        _personal(report, name, reps)


def _repetitions(
    data: Path,
    rows: Sequence[dict[str, str]],
    cache: DetectionCache,
    name: str,
    make: Callable[[], PoseDetector],
) -> list[Labelled]:
    """Return the repetitions of all labelled clips; partial ones where a clip has no full one."""
    found: list[Labelled] = []
    for row in rows:
        path = data / "videos" / "push_up_labelled" / f"{row['clip']}.mp4"
        pipeline = StreamPipeline(load_exercise("push_up"))
        reps: list[RepAnalysis] = []
        clip = Clip(path, "push_up", "side", None)
        with contextlib.nullcontext() if cache.holds(clip, name) else make() as detector:
            frames = cache.detections(clip, name, detector)
            for index, (time_s, detections) in enumerate(frames):
                reps += pipeline.update(detections, index, time_s).finished
        reps += pipeline.finish()
        full = [one for one in reps if not one.rep.is_partial] or reps
        found += [
            Labelled(
                row["clip"],
                row["source_group"],
                row["label"] == "wrong",
                one.motion,
                one.score.total,
            )
            for one in full
        ]
    return found


def score_labels(report: Report, name: str, reps: Sequence[Labelled]) -> None:
    """Rank the clips by the mean score of their repetitions, the lowest first, by their label."""
    totals: dict[tuple[str, str, bool], list[float]] = {}
    for one in reps:
        totals.setdefault((one.clip, one.source, one.is_wrong), []).append(one.score)
    seen = {key: [one for one in found if not np.isnan(one)] for key, found in totals.items()}
    means = {key: float(np.mean(found)) for key, found in seen.items() if found}
    score = np.array(list(means.values()))
    sources = np.array([source for _, source, _ in means])
    is_wrong = np.array([label for _, _, label in means])
    report.bar(
        f"push_up_score_auc_{name}",
        goal=None,
        measured=roc_auc_score(is_wrong, -score),
        unit="",
        n=len(score),
        note="wrong clips scored below correct ones; .5 is chance; mean score of correct clips "
        f"{score[~is_wrong].mean():.1f}, of wrong ones {score[is_wrong].mean():.1f}; "
        f"clips without a score: {len(totals) - len(means)}; "
        + _interval_note(is_wrong, -score, sources, "sources"),
    )


def _shipped(report: Report, name: str, reps: Sequence[Labelled]) -> None:
    """Tell how many correct repetitions of real people the shipped references call anomalies."""
    judge = shipped_judge("push_up")
    if judge is None:
        return
    found = [judge.judge(one.motion) for one in reps if not one.is_wrong]
    judged = [one.is_anomaly for one in found if not one.abstained]
    report.bar(
        f"shipped_references_false_alarms_on_people_{name}",
        goal=None,
        measured=float(np.mean(judged)) if judged else None,
        unit="share of correct push-ups",
        n=len(judged),
        note="calibrated to 1 % for synthetic athletes, whom real people are unlike; so an "
        "analysis compares with given references only",
    )


def _between_sources(report: Report, name: str, reps: Sequence[Labelled]) -> None:
    """Judge each source against the correct repetitions of all others, with two baselines."""
    curves = [form_channels(one.motion) for one in reps]
    sources = np.array([one.source for one in reps])
    is_wrong = np.array([one.is_wrong for one in reps])
    scores = {method: np.full(len(reps), np.nan) for method in _METHODS}
    for source in np.unique(sources):
        mine = np.flatnonzero(sources == source)
        others = np.flatnonzero((sources != source) & ~is_wrong)
        references = [curves[i] for i in others]
        detector = FormAnomalyDetector(CHANNELS, FLOORS).fit(references, false_positive_rate=None)
        scores[_OURS][mine] = [detector.judge(curves[i]).score for i in mine]
        scores[_NEIGHBOURS][mine] = _neighbour_distances(curves, mine, others)
        train = np.flatnonzero(sources != source)
        scores[_LOGISTIC][mine] = _logistic(curves, is_wrong, train, mine)
    for method, values in scores.items():
        known = ~np.isnan(values)
        report.bar(
            f"push_up_between_sources_auc_{method}_{name}",
            goal=None,
            measured=roc_auc_score(is_wrong[known], values[known]),
            unit="",
            n=int(known.sum()),
            note="leaving one source out; "
            + _interval_note(is_wrong[known], values[known], sources[known], "sources"),
        )
    report.table(
        f"Push-ups through {name}, leaving one source out",
        _RANKED_COLUMNS,
        [_ranked(method, is_wrong[~np.isnan(v)], v[~np.isnan(v)]) for method, v in scores.items()],
        "Most wrong repetitions are one man's in one room, of whom there is no correct one, and "
        "cameras differ between sources: this ranks rooms as much as form. " + _SENSITIVITY,
    )


_OURS: Final = "anomaly_detector"
_NEIGHBOURS: Final = "nearest_neighbours"
_LOGISTIC: Final = "logistic_regression"
_METHODS: Final = (_OURS, _NEIGHBOURS, _LOGISTIC)
_RANKED_COLUMNS: Final = ("method", "good", "wrong", "AUC", "found at 1 %", "found at 5 %")
_SENSITIVITY: Final = (
    "*Found at*: the share of wrong repetitions above the threshold that this share of the good "
    "ones may exceed; with fewer than 100 (20) good ones, above all of them."
)


def _neighbour_distances(
    curves: Sequence[FloatArray], mine: IntArray, others: IntArray
) -> list[float]:
    """Return the plain DTW distance to the nearest five others, channels scaled to their spread."""
    stack = np.stack([phase_normalised(one, _PHASES) for one in curves])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a channel that nobody shows
        spread = np.nanstd(stack[others], axis=(0, 1))
    scaled = stack / np.where(spread > 0.0, spread, np.nan)
    found = []
    for row in mine:
        distances = warped_distances(scaled[row], scaled[others], _PHASES // 10)
        found.append(float(np.sort(distances)[:_N_NEIGHBOURS].mean()))
    return found


def _logistic(
    curves: Sequence[FloatArray], is_wrong: BoolArray, train: IntArray, mine: IntArray
) -> FloatArray:
    """Return the log odds of logistic regression on percentiles of the channels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a channel that a repetition hides
        features = np.stack([np.nanpercentile(one, _PERCENTILES, axis=0).ravel() for one in curves])
    features = features[:, ~np.isnan(features[train]).all(axis=0)]
    middle = np.nanmedian(features[train], axis=0)
    filled = np.where(np.isnan(features), middle, features)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(filled[train], is_wrong[train])
    return np.asarray(model.decision_function(filled[mine]), dtype=np.float64)


def _personal(report: Report, name: str, reps: Sequence[Labelled]) -> None:
    """Judge people against their own correct repetitions, leaving the judged one out."""
    labels: dict[str, set[bool]] = {}
    for one in reps:
        labels.setdefault(one.source, set()).add(one.is_wrong)
    both = [source for source, found in labels.items() if len(found) == 2]
    own_score, fallback, is_wrong, whose = [], [], [], []
    for index, one in enumerate(reps):
        if one.source not in both:
            continue
        general = _general(reps, one.source)
        own = [
            form_channels(other.motion)
            for place, other in enumerate(reps)
            if other.source == one.source and not other.is_wrong and place != index
        ]
        curves = form_channels(one.motion)
        fallback.append(general.judge(curves).score)
        own_score.append(general.personalised(own).judge(curves).score if own else np.nan)
        is_wrong.append(one.is_wrong)
        whose.append(one.source)
    scores, wrong, sources = np.array(own_score), np.array(is_wrong), np.array(whose)
    judged = ~np.isnan(scores)
    pooled = roc_auc_score(wrong[judged], scores[judged])
    report.bar(
        f"push_up_personal_auc_{name}",
        goal=">= 0.85",
        measured=pooled,
        unit="",
        n=int(judged.sum()),
        note=f"{len(both)} sources with both labels, leaving one repetition out; "
        f"{int((~judged).sum())} good repetitions without another good one of their source cannot "
        "be judged; good and wrong ones of different people are compared too; "
        f"{_interval_note(wrong[judged], scores[judged], sources[judged], 'sources')}",
    )
    report.bar(
        f"push_up_personal_auc_with_general_{name}",
        goal=None,
        measured=roc_auc_score(wrong, np.where(judged, scores, np.array(fallback))),
        unit="",
        n=len(wrong),
        note="those that cannot be judged personally by the general judgement",
    )
    within_person(report, name, wrong[judged], scores[judged], sources[judged])
    report.table(
        f"Push-ups through {name}, against the person's own",
        _RANKED_COLUMNS,
        [_ranked("personal", wrong[judged], scores[judged])],
        "The default blend of own and general references; the general ones are the correct "
        "repetitions of the other sources. " + _SENSITIVITY,
    )


def within_person(
    report: Report,
    name: str,
    is_wrong: BoolArray,
    scores: FloatArray,
    sources: npt.NDArray[np.generic],
) -> None:
    """Rank the repetitions of each person among themselves, where both labels were judged."""
    for source in np.unique(sources):
        mine = sources == source
        n_wrong = int(is_wrong[mine].sum())
        n_good = int(mine.sum()) - n_wrong
        if not (n_good and n_wrong):
            continue
        auc = float(roc_auc_score(is_wrong[mine], scores[mine]))
        low, high = auc_interval(auc, n_good, n_wrong)
        report.bar(
            f"push_up_within_person_auc_{source}_{name}",
            goal=None,
            measured=auc,
            unit="",
            n=n_good + n_wrong,
            note=f"{n_good} good against {n_wrong} wrong of one person; 95 % interval of "
            f"Newcombe over repetitions {low:.2f} to {high:.2f}",
        )


def _general(reps: Sequence[Labelled], source: str) -> FormAnomalyDetector:
    """Return a detector of the correct repetitions of all other sources."""
    others = [one for one in reps if one.source != source and not one.is_wrong]
    curves = [form_channels(one.motion) for one in others]
    return FormAnomalyDetector(CHANNELS, FLOORS).fit(curves, false_positive_rate=None)


def _ranked(method: str, is_wrong: BoolArray, scores: FloatArray) -> list[object]:
    good = np.sort(scores[~is_wrong])
    found = []
    for rate in (0.01, 0.05):
        rank = int(np.ceil((len(good) + 1) * (1.0 - rate)))
        threshold = good[min(rank, len(good)) - 1]
        found.append(float((scores[is_wrong] > threshold).mean()))
    auc = float(roc_auc_score(is_wrong, scores))
    return [method, len(good), int(is_wrong.sum()), auc, *found]


def _interval_note(
    is_wrong: BoolArray, scores: FloatArray, groups: npt.NDArray[np.generic], units: str
) -> str:
    """Return the 95 % percentile interval of the AUC when whole groups are drawn anew, in words."""
    names = np.unique(groups)
    if len(names) < _FEWEST_GROUPS:
        return f"no interval: {len(names)} {units} are too few to be drawn anew"
    rng = np.random.default_rng(0)
    rows = {name: np.flatnonzero(groups == name) for name in names}
    found = []
    for _ in range(N_BOOTSTRAPS):
        drawn = np.concatenate([rows[name] for name in rng.choice(names, len(names))])
        if len(np.unique(is_wrong[drawn])) == 2:
            found.append(roc_auc_score(is_wrong[drawn], scores[drawn]))
    low, high = np.percentile(found, [2.5, 97.5])
    return f"95 % interval over {units} {low:.2f} to {high:.2f}"
