"""The HTML report: whole, self-contained, escaped, bounded, and true to the analysis."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.report.curves import (
    X_UNITS,
    Y_UNITS,
    CurveRecorder,
    Scale,
    band_path,
    line_path,
    value_scale,
)
from pose_analyzer.report.html import VIDEO_NAME, HtmlReport
from pose_analyzer.report.html_charts import time_step
from pose_analyzer.report.html_parts import score_class, seconds, view_name
from pose_analyzer.report.thinning import ThinnedRows
from pose_analyzer.skeleton import N_JOINTS
from pose_analyzer.types import Anomaly, ClipSummary, FrameAnalysis, JointAngles

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Clip(Protocol):
    """The clip of the fixture."""

    @property
    def analyses(self) -> tuple[FrameAnalysis, ...]: ...
    @property
    def summary(self) -> ClipSummary: ...
    def play(self, *sinks: HtmlReport) -> None: ...


PlayClip = Callable[..., Clip]


class Page(HTMLParser):
    """A page read by a parser that insists on closed tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in {"script", "style"}:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def attributes(self, name: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(name)) is not None]


@pytest.fixture
def squat() -> ExerciseSpec:
    return load_exercise("squat")


def written(clip: Clip, folder: Path, spec: ExerciseSpec) -> str:
    clip.play(HtmlReport(folder / "report.html", spec))
    return (folder / "report.html").read_text()


def test_the_page_tells_what_was_found(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    words = Page(written(play_clip(3), tmp_path, squat)).words
    for said in (
        "Repetitions 2 1 partial",
        "Score 71 /100 mean, 80% sure",
        "Athlete seen 100 %",
        "Camera side about 84° from the front",
        "deepest knee angle 92 deg, goal 88",
        "not judged: seen from the side",
        "Shallow depth",
        "fewer than 5 repetitions",
        "2 s Sit deeper",
        "Big toe",
        "Descent / ascent",
        "standing, descent, bottom, ascent: at rest",
        "From the side: depth, trunk, shins and back.",
        "180° is a straight limb",
    ):
        assert said in words


def test_nothing_is_loaded_from_elsewhere(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    text = written(play_clip(1), tmp_path, squat)
    page = Page(text)
    assert page.attributes("src") == []
    assert page.attributes("href") == ["#rep-bands"] * len(page.attributes("href"))
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)


def test_words_for_screen_readers_do_not_widen_the_page(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    text = written(play_clip(2), tmp_path, squat)
    rules = dict(re.findall(r"^([^\s{}@][^{}]*?) \{([^{}]*)\}", text, re.MULTILINE))
    assert "position: absolute" in rules[".unseen"]
    table = text[text.index('<div class="wide"><table class="reps">') :]
    assert 'class="unseen"' in table[: table.index("</thead>")]
    # Positioned against the page, they would stand outside the box that scrolls.
    assert "overflow-x: auto" in rules[".wide"]
    assert "position: relative" in rules[".wide"]


def test_hostile_names_stay_text(play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec) -> None:
    evil = '"><script>alert(1)</script>'
    clip = play_clip(2, source=evil, cue_text=evil)
    one = clip.summary.reps[0]
    fault = replace(one.faults[0], name=evil, evidence=evil)
    part = replace(one.score.parts[0], name=evil, evidence=evil)
    score = replace(one.score, parts=(part,))
    anomaly = replace(one.anomaly, abstained=evil)
    rep = replace(one, faults=(fault,), score=score, anomaly=anomaly)
    summary = replace(clip.summary, reps=(rep,), detector=evil, warnings=(evil,))
    spec = replace(squat, title=evil, best_view=evil)
    report = HtmlReport(tmp_path / "a.html", spec)
    report.close(summary)
    text = (tmp_path / "a.html").read_text()
    assert evil not in text
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") <= 2
    assert page.words.count("alert(1)") >= 6


def test_the_video_is_shown_only_if_it_lies_beside(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    assert "<video" not in written(play_clip(1), tmp_path, squat)
    (tmp_path / VIDEO_NAME).touch()
    page = Page(written(play_clip(1), tmp_path, squat))
    assert [src.partition("#")[0] for src in page.attributes("src")] == [VIDEO_NAME]


def curve_data(text: str) -> dict[str, object]:
    match = re.search(r'<script type="application/json" id="curves">(.*?)</script>', text)
    assert match is not None
    data = json.loads(match[1])
    assert isinstance(data, dict)
    return data


def test_the_read_out_has_the_measured_values(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    clip = play_clip(1, unseen_s=0.5)
    data = curve_data(written(clip, tmp_path, squat))
    joints = data["joints"]
    assert isinstance(joints, dict)
    assert len(joints) == N_JOINTS
    knee = joints["left_knee"]["deg"]
    assert knee[:15] == [None] * 15
    measured = [analysis.angles.deg[6] for analysis in clip.analyses[15:]]
    np.testing.assert_allclose(knee[15:], measured, atol=0.05)
    assert set(joints["right_ankle"]["deg"]) == {None}


def test_a_long_clip_stays_small_and_keeps_its_repetitions(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    text = written(play_clip(150), tmp_path, squat)
    assert len(text) < 3_000_000
    assert len(re.findall(r'<tr class="(?:full|partial)">', text)) == 150


def test_a_clip_without_anybody_or_any_frame_has_a_page(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    clip = play_clip(0, unseen_s=9.0)
    words = Page(written(clip, tmp_path, squat)).words
    assert "No repetition was found." in words
    assert "Score –" in words
    empty = replace(clip.summary, n_frames=0, duration_s=0.0, n_frames_seen=0)
    report = HtmlReport(tmp_path / "empty.html", squat)
    report.close(empty)
    assert "No frame was analysed." in Page((tmp_path / "empty.html").read_text()).words


def test_an_unusual_repetition_says_where_it_differs(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    clip = play_clip(1)
    anomaly = Anomaly(True, 2.5, 1.0, (("left_knee", 0.7), ("left_hip", 0.3)))
    rep = replace(clip.summary.reps[0], anomaly=anomaly, faults=())
    report = HtmlReport(tmp_path / "a.html", squat)
    report.close(replace(clip.summary, reps=(rep,)))
    words = Page((tmp_path / "a.html").read_text()).words
    assert "unlike its references: score 2.50, limit 1.00" in words
    assert "the difference lies in Left knee 70%, Left hip 30%" in words


def test_giving_up_leaves_nothing(tmp_path: Path, squat: ExerciseSpec) -> None:
    report = HtmlReport(tmp_path / "report.html", squat)
    report.abort()
    assert list(tmp_path.iterdir()) == []


def test_every_goal_of_the_exercise_is_within_its_chart(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    deep = replace(squat, goals=(replace(squat.goals[0], turn_deg=20.0),))
    page = Page(written(play_clip(1), tmp_path, deep))
    places = [float(attrs["y1"] or -1) for _, attrs in page.tags if attrs.get("class") == "goal"]
    assert len(places) == 1
    assert 0.0 < places[0] < Y_UNITS


def test_the_page_names_the_clip_without_its_folder(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    text = written(play_clip(1, source="/home/me/private/squat.mp4"), tmp_path, squat)
    assert "squat.mp4" in text
    assert "private" not in text


def test_every_chart_has_words_for_those_who_cannot_see_it(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    page = Page(written(play_clip(1), tmp_path, squat))
    charts = [attrs for tag, attrs in page.tags if attrs.get("role") == "img" and tag == "svg"]
    assert len(charts) == 9
    assert all(attrs.get("aria-label") for attrs in charts)
    assert "Knee over time: left 91 to 181 degrees, right 92 to 182 degrees" in page.attributes(
        "aria-label"
    )


def test_the_page_does_not_depend_on_what_came_before(
    play_clip: PlayClip, tmp_path: Path, squat: ExerciseSpec
) -> None:
    assert written(play_clip(2), tmp_path, squat) == written(play_clip(2), tmp_path, squat)


def angles(deg: float) -> JointAngles:
    return JointAngles(np.full(N_JOINTS, deg), np.full(N_JOINTS, 2.0), 90.0)


def test_recorded_curves_are_what_was_measured(play_clip: PlayClip) -> None:
    recorder = CurveRecorder(max_points=8)
    analyses = play_clip(1).analyses[:20]
    for analysis in analyses:
        recorder.add(replace(analysis, angles=angles(float(analysis.index))))
    curves = recorder.curves()
    assert curves.stride == 4
    np.testing.assert_array_equal(curves.deg[:, 0], [0, 4, 8, 12, 16])
    np.testing.assert_allclose(curves.time_s, curves.deg[:, 0] / 30.0, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_thinned_rows_are_evenly_spaced_and_bounded(count: int) -> None:
    rows = ThinnedRows(1, 8)
    for value in range(count):
        rows.append([value])
    kept = rows.rows()[:, 0]
    np.testing.assert_array_equal(kept, np.arange(0, count, rows.stride))
    assert len(kept) < 8
    assert count < 8 or len(kept) >= 4


@pytest.mark.parametrize(("width", "capacity"), [(0, 8), (1, 7), (1, 0)])
def test_thinned_rows_need_an_even_capacity(width: int, capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity even"):
        ThinnedRows(width, capacity)


UNIT = Scale(duration_s=4.0, low=0.0, high=10.0)


def test_a_curve_is_broken_where_it_was_not_measured() -> None:
    values = np.array([0.0, 10.0, np.nan, 5.0])
    path = line_path(UNIT, np.array([0.0, 1.0, 2.0, 4.0]), values)
    quarter = X_UNITS // 4
    assert path == f"M0 {Y_UNITS}l{quarter} -{Y_UNITS}M{X_UNITS} {Y_UNITS // 2}h0"


def test_a_band_goes_there_above_and_back_below() -> None:
    path = band_path(UNIT, np.array([0.0, 4.0]), np.array([5.0, 5.0]), np.array([1.0, 1.0]))
    assert path == f"M0 400l{X_UNITS} 0 0 200 -{X_UNITS} 0z"


def test_values_beyond_the_plot_stay_at_its_edge() -> None:
    np.testing.assert_array_equal(UNIT.y(np.array([-5.0, 15.0])), [Y_UNITS, 0])


def test_a_scale_holds_all_values_between_round_edges() -> None:
    scale = value_scale(1.0, np.array([92.0, np.nan, 178.0]), 30.0)
    assert (scale.low, scale.high) == (90.0, 180.0)
    assert [value for value, _ in scale.ticks(30.0)] == [90.0, 120.0, 150.0, 180.0]


def test_a_scale_of_nothing_has_a_height() -> None:
    scale = value_scale(0.0, np.array([np.nan]), 30.0)
    assert scale.high > scale.low
    assert scale.duration_s > 0.0


@pytest.mark.parametrize("duration_s", [0.4, 3.0, 59.0, 61.0, 300.0, 3600.0, 50_000.0])
def test_a_time_axis_has_at_most_ten_parts(duration_s: float) -> None:
    parts = duration_s / time_step(duration_s)
    assert 1.0 < parts <= 10.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 s"), (2.5, "2.5 s"), (59.0, "59 s"), (64.2, "1:04"), (600, "10:00")],
)
def test_times_are_written_for_readers(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("yaw_deg", "name"),
    [(5.0, "front or back"), (45.0, "oblique"), (85.0, "side"), (float("nan"), "unknown")],
)
def test_the_view_is_named(yaw_deg: float, name: str) -> None:
    assert view_name(yaw_deg) == name


@pytest.mark.parametrize(
    ("score", "kind"), [(80.0, "good"), (79.9, "fair"), (59.9, "poor"), (float("nan"), "none")]
)
def test_scores_have_a_colour(score: float, kind: str) -> None:
    assert score_class(score) == kind
