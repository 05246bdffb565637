"""The written parts of the HTML report. Every text that comes from outside is escaped here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np

from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.skeleton import JOINT_INDEX, KEYPOINT_INDEX, KEYPOINT_NAMES
from pose_analyzer.types import Anomaly, ClipSummary, Fault, FloatArray, RepAnalysis, ScorePart

JOINT_TITLES: Final = {
    "knee": "Knee",
    "hip": "Hip",
    "ankle": "Ankle",
    "trunk_lean": "Trunk lean",
    "shin_lean": "Shin lean",
    "shoulder": "Shoulder",
    "elbow": "Elbow",
}
"""The angles by name without side, in the order in which they are shown."""

GOOD_SCORE: Final = 80.0
FAIR_SCORE: Final = 60.0
_FRONT_YAW_DEG: Final = 30.0
_SIDE_YAW_DEG: Final = 60.0

_NONE: Final = '<span class="none" title="not measured">–</span>'


def score_class(score: float) -> str:
    """Return ``"good"``, ``"fair"``, ``"poor"``, or ``"none"`` for NaN."""
    if math.isnan(score):
        return "none"
    if score >= GOOD_SCORE:
        return "good"
    return "fair" if score >= FAIR_SCORE else "poor"


def seconds(value: float) -> str:
    """Return a time for a reader: ``"2.5 s"``, ``"1:04"`` from a minute on."""
    if value < 60.0:
        return f"{value:.1f} s" if value % 1.0 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}:{rest:02d}"


def view_name(yaw_deg: float) -> str:
    """Return where the camera stood, in words."""
    if math.isnan(yaw_deg):
        return "unknown"
    if yaw_deg < _FRONT_YAW_DEG:
        return "front or back"
    return "side" if yaw_deg > _SIDE_YAW_DEG else "oblique"


def number(value: float, digits: int = 0, unit: str = "") -> str:
    """Return a number with its unit, or a dash for NaN."""
    return _NONE if math.isnan(value) else f"{value:.{digits}f}{unit}"


def cards(summary: ClipSummary, spec: ExerciseSpec) -> str:
    """Return the figures that a reader wants first."""
    partial = len(summary.reps) - summary.rep_count
    full = [one for one in summary.reps if not one.rep.is_partial]
    seen = summary.n_frames_seen / summary.n_frames if summary.n_frames else math.nan
    sure = _mean([one.score.confidence for one in full])
    away, back = (_mean([getattr(one.rep, name) for one in full]) for name in ("away_s", "back_s"))
    frames = f"of {summary.n_frames} frames, {seconds(summary.duration_s)}"
    yaw = f"about {number(summary.yaw_deg, 0, '°')} from the front"
    return f"""<div class="cards">
{_card("Repetitions", str(summary.rep_count), f"{partial} partial" if partial else "all complete")}
{_score_card(summary.mean_score, sure)}
{_card("Tempo", f"{number(away, 1)} / {number(back, 1)} s", f"{_away_back(spec).lower()}, mean")}
{_card("Athlete seen", number(100.0 * seen, 0, " %"), frames)}
{_card("Keypoints", number(100.0 * summary.mean_confidence, 0, " %"), "mean confidence")}
{_card("Camera", escape(view_name(summary.yaw_deg)), yaw)}
</div>"""


def _card(title: str, value: str, note: str) -> str:
    return (
        f'<div class="card"><h2>{title}</h2><p class="value">{value}</p>'
        f'<p class="note">{note}</p></div>'
    )


def _score_card(score: float, confidence: float) -> str:
    share = 0.0 if math.isnan(score) else score
    note = "nothing could be judged" if math.isnan(score) else f"mean, {confidence:.0%} sure"
    ring = (
        f'<svg class="ring {score_class(score)}" viewBox="0 0 36 36" aria-hidden="true">'
        '<circle cx="18" cy="18" r="15.9"/>'
        f'<circle class="arc" cx="18" cy="18" r="15.9" stroke-dasharray="{share:.1f} 100"/></svg>'
    )
    return (
        f'<div class="card score">{ring}<div><h2>Score</h2>'
        f'<p class="value">{number(score)}<small>/100</small></p><p class="note">{note}</p></div>'
        "</div>"
    )


def warnings(summary: ClipSummary) -> str:
    """Return what the user should know before reading on."""
    items = "".join(f"<li>{escape(text)}</li>" for text in summary.warnings)
    return f'<ul class="warnings" aria-label="Notes">{items}</ul>' if items else ""


def depth_goal(spec: ExerciseSpec) -> str:
    """Return the joint whose far end stands in the table: that of the depth criterion."""
    joints = [item.joint for item in spec.criteria if item.name == "depth" and item.joint]
    joints += [goal.joint for goal in spec.goals]
    return joints[0] if joints else "knee"


def _far_end(one: RepAnalysis, spec: ExerciseSpec, joint: str) -> float:
    """Return the angle farthest from rest, of the side that went farther."""
    folds = all(goal.turn_deg < goal.rest_deg for goal in spec.goals if goal.joint == joint)
    columns = [JOINT_INDEX[name] for name in (joint, f"left_{joint}", f"right_{joint}")
               if name in JOINT_INDEX]  # fmt: skip
    ends = (one.min_deg if folds else one.max_deg)[columns]
    seen = ends[~np.isnan(ends)]
    return float(seen.min() if folds else seen.max()) if len(seen) else math.nan


def rep_table(reps: Sequence[RepAnalysis], spec: ExerciseSpec) -> str:
    """Return a row a repetition; each opens into the parts of its score and their evidence."""
    if not reps:
        return "<p>No repetition was found.</p>"
    joint = depth_goal(spec)
    rows = "".join(_rep_rows(place, one, spec, joint) for place, one in enumerate(reps))
    return f"""<div class="wide"><table class="reps">
<thead><tr><th scope="col">Rep</th><th scope="col">Start</th><th scope="col">Time</th>
<th scope="col">{_away_back(spec)}</th><th scope="col">{JOINT_TITLES[joint]} at the far end</th>
<th scope="col">Range</th><th scope="col">Score</th><th scope="col">Faults</th>
<th scope="col">Unusual</th><th scope="col"><span class="unseen">Details</span></th></tr></thead>
<tbody>{rows}</tbody></table></div>"""


def _away_back(spec: ExerciseSpec) -> str:
    return escape(f"{spec.phases.away} / {spec.phases.back}".capitalize())


def _rep_rows(place: int, one: RepAnalysis, spec: ExerciseSpec, joint: str) -> str:
    rep = one.rep
    name = "partial" if rep.is_partial else str(rep.number)
    start = (
        f'<button type="button" class="seek" data-start="{rep.start_s:.3f}" '
        f'data-end="{rep.end_s:.3f}">{seconds(rep.start_s)}</button>'
    )
    faults = "".join(_fault_chip(fault) for fault in one.faults)
    return f"""<tr class="{"partial" if rep.is_partial else "full"}">
<th scope="row">{name}</th><td>{start}</td><td>{rep.duration_s:.1f} s</td>
<td>{rep.away_s:.1f} / {rep.back_s:.1f} s</td><td>{number(_far_end(one, spec, joint), 0, "°")}</td>
<td>{number(100.0 * rep.range, 0, " %")}</td><td>{_score_bar(one.score.total)}</td>
<td>{faults or "none"}</td><td>{_unusual(one.anomaly)}</td>
<td><button type="button" class="more" aria-expanded="false" aria-controls="rep-{place}"
 aria-label="Details of repetition {name}"></button></td></tr>
<tr class="details" id="rep-{place}"><td colspan="10"><div class="evidence">
{_parts(one.score.parts)}{_fault_list(one.faults)}{_anomaly(one.anomaly)}
<p class="note">Seen: {one.seen:.0%} of the exercise's keypoints; camera {view_name(one.yaw_deg)},
about {number(one.yaw_deg, 0, "°")} from the front.</p></div></td></tr>"""


def _score_bar(score: float) -> str:
    if math.isnan(score):
        return _NONE
    return (
        f'<span class="bar {score_class(score)}"><i style="width:{score:.0f}%"></i></span>'
        f" <b>{score:.0f}</b>"
    )


def _fault_chip(fault: Fault) -> str:
    kind = "poor" if fault.severity >= 0.5 else "fair"
    return (
        f'<span class="fault {kind}" title="{escape(fault.evidence)}">{_words(fault.name)}</span>'
    )


def _unusual(anomaly: Anomaly) -> str:
    if anomaly.abstained:
        return f'<span class="none" title="{escape(anomaly.abstained)}">not judged</span>'
    return '<span class="fault fair">yes</span>' if anomaly.is_anomaly else "no"


def _parts(parts: Sequence[ScorePart]) -> str:
    if not parts:
        return "<p>This exercise has no criteria.</p>"
    total = sum(part.weight for part in parts if part.confidence > 0.0) or 1.0
    rows = "".join(
        f'<tr><th scope="row">{_words(part.name)}</th><td>{_score_bar(part.score)}</td>'
        f"<td>{f'{part.weight / total:.0%}' if part.confidence > 0.0 else _NONE}</td>"
        f"<td>{part.confidence:.0%}</td><td>{escape(part.evidence)}</td></tr>"
        for part in parts
    )
    return (
        '<table><caption>Parts of the score</caption><thead><tr><th scope="col">Part</th>'
        '<th scope="col">Score</th><th scope="col">Weight</th><th scope="col">Sure</th>'
        f'<th scope="col">Evidence</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _fault_list(faults: Sequence[Fault]) -> str:
    if not faults:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{_words(fault.name)}</th><td>{fault.severity:.0%}</td>'
        f"<td>{fault.confidence:.0%}</td><td>{escape(fault.evidence)}</td></tr>"
        for fault in faults
    )
    return (
        '<table><caption>Faults</caption><thead><tr><th scope="col">Fault</th>'
        '<th scope="col">Severity</th><th scope="col">Sure</th><th scope="col">Evidence</th></tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def _anomaly(anomaly: Anomaly) -> str:
    if anomaly.abstained:
        return f"<p>Likeness to the other repetitions: {escape(anomaly.abstained)}.</p>"
    shares = ", ".join(f"{_words(name)} {share:.0%}" for name, share in anomaly.joints[:3])
    verdict = "unlike" if anomaly.is_anomaly else "like"
    return (
        f"<p>This repetition is {verdict} its references: score {anomaly.score:.2f}, limit "
        f"{anomaly.threshold:.2f}{f'; the difference lies in {shares}' if shares else ''}.</p>"
    )


def cue_list(summary: ClipSummary) -> str:
    """Return what the coach said, and when."""
    items = "".join(
        f'<li class="{"praise" if cue.name == "praise" else "advice"}"><button type="button" '
        f'class="seek" data-start="{cue.time_s:.3f}" data-end="{cue.time_s:.3f}">'
        f"{seconds(cue.time_s)}</button> {escape(cue.text)}</li>"
        for cue in summary.cues
    )
    return f'<ol class="cues">{items}</ol>' if items else "<p>Nothing had to be said.</p>"


def seen_table(share: FloatArray) -> str:
    """Return how much of the clip each keypoint was measured in, left and right side by side."""
    names = dict.fromkeys(
        name.removeprefix("left_").removeprefix("right_") for name in KEYPOINT_NAMES
    )
    rows = []
    for name in names:
        if name in KEYPOINT_INDEX:
            cells = f'<td colspan="2">{_share_bar(share[KEYPOINT_INDEX[name]])}</td>'
        else:
            sides = [share[KEYPOINT_INDEX[f"{side}_{name}"]] for side in ("left", "right")]
            cells = "".join(f"<td>{_share_bar(value)}</td>" for value in sides)
        rows.append(f'<tr><th scope="row">{_words(name)}</th>{cells}</tr>')
    return (
        '<table class="seen"><thead><tr><th scope="col">Keypoint</th><th scope="col">Left</th>'
        f'<th scope="col">Right</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _share_bar(share: float) -> str:
    percent = 100.0 * share
    kind = score_class(percent)
    return f'<span class="bar {kind}"><i style="width:{percent:.0f}%"></i></span> {percent:.0f} %'


def _words(name: str) -> str:
    return escape(name.replace("_", " ").capitalize())


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
