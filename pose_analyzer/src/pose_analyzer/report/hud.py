"""The panel and the banner that lie over an annotated picture.

Sizes are given for a picture 1080 pixels high and scale with the picture. Everything is drawn in
the rectangle that it covers, never in a copy of the whole picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2

from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.report.sprites import Color, Sprite, Text, shade
from pose_analyzer.types import Cue, FrameAnalysis, ImageArray

WHITE: Final[Color] = (255, 255, 255)
SOFT: Final[Color] = (205, 205, 205)
TRACK: Final[Color] = (90, 90, 90)
GREEN: Final[Color] = (110, 205, 80)
AMBER: Final[Color] = (60, 180, 250)
RED: Final[Color] = (80, 80, 240)

CUE_FRESH_S: Final = 2.0
"""How long a cue stays on the picture (chosen by us: two readings of a short sentence)."""
_CUE_FADE_S: Final = 0.4
_GOOD_SCORE: Final = 80.0
_FAIR_SCORE: Final = 60.0
_ENVELOPE_S: Final = 20.0
"""Time in which the progress bar forgets an old extreme of the signal (chosen by us)."""
_MIN_UNIT: Final = 0.36
"""Below this the letters of the font run together."""


def design_unit(width: int, height: int) -> float:
    """Return the size of one design pixel, in pixels of a picture of this size."""
    return max(_MIN_UNIT, min(height / 1080.0, width / 900.0))


def score_color(score: float) -> Color:
    """Return green, amber or red for a score of 0 to 100; soft white for NaN."""
    if math.isnan(score):
        return SOFT
    if score >= _GOOD_SCORE:
        return GREEN
    return AMBER if score >= _FAIR_SCORE else RED


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things stand in the panel, in pixels of the picture."""

    pixel: float
    margin: int
    pad: int
    width: int
    height: int
    title_y: int
    count_y: int
    bar_y: int
    bar_thick: int

    @classmethod
    def of(cls, width: int, height: int) -> _Layout:
        """Lay the panel out for a picture; a narrow one does without title and clock."""
        pixel = design_unit(width, height)
        is_narrow = width < 800 * pixel
        margin = round((10 if is_narrow else 24) * pixel)
        pad, bar_thick = round(22 * pixel), max(3, round(14 * pixel))
        panel_width = round((390 if is_narrow else 400) * pixel)
        title_y = -1 if is_narrow else pad + round(22 * pixel)
        count_y = round((100 if is_narrow else 150) * pixel)
        panel_height = count_y + round((90 if is_narrow else 100) * pixel)
        bar_y = panel_height - pad - bar_thick // 2
        return cls(
            pixel, margin, pad, panel_width, panel_height, title_y, count_y, bar_y, bar_thick
        )

    def text(self, text: str, size: float, color: Color) -> Text:
        """Return a text of a size in design units, with strokes to match."""
        scale = size * self.pixel
        return Text(text, scale, max(1, round((0.5 + 1.25 * size) * self.pixel)), color)


class Hud:
    """Exercise, count, score, phase and cue over the pictures of one clip, drawn in time order.

    Parameters
    ----------
    spec : ExerciseSpec
        Gives the title and the words for the phases.
    """

    def __init__(self, spec: ExerciseSpec) -> None:
        self._title = spec.title
        self._min_range = spec.signal.min_range
        self._phases = spec.phases
        self._low = math.nan
        self._high = math.nan
        self._time_s = math.nan
        self._cue: Cue | None = None
        self._banner: Sprite | None = None
        self._panel: Sprite | None = None
        self._size = (0, 0)
        self._layout = _Layout.of(1, 1)

    def draw(self, image: ImageArray, analysis: FrameAnalysis) -> None:
        """Draw the panel and, while a cue is fresh, the banner; in place."""
        size = (image.shape[1], image.shape[0])
        if self._panel is None or size != self._size:
            self._size = size
            self._layout = _Layout.of(*size)
            self._panel = self._render_panel()
            self._banner = None
        layout = self._layout
        self._panel.paste(image, layout.margin, layout.margin)
        panel = image[
            layout.margin : layout.margin + layout.height,
            layout.margin : layout.margin + layout.width,
        ]
        self._draw_numbers(panel, analysis)
        self._draw_phase(panel, analysis, self._progress(analysis))
        self._draw_cue(image, analysis)

    def _render_panel(self) -> Sprite:
        layout = self._layout

        def paint(panel: ImageArray) -> None:
            shade(panel, round(18 * layout.pixel), 0.30)
            if layout.title_y >= 0:
                layout.text(self._title, 0.95, WHITE).draw(panel, layout.pad, layout.title_y)
            label = layout.text("score", 0.7, SOFT)
            label_y = layout.count_y - round(56 * layout.pixel)
            label.draw(panel, layout.width - layout.pad - label.width, label_y)
            self._draw_bar(panel, 1.0, TRACK)

        return Sprite.of(layout.width, layout.height, paint)

    def _draw_numbers(self, panel: ImageArray, analysis: FrameAnalysis) -> None:
        layout = self._layout
        right = layout.width - layout.pad
        if layout.title_y >= 0:
            clock = layout.text(_clock(analysis.time_s), 0.8, SOFT)
            clock.draw(panel, right - clock.width, layout.title_y)
        count = layout.text(str(analysis.rep_count), 3.4, WHITE)
        count.draw(panel, layout.pad, layout.count_y)
        label = layout.text("rep" if analysis.rep_count == 1 else "reps", 0.8, SOFT)
        gap = round(10 * layout.pixel)
        label.draw(panel, layout.pad + count.width + gap, layout.count_y)
        score = analysis.score
        text = "-" if math.isnan(score) else f"{score:.0f}"
        number = layout.text(text, 1.9, score_color(score))
        number.draw(panel, right - number.width, layout.count_y)

    def _draw_phase(self, panel: ImageArray, analysis: FrameAnalysis, progress: float) -> None:
        layout = self._layout
        if not math.isnan(progress):
            self._draw_bar(panel, progress, GREEN if analysis.motion.phase == "turn" else AMBER)
        word = "nobody in view"
        if analysis.pose.athlete_idx is not None:
            word = self._phases.of(analysis.motion.phase)
        baseline = layout.bar_y - layout.bar_thick // 2 - round(12 * layout.pixel)
        layout.text(word, 0.75, SOFT).draw(panel, layout.pad, baseline)

    def _draw_bar(self, panel: ImageArray, progress: float, color: Color) -> None:
        layout = self._layout
        left = layout.pad + layout.bar_thick // 2
        right = layout.width - left
        tip = left + round(min(1.0, max(0.0, progress)) * (right - left))
        start, end = (left, layout.bar_y), (tip, layout.bar_y)
        cv2.line(panel, start, end, color, layout.bar_thick, cv2.LINE_AA)

    def _progress(self, analysis: FrameAnalysis) -> float:
        """Return how far the repetition is out, 0 to 1, within what was lately reached."""
        signal = analysis.motion.signal
        if math.isnan(signal):
            return math.nan
        elapsed_s = 0.0 if math.isnan(self._time_s) else analysis.time_s - self._time_s
        self._time_s = analysis.time_s
        forget = min(1.0, max(0.0, elapsed_s) / _ENVELOPE_S)
        if math.isnan(self._low):
            self._low = self._high = signal
        self._low = min(signal, self._low + forget * (signal - self._low))
        self._high = max(signal, self._high - forget * (self._high - signal))
        return (signal - self._low) / max(self._high - self._low, self._min_range)

    def _draw_cue(self, image: ImageArray, analysis: FrameAnalysis) -> None:
        """Draw the last cue at the foot of the picture while it is fresh, fading at its end."""
        if analysis.cue is not None:
            self._cue, self._banner = analysis.cue, None
        if self._cue is None:
            return
        left_s = CUE_FRESH_S - (analysis.time_s - self._cue.time_s)
        if left_s <= 0.0:
            self._cue = self._banner = None
            return
        if self._banner is None:
            self._banner = self._render_banner(self._cue)
        banner = self._banner
        if left_s < _CUE_FADE_S:
            banner = banner.faded(left_s / _CUE_FADE_S)
        height, width = banner.gain.shape[:2]
        foot = round(36 * self._layout.pixel)
        banner.paste(image, (image.shape[1] - width) // 2, image.shape[0] - foot - height)

    def _render_banner(self, cue: Cue) -> Sprite:
        layout = self._layout
        pixel, pad = layout.pixel, round(30 * layout.pixel)
        room = self._size[0] - 2 * (layout.margin + pad)
        lines = _wrapped(layout.text(cue.text, 1.35, WHITE), room)
        step = round(54 * pixel)
        width = max(line.width for line in lines) + 2 * pad
        height = step * len(lines) + round(26 * pixel)
        accent = GREEN if cue.name == "praise" else AMBER

        def paint(box: ImageArray) -> None:
            shade(box, round(16 * pixel), 0.22)
            cv2.rectangle(box, (0, 0), (max(1, round(8 * pixel)), height), accent, -1)
            for row, line in enumerate(lines):
                baseline = round(13 * pixel) + step * row + (step + line.height) // 2
                line.draw(box, (width - line.width) // 2, baseline)

        return Sprite.of(width, height, paint)


def _wrapped(line: Text, room_px: int) -> list[Text]:
    """Break a sentence into at most two lines; what still is too wide gets smaller letters."""
    if line.width <= room_px:
        return [line]
    words = line.text.split()
    halves = [(" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(1, len(words))] or [
        (line.text, "")
    ]
    best = min(halves, key=lambda pair: max(len(pair[0]), len(pair[1])))
    parts = [part for part in best if part]
    widest = max(Text(part, line.scale, line.weight, line.color).width for part in parts)
    scale = line.scale * min(1.0, max(room_px, 1) / widest)
    return [Text(part, scale, line.weight, line.color) for part in parts]


def _clock(time_s: float) -> str:
    """Return minutes and whole seconds, as in 1:04."""
    minutes, seconds = divmod(int(time_s), 60)
    return f"{minutes}:{seconds:02d}"
