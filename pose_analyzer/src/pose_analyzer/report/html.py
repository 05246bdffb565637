"""One HTML file that tells everything about a clip, with nothing to load from elsewhere."""

from __future__ import annotations

import importlib.resources
from html import escape
from pathlib import Path
from typing import Final

from pose_analyzer import __version__
from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.report.curves import CurveRecorder
from pose_analyzer.report.files import AtomicText
from pose_analyzer.report.html_charts import charts
from pose_analyzer.report.html_parts import (
    cards,
    cue_list,
    rep_table,
    seconds,
    seen_table,
    warnings,
)
from pose_analyzer.types import ClipSummary, Frame, FrameAnalysis

VIDEO_NAME: Final = "annotated.mp4"
"""Shown in the page if it lies beside it when the report is completed."""


class HtmlReport:
    """Writes the report of a clip; memory does not grow with the clip.

    Parameters
    ----------
    path : str or Path
        The HTML file.
    exercise : ExerciseSpec
        Its goals choose the angles that are shown first.
    """

    def __init__(self, path: str | Path, exercise: ExerciseSpec) -> None:
        self._exercise = exercise
        self._recorder = CurveRecorder()
        self._file = AtomicText(path)

    def write(self, frame: Frame, analysis: FrameAnalysis) -> None:  # noqa: ARG002 - no picture here
        """Take what was found in a frame."""
        self._recorder.add(analysis)

    def close(self, summary: ClipSummary) -> None:
        """Write the page."""
        video = (self._file.path.parent / VIDEO_NAME).exists()
        self._file.write(self._page(summary, has_video=video))
        self._file.publish()

    def abort(self) -> None:
        """Give up: leave nothing behind."""
        self._file.discard()

    def _page(self, summary: ClipSummary, *, has_video: bool) -> str:
        title = f"{self._exercise.title} · {Path(summary.source).name}"
        time_charts = charts(
            self._recorder.curves(),
            max(summary.duration_s, 1e-3),
            self._exercise,
            summary.reps,
            summary.cues,
        )
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_asset("report.css")}
</style>
</head>
<body>
<header>
<h1>{escape(self._exercise.title)}</h1>
<p class="source">{escape(Path(summary.source).name)} · {summary.width} × {summary.height} ·
{seconds(summary.duration_s)} · {escape(summary.detector)}</p>
</header>
<main>
{cards(summary, self._exercise)}
{warnings(summary)}
{_VIDEO if has_video else ""}
<section><h2>Over time</h2>{time_charts}</section>
<section><h2>Repetitions</h2>{rep_table(summary.reps, self._exercise)}</section>
<div class="columns">
<section><h2>What was said</h2>{cue_list(summary)}{self._advice()}</section>
<section><h2>What was seen</h2>{seen_table(summary.keypoint_seen)}{_seen_note(summary)}</section>
</div>
<section><h2>How to read it</h2>{self._glossary()}</section>
</main>
<footer>Made by pose-analyzer {__version__}. Every number of this page, frame by frame, is in
frames.csv, reps.json and pose.trc beside it.</footer>
<script>
{_asset("report.js")}
</script>
</body>
</html>
"""

    def _advice(self) -> str:
        views = "".join(
            f"<li>{escape(view.film_from.capitalize())}: {escape(view.shows)}.</li>"
            for view in self._exercise.views
        )
        best = escape(self._exercise.best_view)
        return f'<p class="note">Best filmed {best}.</p><ul class="note views">{views}</ul>'

    def _glossary(self) -> str:
        names = self._exercise.phases
        words = f"{names.rest}, {names.away}, {names.turn}, {names.back}"
        return _GLOSSARY.replace("PHASE_WORDS", escape(words))


def _seen_note(summary: ClipSummary) -> str:
    people = "one person" if summary.n_people_max == 1 else f"{summary.n_people_max} people"
    swaps = summary.n_left_right_swaps
    repaired = f"; left and right were exchanged {swaps} times and put right" if swaps else ""
    return (
        '<p class="note">Share of all frames in which the point of the athlete was measured. '
        f"At most {people} in one frame{repaired}.</p>"
    )


def _asset(name: str) -> str:
    folder = importlib.resources.files("pose_analyzer.report") / "assets"
    return (folder / name).read_text(encoding="utf-8")


_VIDEO: Final = f"""<section class="film"><h2 class="unseen">Video</h2>
<video controls preload="metadata" playsinline
 src="{VIDEO_NAME}#t=0.001"></video></section>"""

_GLOSSARY: Final = """<dl>
<dt>Joint angles</dt><dd>Included angles: 180° is a straight limb, less is bent. Clinical flexion is
180° minus it. Knee: hip, knee, ankle. Hip: shoulder, hip, knee. Elbow: shoulder, elbow, wrist.
Shoulder: hip, shoulder, elbow; 0° is the arm along the trunk. Ankle: knee, ankle, big toe.</dd>
<dt>Leans</dt><dd>Trunk (hips to shoulders) and shin (ankle to knee) against the vertical of the
picture: 0° is upright.</dd>
<dt>Left and right</dt><dd>Those of the athlete, not of the picture.</dd>
<dt>Uncertainty</dt><dd>One standard deviation of the angle. A camera sees an angle truly only from
a right angle to its plane; the farther from that, the wider the band. What is too uncertain is not
scored.</dd>
<dt>Repetition signal</dt><dd>How far the moving part of the body is from the resting part, in body
heights. It shows each repetition from any side.</dd>
<dt>Phases</dt><dd>PHASE_WORDS: at rest, leaving it, near the far end, returning.</dd>
<dt>Range</dt><dd>Travel of the signal, in percent of body height.</dd>
<dt>Partial</dt><dd>An attempt that was cut short or is much smaller than the others. Not counted,
not in the mean score.</dd>
<dt>Score</dt><dd>0 to 100 from the parts that this camera view can show, weighted; each part names
its evidence. Sure: how far the measurement can be trusted.</dd>
<dt>Unusual</dt><dd>Whether the movement differs from the repetitions that it is compared with;
unusual is not the same as wrong.</dd>
<dt>A dash</dt><dd>Not measured. It is never replaced by a guess or by zero.</dd>
</dl>"""
