"""The charts of the HTML report: signal, phases and angles over one common time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from pose_analyzer.exercises import ExerciseSpec, JointGoal, PhaseNames
from pose_analyzer.report.curves import (
    PHASES,
    X_UNITS,
    Y_UNITS,
    Curves,
    Scale,
    band_path,
    line_path,
    phase_runs,
    value_scale,
)
from pose_analyzer.report.html_parts import JOINT_TITLES, score_class, seconds
from pose_analyzer.skeleton import JOINT_INDEX
from pose_analyzer.types import Cue, FloatArray, RepAnalysis

_DEFAULT_JOINTS: Final = ("knee", "hip", "elbow")
_DEGREE_STEP: Final = 15.0
_MOST_TICKS: Final = 5
_LAST_LABEL: Final = 0.97
"""No label of the time axis stands farther right; it would be cut off."""
_SIGNAL_STEP: Final = 0.1
_SHOWN_SIGMAS: Final = 25.0
"""Wider bands say no more than that the angle is unknown from this view (chosen by us)."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One curve of a panel: its key in the data, its label, and its column of the angles."""

    key: str
    side: str
    label: str
    column: int


def charts(
    curves: Curves,
    duration_s: float,
    spec: ExerciseSpec,
    reps: Sequence[RepAnalysis],
    cues: Sequence[Cue],
) -> str:
    """Return the charts with their legend, and the data that their read-out needs."""
    if not len(curves.time_s):
        return "<p>No frame was analysed.</p>"
    goals = {goal.joint: goal for goal in spec.goals}
    shown = tuple(goals) or _DEFAULT_JOINTS
    panels = [_angle_panel(curves, duration_s, joint, goals, shown) for joint in JOINT_TITLES]
    note = "" if curves.stride == 1 else f" Every {curves.stride}th frame is drawn."
    return f"""
<div class="legend" role="group" aria-label="What the charts show">
{"".join(_toggle(joint, joint in shown) for joint in JOINT_TITLES)}
<span class="gap"></span>
<button type="button" class="chip left" data-side="left" aria-pressed="true">Left</button>
<button type="button" class="chip right" data-side="right" aria-pressed="true">Right</button>
<button type="button" class="chip" data-side="band" aria-pressed="true">Uncertainty</button>
<span class="gap"></span>
<button type="button" class="chip" id="zoom-in">Zoom in</button>
<button type="button" class="chip" id="zoom-out" disabled>Zoom out</button>
</div>
<svg class="shared" aria-hidden="true" focusable="false"><defs>
<g id="rep-bands">{_rep_bands(reps, duration_s)}</g></defs></svg>
<div id="charts" tabindex="0" role="application"
 aria-label="Charts over time. Arrow keys move the cursor, Enter plays the video from there.">
{_signal_panel(curves, duration_s, spec.phases, reps, cues)}
{"".join(panels)}
{_time_axis(duration_s)}
</div>
<p class="note">Move over a chart to read it, click to play from there; drag or zoom for a closer
look. Stripes are repetitions, the bars below the signal phases:
<span class="key away">{escape(spec.phases.away)}</span>
<span class="key turn">{escape(spec.phases.turn)}</span>
<span class="key back">{escape(spec.phases.back)}</span>. Dashed is the goal at the far end. Bands
are one standard deviation for the estimated camera view.{note}</p>
<script type="application/json" id="curves">{_data(curves, duration_s, spec.phases)}</script>"""


def _toggle(joint: str, is_shown: bool) -> str:
    state = "true" if is_shown else "false"
    return (
        f'<button type="button" class="chip" data-joint="{joint}" aria-pressed="{state}">'
        f"{JOINT_TITLES[joint]}</button>"
    )


def _signal_panel(
    curves: Curves,
    duration_s: float,
    phases: PhaseNames,
    reps: Sequence[RepAnalysis],
    cues: Sequence[Cue],
) -> str:
    scale = value_scale(duration_s, curves.signal, _SIGNAL_STEP)
    ticks = [(f"{value:.1f}", place) for value, place in scale.ticks(_SIGNAL_STEP)]
    path = line_path(scale, curves.time_s, curves.signal)
    label = (
        f"Repetition signal over {seconds(duration_s)}, with {len(reps)} "
        f"repetition{'' if len(reps) == 1 else 's'} marked"
    )
    words = escape(f"{phases.away}, {phases.turn}, {phases.back}")
    rep_flags = "".join(_rep_flag(one, duration_s) for one in reps)
    cue_flags = "".join(_cue_flag(cue, duration_s) for cue in cues)
    return f"""
<div class="lane reps" aria-hidden="true">{rep_flags}</div>
<figure class="panel" data-panel="signal">
<figcaption>Repetition signal <small>body heights, up is away
from rest</small><output></output></figcaption>
{_plot(label, ticks[:: max(1, len(ticks) // 4)], f'<path class="line signal" d="{path}"/>')}
</figure>
<div class="lane phases"><svg class="plot" viewBox="0 0 {X_UNITS} {Y_UNITS}"
 preserveAspectRatio="none" role="img" aria-label="Phases: {words}">
{"".join(_phase_bar(*run, duration_s) for run in phase_runs(curves))}</svg></div>
<div class="lane cues" aria-hidden="true">{cue_flags}</div>
"""


def _angle_panel(
    curves: Curves,
    duration_s: float,
    joint: str,
    goals: dict[str, JointGoal],
    shown: Iterable[str],
) -> str:
    lines = _lines(joint)
    columns = [line.column for line in lines]
    sigma = np.where(curves.sigma_deg > _SHOWN_SIGMAS, _SHOWN_SIGMAS, curves.sigma_deg)
    deg = curves.deg[:, columns]
    aims = [goals[joint].turn_deg] if joint in goals else []
    extremes = np.concatenate([deg + sigma[:, columns], deg - sigma[:, columns], deg], axis=None)
    values = np.clip(np.append(extremes, aims), 0.0, 180.0)
    scale = value_scale(duration_s, values, _DEGREE_STEP)
    shapes = [_goal_line(scale, goals[joint])] if joint in goals else []
    for line in lines:
        band = band_path(scale, curves.time_s, curves.deg[:, line.column], sigma[:, line.column])
        shapes.append(f'<path class="band {line.side}" d="{band}"/>')
    for line in lines:
        path = line_path(scale, curves.time_s, curves.deg[:, line.column])
        shapes.append(f'<path class="line {line.side}" d="{path}"/>')
    step = _DEGREE_STEP * math.ceil((scale.high - scale.low) / (_DEGREE_STEP * _MOST_TICKS))
    ticks = [(f"{value:.0f}°", place) for value, place in scale.ticks(step)]
    hidden = "" if joint in shown else " hidden"
    label = _spoken(joint, lines, curves.deg)
    return f"""
<figure class="panel" data-panel="{joint}"{hidden}>
<figcaption>{JOINT_TITLES[joint]} <small>degrees</small><output></output></figcaption>
{_plot(label, ticks, "".join(shapes))}
</figure>"""


def _lines(joint: str) -> list[_Line]:
    if joint in JOINT_INDEX:
        return [_Line(joint, "middle", JOINT_TITLES[joint], JOINT_INDEX[joint])]
    return [
        _Line(f"{side}_{joint}", side, side, JOINT_INDEX[f"{side}_{joint}"])
        for side in ("left", "right")
    ]


def _spoken(joint: str, lines: Sequence[_Line], deg: FloatArray) -> str:
    """Return what a chart says, for those who cannot see it."""
    said = []
    for line in lines:
        seen = deg[np.isfinite(deg[:, line.column]), line.column]
        found = f"{seen.min():.0f} to {seen.max():.0f} degrees" if len(seen) else "not measured"
        said.append(f"{line.label} {found}")
    return f"{JOINT_TITLES[joint]} over time: {', '.join(said)}"


def _plot(label: str, ticks: Sequence[tuple[str, float]], shapes: str) -> str:
    grid = "".join(
        f'<line class="grid" x1="0" x2="{X_UNITS}" y1="{place * Y_UNITS / 100:.0f}" '
        f'y2="{place * Y_UNITS / 100:.0f}"/>'
        for _, place in ticks
    )
    labels = "".join(f'<span style="top:{place:.1f}%">{text}</span>' for text, place in ticks)
    return f"""<div class="frame"><div class="ticks" aria-hidden="true">{labels}</div>
<svg class="plot" viewBox="0 0 {X_UNITS} {Y_UNITS}" preserveAspectRatio="none" role="img"
 aria-label="{escape(label)}"><use href="#rep-bands"/>{grid}{shapes}</svg></div>"""


def _goal_line(scale: Scale, goal: JointGoal) -> str:
    y = float(scale.y(np.array(goal.turn_deg)))
    return (
        f'<line class="goal" x1="0" x2="{X_UNITS}" y1="{y:.0f}" y2="{y:.0f}">'
        f"<title>Goal at the far end: {goal.turn_deg:.0f}°</title></line>"
    )


def _rep_bands(reps: Sequence[RepAnalysis], duration_s: float) -> str:
    return "".join(
        f'<rect class="rep{" partial" if one.rep.is_partial else ""}{" odd" if place % 2 else ""}" '
        f'x="{one.rep.start_s / duration_s * X_UNITS:.0f}" y="0" '
        f'width="{one.rep.duration_s / duration_s * X_UNITS:.0f}" height="{Y_UNITS}"/>'
        for place, one in enumerate(reps)
    )


def _rep_flag(one: RepAnalysis, duration_s: float) -> str:
    rep = one.rep
    name = "½" if rep.is_partial else str(rep.number)
    kind = "partial" if rep.is_partial else score_class(one.score.total)
    return (
        f'<button type="button" tabindex="-1" class="flag {kind}" data-start="{rep.start_s:.3f}" '
        f'data-end="{rep.end_s:.3f}" {_place(rep.start_s, rep.end_s, duration_s)}>{name}</button>'
    )


def _cue_flag(cue: Cue, duration_s: float) -> str:
    text = escape(cue.text)
    return (
        f'<button type="button" tabindex="-1" class="flag cue" title="{text}" '
        f'data-start="{cue.time_s:.3f}" data-end="{cue.time_s:.3f}" '
        f"{_place(cue.time_s, cue.time_s, duration_s)}>{text}</button>"
    )


def _place(start_s: float, end_s: float, duration_s: float) -> str:
    left, width = 100.0 * start_s / duration_s, 100.0 * (end_s - start_s) / duration_s
    return f'style="left:{left:.3f}%;width:{width:.3f}%"'


def _phase_bar(phase: str, start_s: float, end_s: float, duration_s: float) -> str:
    if phase in {"unknown", "rest"} or end_s <= start_s:
        return ""
    x, width = (value / duration_s * X_UNITS for value in (start_s, end_s - start_s))
    return f'<rect class="phase {phase}" x="{x:.0f}" y="0" width="{width:.0f}" height="{Y_UNITS}"/>'


def _time_axis(duration_s: float) -> str:
    step = time_step(duration_s)
    ticks = "".join(
        f'<span style="left:{100.0 * value / duration_s:.3f}%">{seconds(value)}</span>'
        for value in np.arange(0.0, _LAST_LABEL * duration_s, step).tolist()
    )
    return f'<div class="lane axis" aria-hidden="true">{ticks}</div>'


def time_step(duration_s: float) -> float:
    """Return a round number of seconds that divides a time into at most ten parts."""
    for step in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0):
        if duration_s / step <= 10.0:
            return step
    return 3600.0 * math.ceil(duration_s / 36_000.0)


def _data(curves: Curves, duration_s: float, phases: PhaseNames) -> str:
    """Return the values behind the charts, rounded to what is worth reading."""
    joints = {
        line.key: {
            "side": line.side,
            "joint": joint,
            "deg": _rounded(curves.deg[:, line.column], 1),
            "sigma": _rounded(curves.sigma_deg[:, line.column], 0),
        }
        for joint in JOINT_TITLES
        for line in _lines(joint)
    }
    data = {
        "duration": round(duration_s, 3),
        "width": X_UNITS,
        "time": _rounded(curves.time_s, 3),
        "signal": _rounded(curves.signal, 3),
        "phase": curves.phase.tolist(),
        "phases": [phases.of(name) for name in PHASES],
        "joints": joints,
    }
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _rounded(values: FloatArray, digits: int) -> list[float | int | None]:
    """Return values for JSON, whole ones without a point; None is not measured."""
    rounded = np.round(values, digits).tolist()
    return [None if value != value else _short(value) for value in rounded]


def _short(value: float) -> float | int:
    return int(value) if value.is_integer() else value
